"""What an import found: one organization, and the notes on what was not carried over; none of it checked (SPEC 7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from policyd.config.toml.writing import basic_string, printable

LONGEST_NAME = 64  # of an organization, connector or partner

Level = Literal["note", "warning", "left out"]
Kind = Literal["connector", "partner", "domain", "file", "organization", "entry"]
Table = Literal["connectors", "partners"]

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_KIND_OF: dict[Table, Kind] = {"connectors": "connector", "partners": "partner"}


class ImportFailedError(Exception):
    """The input cannot be imported at all: a message for the administrator, with file and line where there are."""


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the report. `name` is the original name of what it is about, `field` the original field or key."""

    level: Level
    kind: Kind
    name: str
    field: str
    message: str

    def __str__(self) -> str:
        level = "" if self.level == "note" else f"{self.level}: "
        field = f"{self.field}: " if self.field else ""
        return f"{self.kind} {basic_string(self.name)}: {level}{field}{printable(self.message)}"


@dataclass(frozen=True, slots=True)
class Section:
    """One connector or partner: its table in TOML, and the name it had where it comes from."""

    table: Table
    name: str
    origin: str
    values: Mapping[str, object]

    @property
    def kind(self) -> Kind:
        """What the report calls it."""
        return _KIND_OF[self.table]


@dataclass(frozen=True, slots=True)
class Found:
    """An organization as an importer understood it; nothing in it is checked yet."""

    organization: str
    accepted_domains: tuple[str, ...] = ()
    pending_domains: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    asks_for_domains: bool = False  # write an empty accepted_domains, for the administrator to fill in

    def data(self) -> dict[str, object]:
        """It as the mapping that TOML holds (SPEC 4)."""
        organization: dict[str, object] = {}
        if self.accepted_domains or self.asks_for_domains:
            organization["accepted_domains"] = list(self.accepted_domains)
        if self.pending_domains:
            organization["pending_domains"] = list(self.pending_domains)
        for table in ("connectors", "partners"):
            named = {section.name: dict(section.values) for section in self.sections if section.table == table}
            if named:
                organization[table] = named
        return {"organizations": {self.organization: organization}}


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import hands over: what passes the check, its TOML, and the report."""

    found: Found
    text: str
    notes: tuple[Note, ...]


class Names:
    """Gives out safe names, each once for its table: 1-64 of `A-Za-z0-9._-`, also unique without regard to case."""

    def __init__(self) -> None:
        self._taken: set[tuple[Table, str]] = set()

    def take(self, table: Table, wanted: str, ending: str = "") -> str:
        """`wanted` made safe, with `ending` behind it, cut to length, and `-2`, `-3`, ... where it is taken."""
        stem = _UNSAFE.sub("-", wanted).strip("-") or _KIND_OF[table]
        number = 1
        while True:
            tail = ending if number == 1 else f"{ending}-{number}"
            name = stem[: LONGEST_NAME - len(tail)].rstrip("-") + tail
            if (table, name.lower()) not in self._taken:
                self._taken.add((table, name.lower()))
                return name
            number += 1


def description(name: str, original: str, comment: str) -> dict[str, object]:
    """The key `description`: the original name where it had to change, then the comment; no key where neither is."""
    text = ": ".join(part for part in (original if original != name else "", comment) if part)
    return {"description": text} if text else {}


def about(value: str, why: str) -> str:
    """A message about a value, which names it unless `why` does so already."""
    return why if f'"{value}"' in why or basic_string(value) in why else f"{basic_string(value)}: {why}"
