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

from policyd.config.evidence_readers import pattern_of
from policyd.config.many_parties import SharedNames
from policyd.config.messages import Message
from policyd.config.owners import DomainIndex
from policyd.config.parsed import Parsed
from policyd.config.problems import KeyPath, Problem, Report, subject
from policyd.config.text import quoted
from policyd.policy.model import NO_PROVIDER, Provider
from policyd.policy.names import Pattern, canonical, fold, without_service_labels
from policyd.policy.networks import Network, Networks, parse_network
from policyd.policy.zones import NOBODY, delegates


@dataclass(frozen=True, slots=True)
class Conflict:
    """A problem, and the organizations that it is between (one, where it is with the provider's settings)."""

    problem: Problem
    organizations: tuple[str, ...]
    message: Message


@dataclass(frozen=True, slots=True)
class PlacedProvider:
    """What no connector may claim, and where that stands: `file:line` of provider_networks and of the names."""

    provider: Provider = NO_PROVIDER
    networks_at: str = ""
    names_at: str = ""


def find_conflicts(all_parsed: Sequence[Parsed], provider: PlacedProvider, domains: DomainIndex) -> list[Conflict]:
    """Every error that concerns more than one organization, or an organization and the provider's settings."""
    shared = _Shared(provider)
    return [
        *_domains_of_two(domains),
        *_domains_below(domains),
        *_folded_domains(domains),
        *_addresses(all_parsed, provider),
        *_certificate_names(domains, shared),
        *_tlsa_hosts(domains, shared),
    ]


# --- reporting about two places


@dataclass(frozen=True, slots=True)
class Entry:
    """An element of an organization: where it stands and how it is written."""

    parsed: Parsed
    path: KeyPath
    text: str

    @property
    def subject(self) -> str:
        """The organization, and connector if any."""
        return subject(self.path)

    @property
    def place(self) -> str:
        """`file:line`"""
        return self.parsed.report.place(self.path)

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts by the order of reading."""
        source = self.parsed.report.source
        return source.number, source.line(self.path), self.parsed.number


def between(one: Entry, other: Entry) -> tuple[Entry, Entry]:
    """The two with the later one first."""
    return (one, other) if one.order > other.order else (other, one)


def about(severity: str, entry: Entry, other: Entry, message: Message, **more: str) -> Conflict:
    """A problem at `entry` that names `other`: {value}, {this}, {other}, {that} and {place} of the message."""
    report = Report(entry.parsed.report.source, 0)
    add = report.error if severity == "error" else report.warning
    fills = {"value": quoted(entry.text), "this": entry.subject, "other": quoted(other.text), "that": other.subject}
    add(entry.path, message, **fills, place=other.place, **more)
    names = (entry.parsed.organization.name, other.parsed.organization.name)
    return Conflict(report.problems[0], names, message)


# --- accepted domains


def _domains_of_two(domains: DomainIndex) -> Iterator[Conflict]:
    for holder, other, name in domains.doubled:
        later, earlier = between(accepted_entry(domains, holder, name), accepted_entry(domains, other, name))
        organization = subject(earlier.parsed.path)
        yield about("error", later, earlier, Message.DOMAIN_OF_TWO, organization=organization)


def _domains_below(domains: DomainIndex) -> Iterator[Conflict]:
    delegated: dict[str, frozenset[str]] = {}
    for name, (holder, _) in domains.accepted.items():
        objected: set[str] = set()
        for above, upper in domains.accepted_above(name):
            if upper == holder or upper in objected:
                continue
            if upper not in delegated:
                delegated[upper] = domains.by_name[upper].organization.delegated_names
            if not delegates(delegated[upper], name):
                objected.add(upper)
                yield _below(domains, holder, name, upper, above)


def _below(domains: DomainIndex, holder: str, name: str, upper: str, above: str) -> Conflict:
    lower_entry, upper_entry = accepted_entry(domains, holder, name), accepted_entry(domains, upper, above)
    later, earlier = between(lower_entry, upper_entry)
    return about(
        "error",
        later,
        earlier,
        Message.DOMAIN_BELOW,
        lower=quoted(lower_entry.text),
        lower_organization=subject(lower_entry.parsed.path),
        upper=quoted(upper_entry.text),
        upper_organization=subject(upper_entry.parsed.path),
        name=quoted(name),
    )


def _folded_domains(domains: DomainIndex) -> Iterator[Conflict]:
    for name, (holder, _) in domains.accepted.items():
        folded = fold(name)
        if folded is None or folded == name or domains.zone(folded) in (NOBODY, holder):
            continue
        into_name, into_holder = next(domains.accepted_above(folded))
        folding, into = accepted_entry(domains, holder, name), accepted_entry(domains, into_holder, into_name)
        yield about(
            "error",
            *between(folding, into),
            Message.FOLDS_INTO_OTHER,
            folding=quoted(folding.text),
            organization=subject(folding.parsed.path),
            fold=quoted(folded),
            into=quoted(into.text),
            into_organization=subject(into.parsed.path),
        )


def accepted_entry(domains: DomainIndex, organization: str, name: str) -> Entry:
    """Where an organization's accepted domain stands."""
    return Entry(domains.by_name[organization], *domains.element(organization, name))


