"""What organizations may not have in common: domains, addresses, names (SPEC 4, Errors).

Every step is a pass over sorted ranges or a look-up in a dictionary, so that 100,000 organizations cost seconds. Each
entry that is in conflict is reported once, with the other one that reaches furthest; an error about two places is
reported at the later one and names both. Reads no files and knows no TOML.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from policyd.config.draft import Draft
from policyd.config.messages import Message, quoted
from policyd.config.network_table import NetworkTable
from policyd.config.problem import Problem
from policyd.config.report import Report, subject
from policyd.config.toml.lines import KeyPath
from policyd.config.values import Refused, network_of, pattern_of
from policyd.policy.names import Pattern, upwards
from policyd.policy.networks import Network


@dataclass(frozen=True, slots=True)
class Conflict:
    """A problem, and the organizations that it is between (one, where it is with the provider's settings)."""

    problem: Problem
    organizations: tuple[str, ...]
    message: Message


@dataclass(frozen=True, slots=True)
class Provider:
    """What no connector may claim: provider_networks and provider_certificate_names, with their places."""

    networks: tuple[tuple[Network, str], ...] = ()
    names: tuple[tuple[Pattern, str], ...] = ()


class DomainIndex:
    """Whose an accepted name is, over drafts that may still be in conflict: the first one has it."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.holder: dict[str, int] = {}  # accepted name -> index of the draft
        self.wildcards: set[str] = set()  # accepted names with `*.`
        self.doubled: list[tuple[int, int, Pattern]] = []  # (holder, other, the other's entry)
        for index, draft in enumerate(drafts):
            for pattern in draft.organization.accepted_domains:
                holder = self.holder.setdefault(pattern.name, index)
                if holder != index:
                    self.doubled.append((holder, index, pattern))
                elif pattern.wildcard:
                    self.wildcards.add(pattern.name)

    def zone(self, name: str) -> tuple[int, str] | None:
        """The draft of the nearest accepted domain at or above `name`, and that domain (SPEC 3.1)."""
        up, dot = name, "."
        while dot:  # as `upwards` does, without a generator: each name of a configuration comes by
            holder = self.holder.get(up)
            if holder is not None:
                return holder, up
            _, dot, up = up.partition(".")
        return None

    def owns(self, index: int, name: str) -> bool:
        """Whether owner(name) is the draft (SPEC 3.1)."""
        up, dot = name, "."
        while dot:
            holder = self.holder.get(up)
            if holder is not None:
                if holder != index:
                    return False
                if up == name or up in self.wildcards:
                    return True
            _, dot, up = up.partition(".")
        return False

    def belongs(self, index: int, name: str) -> bool:
        """Whether belongs(name) of SPEC 3.3, D, holds for the draft."""
        if self.owns(index, name):
            return True
        zone = self.zone(name)
        return zone is not None and zone[0] == index and "." in name and self.owns(index, name.partition(".")[2])

    def accepted(self, index: int, name: str) -> tuple[KeyPath, str]:
        """The path and text of the draft's entry `name` or `*.name`."""
        keys = ("accepted_domains",)
        return self.drafts[index].element(keys, _name_of, name)


def find_conflicts(drafts: Sequence[Draft], provider: Provider, domains: DomainIndex) -> list[Conflict]:
    """Every error that concerns more than one organization, or an organization and the provider's settings."""
    return [
        *_domains_of_two(domains),
        *_domains_below(domains),
        *_addresses(drafts, provider),
        *_certificate_names(domains, provider),
    ]


# --- reporting about two places


@dataclass(frozen=True, slots=True)
class Entry:
    """An element of a draft: where it stands and how it is written."""

    draft: Draft
    path: KeyPath
    text: str

    @property
    def subject(self) -> str:
        """The organization, and connector if any."""
        return subject(self.path)

    @property
    def place(self) -> str:
        """`file:line`"""
        return self.draft.report.place(self.path)

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts by the order of reading."""
        source = self.draft.report.source
        return source.number, source.line(self.path), self.draft.number


def between(one: Entry, other: Entry) -> tuple[Entry, Entry]:
    """The two with the later one first."""
    return (one, other) if one.order > other.order else (other, one)


def about(severity: str, at: Entry, other: Entry, message: Message, **more: str) -> Conflict:
    """A problem at `at` that names `other`: {value}, {this}, {other}, {that} and {place} of the message."""
    report = Report(at.draft.report.source, 0)
    add = report.error if severity == "error" else report.warning
    values = {"value": quoted(at.text), "this": at.subject, "other": quoted(other.text), "that": other.subject}
    add(at.path, message, **values, place=other.place, **more)
    names = (at.draft.organization.name, other.draft.organization.name)
    return Conflict(report.problems[0], names, message)


def _name_of(text: str) -> str | None:
    try:
        return pattern_of(text).name
    except Refused:
        return None


# --- accepted domains


def _domains_of_two(domains: DomainIndex) -> Iterator[Conflict]:
    for holder, index, pattern in domains.doubled:
        entries = [Entry(domains.drafts[number], *domains.accepted(number, pattern.name)) for number in (holder, index)]
        later, earlier = between(*entries)
        organization = subject(earlier.draft.path)
        yield about("error", later, earlier, Message.DOMAIN_OF_TWO, organization=organization)


def _domains_below(domains: DomainIndex) -> Iterator[Conflict]:
    delegated: dict[int, frozenset[str]] = {}
    for name, holder in domains.holder.items():
        objected: set[int] = set()
        above = name
        while (dot := above.find(".")) >= 0:
            above = above[dot + 1 :]
            upper = domains.holder.get(above, holder)
            if upper == holder or upper in objected:
                continue
            if upper not in delegated:
                organization = domains.drafts[upper].organization
                delegated[upper] = frozenset(pattern.name for pattern in organization.delegated_domains)
            if delegated[upper].isdisjoint(upwards(name)):
                objected.add(upper)
                yield _below(domains, holder, name, upper, above)


def _below(domains: DomainIndex, holder: int, name: str, upper: int, above: str) -> Conflict:
    lower_entry = Entry(domains.drafts[holder], *domains.accepted(holder, name))
    upper_entry = Entry(domains.drafts[upper], *domains.accepted(upper, above))
    later, earlier = between(lower_entry, upper_entry)
    return about(
        "error",
        later,
        earlier,
        Message.DOMAIN_BELOW,
        lower=quoted(lower_entry.text),
        lower_organization=subject(lower_entry.draft.path),
        upper=quoted(upper_entry.text),
        upper_organization=subject(upper_entry.draft.path),
        name=quoted(name),
    )


# --- addresses


class Claim(NamedTuple):
    """A network of a connector. Sorts by first address, and is no dataclass because there may be a million."""

    family: int
    first: int
    last: int
    draft: int
    connector: int

    @property
    def network(self) -> Network:
        """The addresses."""
        return Network(self.family, self.first, self.last)


class _Furthest:
    """Of the ranges seen so far, in the order of their first address: the two of different organizations that reach
    furthest. Whatever else overlaps a new range also overlaps one of these, and so is reported there."""

    __slots__ = ("best", "family", "second")

    def __init__(self) -> None:
        self.family = 0
        self.best: Claim | None = None
        self.second: Claim | None = None

    def overlapping(self, claim: Claim) -> Claim | None:
        """A range of another organization that holds the first address of `claim`."""
        if claim.family != self.family:
            return None
        other = self.best if self.best is not None and self.best.draft != claim.draft else self.second
        return other if other is not None and other.last >= claim.first else None

    def add(self, claim: Claim) -> None:
        if claim.family != self.family:
            self.family, self.best, self.second = claim.family, None, None
        if self.best is None or claim.last > self.best.last:
            if self.best is not None and self.best.draft != claim.draft:
                self.second = self.best
            self.best = claim
        elif claim.draft != self.best.draft and (self.second is None or claim.last > self.second.last):
            self.second = claim


def _addresses(drafts: Sequence[Draft], provider: Provider) -> Iterator[Conflict]:
    claims = [
        Claim(network.family, network.first, network.last, draft_index, connector_index)
        for draft_index, draft in enumerate(drafts)
        for connector_index, connector in enumerate(draft.organization.connectors)
        for network in connector.addresses
    ]
    claims.sort()
    yield from _provider_networks(drafts, claims, provider)
    if not any(one.family == other.family and other.first <= one.last for one, other in pairwise(claims)):
        return  # where any two overlap, the first of them also overlaps the one right behind it
    enabled, disabled = _Furthest(), _Furthest()
    for claim in claims:
        mine = drafts[claim.draft].organization.connectors[claim.connector].enabled
        other = enabled.overlapping(claim)
        if other is not None and mine:
            yield _overlap(drafts, claim, other, "error", Message.ADDRESSES_OF_TWO)
        asleep = disabled.overlapping(claim) or (None if mine else other)
        if asleep is not None:
            yield _overlap(drafts, claim, asleep, "warning", Message.OVERLAP_DISABLED)
        (enabled if mine else disabled).add(claim)


def _overlap(drafts: Sequence[Draft], claim: Claim, other: Claim, severity: str, message: Message) -> Conflict:
    later, earlier = between(_address_entry(drafts, claim), _address_entry(drafts, other))
    return about(severity, later, earlier, message)


def _address_entry(drafts: Sequence[Draft], claim: Claim) -> Entry:
    draft = drafts[claim.draft]
    keys = ("connectors", draft.organization.connectors[claim.connector].name, "addresses")
    return Entry(draft, *draft.element(keys, _network_of, claim.network))


def _network_of(text: str) -> Network | None:
    try:
        return network_of(text)[0]
    except ValueError:
        return None


def _provider_networks(drafts: Sequence[Draft], claims: Iterable[Claim], provider: Provider) -> Iterator[Conflict]:
    if not provider.networks:
        return
    table = NetworkTable(provider.networks)
    for claim in claims:
        found = table.overlapping(claim.network)
        if found is not None:
            entry = _address_entry(drafts, claim)
            yield _with_provider(entry, Message.PROVIDER_NETWORK, network=quoted(str(found[0])), place=found[1])


def _with_provider(entry: Entry, message: Message, **values: str) -> Conflict:
    report = Report(entry.draft.report.source, 0)
    report.error(entry.path, message, value=quoted(entry.text), **values)
    return Conflict(report.problems[0], (entry.draft.organization.name,), message)


# --- certificate names


def _certificate_names(domains: DomainIndex, provider: Provider) -> Iterator[Conflict]:
    claims_provider = _ProviderNames(provider)
    for index, draft in enumerate(domains.drafts):
        for connector in draft.organization.connectors:
            for pattern in connector.certificate_names:
                zone = domains.zone(pattern.name)
                claimed = claims_provider.claimed_by(pattern)
                if (zone is None or zone[0] == index) and claimed is None:
                    continue
                entry = certificate_entry(draft, connector.name, pattern)
                if zone is not None and zone[0] != index:
                    other = Entry(domains.drafts[zone[0]], *domains.accepted(*zone))
                    organization = subject(other.draft.path)
                    yield about("error", entry, other, Message.NAME_OF_OTHER, organization=organization)
                if claimed is not None:
                    name, place = claimed
                    yield _with_provider(entry, Message.PROVIDER_NAME, name=quoted(str(name)), place=place)


def certificate_entry(draft: Draft, connector: str, pattern: Pattern) -> Entry:
    """Where a connector's certificate name stands."""
    keys = ("connectors", connector, "certificate_names")
    return Entry(draft, *draft.element(keys, _pattern_of, pattern))


def _pattern_of(text: str) -> Pattern | None:
    try:
        return pattern_of(text)
    except Refused:
        return None


class _ProviderNames:
    """Finds the provider's name that a certificate name would match."""

    def __init__(self, provider: Provider) -> None:
        self._exact = {pattern.name: (pattern, place) for pattern, place in reversed(provider.names)}
        self._wildcards = {
            pattern.name: (pattern, place) for pattern, place in reversed(provider.names) if pattern.wildcard
        }
        self._above = {
            up: (pattern, place) for pattern, place in reversed(provider.names) for up in upwards(pattern.name)
        }

    def claimed_by(self, pattern: Pattern) -> tuple[Pattern, str] | None:
        """A name of the provider that `pattern` covers, or that covers `pattern`."""
        if not self._exact:
            return None
        if pattern.wildcard and pattern.name in self._above:
            return self._above[pattern.name]
        if pattern.name in self._exact:
            return self._exact[pattern.name]
        return next((self._wildcards[up] for up in upwards(pattern.name) if up in self._wildcards), None)
