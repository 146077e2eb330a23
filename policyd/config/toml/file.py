"""TOML files, read: the only one that reads what an administrator wrote.

`read_toml` gives the data of a file and, on demand, the line of each key in it; what hinders the reading (no such
file, not UTF-8, no TOML) is a Problem with file and line, never an exception. Knows nothing of what the keys mean.
`toml` 0.10.2 is not used here: it misreads damaged files (SPEC 4).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from policyd.config.messages import Message
from policyd.config.problems import KeyPath, Problem
from policyd.config.regular_file import FileRefused, Why, read_regular
from policyd.config.text import quoted
from policyd.config.toml.hints import hint_for
from policyd.config.toml.lines import Lines
from policyd.config.toml.pieces import PieceLines, may_hold_the_table_itself, pieces

LARGEST_FILE = 1 << 30  # octets; a device or a runaway log under this name must not fill the memory

_REFUSALS: dict[Why, Message] = {
    "folder": Message.FILE_IS_FOLDER,
    "not regular": Message.FILE_NOT_REGULAR,
    "missing": Message.FILE_MISSING,
    "broken link": Message.FILE_BROKEN_LINK,
    "permission": Message.FILE_NO_PERMISSION,
    "too large": Message.FILE_TOO_LARGE,
}
_SPLIT_TABLE = "organizations"
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_TWICE = re.compile(r"^Cannot (?:declare|overwrite)")
_UTF16_WITHOUT_MARK = re.compile(rb"(?:[\t-~]\0){2}|(?:\0[\t-~]){2}")
_LONG_NUMBER = re.compile(r"[0-9_]{4300,}")


class TomlFile:
    """One file that was read: its data, and where the keys stand."""

    def __init__(self, file: str, data: dict[str, Any], lines: Lines | PieceLines) -> None:
        self.file = file  # as the administrator would type it
        self.number = 0  # in the order of reading
        self.data = data
        self._lines = lines
        self._again: dict[int, dict[str, Any]] = {}  # pieces that were read again

    @property
    def folder(self) -> str:
        """The folder that relative paths in this file start from."""
        return os.path.dirname(self.file)

    def file_of(self, path: KeyPath) -> str:
        """The file's name, whatever is looked at."""
        return self.file

    def line(self, path: KeyPath) -> int:
        """The line, from 1, of a key (names) or an element (its index) of the file."""
        return self._lines.line(path)

    def organization_again(self, name: str) -> Mapping[str, Any] | None:
        """What stands for a table [organizations.NAME] that is let go of: it reads it again when somebody looks.

        None where the file is not so long that this were worth it.
        """
        return _Again(self, name) if isinstance(self._lines, PieceLines) else None

    def read_again(self, name: str) -> Mapping[str, Any]:
        """The table [organizations.NAME] of a long file."""
        assert isinstance(self._lines, PieceLines)
        piece = self._lines.piece_of((_SPLIT_TABLE, name))
        if piece not in self._again:
            self._again[piece] = _organizations(self._lines.text_of(piece)) or {}
        table: Mapping[str, Any] = self._again[piece][name]
        return table


class _Again(Mapping[str, Any]):
    """A table of a long file: a hundred thousand as dictionaries need 100 MiB, and hardly one is looked at twice."""

    __slots__ = ("_file", "_name")

    def __init__(self, file: TomlFile, name: str) -> None:
        self._file = file
        self._name = name

    def __getitem__(self, key: str) -> Any:
        return self._file.read_again(self._name)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.read_again(self._name))

    def __len__(self) -> int:
        return len(self._file.read_again(self._name))


def read_toml(path: str, pipe: bool = False) -> TomlFile | Problem:
    """The file at `path`, or what is wrong with it. `pipe`: it may be one, as of `policyd check -c <(generate)`."""
    text = _text(path, pipe)
    if isinstance(text, Problem):
        return text
    try:
        return TomlFile(path, *parse_toml(text))
    except RecursionError:
        return _problem(path, 0, Message.TOML_TOO_DEEP)
    except ValueError as error:
        return _syntax_problem(path, text, str(error))


