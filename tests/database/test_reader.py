"""A hub's reading, against a real server: what it costs, what it does not wait for, and where it stops (SPEC 9)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from policyd.config.settings import DatabaseSettings
from policyd.database import reader as reader_module
from policyd.database.connection import FLOODED, Link
from policyd.database.errors import DatabaseError
from policyd.database.reader import MOST_IN_VAIN, Reader
from policyd.database.snapshot import write_snapshot
from policyd.database.standings import Standing, Standings
from policyd.database.view import Row
from tests.database.postgres import Database
from tests.helpers.waiting import until

ROWS = """
INSERT INTO policyd.organizations (name) VALUES ('b'), ('a'), ('Z');
INSERT INTO policyd.domains SELECT name, 'accepted', lower(name) || '.example' FROM policyd.organizations;
"""


@pytest.fixture
def reader() -> Iterator[Reader]:
    """One that knows nothing yet."""
    made = Reader()
    yield made
    made.disconnect()


def settings(dsn: str, folder: Path) -> DatabaseSettings:
    """The table [database]."""
    return DatabaseSettings(dsn=dsn, snapshot_file=str(folder / "snapshot"), refresh_seconds=60)


def look(reader: Reader, where: DatabaseSettings, complete: bool = False) -> frozenset[str]:
    """Which organizations have changed."""
    reader.standings, touched = reader.read(where, complete)
    return touched


# ------------------------------------------------------------------------------------------- what is new


def test_what_differs(database: Database) -> None:
    """New, changed and gone organizations, by number and stamp; None where the number is another history's."""
    with database.connect(autocommit=True) as panel, closing(Link(database.dsn())) as link:
        with link.view() as view:
            empty = (view.revision, view.stamp)
        panel.execute(ROWS)
        with link.view() as view:
            assert view.changed_since(*empty) == {"a", "b", "Z"}
            before = (view.revision, view.stamp)
            stamps = dict(view.stamps())
            assert [name for name, _ in view.organizations()] == list(stamps) == ["Z", "a", "b"]
            assert {name: row.stamp for name, row in view.organizations()} == stamps
            assert set(stamps.values()) == {view.stamp}
            assert view.changed_since(*before) == frozenset()
        panel.execute("DELETE FROM policyd.organizations WHERE name = 'a'")
        panel.execute("UPDATE policyd.organizations SET connectors_only = true WHERE name = 'b'")
        panel.execute("INSERT INTO policyd.organizations (name) VALUES ('c')")
        with link.view() as view:
            assert view.changed_since(*before) == {"a", "b", "c"}
            now = dict(view.stamps())
            assert {name for name in now if now[name] == stamps.get(name)} == {"Z"}
            assert [name for name, _ in view.organizations(frozenset({"a", "b", "Z"}))] == ["Z", "b"]
            another = "00000000-0000-4000-8000-000000000000"
            for unknown in (
                (before[0], another),
                (before[0], ""),
                (before[0] + 1, before[1]),
                (view.revision + 1, before[1]),
                (-1, before[1]),
                (before[0], "no stamp at all"),
            ):
                assert view.changed_since(*unknown) is None


def test_stamps_are_kept_for_a_while(database: Database) -> None:
    """Who knows an older one compares everything."""
    with database.owner() as owner, closing(Link(database.dsn())) as link:
        owner.execute(ROWS)
        with link.view() as view:
            before = (view.revision, view.stamp)
        owner.execute("UPDATE policyd.state SET revision = 100000")
        owner.execute("UPDATE policyd.organizations SET connectors_only = true WHERE name = 'b'")
        with link.view() as view:
            assert view.changed_since(*before) is None
        assert owner.execute("SELECT array_agg(revision) FROM policyd.stamps").fetchone() == ([100001],)


