"""The text files of Postfix: logical lines, comments, continuation (postconf(5), postmap(1)). Pure but for reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from policyd.config.imported import ImportFailedError

TEXT_TYPES = frozenset({"hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash"})  # made from, or read as, a text

LARGEST_FILE = 64 * 1024 * 1024  # octets


def read_text(path: Path) -> str:
    """The text of a table's source. Postfix does not mind what is not UTF-8 (in comments, say); nor does this.

    Raises ImportFailedError for what cannot be read and for what is no text.
    """
    try:
        if not path.is_file():
            raise ImportFailedError(f"{path}: {'no regular file' if path.exists() else 'there is no such file'}")
        if path.stat().st_size > LARGEST_FILE:
            raise ImportFailedError(f"{path}: the file is larger than {LARGEST_FILE >> 20} MiB")
        octets = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: NUL in a path
        raise ImportFailedError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if b"\0" in octets:
        line = octets[: octets.index(b"\0")].count(b"\n") + 1
        raise ImportFailedError(f"{path}:{line}: this is no text: name the source of the table, not what postmap made")
    return octets.decode("utf-8", "replace")


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) of each logical line.

    A line that starts with a blank continues the one before, across comments and empty lines.
    """
    start, collected = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if line[0].isspace() and collected:
            collected += f" {stripped}"
            continue
        if collected:
            yield start, collected
        start, collected = number, stripped
    if collected:
        yield start, collected
