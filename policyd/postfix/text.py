"""Postfix's text files: logical lines, comments, continuation (SPEC 7; postconf(5)). Pure but for reading."""

from __future__ import annotations

from collections.abc import Iterator

from policyd.config.regular_file import FileRefused, read_regular

TEXT_TYPES = frozenset({"hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash"})  # made from, or read as, a text

LARGEST_FILE = 64 << 20  # octets


class PostconfError(Exception):
    """postconf or postmap did not do its work, or a file of Postfix cannot be read; the text says why."""


class PostconfMissingError(PostconfError):
    """There is no postconf or postmap on this machine."""


def read_text(path: str) -> str:
    """The text of a file that main.cf names. Postfix does not mind what is not UTF-8 (in comments, say); nor does this.

    Raises PostconfError for what cannot be read and for what is no text; its text names the file.
    """
    try:
        octets = read_regular(path, LARGEST_FILE)
    except FileRefused as refused:
        raise PostconfError(f"{path}: {refused.reason}") from None
    if b"\0" in octets:
        line = octets[: octets.index(b"\0")].count(b"\n") + 1
        raise PostconfError(f"{path}:{line}: this is no text: name the source of the table, not what postmap made")
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
