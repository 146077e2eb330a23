"""When the database is read, and what is kept of it: with a clock and a connection of the tests' own (SPEC 9)."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import task, threads
from twisted.internet.defer import Deferred, execute

from policyd.config.conflicts import PlacedProvider
from policyd.config.settings import DatabaseSettings
from policyd.database.reader import Reader
from policyd.database.snapshot import SnapshotRefused, read_snapshot, write_snapshot
from policyd.database.standings import Standing, Standings
from policyd.database.view import Row
from policyd.loading.load import FromDatabase
from policyd.service import database_watch
from policyd.service.database_watch import DatabaseWatch

ROW = Row(7, json.dumps({"accepted_domains": ["a.example"]}))


class Clock(task.Clock):
    """A reactor's clock that also remembers which descriptors are looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


class FakeLink:
    """A connection."""

    def __init__(self, listens: bool = True) -> None:
        self.listens = listens
        self.warning = ""
        self.has_heard = False

    def fileno(self) -> int:
        return 99

    def heard(self) -> bool:
        return self.has_heard

    def give_up(self, why: str) -> None:
        """What a thread that waits would be told."""
        self.given_up = why

    def close(self) -> None:
        """Nothing to end."""


class Log:
    """What was logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def event(self, text: str, priority: str = "<6>") -> None:
        self.lines.append(priority + text)


class World:
    """A watch with everything around it; each reading that it asks for is done when `read` is called."""

    def __init__(self, folder: Path, listens: bool = True) -> None:
        self.clock, self.reader, self.log = Clock(), Reader(), Log()
        self.asked = 0
        self.settings = DatabaseSettings(
            dsn="postgresql://", snapshot_file=str(folder / "snapshot"), refresh_seconds=60
        )
        log: Any = self.log
        self.watch = DatabaseWatch(self.clock, self.reader, log, self._ask)
        self.link: Any = FakeLink(listens)
        self.reader.link = self.link
        self.take({"a": Standing(ROW, ROW, None)})
        self.watch.rested()
        self.clock.advance(0)

    def _ask(self) -> None:
        self.asked += 1

    def take(self, standings: dict[str, Standing]) -> None:
        """These are in force now."""
        standings = Standings("", 7, 1_700_000_000.0, standings)
        self.watch.in_force(self.settings, FromDatabase(standings, (), PlacedProvider()))

    def read(self, seconds: float = 0.0, away: str = "") -> None:
        """A read that takes so long; `away`: it fails."""
        self.watch.busy()
        self.clock.advance(seconds)
        self.reader.away = away
        self.reader.link = None if away else self.link
        self.watch.rested()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chance, and no threads."""
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)

    def at_once(work: Any, *arguments: Any) -> Deferred[Any]:
        return execute(work, *arguments)

    monkeypatch.setattr(threads, "deferToThread", at_once)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """At rest, just started."""
    return World(tmp_path)


def test_a_notification_is_a_reason_to_read(world: World) -> None:
    assert world.clock.readers == [world.watch]
    assert world.watch.fileno() == 99
    world.watch.doRead()  # something arrived, but no notification
    assert (world.asked, world.clock.readers) == (0, [world.watch])
    world.link.has_heard = True
    world.watch.doRead()
    assert (world.asked, world.watch.complete, world.clock.readers) == (1, False, [])


def test_everything_is_compared_now_and_then(world: World) -> None:
    world.clock.advance(59)
    assert world.asked == 0
    world.clock.advance(1)
    assert (world.asked, world.watch.complete) == (1, True)
    world.clock.advance(1000)
    assert world.asked == 1  # one at a time


def test_what_was_heard_during_a_read_is_read_after_a_rest(world: World) -> None:
    world.link.has_heard = True
    world.read(seconds=2)
    assert world.asked == 0
    world.clock.advance(1.9)
    assert world.asked == 0  # as long as the read took
    world.clock.advance(0.2)
    assert (world.asked, world.watch.complete) == (1, False)
    world.read(seconds=100)
    world.clock.advance(database_watch.MOST_REST_SECONDS)
    assert world.asked == 2


def test_notifications_of_nothing_are_looked_into_ever_less_often(world: World) -> None:
    """Anybody who may connect can send them, as many as he likes."""
    world.link.has_heard = True
    pauses = []
    for n in range(1, 10):
        world.reader.in_vain = n
        world.read()
        began, asked = world.clock.seconds(), world.asked
        while world.asked == asked:
            world.clock.advance(0.0200001)
        pauses.append(round(world.clock.seconds() - began, 2))
    assert pauses == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1, 1]
    world.reader.in_vain = 0
    world.read()
    asked = world.asked
    world.clock.advance(0)
    assert world.asked == asked + 1


def test_why_it_is_polled_is_said_once(world: World) -> None:
    for warning in ("", "one", "one", "another", "", "another"):
        world.link.warning = warning
        world.read()
    assert world.log.lines == [
        f"<4>the database is asked every few seconds: {why}" for why in ("one", "another", "another")
    ]


