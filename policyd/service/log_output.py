"""Where log lines go: a file or standard error, written by a thread of its own.

A full disk, a pipe that nobody reads or a slow file system must never delay an answer: the reactor
only appends to a list, and what cannot be kept or written is counted and lost (SPEC 6 and 8).
"""

from __future__ import annotations

import os
import sys
import threading

_KEPT = 8 * 1024 * 1024  # octets waiting for the thread; more are dropped
_STDERR = 2


class LogOutput:
    """A destination for whole lines. `path` empty: standard error. Raises OSError when a file cannot be opened."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.failures = 0  # writes that failed, and pieces dropped because too many were waiting
        self._descriptor = self._open()
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
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._closing or self._reopening):
                    self._changed.wait()
                lines, self._waiting, self._size = b"".join(self._waiting), [], 0
                reopening, self._reopening = self._reopening, False
                closing = self._closing
            if lines:
                self._write_out(lines)
            if reopening and self.path:
                self._open_anew()
            if closing and not lines:
                return

    def _write_out(self, lines: bytes) -> None:
        rest = memoryview(b"\n" + lines if self._torn else lines)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self._torn = False
        except OSError:
            self.failures += 1
            self._torn = len(rest) < len(lines) and len(rest) > 0

    def _open_anew(self) -> None:
        try:
            descriptor = self._open()
        except OSError as error:
            self.failures += 1
            print(f"<4>policyd: cannot reopen the log {self.path}: {error}", file=sys.stderr, flush=True)
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
