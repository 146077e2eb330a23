"""Where log lines go: a file or standard error, written by a thread of its own.

A full disk, a pipe that nobody reads or a slow file system must never delay an answer: the reactor only appends to a
list, and what cannot be kept or written is lost. The lines are counted, that there are any is told elsewhere, and how
many stands in the log as soon as it can be written again (SPEC 6 and 8).
"""

from __future__ import annotations

import os
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator

_KEPT = 8 * 1024 * 1024  # octets waiting for the thread; more are dropped
_STDERR = 2
_TOLD_SECONDS = 60.0  # between two complaints about the same log


class Times:
    """The time in front of each line of a file: RFC 3339, UTC, milliseconds, and a blank. `now` gives Unix time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._second = 0
        self._text = ""

    def __call__(self) -> str:
        """The time, as it is put in front."""
        thousandths = int(self._now() * 1000)
        second = thousandths // 1000
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{thousandths % 1000:03}Z "


class LogWriter:
    """A destination for whole lines. `path` empty: standard error. Raises OSError when a file cannot be opened.

    `tell` takes what is to be said of the log itself, elsewhere; it is called in any thread and may not block.
    """

    def __init__(self, path: str = "", tell: Callable[[str], None] = lambda text: None) -> None:
        self.path = path
        self.failures = 0  # writes that failed, and pieces dropped because too many were waiting
        self.lost = 0  # lines that were in them
        self._untold = 0  # those of them that the log does not know of
        self._tell = tell
        self._silent_until = 0.0  # on the monotonic clock
        self._descriptor = self._open()
        self.terminal = not path and os.isatty(_STDERR)
        self._waiting: list[bytes] = []
        self._size = 0
        self._closing = False
        self._reopening = False
        self._torn = False  # the last write stopped within a line
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Takes whole lines. Never blocks, never raises."""
        with self._changed:
            if self._size + len(lines) > _KEPT:
                self._lose(lines.count(b"\n"), "it takes them too slowly")
                return
            self._waiting.append(lines)
            self._size += len(lines)
            self._changed.notify()

    def reopen(self) -> None:
        """Opens the file anew, after what waits was written: for logrotate."""
        with self._changed:
            self._reopening = True
            self._changed.notify()

    def close(self, timeout: float = 2.0) -> None:
        """Writes what waits, for `timeout` seconds at the most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    def _open(self) -> int:
        if not self.path:
            return _STDERR
        # O_NONBLOCK: opening a pipe that nobody reads must fail, not wait.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self.path, flags, 0o640)
        os.set_blocking(descriptor, True)
        return descriptor

    def _run(self) -> None:
        while True:
            try:
                if self._step():
                    return
            except Exception:  # noqa: BLE001 - the log goes on with what comes next
                self.failures += 1

    def _step(self) -> bool:
        """Writes what waits; true when that was the last."""
        with self._changed:
            while not (self._waiting or self._closing or self._reopening):
                self._changed.wait()
            waiting, self._waiting, self._size = self._waiting, [], 0
            reopening, self._reopening = self._reopening, False
            closing = self._closing
        if waiting:
            self._write_out(waiting)
        if reopening and self.path:
            self._open_anew()
        if self._untold and (reopening or (closing and not waiting)):
            self._write_out([])
        return closing and not waiting

    def _write_out(self, pieces: list[bytes]) -> None:
        with self._changed:
            told = self._untold
        first = (b"\n" if self._torn else b"") + (self._loss(told) if told else b"")
        lines, written = b"", 0
        try:
            lines = b"".join([first, *pieces])
            for end in self._cuts(lines):
                while written < end:
                    written += os.write(self._descriptor, lines[written:end])
            self._torn = False
        except (OSError, MemoryError) as error:
            if written:
                self._torn = lines[written - 1] != 0x0A
            already = lines.count(b"\n", len(first), max(written, len(first)))
            lost = sum(piece.count(b"\n") for piece in pieces) - already
            with self._changed:
                self._lose(lost, getattr(error, "strerror", None) or "no memory")
        if written >= len(first):
            with self._changed:
                self._untold -= told

    def _loss(self, count: int) -> bytes:
        """The line that says how many are lost."""
        front = Times(time.time)() if self.path else "" if self.terminal else "<4>"
        return f"{front}policyd: {count} line{'' if count == 1 else 's'} lost\n".encode("ascii")

    def _lose(self, count: int, why: str) -> None:
        """Counts a write that failed; `_changed` is held."""
        self.failures += 1
        self.lost += count
        self._untold += count
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _TOLD_SECONDS
            self._tell(f"cannot write the log {self.path}: {why}; lines are lost until it can be written again")

    def _cuts(self, lines: bytes) -> Iterator[int]:
        """Where to cut: a pipe that other processes write to as well keeps only short writes in one piece."""
        start = 0
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            while len(lines) - start > select.PIPE_BUF:
                start = lines.rfind(b"\n", start, start + select.PIPE_BUF) + 1 or start + select.PIPE_BUF
                yield start
        yield len(lines)

    def _open_anew(self) -> None:
        try:
            descriptor = self._open()
        except OSError as error:
            self.failures += 1
            self._tell(f"cannot reopen the log {self.path}: {error.strerror}; the old file is written on")
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
