"""Files that commands read: transcripts and logs, compressed by logrotate or not, and standard input."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast


class Input(Protocol):
    """Bytes in pieces or in lines."""

    def read1(self, size: int, /) -> bytes: ...
    def __iter__(self) -> Iterator[bytes]: ...


_GZIP = b"\x1f\x8b"


@contextmanager
def opened(path: str) -> Iterator[Input]:
    """The file at `path`, or standard input for `-`, as bytes. Raises OSError."""
    if path == "-":
        yield cast(Input, sys.stdin.buffer)
        return
    with open(path, "rb") as file:
        compressed = file.peek(2)[:2] == _GZIP
        if not compressed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


def reason_of(error: Exception) -> str:
    """What went wrong with a file, without Python's own words."""
    if isinstance(error, EOFError):
        return "the compressed file was cut off"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
