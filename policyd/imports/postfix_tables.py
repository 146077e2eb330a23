"""Postfix's tables and files of patterns, as `policyd import postfix` reads them: by their sources, with line numbers.

A file that the administrator names must be readable, or the import ends. Of a table that main.cf names, whose source is
gone, postmap lists what it holds; where that fails, too, the caller notes it. Judges nothing. SPEC 7, import.
"""

from __future__ import annotations

from contextlib import suppress

from policyd.imports.found import ImportFailedError
from policyd.postfix.postconf import Postfix
from policyd.postfix.text import TEXT_TYPES, PostconfError, logical_lines, read_text

Lines = list[tuple[str, str]]  # (`file:line`, or the name of the table; a logical line)


def file_lines(path: str) -> Lines:
    """The logical lines of a file. Raises ImportFailedError."""
    try:
        return _lines(path)
    except PostconfError as error:
        raise ImportFailedError(str(error)) from None


def table_lines(table: str, postfix: Postfix | None) -> Lines:
    """The entries of a table, `type:name` or the path of its source; `postfix`: the one whose main.cf names it.

    Raises PostconfError for a kind that has no list, and where `postfix` cannot list it; ImportFailedError for a source
    without a `postfix` that cannot be read.
    """
    kind, path = kind_and_path(table)
    has_text = kind in TEXT_TYPES or kind == "cidr"
    if postfix is None or path == table:
        if not has_text:
            raise PostconfError(f"a table of type {kind} has no text to read")
        return file_lines(path)
    if has_text:
        with suppress(PostconfError):
            return _lines(path)
    return [(table, f"{key} {value}") for key, value in postfix.entries(table)]


def kind_and_path(table: str) -> tuple[str, str]:
    """The type and the source of a table; a path by itself is that of a text."""
    kind, colon, path = table.removeprefix("proxy:").partition(":")
    return (kind, path) if colon and "/" not in kind else ("hash", table)


def _lines(path: str) -> Lines:
    return [(f"{path}:{number}", line) for number, line in logical_lines(read_text(path))]
