"""`serve --record FILE`: every request appended to a transcript, private and bounded (SPEC 7).

The file is made with mode 0600 and never grows beyond 100 MiB; then, or when it cannot be written, recording ends with
one log line while the service goes on. Nothing here blocks or raises in the reactor's thread: the bytes go to a thread
of their own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress

from policyd.records.redacted import redacted
from policyd.service.log_writer import LogWriter

RECORDING_LIMIT = 100 * 1024 * 1024  # octets of the file
_LOOK_EVERY = 1024 * 1024  # octets; then the file's true size counts again: other workers write to it too


class Recording:
    """A transcript that is being written. Raises OSError when the file cannot be opened or is no regular file.

    `tell` logs one line; the daemon sets it to its own log.
    """

    def __init__(self, path: str, redact: bool = False, limit: int = RECORDING_LIMIT) -> None:
        self.path = path
        self.tell: Callable[[str], None] = _say_on_stderr
        self._redact = redact
        self._limit = limit
        self._output: _PrivateFile | None = _PrivateFile(path)
        self._size = self._output.size()
        self._unseen = 0  # octets since the size was looked at

    def record(self, data: bytes) -> None:
        """Appends one request, given with its empty line."""
        output = self._output
        if output is None:
            return
        if self._redact:
            data = redacted(data)
        if self._unseen >= _LOOK_EVERY:
            self._size, self._unseen = max(self._size + self._unseen, output.size()), 0
        self._unseen += len(data)
        if self._size + self._unseen > self._limit:
            self._end(f"recording to {self.path} ended: it has reached {self._limit // 1024 // 1024} MiB")
        elif output.failures:
            self._end(f"recording to {self.path} ended: it could not be written")
        else:
            output.write(data)

    def _end(self, why: str) -> None:
        """What was taken is still written; nobody waits for it."""
        output, self._output = self._output, None
        if output is not None:
            output.close(timeout=0)
        self.tell(why)

    def close(self) -> None:
        """Writes what waits, for two seconds at the most."""
        output, self._output = self._output, None
        if output is not None:
            output.close()


class _PrivateFile(LogWriter):
    """A file that only its owner reads, and that ends with a whole request before the first new one."""

    def _loss(self, count: int) -> bytes:
        """Nothing: requests stand in here, and no line of ours; Recording tells."""
        return b""

    def size(self) -> int:
        """Octets in the file, whoever wrote them."""
        return os.fstat(self._descriptor).st_size

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self.path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{self.path} is no regular file")
            if stat.S_IMODE(status.st_mode) & 0o077:
                os.fchmod(descriptor, 0o600)
            if status.st_size and os.pread(descriptor, 2, max(status.st_size - 2, 0)) != b"\n\n":
                os.write(descriptor, b"\n\n")  # it was cut off within a request
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _say_on_stderr(text: str) -> None:
    """For the time before there is a log; a closed standard error is no reason to stop."""
    with suppress(OSError):
        os.write(2, f"{'' if os.isatty(2) else '<4>'}policyd: {text}\n".encode("ascii", "backslashreplace"))
