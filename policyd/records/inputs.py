"""Files that commands read: transcripts and logs, compressed by logrotate or not, and standard input (SPEC 7)."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from io import BufferedIOBase
from typing import BinaryIO, cast

_UNPACKED: tuple[tuple[bytes, Callable[[BinaryIO], BufferedIOBase]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ", lzma.LZMAFile),
)
_ZSTANDARD = b"\x28\xb5\x2f\xfd"


@contextmanager
def opened(path: str, reading: Callable[[BinaryIO], None] = lambda _: None) -> Iterator[BufferedIOBase]:
    """The file at `path`, or standard input for `-`, as bytes, unpacked. Raises OSError, EOFError while it is read.

    `reading` is told of the file itself, packed as it may be.
    """
    with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as source:
        reading(source)
        begin = source.peek(8) if hasattr(source, "peek") else b""
        if begin.startswith(_ZSTANDARD):
            raise OSError("it is packed by zstd: unpack it, or give the output of zstdcat on standard input")
        unpacked = next((unpack(source) for sign, unpack in _UNPACKED if begin.startswith(sign)), None)
        if unpacked is None:
            yield cast(BufferedIOBase, source)
            return
        try:
            with unpacked as stream:
                yield stream
        except (zlib.error, lzma.LZMAError):
            raise OSError("the compressed file is damaged") from None


def reason_of(error: Exception) -> str:
    """What went wrong with a file, without Python's own words."""
    if isinstance(error, EOFError):
        return "the compressed file was cut off"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
