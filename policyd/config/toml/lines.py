"""Where in a TOML document a key or an array's element stands: tomllib does not tell.

A scanner for documents that tomllib has accepted (`file`): it needs to know where strings, comments,
arrays and inline tables end, and nothing else of TOML. It works only as far as it is asked: the first question
finds the table headers of the document, further ones the statements of one table. Never raises; for a path
that is not there it gives the line of the nearest table above. Serves the "line of the key" of SPEC 4.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from policyd.config.problems import KeyPath

# A line: blank or comment, or a statement whose value ends on its line. A run of such lines costs one pass. What does
# not fit (several lines, nested arrays, inline tables) takes the long way. The lines themselves are not possessive:
# Python 3.11.2 does not go back to the beginning of a possessive group that fails half-way (gh-106052). Their number
# is bounded, since each leaves a place to return to.
_STRING = r"""(?:(?!\"\"\")"(?:[^"\\\n]|\\.)*+"|(?!''')'[^'\n]*+')"""
_END = r"[ \t]*+(?:\#[^\n]*+)?(?:\n|\Z)"
_SHORT_STATEMENT = (
    rf"[ \t]*+(?:[A-Za-z0-9_. \t-]++|{_STRING})++=[ \t]*+"
    rf"(?:{_STRING}|[A-Za-z0-9+_.:-]++|\[(?:[^\[\]{{}}\"'\#\n]|{_STRING})*+\]){_END}"
)
_SHORT_LINES = re.compile(rf"(?:[ \t]*+(?:\#[^\n]*+)?\n|{_SHORT_STATEMENT}){{1,1000}}")

_BLANK = re.compile(r"[ \t]*+")
_SPACE = re.compile(r"(?:[ \t\r\n]++|\#[^\n]*+)*+")
_KEY_PART = re.compile(r"""[ \t]*+(?:"((?:[^"\\\n]|\\.)*+)"|'([^'\n]*+)'|([^\s.=\[\]{}"'\#,]++))[ \t]*+""")
# Multi-line strings are not among the tokens: Python 3.11.2 does not match a possessive group that has to backtrack
# inside (gh-106052), and one that is not possessive keeps a place to return to for every character.
_TOKEN = re.compile(r""""(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|\#[^\n]*+|[\[\]{},\n]|[^"'\#\[\]{},\n]++""", re.DOTALL)
_CLOSING = {  # what ends a multi-line string; up to two quotes of its own may stand right before the end
    '"""': re.compile(r'\\.|("{3,5})', re.DOTALL),
    "'''": re.compile(r"('{3,5})"),
}
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_SHORT_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}

# What stands in a table: each key, and each name above a dotted key, with the places of the key and of its value
# (-1 for a name above a dotted key).
_Scope = dict[KeyPath, tuple[int, int]]


class Lines:
    """The lines of one document. `text` has `\\n` line ends, as tomllib sees it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line_ends: list[int] = []
        self._last: tuple[KeyPath, int, int] = ((), 0, 0)  # the last header: its path, its place, its body
        self._headers: dict[KeyPath, int] = {}  # tables with a header of their own -> place of it
        self._implied: dict[KeyPath, int] = {}  # names above a header -> place of the first such header
        self._bodies: dict[KeyPath, int] = {}  # where the statements of a table begin
        self._scopes: dict[int, _Scope] = {}
        self._elements: dict[int, list[int]] = {}

    def line(self, path: KeyPath) -> int:
        """The line, from 1, of the key, table or element that `path` names."""
        nearest = self.nearest(path)
        return 1 if nearest is None else nearest[1]

    def nearest(self, path: KeyPath) -> tuple[KeyPath, int] | None:
        """The path, or the nearest name above it that stands in the document, and its line; None where none does."""
        self._begin()
        while path:
            place = self._find(path)
            if place is not None:
                return path, self._line_of(place)
            path = path[:-1]
        return None

    def last_statement(self) -> tuple[KeyPath, int]:
        """What the last statement of the document names, and its line; for a document that tomllib refused there."""
        self._begin()
        path, place, body = self._last
        last, at = path, _after(_SPACE, self._text, body)
        while at < len(self._text) and self._text[at] != "[":
            parts, value = _key(self._text, at)
            last, place = (*path, *parts), at
            at = _after(_SPACE, self._text, _end_of_value(self._text, value))
        return last, self._line_of(place)

    def _begin(self) -> None:
        if not self._line_ends:
            self._line_ends = [match.start() for match in re.finditer("\n", self._text)]
            self._line_ends.append(len(self._text))
            self._read_headers()

    def _line_of(self, place: int) -> int:
        return bisect_right(self._line_ends, place - 1) + 1

    def _find(self, path: KeyPath) -> int | None:
        if path in self._headers:
            return self._headers[path]
        for length in range(len(path) - 1, -1, -1):
            body = self._bodies.get(path[:length])
            if body is not None:
                place = self._in_scope(self._statements(body), path[length:])
                if place is not None:
                    return place
        return self._implied.get(path)

    def _in_scope(self, scope: _Scope, rest: KeyPath) -> int | None:
        """The place of `rest`, seen from the table that `scope` is."""
        for length in range(len(rest), 0, -1):
            if rest[:length] in scope:
                return self._in_value(*scope[rest[:length]], rest[length:])
        return None

    def _in_value(self, key: int, value: int, rest: KeyPath) -> int | None:
        """The place of `rest`, seen from what stands at `value`; nothing left: that of its key."""
        if not rest:
            return key
        if value < 0:
            return None
        if not isinstance(rest[0], int):
            return self._in_scope(self._inline_table(value), rest)
        elements = self._array(value)
        if rest[0] >= len(elements):
            return None
        return self._in_value(elements[rest[0]], elements[rest[0]], rest[1:])

    # --- the headers of the document

    def _read_headers(self) -> None:
        text, end = self._text, len(self._text)
        self._bodies[()] = 0
        last_of: dict[KeyPath, int] = {}  # arrays of tables -> index of the last element
        at = _after_short_lines(text, 0)
        while at < end:
            if text[at] == "[":
                start, array = at, text.startswith("[[", at)
                parts, at = _key(text, at + 1 + array)
                path: KeyPath = ()
                for number, part in enumerate(parts, 1):
                    path = (*path, part)
                    if array and number == len(parts):
                        self._implied.setdefault(path, start)
                        last_of[path] = last_of.get(path, -1) + 1
                    if path in last_of:
                        path = (*path, last_of[path])
                    if number < len(parts):
                        self._implied.setdefault(path, start)
                at = text.find("\n", at)
                at = end if at < 0 else at + 1
                self._headers.setdefault(path, start)
                self._bodies.setdefault(path, at)
                self._last = (path, start, at)
            else:
                at = self._end_of_statement(at)
            at = _after_short_lines(text, at)

    def _end_of_statement(self, at: int) -> int:
        _, value = _key(self._text, at)
        newline = self._text.find("\n", _end_of_value(self._text, value))
        return len(self._text) if newline < 0 else newline + 1

    # --- what stands in one table, inline table or array

    def _statements(self, body: int) -> _Scope:
        scope = self._scopes.get(body)
        if scope is None:
            scope = self._scopes[body] = {}
            at = _after(_SPACE, self._text, body)
            while at < len(self._text) and self._text[at] != "[":
                at = self._file_key(scope, at)
                at = _after(_SPACE, self._text, at)
        return scope

    def _inline_table(self, place: int) -> _Scope:
        scope = self._scopes.get(place)
        if scope is None:
            scope = self._scopes[place] = {}
            if self._text.startswith("{", place):
                for at in self._items(place):
                    self._file_key(scope, at)
        return scope

    def _array(self, place: int) -> list[int]:
        elements = self._elements.get(place)
        if elements is None:
            elements = list(self._items(place)) if self._text.startswith("[", place) else []
            self._elements[place] = elements
        return elements

    def _items(self, place: int) -> Iterator[int]:
        """The places of what an array or inline table that begins at `place` holds."""
        text = self._text
        at = _after(_SPACE, text, place + 1)
        while at < len(text) and text[at] not in "]}":
            yield at
            if text[place] == "{":
                _, at = _key(text, at)
            at = _after(_SPACE, text, _end_of_value(text, at))
            if text.startswith(",", at):
                at = _after(_SPACE, text, at + 1)

    def _file_key(self, scope: _Scope, at: int) -> int:
        """Files the key at `at` and the names above it; gives the end of its value."""
        parts, value = _key(self._text, at)
        for length in range(1, len(parts)):
            scope.setdefault(parts[:length], (at, -1))
        scope.setdefault(parts, (at, value))
        return _end_of_value(self._text, value)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _after_short_lines(text: str, at: int) -> int:
    while (found := _SHORT_LINES.match(text, at)) is not None and found.end() > at:
        at = found.end()
    return _after(_BLANK, text, at)


def _key(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """The parts of the (dotted) key at `at`, and where its value begins (for a header: its `]`)."""
    parts = []
    while (part := _KEY_PART.match(text, at)) is not None:
        basic, literal, bare = part.groups()
        parts.append(_ESCAPE.sub(_unescape, basic) if basic is not None else literal or bare or "")
        at = part.end()
        if not text.startswith(".", at):
            break
        at += 1
    return tuple(parts), _after(_BLANK, text, at + 1) if text.startswith("=", at) else at


def _unescape(escape: re.Match[str]) -> str:
    *codes, short = escape.groups()
    code = next((code for code in codes if code), None)
    if code is None:
        return _SHORT_ESCAPES.get(short, short)
    return chr(min(int(code, 16), 0x10FFFF))


def _end_of_value(text: str, at: int) -> int:
    """Where the value that begins at `at` ends; always past `at`."""
    depth = 0
    while (end := _end_of_token(text, at)) > at:
        first = text[at]
        if first in "[{":
            depth += 1
        elif first in "]}":
            depth -= 1
        at = end
        if depth <= 0:
            return at
    return at + 1


def _end_of_token(text: str, at: int) -> int:
    """Where the string, comment, bracket or other piece at `at` ends; `at` where there is none."""
    closing = _CLOSING.get(text[at : at + 3])
    if closing is None:
        return _after(_TOKEN, text, at)
    return next((found.end() for found in closing.finditer(text, at + 3) if found[1]), len(text))
