"""Long TOML texts in pieces that can be parsed one by one: tomllib keeps a kilobyte for each table until the end.

A piece begins at a header `[organizations.NAME...]` and is a document by itself. Whether the pieces together say what
the whole says is for `toml_file` to find out: each must parse, hold organizations only, and no name twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONG = 1 << 20  # characters; shorter texts are parsed whole
PIECE = 1 << 16  # characters of a piece, about

_HEADER = re.compile(r"^\[organizations\.([A-Za-z0-9_-]+)\][ \t]*$", re.MULTILINE)
# The table of all organizations under a header of its own, which a document may have once; escapes could hide its name.
_TABLE_ITSELF = re.compile(r"^[ \t]*\[(?:[ \t]*[\"']?organizations[\"']?[ \t]*\]|[^\]\n]*\\)", re.MULTILINE)


def pieces(text: str) -> Iterator[str] | None:
    """What stands before the organizations, then the organizations, some at a time; None where it is not worth it.

    A text that could hold a line of a string that looks like a header is not taken apart, nor one whose pieces could
    repeat a header that the whole may not repeat.
    """
    if len(text) < LONG or '"""' in text or "'''" in text or _TABLE_ITSELF.search(text):
        return None
    return _cut(text)


def _cut(text: str) -> Iterator[str]:
    header = _HEADER.search(text)
    start = len(text) if header is None else header.start()
    yield text[:start]
    while start < len(text):
        following = _HEADER.search(text, start + PIECE)
        end = len(text) if following is None else following.start()
        yield text[start:end]
        start = end
