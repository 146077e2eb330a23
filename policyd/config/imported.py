"""What an import made: one organization, the notes on it, and the proof that `policyd check` takes it.

The importers (`exchange`, `postfix_tables`) make a Found; `made_to_pass` writes it as TOML, reads that with `load` in
this process, and leaves out what does not pass, each time with a Note under the name that the administrator knows.
May not drop anything silently, and may not widen anything: what is in doubt is left out or disabled (SPEC 7, import).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from policyd.config.load import load
from policyd.config.problem import Problem
from policyd.config.report import subject
from policyd.config.toml_text import dumps, printable, quoted

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
        return f"{self.kind} {quoted(self.name)}: {level}{field}{printable(self.message)}"


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
    parts = [original] if original != name else []
    text = ": ".join(part for part in [*parts, comment] if part)
    return {"description": text} if text else {}


def about(value: str, why: str) -> str:
    """A message about a value, which names it unless `why` does so already."""
    return why if f'"{value}"' in why or quoted(value) in why else f"{quoted(value)}: {why}"


def made_to_pass(found: Found, notes: Iterable[Note]) -> Imported:
    """What was found without what `policyd check` calls an error, its TOML, and `notes` with one for all left out.

    The warnings of the check are notes too. Raises ImportFailedError where an error cannot be pinned on anything.
    """
    notes = list(notes)
    while True:
        text = dumps(found.data())
        problems = list(_problems(found, text))
        errors = [(section, problem) for section, problem in problems if problem.severity == "error"]
        if not errors:
            notes.extend(_warning(found, section, problem) for section, problem in problems)
            return Imported(found, text, tuple(dict.fromkeys(notes)))
        failing = {section.name: section for section, _ in errors if section is not None}
        if failing:
            found = _without_bad_values(found, errors, notes)
        else:
            found = _without_bad_domains(found, [problem for _, problem in errors], notes)


def _problems(found: Found, text: str) -> Iterator[tuple[Section | None, Problem]]:
    """What the check says of it, each with the connector or partner that it is about."""
    with tempfile.TemporaryDirectory(prefix="policyd-import-") as folder:
        path = Path(folder, "policyd.toml")
        path.write_text(text, encoding="utf-8")
        problems = [
            replace(problem, message=re.sub(rf"{re.escape(str(path))}:(\d+)", r"line \1 of the TOML", problem.message))
            for problem in load(str(path)).problems
        ]
    sections = {
        subject(("organizations", found.organization, section.table, section.name)): section
        for section in found.sections
    }
    for problem in problems:
        yield sections.get(problem.subject), problem


def _warning(found: Found, section: Section | None, problem: Problem) -> Note:
    if section is None:
        return Note("warning", "organization", found.organization, "", problem.message)
    return Note("warning", section.kind, section.origin, "", problem.message)


def _without_bad_values(found: Found, errors: list[tuple[Section | None, Problem]], notes: list[Note]) -> Found:
    """What was found without the values that fail by themselves; where none does, without the failing sections."""
    failing = {id(section): section for section, _ in errors if section is not None}
    bad = _bad_values(found, list(failing.values()))
    sections: list[Section] = []
    for section in found.sections:
        if id(section) not in failing:
            sections.append(section)
            continue
        dropped = [(key, value, why) for of, key, value, why in bad if of is section]
        values = _without(section.values, dropped)
        notes.extend(
            Note("left out", section.kind, section.origin, key, about(value, why)) for key, value, why in dropped
        )
        if dropped:
            sections.append(replace(section, values=values))
            continue
        why = "; ".join(problem.message for of, problem in errors if of is section)
        notes.append(Note("left out", section.kind, section.origin, "", f"policyd check refuses it: {why}"))
    return replace(found, sections=tuple(sections))


def _without(values: Mapping[str, object], dropped: list[tuple[str, str, str]]) -> dict[str, object]:
    gone = {(key, value) for key, value, _ in dropped}
    kept = {
        key: [item for item in value if (key, item) not in gone] if isinstance(value, list) else value
        for key, value in values.items()
    }
    return {key: value for key, value in kept.items() if value != []}


def _bad_values(found: Found, failing: list[Section]) -> list[tuple[Section, str, str, str]]:
    """(section, key, value, why) for each value of a list that fails by itself: one section each, all in one check."""
    values = [
        (section, key, value)
        for section in failing
        for key, listed in section.values.items()
        if isinstance(listed, list)
        for value in listed
    ]
    probes = tuple(
        Section(section.table, f"p{number}", str(number), _alone(section, key, value))
        for number, (section, key, value) in enumerate(values)
    )
    probe = replace(found, sections=probes)
    why: dict[int, list[str]] = {}
    for section, problem in _problems(probe, dumps(probe.data())):
        if section is not None and problem.severity == "error":
            why.setdefault(int(section.origin), []).append(problem.message)
    return [(*values[number], "; ".join(messages)) for number, messages in why.items()]


def _alone(section: Section, key: str, value: str) -> dict[str, object]:
    """A section that is right but for this value, if that is wrong."""
    if section.table == "connectors":
        return {key: [value]}
    if key == "sender_domains":
        return {key: [value], "require_tls": True}
    return {"sender_domains": ["*"], key: [value]}


def _without_bad_domains(found: Found, errors: list[Problem], notes: list[Note]) -> Found:
    """What was found, without the domains that fail by themselves."""

    def passing(domains: tuple[str, ...], alone: Callable[[str], Found]) -> tuple[str, ...]:
        kept = []
        for domain in domains:
            one = alone(domain)
            why = [problem.message for _, problem in _problems(one, dumps(one.data())) if problem.severity == "error"]
            if why:
                notes.append(Note("left out", "domain", domain, "", "; ".join(why)))
            else:
                kept.append(domain)
        return tuple(kept)

    accepted = passing(found.accepted_domains, lambda domain: Found(found.organization, accepted_domains=(domain,)))
    pending = passing(found.pending_domains, lambda domain: Found(found.organization, pending_domains=(domain,)))
    if (accepted, pending) == (found.accepted_domains, found.pending_domains):
        raise ImportFailedError("policyd check refuses the result: " + "; ".join(error.message for error in errors))
    return replace(found, accepted_domains=accepted, pending_domains=pending)
