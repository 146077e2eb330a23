"""Files that the administrator names, read with a limit (SPEC 4). Nothing here hangs on a pipe or fills the memory.

The texts for people are the callers': what to do about it depends on what the file was to be.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO, Literal

Why = Literal["missing", "broken link", "folder", "not regular", "permission", "no name", "unreadable", "too large"]


_PIECE = 1 << 16  # octets


class FileRefused(Exception):
    """A file that was not read: `why` in one word, and `reason`, which can stand behind a colon."""

    def __init__(self, why: Why, reason: str) -> None:
        super().__init__(reason)
        self.why = why
        self.reason = reason


def open_regular(path: str, *, pipe: bool = False) -> BinaryIO:
    """The file at `path`, opened for reading; with `pipe`, also a pipe, whose writer is waited for. Raises FileRefused.

    O_NONBLOCK: else opening a pipe that nobody writes to hangs. Looked at after opening, so that what was looked at is
    what is read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if pipe else os.O_NONBLOCK))
    except FileNotFoundError:
        if os.path.islink(path):
            raise FileRefused("broken link", "a symbolic link to a file that does not exist") from None
        raise FileRefused("missing", "there is no such file") from None
    except PermissionError:
        raise FileRefused("permission", "permission denied") from None
    except ValueError as error:  # NUL in it
        raise FileRefused("no name", str(error)) from None
    except OSError as error:
        raise FileRefused("unreadable", error.strerror or str(error)) from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or (pipe and stat.S_ISFIFO(mode)):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise FileRefused("folder", "a folder")
    raise FileRefused("not regular", "no regular file")


def read_regular(path: str, limit: int, *, pipe: bool = False) -> bytes:
    """What the file at `path` holds, at most `limit` octets. Raises FileRefused."""
    with open_regular(path, pipe=pipe) as file:
        try:
            content = read_up_to(file, limit + 1)
        except OSError as error:
            raise FileRefused("unreadable", error.strerror or str(error)) from None
    if len(content) > limit:
        raise FileRefused("too large", f"larger than {limit >> 20} MiB" if limit >> 20 else f"over {limit >> 10} KiB")
    return content


def read_up_to(file: BinaryIO, limit: int) -> bytes:
    """Up to `limit` octets. Raises OSError. read() itself asks for all that memory, however small the file is."""
    pieces: list[bytes] = []
    wanted = os.fstat(file.fileno()).st_size + 1  # one more, to see the end; of a pipe the size is 0
    while limit and (piece := file.read(min(limit, max(wanted, _PIECE)))):
        pieces.append(piece)
        limit -= len(piece)
        wanted -= len(piece)
    return b"".join(pieces)