def parse_toml(text: str) -> tuple[dict[str, Any], Lines | PieceLines]:
    """What `tomllib.loads` gives, and its lines; a third of the memory where the text is long. Raises as that."""
    texts = pieces(text)
    parts = _parse_pieces(texts) if texts is not None else None
    if parts is None:
        return tomllib.loads(text), Lines(text)
    data, lengths = parts
    return data, PieceLines(text, lengths, data.get(_SPLIT_TABLE, ()))


def _parse_pieces(texts: Iterator[str]) -> tuple[dict[str, Any], list[tuple[int, int]]] | None:
    """The data of pieces that are documents by themselves, and of each piece how many characters and organizations it
    has; None where the whole text may say something else."""
    try:
        head = next(texts)
        data: dict[str, Any] = tomllib.loads(head)
        if _SPLIT_TABLE in data:
            return None
        organizations: dict[str, Any] = {}
        lengths = [(len(head), 0)]
        for text in texts:
            held = _organizations(text)
            if held is None or not held.keys().isdisjoint(organizations.keys()):  # views: else all are gone through
                return None
            organizations |= held
            lengths.append((len(text), len(held)))
    except (ValueError, RecursionError):
        return None  # the whole text tells the line
    if organizations:
        data[_SPLIT_TABLE] = organizations
    return data, lengths


def _organizations(piece: str) -> dict[str, Any] | None:
    """The organizations of a piece; None where it holds something else. Raises as tomllib does."""
    if may_hold_the_table_itself(piece):
        return None
    data = tomllib.loads(piece)
    table = data.pop(_SPLIT_TABLE)
    return table if isinstance(table, dict) and not data else None


def _problem(path: str, line: int, message: Message, **fills: str) -> Problem:
    return Problem(path, line, "error", "", message.value.format(**fills), message.id)


def _text(path: str, pipe: bool) -> str | Problem:
    try:
        content = read_regular(path, LARGEST_FILE, pipe=pipe)
    except FileRefused as refused:
        return _problem(path, 0, _REFUSALS.get(refused.why, Message.FILE_UNREADABLE), reason=refused.reason)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or _UTF16_WITHOUT_MARK.match(content):
        return _problem(path, 1, Message.FILE_UTF16)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return _problem(path, line, Message.FILE_NOT_UTF8, octet=f"0x{content[error.start]:02x}")
    if text.startswith("\ufeff"):
        return _problem(path, 1, Message.FILE_BYTE_ORDER_MARK)
    return text.replace("\r\n", "\n")


def _syntax_problem(path: str, text: str, error: str) -> Problem:
    """tomllib's complaint with its line, and what to do about the usual slips."""
    lines = text.split("\n")
    place = _PLACE.search(error)
    if place is None:  # int() refuses a number of over 4,300 digits in words of its own
        number = _LONG_NUMBER.search(text)
        line = text.count("\n", 0, number.start()) + 1 if number else 0
        return _problem(path, line, Message.TOML_SYNTAX, error=_sentence(error), hint="; write a shorter number")
    error = error[: place.start()]
    last = len(lines) - (lines[-1] == "")  # the line end of the last line begins no line
    line = int(place[1]) if place[1] else max(last, 1)
    if _TWICE.match(error):
        return _twice_problem(path, lines, line, error)
    hint = hint_for(lines, line, place[1] is None)
    return _problem(path, line, Message.TOML_SYNTAX, error=_sentence(error), hint=hint)


def _twice_problem(path: str, lines: list[str], line: int, error: str) -> Problem:
    """A key or table that stands twice: at the later place, with the line of the first."""
    repeated, second = Lines("\n".join(lines[:line]) + "\n").last_statement()
    first = Lines("\n".join(lines[: second - 1]) + "\n").nearest(repeated)
    if first is None:
        return _problem(path, line, Message.TOML_SYNTAX, error=_sentence(error), hint="")
    name = quoted(".".join(str(part) for part in first[0]))
    return _problem(path, second, Message.TOML_TWICE, name=name, place=f"{path}:{first[1]}")


def _sentence(error: str) -> str:
    return error[:1].lower() + error[1:]
