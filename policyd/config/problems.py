"""A mistake in the administrator's files: where it is, what is wrong, what to do (SPEC 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from policyd.config.messages import Message
from policyd.config.text import quoted

Severity = Literal["error", "warning", "note"]  # a note: worth knowing, and not wrong

# As journald reads them at the front of a line (sd-daemon(3)).
PRIORITIES: dict[Severity, Literal["<3>", "<4>", "<6>"]] = {"error": "<3>", "warning": "<4>", "note": "<6>"}

KeyPath = tuple[str | int, ...]

_KINDS = {"connectors": "connector", "partners": "partner"}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem; sorts by file and line. `line` counts from 1; 0 where the whole file is meant."""

    file: str
    line: int
    severity: Severity
    subject: str  # `organization "contoso", connector "head-office"`; empty outside organizations
    message: str
    id: str  # of the finding, in kebab-case: the same in every release

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        kind = "" if self.severity == "error" else f"{self.severity}: "
        subject = f"{self.subject}: " if self.subject else ""
        return f"{place}: {kind}{subject}{self.message}"


class Source(Protocol):
    """Where a mapping comes from."""

    @property
    def file(self) -> str:
        """Its name in problems."""

    @property
    def number(self) -> int:
        """Its place in the order of reading."""

    @property
    def folder(self) -> str:
        """The folder that relative file names in it start from; empty: the working directory."""

    def file_of(self, path: KeyPath) -> str:
        """What problems with a key name as the file."""

    def line(self, path: KeyPath) -> int:
        """The line of a key (or of the element of a list), from 1; 0 where there are no lines."""


class Report:
    """The problems of one source, in the order in which they were found."""

    __slots__ = ("errors", "now", "problems", "source")

    def __init__(self, source: Source, now: float) -> None:
        self.source = source
        self.now = now  # Unix time, for the dates of certificates
        self.problems: list[Problem] = []
        self.errors = 0

    def error(self, path: KeyPath, message: Message, **fills: str) -> None:
        """What must be mended before policyd takes the configuration."""
        self.errors += 1
        self._add(path, "error", message, fills)

    def warning(self, path: KeyPath, message: Message, **fills: str) -> None:
        """What is allowed and probably not meant."""
        self._add(path, "warning", message, fills)

    def note(self, path: KeyPath, message: Message, **fills: str) -> None:
        """What is worth knowing and not wrong."""
        self._add(path, "note", message, fills)

    def place(self, path: KeyPath) -> str:
        """`file:line` of a key."""
        line = self.source.line(path)
        file = self.source.file_of(path)
        return f"{file}:{line}" if line else file

    def _add(self, path: KeyPath, severity: Severity, message: Message, fills: dict[str, str]) -> None:
        line = self.source.line(path)
        file = self.source.file_of(path)
        text = message.value.format(**fills)
        self.problems.append(Problem(file, line, severity, subject(path), text, message.id))


def subject(path: KeyPath) -> str:
    """`organization "contoso", connector "head-office"` for a key path below them; empty outside organizations."""
    if len(path) < 2 or path[0] != "organizations":
        return ""
    text = f"organization {quoted(str(path[1]))}"
    if len(path) > 3 and path[2] in _KINDS:
        text += f", {_KINDS[str(path[2])]} {quoted(str(path[3]))}"
    return text