def test_many_in_portions(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many round trips as it takes give what one gives, in order, for all and for some."""
    with database.owner() as owner:
        owner.execute("INSERT INTO policyd.organizations (name) SELECT 'o' || n FROM generate_series(1, 250) AS n")
        owner.execute(
            "INSERT INTO policyd.domains SELECT name, kind, name || kind || n || '.example'"
            " FROM policyd.organizations, generate_series(1, 2) AS n,"
            " unnest('{accepted,pending,delegated}'::text[]) AS kind"
        )
    with closing(Link(database.dsn())) as link, link.view() as view:
        whole = list(view.organizations())
        some = frozenset(name for name, _ in whole[::3])
        monkeypatch.setattr("policyd.database.view._DOCUMENTS_AT_A_TIME", 7)
        monkeypatch.setattr("policyd.database.view._CHANGED_AT_A_TIME", 11)
        monkeypatch.setattr("policyd.database.view._NAMES_AT_A_TIME", 3)
        assert list(view.organizations()) == whole
        assert list(view.organizations(some)) == whole[::3]
        assert [name for name, _ in view.stamps()] == [name for name, _ in whole] == sorted(name for name, _ in whole)
        assert '"pending_domains":["o1pending1.example","o1pending2.example"]' in dict(whole)["o1"].document


# ------------------------------------------------------------------------------------------- notifications of nothing


def test_a_notification_of_nothing_costs_a_look(
    database: Database, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The revision is looked at, and no organization is named; many in a row are not even heard any more."""
    where = settings(database.dsn(), tmp_path)
    with database.owner() as owner:
        owner.execute(ROWS)
        assert look(reader, where) == {"a", "b", "Z"}
        owner.execute("DROP ROLE IF EXISTS policyd_stranger; CREATE ROLE policyd_stranger LOGIN PASSWORD 'secret'")
    try:
        with database.connect("policyd_stranger", autocommit=True) as stranger, monkeypatch.context() as patched:
            patched.setattr(Standings, "known", lambda _: pytest.fail("all organizations were looked at"))
            for number in range(MOST_IN_VAIN + 1):
                assert reader.link is not None
                assert reader.link.listens
                stranger.execute("SELECT pg_notify('policyd', %s)", (str(1000 + number),))
                until(reader.heard)
                assert look(reader, where) == frozenset()
            assert (reader.link.listens, reader.link.warning) == (False, FLOODED)
            stranger.execute("NOTIFY policyd")
            assert look(reader, where) == frozenset()
            assert not reader.heard()
    finally:
        with database.owner() as owner:
            owner.execute("DROP ROLE policyd_stranger")
    with database.connect() as panel:
        panel.execute("DELETE FROM policyd.organizations WHERE name = 'a'")
    assert look(reader, where) == {"a"}  # at the next of the regular looks
    assert reader.link.listens
    assert reader.heard()  # what came between that look and the LISTEN is not lost
    with database.connect() as panel:
        panel.execute("DELETE FROM policyd.organizations WHERE name = 'b'")
    assert look(reader, where) == {"b"}


# ------------------------------------------------------------------------------------------- servers that say nothing


@pytest.fixture
def silent() -> Iterator[str]:
    """A dsn of two servers that take connections, and never say a word."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = f"{one.getsockname()[1]},{other.getsockname()[1]}"
        yield f"host=127.0.0.1,127.0.0.1 port={ports} dbname=policyd user=hub password=secret sslmode=disable"


def test_a_start_does_not_wait_for_silent_servers(
    silent: str, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are rows of last time; where there are none, each server has libpq's own time."""
    where = settings(silent, tmp_path)
    row = Row(1, "{}", "s")
    write_snapshot(where.snapshot_file, Standings("s", 1, 0.0, {"a": Standing(row, row, None)}))
    monkeypatch.setattr(reader_module, "FIRST_SECONDS", 0.3)
    standings, touched = reader.read(where)
    assert (set(standings.by_name), touched) == ({"a"}, frozenset())
    assert reader.away == "the database cannot be read: no server has answered within 0.3 s"


def test_the_end_does_not_wait_for_them_either(silent: str, reader: Reader, tmp_path: Path) -> None:
    """A thread that would wait for long is told."""
    told: list[str] = []

    def read() -> None:
        try:
            reader.read(settings(silent, tmp_path))
        except DatabaseError as error:
            told.append(str(error))

    thread = threading.Thread(target=read)
    thread.start()
    until(lambda: any(one.name == "connecting" for one in threading.enumerate()))
    reader.stop()
    thread.join()
    assert "policyd stops" in told[0]


def test_the_end_does_not_wait_for_a_locked_table(database: Database, reader: Reader, tmp_path: Path) -> None:
    """The connection is there, and the statement waits."""
    where = settings(database.dsn(), tmp_path)
    look(reader, where)
    with database.owner() as owner, owner.transaction():
        owner.execute("LOCK TABLE policyd.state IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=look, args=(reader, where))
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'policyd.state'::regclass"
        until(lambda: owner.execute(waiting).fetchone() == (1,))
        reader.stop()
        thread.join()
    assert reader.away == "the database cannot be read: policyd stops"


def test_only_silence_has_a_limit(database: Database) -> None:
    """Not the whole read, and not what who reads does between two rows."""
    with database.owner() as owner:
        owner.execute("INSERT INTO policyd.organizations (name) SELECT 'o' || n FROM generate_series(1, 450) AS n")
    with closing(Link(database.dsn(), seconds=0.5)) as link:
        with link.view() as view:
            began = time.monotonic()
            names = []
            for name, _ in view.organizations():
                if len(names) % 100 == 0:
                    time.sleep(0.2)
                names.append(name)
            assert len(names) == 450
            assert time.monotonic() - began > 0.5  # the limit of one wait
        with database.owner() as owner, owner.transaction():
            owner.execute("LOCK TABLE policyd.state IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(DatabaseError, match=r"^the database cannot be read: it has said nothing for 0\.5 s$"):
                link.read(None, complete=True)


def test_a_connection_that_comes_too_late_is_closed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the thread that made it."""
    import psycopg

    goes_on, made, connect = threading.Event(), [], psycopg.connect

    def slowly(*arguments: object, **options: object) -> object:
        assert goes_on.wait(60)
        made.append(connect(*arguments, **options))  # type: ignore[arg-type]
        return made[0]

    monkeypatch.setattr(psycopg, "connect", slowly)
    with pytest.raises(DatabaseError, match=r"no server has answered within 0\.1 s"):
        Link(database.dsn(), 0.1, whole=True)
    goes_on.set()
    until(lambda: bool(made) and made[0].closed)
