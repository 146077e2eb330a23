"""Which rows of each organization are in force, where some do not compile or conflict (SPEC 9).

An organization of the database has up to three forms: its latest rows, what these leave of its last good ones (those
that were in force before), and *held*: its domains own, shield, protect and lock, its connectors are gone. It takes the
first that is sound and in no conflict:

- with a file's organization, or the settings of the hub: the file counts;
- with rows that are in force already: those stay, the new ones are left out;
- of two that are both new: both are left out, since nothing says which of them is right. Where one uses a certificate
  name in the other's zone, it alone is left out: the other did nothing wrong.

So a new row never takes a domain or an address from anybody, and nobody is granted what two claim. The result does not
depend on the order of organizations. Reads nothing and knows no SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from policyd.config.conflicts import Conflict, PlacedProvider, find_conflicts
from policyd.config.messages import Message
from policyd.config.owners import DomainIndex
from policyd.config.parsed import Parsed
from policyd.config.problems import Problem, Report
from policyd.database.last_good import held, remaining
from policyd.policy.model import Organization
from policyd.policy.names import Pattern, upwards_in
from policyd.policy.zones import delegates

_USES_NAME_OF_OTHER = (Message.NAME_OF_OTHER, Message.TLSA_OF_OTHER)


class Form(IntEnum):
    """What of an organization is in force."""

    LATEST = 0
    LAST_GOOD = 1
    HELD = 2


@dataclass(slots=True)
class Candidate:
    """An organization of the database that is up for admission."""

    latest: Parsed
    good: Parsed | None  # the last good rows; the same object as `latest` where those are the latest
    problems: list[Problem]  # why it is left out, errors
    form: Form = Form.LATEST

    @property
    def name(self) -> str:
        """The organization's."""
        return self.latest.organization.name

    @property
    def is_new(self) -> bool:
        """Whether it would be in force for the first time so."""
        return self.form is Form.LATEST and self.latest is not self.good

    @property
    def parsed(self) -> Parsed:
        """Its present form."""
        if self.form is Form.LATEST:
            return self.latest
        if self.form is Form.LAST_GOOD and self.good is not None:
            return replace(self.good, organization=remaining(self.good.organization, self.latest))
        return replace(self.latest, organization=held(self.latest), report=Report(self.latest.report.source, 0))

    def demote(self, problem: Problem | None) -> None:
        """Takes the next form."""
        if problem is not None and problem not in self.problems:
            self.problems.append(problem)
        self.form = Form.LAST_GOOD if self.is_new and self.good is not None else Form.HELD


@dataclass(frozen=True, slots=True)
class Admitted:
    """What is in force of one organization."""

    organization: Organization
    form: Form
    problems: tuple[Problem, ...]


def admit(files: Sequence[Parsed], candidates: Sequence[Candidate], provider: PlacedProvider) -> dict[str, Admitted]:
    """The form of each candidate, by name. `files` are sound and in no conflict with one another."""
    by_name = {candidate.name: candidate for candidate in candidates}
    for candidate in candidates:
        if not candidate.latest.sound:
            errors = [problem for problem in candidate.latest.report.problems if problem.severity == "error"]
            candidate.problems += errors
            candidate.demote(None)
    while True:
        # The held ones come last: whatever else is in force has its domains before them.
        order = sorted(candidates, key=lambda candidate: candidate.form is Form.HELD)
        all_parsed = [*files, *(candidate.parsed for candidate in order)]
        blamed: dict[str, Problem] = {}
        for conflict in find_conflicts(all_parsed, provider, DomainIndex(all_parsed)):
            if conflict.problem.severity == "error":
                for candidate in _at_fault(conflict, by_name):
                    blamed.setdefault(candidate.name, conflict.problem)
        if not blamed:
            break
        for name, problem in blamed.items():
            by_name[name].demote(problem)
    organizations = _settled(files, order)
    return {
        candidate.name: Admitted(organizations[candidate.name], candidate.form, tuple(candidate.problems))
        for candidate in candidates
    }


def _at_fault(conflict: Conflict, by_name: Mapping[str, Candidate]) -> list[Candidate]:
    """Who must give way. Held ones give way at the end, name by name."""
    parties = [by_name[name] for name in conflict.organizations if name in by_name]
    fresh = [party for party in parties if party.is_new]
    if fresh:
        # The first is the one that uses the name.
        return fresh[:1] if conflict.message in _USES_NAME_OF_OTHER else fresh
    if any(party.form is Form.HELD for party in parties):
        return []
    return parties[:1] if conflict.message in _USES_NAME_OF_OTHER else parties


def _settled(files: Iterable[Parsed], order: Sequence[Candidate]) -> dict[str, Organization]:
    """The organizations; of the held ones, without the domains that others in force have or stand above.

    Where two held ones claim a name, the first by name has it, with the restrictions of both: none is granted anything.
    """
    firm = [candidate for candidate in order if candidate.form is not Form.HELD]
    result = {candidate.name: candidate.parsed.organization for candidate in firm}
    in_force = [*(parsed.organization for parsed in files), *result.values()]
    holder: dict[str, Organization] = {}
    for organization in in_force:
        for pattern in organization.accepted_domains:
            holder[pattern.name] = organization
    taken: dict[str, str] = {}  # by held ones
    for candidate in sorted((candidate for candidate in order if candidate.form is Form.HELD), key=lambda c: c.name):
        organization = candidate.parsed.organization
        kept: list[Pattern] = []
        for pattern in organization.accepted_domains:
            if taken.get(pattern.name, candidate.name) != candidate.name:
                _share_restrictions(result, taken[pattern.name], organization, pattern)
            elif not _is_others(pattern, holder):
                kept.append(pattern)
                taken[pattern.name] = candidate.name
        result[candidate.name] = replace(organization, accepted_domains=tuple(kept))
    return result


def _is_others(pattern: Pattern, holder: Mapping[str, Organization]) -> bool:
    """Whether an organization in force has the name, or stands above it and does not delegate it."""
    nearest = next(upwards_in(holder, pattern.name), None)
    if nearest is None:
        return False
    domain, organization = nearest
    return domain == pattern.name or not delegates(organization.delegated_names, pattern.name)


def _share_restrictions(result: dict[str, Organization], name: str, other: Organization, pattern: Pattern) -> None:
    first = result[name]
    domains = first.accepted_domains
    if pattern.wildcard and pattern not in domains:
        domains = tuple(pattern if domain.name == pattern.name else domain for domain in domains)
    result[name] = replace(
        first,
        accepted_domains=domains,
        protect_sender_domains=first.protect_sender_domains or other.protect_sender_domains,
        connectors_only=first.connectors_only or other.connectors_only,
    )