# --- addresses


class Claim(NamedTuple):
    """A network of a connector. Sorts by first address, and is no dataclass because there may be a million."""

    family: int
    first: int
    last: int
    parsed: int
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
        other = self.best if self.best is not None and self.best.parsed != claim.parsed else self.second
        return other if other is not None and other.last >= claim.first else None

    def add(self, claim: Claim) -> None:
        if claim.family != self.family:
            self.family, self.best, self.second = claim.family, None, None
        if self.best is None or claim.last > self.best.last:
            if self.best is not None and self.best.parsed != claim.parsed:
                self.second = self.best
            self.best = claim
        elif claim.parsed != self.best.parsed and (self.second is None or claim.last > self.second.last):
            self.second = claim


def _addresses(all_parsed: Sequence[Parsed], provider: PlacedProvider) -> Iterator[Conflict]:
    claims = [
        Claim(network.family, network.first, network.last, index, connector_index)
        for index, parsed in enumerate(all_parsed)
        for connector_index, connector in enumerate(parsed.organization.connectors)
        for network in connector.addresses
    ]
    claims.sort()
    yield from _provider_networks(all_parsed, claims, provider)
    if not any(one.family == other.family and other.first <= one.last for one, other in pairwise(claims)):
        return  # where any two overlap, the first of them also overlaps the one right behind it
    enabled, disabled = _Furthest(), _Furthest()
    for claim in claims:
        mine = all_parsed[claim.parsed].organization.connectors[claim.connector].enabled
        other = enabled.overlapping(claim)
        if other is not None and mine:
            yield _overlap(all_parsed, claim, other, "error", Message.ADDRESSES_OF_TWO)
        asleep = disabled.overlapping(claim) or (None if mine else other)
        if asleep is not None:
            yield _overlap(all_parsed, claim, asleep, "warning", Message.OVERLAP_DISABLED)
        (enabled if mine else disabled).add(claim)


def _overlap(all_parsed: Sequence[Parsed], claim: Claim, other: Claim, severity: str, message: Message) -> Conflict:
    later, earlier = between(_address_entry(all_parsed, claim), _address_entry(all_parsed, other))
    return about(severity, later, earlier, message)


def _address_entry(all_parsed: Sequence[Parsed], claim: Claim) -> Entry:
    parsed = all_parsed[claim.parsed]
    keys = ("connectors", parsed.organization.connectors[claim.connector].name, "addresses")
    return Entry(parsed, *parsed.element(keys, lambda text: parse_network(text)[0], claim.network))