def test_a_standby_is_polled(tmp_path: Path) -> None:
    world = World(tmp_path, listens=False)
    for n in range(1, 4):
        world.clock.advance(database_watch.POLL_SECONDS)
        assert (world.asked, world.watch.complete) == (n, False)
        world.read()
        world.clock.advance(0)


def test_a_database_that_is_away_is_tried_less_and_less_often(world: World) -> None:
    pauses = []
    for n in range(8):
        world.read(away="it is gone")
        assert world.watch.fileno() == -1
        began = world.clock.seconds()
        while world.asked == n:
            world.clock.advance(0.5)
        pauses.append(world.clock.seconds() - began)
        assert world.watch.complete
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    away = "it is gone; the rows of 2023-11-14 22:13:20 UTC stay in force"
    assert [line for line in world.log.lines if "gone" in line] == [f"<4>{away}"]  # said once
    assert world.watch.text() == ", database away: rows of 2023-11-14 22:13:20 UTC"
    status = world.watch.status()
    assert status is not None
    assert (status.up, status.failures, status.read_at) == (False, 8, 1_700_000_000.0)
    world.read()
    assert world.log.lines[-1] == "<6>the database can be read again"
    assert world.watch.text() == ""


def test_rows_are_kept_a_little_later_and_once(world: World) -> None:
    path = world.settings.snapshot_file
    assert not os.path.exists(path)
    for n in range(5):  # many changes are kept once
        world.take({"a": Standing(ROW, ROW, None), f"b{n}": Standing(ROW, None, None)})
        world.read()
        world.clock.advance(0.1)
    assert not os.path.exists(path)
    world.clock.advance(database_watch.KEEP_SECONDS)
    assert sorted(read_snapshot(path).by_name) == ["a", "b4"]
    os.utime(path, (1, 1))
    world.read()  # nothing new: the rows on disk are as good as now
    assert read_snapshot(path).read_at > 1
    os.utime(path, (1, 1))
    world.read(away="gone")
    assert read_snapshot(path).read_at == 1


def test_what_is_not_kept_yet_is_kept_at_the_end(world: World) -> None:
    world.watch.stop()
    assert world.link.given_up == "policyd stops"  # whoever waits for it in a thread waits no longer
    assert sorted(read_snapshot(world.settings.snapshot_file).by_name) == ["a"]
    assert world.clock.getDelayedCalls() == []
    assert world.clock.readers == []


def test_a_disk_that_is_full_is_said_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(database_watch, "write_snapshot", full)
    for _ in range(3):
        world.clock.advance(database_watch.KEEP_SECONDS)
        world.read()
    assert [line for line in world.log.lines if "No space" in line] == [
        "<4>cannot keep the rows of the database: [Errno 28] No space left on device"
    ]
    monkeypatch.setattr(database_watch, "write_snapshot", write_snapshot)
    world.take({"a": Standing(ROW, ROW, None), "b": Standing(ROW, ROW, None)})
    world.read()
    world.clock.advance(database_watch.KEEP_SECONDS)
    assert sorted(read_snapshot(world.settings.snapshot_file).by_name) == ["a", "b"]


def test_without_a_database_nothing_is_done(world: World) -> None:
    world.watch.busy()
    world.watch.in_force(None, None)
    world.watch.rested()
    world.clock.advance(1000)
    assert (world.asked, world.watch.status(), world.watch.text(), world.clock.readers) == (0, None, "", [])


# ------------------------------------------------------------------------------------------- the file


def test_a_snapshot_is_read_as_it_was_written(tmp_path: Path) -> None:
    older = Row(3, json.dumps({"accepted_domains": ["ä.example", "\n"]}), "its-stamp")
    standings = {"a": Standing(ROW, ROW, None), "b": Standing(ROW, older, None), "c": Standing(older, None, None)}
    path = str(tmp_path / "snapshot")
    write_snapshot(path, Standings("a-stamp", 9, 0.0, standings))
    found = read_snapshot(path)
    assert (found.stamp, found.revision, dict(found.by_name)) == ("a-stamp", 9, standings)
    assert [one.left_out for one in found.by_name.values()] == [False, True, True]
    assert os.listdir(tmp_path) == ["snapshot"]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_no_damage_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    write_snapshot(str(path), Standings("s", 9, 0.0, {"a": Standing(ROW, ROW, None)}))
    good = path.read_bytes()
    damaged = [good[:n] for n in range(len(good))]
    damaged += [good[:n] + bytes([good[n] ^ 1]) + good[n + 1 :] for n in range(len(good))]
    damaged += [good + b"x", good.replace(b" 1 ", b" 2 ", 1)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(SnapshotRefused):
            read_snapshot(str(path))
    path.write_bytes(good)
    assert read_snapshot(str(path)).revision == 9
    path.chmod(0o620)
    with pytest.raises(SnapshotRefused, match="written by others"):
        read_snapshot(str(path))
    with pytest.raises(SnapshotRefused, match="cannot be read: a folder"):
        read_snapshot(str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SnapshotRefused, match="no regular file"):
        read_snapshot(str(tmp_path / "fifo"))
    with pytest.raises(SnapshotRefused, match="none is kept"):
        read_snapshot("")
