"""The thread that writes the log: order, reopening, disks that are full, and pipes that nobody reads (SPEC 6, 8)."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policyd.service import log_writer as module
from policyd.service.log_writer import LogWriter
from tests.helpers.waiting import until

Write = Callable[[int, bytes], int]


def test_lines_arrive_in_order(tmp_path: Path) -> None:
    output = LogWriter(str(tmp_path / "log"))
    for number in range(500):
        output.write(f"{number}\n".encode())
    output.close()
    assert (tmp_path / "log").read_text().split() == [str(number) for number in range(500)]
    assert output.failures == 0


def test_it_appends_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("old\n")
    output = LogWriter(str(tmp_path / "log"))
    output.write(b"new\n")
    output.close()
    assert (tmp_path / "log").read_text() == "old\nnew\n"


def test_a_new_file_is_not_for_everybody(tmp_path: Path) -> None:
    LogWriter(str(tmp_path / "log")).close()
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


def test_a_file_that_cannot_be_opened_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LogWriter(str(tmp_path / "missing" / "log"))


def test_reopening(tmp_path: Path) -> None:
    """What was written before the wish is in the old file."""
    path = tmp_path / "log"
    output = LogWriter(str(path))
    output.write(b"before\n")
    until(lambda: path.read_text() == "before\n")
    path.rename(tmp_path / "old")
    output.write(b"between\n")
    output.reopen()
    until(path.exists)
    output.write(b"after\n")
    output.close()
    assert (tmp_path / "old").read_text() == "before\nbetween\n"
    assert path.read_text() == "after\n"


def test_reopening_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    folder, told = tmp_path / "folder", list[str]()
    folder.mkdir()
    output = LogWriter(str(folder / "log"), told.append)
    folder.rename(tmp_path / "elsewhere")
    output.reopen()
    until(lambda: output.failures == 1)
    output.write(b"still here\n")
    output.close()
    assert (tmp_path / "elsewhere" / "log").read_text() == "still here\n"
    assert [text.split(": ")[0] for text in told] == [f"cannot reopen the log {folder}/log"]


def test_writing_never_waits_and_what_cannot_be_kept_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs: the writer goes on, memory stays bounded, and when the disk is back so are the lines."""
    hang, write = threading.Event(), os.write
    monkeypatch.setattr(module, "_KEPT", 1000)
    monkeypatch.setattr(module.os, "write", lambda fd, data: (hang.wait(60), write(fd, data))[1])
    output = LogWriter(str(tmp_path / "log"))
    output.write(b"first\n")
    until(lambda: output._waiting == [])  # the thread hangs with it
    for _ in range(30):
        output.write(b"x" * 99 + b"\n")
    assert sum(map(len, output._waiting)) <= 1000
    assert output.failures == output.lost == 20
    hang.set()
    output.close()
    text = (tmp_path / "log").read_text()
    assert "policyd: 20 lines lost\n" in text
    assert text.startswith("first\n")
    assert text.count("x" * 99 + "\n") == 10


class Disk:
    """Stands for os.write: each call takes as many bytes as the next number says, or raises when that is None."""

    def __init__(self, *room: int | None) -> None:
        self.room = list(room)
        self.written = b""

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.room:
            taken = len(data)
        else:
            now = self.room.pop(0)
            if now is None:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = min(now, len(data))
        self.written += bytes(data[:taken])
        return taken


LOST_1, LOST_2 = "policyd: 1 line lost\n", "policyd: 2 lines lost\n"


