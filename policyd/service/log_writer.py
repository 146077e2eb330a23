"""Where log lines go: a file or standard error, written by a thread of its own.

A full disk, a pipe that nobody reads or a slow file system must never delay an answer: the reactor
only appends to a list, and what cannot be kept or written is counted and lost (SPEC 6 and 8).
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
from collections.abc import Iterator

_KEPT = 8 * 1024 * 1024  # octets waiting for the thread; more are dropped
_STDERR = 2


class LogWriter:
    """A destination for whole lines. `path` empty: standard error. Raises OSError when a file cannot be opened."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.failures = 0  # writes that failed, and pieces dropped because too many were waiting
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
                self.failures += 1
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
            except Exception:  # noqa: BLE001 - no memory, say: the log goes on with what comes next
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
            self._write_out(b"".join(waiting))
        if reopening and self.path:
            self._open_anew()
        return closing and not waiting

    def _write_out(self, lines: bytes) -> None:
        if self._torn:
            lines = b"\n" + lines
        written = 0
        try:
            for end in self._cuts(lines):
                while written < end:
                    written += os.write(self._descriptor, lines[written:end])
            self._torn = False
        except OSError:
            self.failures += 1
            if written:
                self._torn = lines[written - 1] != 0x0A

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
            with contextlib.suppress(OSError):
                priority = "" if os.isatty(_STDERR) else "<4>"
                os.write(_STDERR, f"{priority}policyd: cannot reopen the log {self.path}: {error.strerror}\n".encode())
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