def _provider_networks(
    all_parsed: Sequence[Parsed], claims: Iterable[Claim], placed: PlacedProvider
) -> Iterator[Conflict]:
    if not placed.provider.networks:
        return
    networks = Networks(placed.provider.networks)
    for claim in claims:
        touched = networks.overlapping(claim.network)
        if touched is not None:
            entry, text = _address_entry(all_parsed, claim), quoted(str(touched))
            yield _with_provider(entry, Message.PROVIDER_NETWORK, network=text, place=placed.networks_at)


def _with_provider(entry: Entry, message: Message, **fills: str) -> Conflict:
    report = Report(entry.parsed.report.source, 0)
    report.error(entry.path, message, value=quoted(entry.text), **fills)
    return Conflict(report.problems[0], (entry.parsed.organization.name,), message)


# --- certificate names and TLSA hosts


def _certificate_names(domains: DomainIndex, shared: _Shared) -> Iterator[Conflict]:
    for organization, parsed in domains.by_name.items():
        for connector in parsed.organization.connectors:
            for pattern in connector.certificate_names:
                place, claimed = domains.place(pattern.name), shared.claimed_by(pattern)
                foreign = place.is_anothers(organization)
                if not foreign and claimed is None:
                    continue
                entry = certificate_entry(parsed, connector.name, pattern)
                if foreign:
                    yield _of_other(domains, entry, pattern.name, Message.NAME_OF_OTHER)
                if claimed is not None:
                    yield shared.conflict(entry, claimed)


def _tlsa_hosts(domains: DomainIndex, shared: _Shared) -> Iterator[Conflict]:
    """Whoever has a host's domain says which keys are pinned (SPEC 10)."""
    listed = [
        (organization, parsed, connector.name, owner_name)
        for organization, parsed in domains.by_name.items()
        for connector in parsed.organization.connectors
        for owner_name in connector.tlsa
    ]
    holders: dict[str, tuple[str, Entry]] = {}
    for organization, parsed, connector_name, owner_name in listed:
        host, entry = without_service_labels(owner_name), tlsa_entry(parsed, connector_name, owner_name)
        if domains.zone(host) not in (NOBODY, organization):
            yield _of_other(domains, entry, host, Message.TLSA_OF_OTHER)
        claimed = shared.claimed_by(Pattern(host))
        if claimed is not None:
            yield shared.conflict(entry, claimed)
        holder, other = holders.setdefault(host, (organization, entry))
        if holder != organization:
            yield about("error", *between(entry, other), Message.TLSA_OF_TWO)


def _of_other(domains: DomainIndex, entry: Entry, name: str, message: Message) -> Conflict:
    domain, zone = next(domains.accepted_above(name))
    other = accepted_entry(domains, zone, domain)
    return about("error", entry, other, message, organization=subject(other.parsed.path))


def certificate_entry(parsed: Parsed, connector: str, pattern: Pattern) -> Entry:
    """Where a connector's certificate name stands."""
    keys = ("connectors", connector, "certificate_names")
    return Entry(parsed, *parsed.element(keys, pattern_of, pattern))


def tlsa_entry(parsed: Parsed, connector: str, owner_name: str) -> Entry:
    """Where a connector's TLSA host stands."""
    return Entry(parsed, *parsed.element(("connectors", connector, "tlsa"), canonical, owner_name))


class _Shared(SharedNames):
    """The names that many parties present: the administrator's, and those of the list."""

    def __init__(self, placed: PlacedProvider) -> None:
        self._written, self._place = placed.provider.certificate_names, placed.names_at
        super().__init__((*self._written, *placed.provider.shipped_names))

    def conflict(self, entry: Entry, claimed: Pattern) -> Conflict:
        """The error at an entry that claims one."""
        name = quoted(str(claimed))
        if claimed in self._written:
            return _with_provider(entry, Message.PROVIDER_NAME, name=name, place=self._place)
        return _with_provider(entry, Message.MANY_PARTIES, name=name)