@pytest.mark.parametrize(
    ("room", "written", "lost"),
    [
        ((3, 4, 100), "one line\ntwo lines\nthree\n", 0),  # it takes less than it was given: the rest follows
        ((None,), f"{LOST_1}two lines\nthree\n", 1),
        ((None, None), f"{LOST_2}three\n", 2),
        ((4, None), f"one \n{LOST_1}two lines\nthree\n", 1),  # stopped within a line: what follows begins a new one
        ((4, None, None), f"one \n{LOST_2}three\n", 2),  # still full at the next try
        ((4, None, None, None), "one \npolicyd: 3 lines lost\n", 3),  # there is room at last, at the end
        ((4, None, None, None, None), "one ", 3),
        ((4, None, 1, None), f"one \n{LOST_2}three\n", 2),
        ((4, None, 8, None), f"one \npolicyd\n{LOST_2}three\n", 2),  # torn within the line about the loss
        ((4, None, 26, None), f"one \n{LOST_1}two \n{LOST_1}three\n", 2),  # torn twice
        ((9, 10, None), f"one line\ntwo lines\n{LOST_1}", 1),
    ],
)
def test_a_full_disk_never_glues_lines_together_and_each_lost_one_is_told(
    room: tuple[int | None, ...], written: str, lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, told = Disk(*room), list[str]()
    output = LogWriter(str(tmp_path / "log"), told.append)
    monkeypatch.setattr(module.os, "write", disk.write)
    for line in (b"one line\n", b"two lines\n", b"three\n"):
        output.write(line)
        until(lambda: output._waiting == [])
        settled(output)
    output.close()
    assert disk.written.decode() == written
    assert output.failures == sum(now is None for now in room)
    assert output.lost == lost
    complaint = f"cannot write the log {tmp_path}/log: No space left on device; lines are lost until it can be"
    assert [text.startswith(complaint) for text in told] == [True][: bool(lost)], "once, not for each write"


def test_a_batch_without_memory_for_it_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(output: LogWriter, lines: bytes) -> Iterator[int]:
        raise MemoryError

    output = LogWriter(str(tmp_path / "log"))
    with monkeypatch.context() as patched:
        patched.setattr(LogWriter, "_cuts", no_memory)
        output.write(b"one\ntwo\n")
        until(lambda: output.lost == 2)
    output.write(b"three\n")
    output.close()
    assert (tmp_path / "log").read_text() == f"{LOST_2}three\n"


def test_the_loss_stands_in_the_new_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log was reopened because its disk was full, nobody has to wait for the next decision."""
    path, disk = tmp_path / "log", Disk(None)
    output = LogWriter(str(path))
    with monkeypatch.context() as patched:
        patched.setattr(module.os, "write", disk.write)
        output.write(b"gone\n")
        until(lambda: output.lost == 1)
    path.rename(tmp_path / "old")
    output.reopen()
    until(lambda: path.exists() and path.read_text() == LOST_1)
    output.close()
    assert path.read_text() == LOST_1, "and once"


def settled(output: LogWriter) -> None:
    """Waits until the thread waits for more."""
    until(lambda: output._thread.is_alive() and _is_waiting(output))


def _is_waiting(output: LogWriter) -> bool:
    with output._changed:
        return bool(output._changed._waiters)  # type: ignore[attr-defined]


def test_standard_error_that_nobody_reads_does_not_stop_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken pipe is a failed write like any other."""
    broken = Disk(None, None)
    monkeypatch.setattr(module.os, "write", broken.write)
    output = LogWriter()
    for _ in range(3):
        output.write(b"line\n")
        settled(output)
    output.close()
    assert output.failures == output.lost == 2
    assert broken.written == b"<4>policyd: 2 lines lost\nline\n"


def test_reopening_with_standard_error_gone_does_not_stop_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The complaint about the file has nowhere to go; the log itself goes on."""

    nobody_reads, closed = os.pipe()
    os.close(nobody_reads)
    monkeypatch.setattr(module, "_STDERR", closed)
    folder = tmp_path / "folder"
    folder.mkdir()
    output = LogWriter(str(folder / "log"))
    folder.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    output.reopen()
    until(lambda: output.failures == 1)
    output.write(b"still here\n")
    output.close()
    assert (tmp_path / "elsewhere" / "log").read_text() == "still here\n"


def test_closing_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hang, write = threading.Event(), os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: (hang.wait(60), write(fd, data))[1])
    output = LogWriter(str(tmp_path / "log"))
    output.write(b"first\n")
    output.close(timeout=0.05)  # returns, though the thread hangs
    assert output._thread.is_alive()
    hang.set()
    output._thread.join(60)
    assert (tmp_path / "log").read_text() == "first\n"
