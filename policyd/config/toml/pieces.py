"""Long TOML texts in pieces that can be parsed one by one: tomllib keeps a kilobyte for each table until the end.

A piece begins at a header `[organizations.NAME]` and is a document by itself. Whether the pieces together say what
the whole says is for `file` to find out: each must parse, hold organizations only, and no name twice. Where they
do, the line of a key is found in its piece (SPEC 4, "line of the key").
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

from policyd.config.problems import KeyPath
from policyd.config.toml.lines import Lines

LONG = 1 << 20  # characters; shorter texts are parsed whole
PIECE = 1 << 16  # characters of a piece, about

_HEADER = re.compile(r"^\[organizations\.(?:[A-Za-z0-9_-]+|\"[^\"\\\n]*\")\][ \t]*$", re.MULTILINE)
# The table of all organizations under a header of its own, which a document may have once; escapes could hide its name.
_TABLE_ITSELF = re.compile(r"^[ \t]*\[(?:[ \t]*[\"']?organizations[\"']?[ \t]*\]|[^\]\n]*\\)", re.MULTILINE)


def pieces(text: str) -> Iterator[str] | None:
    """What stands before the organizations, then the organizations, some at a time; None where it is not worth it.

    A text that could hold a line of a string that looks like a header is not taken apart.
    """
    if len(text) < LONG or '"""' in text or "'''" in text:
        return None
    return _cut(text)


def may_hold_the_table_itself(piece: str) -> bool:
    """Whether there may be a header in it that the whole may not repeat, and that each piece could have."""
    return _TABLE_ITSELF.search(piece) is not None


def _cut(text: str) -> Iterator[str]:
    header = _HEADER.search(text)
    start = len(text) if header is None else header.start()
    yield text[:start]
    while start < len(text):
        following = _HEADER.search(text, start + PIECE)
        end = len(text) if following is None else following.start()
        yield text[start:end]
        start = end


class PieceLines:
    """As `Lines`, for a text that its pieces say the same as: only pieces that somebody asks about are gone through.

    `lengths`: for each piece its characters and how many organizations it holds; `names`: of these, in order.
    """

    def __init__(self, text: str, lengths: list[tuple[int, int]], names: Iterable[str]) -> None:
        self._text = text
        self._starts = [0, *accumulate(characters for characters, _ in lengths)]
        self._held = list(accumulate(organizations for _, organizations in lengths))
        self._names = tuple(names)
        self._number: dict[object, int] = {}  # of an organization, from 0
        self._lines_before: list[int] = []
        self._pieces: dict[int, Lines] = {}

    def line(self, path: KeyPath) -> int:
        """The line, from 1, of the key, table or element that `path` names."""
        if not self._lines_before:
            counts = (self._text.count("\n", start, end) for start, end in pairwise(self._starts))
            self._lines_before = [0, *accumulate(counts)]
        piece = self.piece_of(path)
        if piece not in self._pieces:
            self._pieces[piece] = Lines(self.text_of(piece))
        return self._lines_before[piece] + self._pieces[piece].line(path)

    def text_of(self, piece: int) -> str:
        """The piece of that number."""
        return self._text[self._starts[piece] : self._starts[piece + 1]]

    def piece_of(self, path: KeyPath) -> int:
        """What is not about an organization stands before all of them, in the first piece."""
        if not self._number:
            self._number = {name: number for number, name in enumerate(self._names)}
        if path[:1] != ("organizations",) or not self._number:
            return 0
        return bisect_right(self._held, self._number.get(path[1], 0) if len(path) > 1 else 0)
