"""The proof that `policyd check` takes what an import made: it is written as TOML and read back by the same code.

What does not pass is left out, each time with a Note under the name that the administrator knows. May not drop anything
silently, and may not widen anything: what is in doubt is left out or disabled (SPEC 7, import).
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from policyd.config.files import read_files
from policyd.config.problems import Problem, subject
from policyd.config.toml.writing import dumps
from policyd.imports.found import Found, Imported, ImportFailedError, Note, Section, about


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
        if any(section is not None for section, _ in errors):
            found = _without_bad_values(found, errors, notes)
        else:
            found = _without_bad_domains(found, [problem for _, problem in errors], notes)


def _problems(found: Found, text: str) -> Iterator[tuple[Section | None, Problem]]:
    """What the check says of it, each with the connector or partner that it is about."""
    with tempfile.TemporaryDirectory(prefix="policyd-import-") as folder:
        path = Path(folder, "policyd.toml")
        path.write_text(text, encoding="utf-8")
        files = read_files(str(path), time.time())
        problems = [
            replace(problem, message=re.sub(rf"{re.escape(str(path))}:(\d+)", r"line \1 of the TOML", problem.message))
            for problem in ((files,) if isinstance(files, Problem) else sorted(set(files.problems)))
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
    if kept.get("for_domains") == []:  # without the key it would speak for all of the organization's domains
        kept["enabled"] = False
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
        return {key: [value]} if key != "for_domains" else {"addresses": ["192.0.2.1"], key: [value]}
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
