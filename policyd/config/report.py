"""Collects the problems of one source, each with its place and subject (SPEC 4).

A source is whatever a mapping was read from: a TOML file here, rows of a database elsewhere. It tells the line of
a key path; the path itself tells the organization, connector or partner that is meant.
"""

from __future__ import annotations

from typing import Protocol

from policyd.config.messages import Message, quoted
from policyd.config.problem import Problem, Severity
from policyd.config.toml.lines import KeyPath

_KINDS = {"connectors": "connector", "partners": "partner"}


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

    def error(self, path: KeyPath, message: Message, **values: str) -> None:
        """What must be mended before policyd takes the configuration."""
        self.errors += 1
        self._add(path, "error", message, values)

    def warning(self, path: KeyPath, message: Message, **values: str) -> None:
        """What is allowed and probably not meant."""
        self._add(path, "warning", message, values)

    def place(self, path: KeyPath) -> str:
        """`file:line` of a key."""
        line = self.source.line(path)
        file = self.source.file_of(path)
        return f"{file}:{line}" if line else file

    def _add(self, path: KeyPath, severity: Severity, message: Message, values: dict[str, str]) -> None:
        line = self.source.line(path)
        file = self.source.file_of(path)
        self.problems.append(Problem(file, line, severity, subject(path), message.value.format(**values)))


def subject(path: KeyPath) -> str:
    """`organization "contoso", connector "head-office"` for a key path below them; empty outside organizations."""
    if len(path) < 2 or path[0] != "organizations":
        return ""
    text = f"organization {quoted(str(path[1]))}"
    if len(path) > 3 and path[2] in _KINDS:
        text += f", {_KINDS[str(path[2])]} {quoted(str(path[3]))}"
    return text
