"""The compiled rules: immutable indexes over the model, so that a decision costs the same at any size.

`zone` and `owner` (SPEC 3.1) and `belongs` (SPEC 3.3, D) are answered here; who is identified is in `identity`, what
follows in `attribution`.
A RuleSet is never changed after it was made. It keeps two bounded memos of look-ups, which hold nothing
that could not be worked out again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from policyd.policy.model import Connector, Organization, Partner, Rules
from policyd.policy.names import Pattern, canonical, is_plain, upwards_in, usable_suffix
from policyd.policy.networks import PrefixIndex
from policyd.policy.zones import NOBODY as NOBODY  # an organization's number is its place among the names in order
from policyd.policy.zones import Zones

K = TypeVar("K")
V = TypeVar("V")

_MEMO_LIMIT = 32768  # entries; then a memo starts anew
# Characters; what is longer is no usual request and is worked out each time.
_DOMAIN_KEY_LIMIT = 255
_IDENTITY_KEY_LIMIT = 1024
_MATCHES_LIMIT = 131072  # connectors in all remembered identities together

Pinned = tuple[int, tuple[str, ...]]  # a connector, and the names of the stored certificate that a fingerprint is of

_NOBODY: frozenset[int] = frozenset()


class Reading(NamedTuple):
    """One way to read the domain of an address: as it stands, or with its case folded as Postfix does (SPEC 3.1)."""

    name: str  # canonical
    zone: int
    is_suffix: bool  # only this much of it is usable: it counts for what is taken back, never for a grant


class Domain(NamedTuple):
    """What there is to know of the domain of an address. Organizations are numbers, or NOBODY."""

    name: str | None  # canonical; None: no domain
    zone: int = NOBODY
    owner: int = NOBODY
    covering: str = ""  # as in Place, like the two before and the one below
    given_away: bool = False
    plain: bool = False
    pending: frozenset[int] = _NOBODY  # the organizations that claim it
    readings: tuple[Reading, ...] = ()  # those that are not the same: as it stands, then folded
    is_ambiguous: bool = False  # the zones of its readings differ
    is_null: bool = False  # the address is empty


NO_DOMAIN = Domain(None)
NULL_SENDER = Domain(None, is_null=True)


class RuleSet(Zones):
    """`rules`, indexed. `generation` counts the rule sets of one running service."""

    __slots__ = (
        "_domains",
        "_remembered",
        "accepted",
        "addresses",
        "certificates",
        "connector_count",
        "connectors",
        "cuts",
        "exact_names",
        "generation",
        "identities",
        "incoming",
        "keys",
        "next_expiry",
        "organizations",
        "owners",
        "partners",
        "pending",
        "representatives",
        "rules",
        "wildcard_names",
    )

    def __init__(self, rules: Rules, generation: int = 1) -> None:
        self.rules = rules
        self.generation = generation
        self.incoming = rules.incoming
        self.organizations: tuple[Organization, ...] = tuple(sorted(rules.organizations, key=lambda o: o.name))
        # Enabled connectors by number, in order of organization and name, and the organization of each.
        numbered = [
            (number, connector)
            for number, organization in enumerate(self.organizations)
            for connector in sorted(organization.connectors, key=lambda c: c.name)
            if connector.enabled
        ]
        self.connectors: tuple[Connector, ...] = tuple(connector for _, connector in numbered)
        self.connector_count = len(numbered)
        self.owners: tuple[int, ...] = tuple(number for number, _ in numbered)
        self.partners: tuple[tuple[Partner, ...], ...] = tuple(
            tuple(sorted((p for p in organization.partners if p.enabled), key=lambda p: p.name))
            for organization in self.organizations
        )
        self.accepted = _accepted_index(self.organizations)
        self.cuts: dict[str, tuple[tuple[int, bool], ...]] = _index(
            (name, (number, outside))
            for number, organization in enumerate(self.organizations)
            for name, outside in organization.cuts
        )
        self.pending = _pending_index(self.organizations)
        self.exact_names: dict[str, tuple[int, ...]] = _index(
            (p.name, n) for n, c in enumerate(self.connectors) for p in c.certificate_names if not p.wildcard
        )
        self.wildcard_names: dict[str, tuple[int, ...]] = _index(
            (p.name, n) for n, c in enumerate(self.connectors) for p in c.certificate_names if p.wildcard
        )
        self.certificates: dict[str, tuple[Pinned, ...]] = _index(
            (fingerprint, (n, names))
            for n, c in enumerate(self.connectors)
            for fingerprint, names in certificates_of(c)
        )
        self.keys: dict[str, tuple[Pinned, ...]] = _index(
            (fingerprint, (n, names)) for n, c in enumerate(self.connectors) for fingerprint, names in keys_of(c)
        )
        self.addresses = PrefixIndex((network, n) for n, c in enumerate(self.connectors) for network in c.addresses)
        # Unix time at which the first of all stored certificates expires
        self.next_expiry: int | None = min(
            (stored.not_after for c in self.connectors for stored in c.stored_certificates), default=None
        )
        self._domains: dict[str, Domain] = {}
        self._remembered = 0  # connectors in all of them together
        self.identities: dict[tuple[str, ...], object] = {}  # identity's memo
        self.representatives: dict[int, tuple[int, ...]] = {}  # shared_evidence's, by the id of an entry of the indexes

    @classmethod
    def of_parts(cls, rules: Rules, generation: int, **indexes: Any) -> RuleSet:
        """The rules with indexes that `patch` has worked out."""
        made = cls.__new__(cls)
        made.rules, made.generation, made.incoming = rules, generation, rules.incoming
        for name, index in indexes.items():
            setattr(made, name, index)
        made._domains, made._remembered, made.identities, made.representatives = {}, 0, {}, {}
        return made

    def domain_of(self, address: str) -> Domain:
        """The domain of an address as Postfix sends it (SPEC 3.1)."""
        _, at, text = address.rpartition("@")  # as names.domain_text has it, without a call
        if not at:
            return NO_DOMAIN if address else NULL_SENDER
        known = self._domains.get(text)
        if known is None:
            known = self._look_up(text)
            if len(text) <= _DOMAIN_KEY_LIMIT:
                if len(self._domains) >= _MEMO_LIMIT:
                    self._domains.clear()
                self._domains[text] = known
        return known

    def _look_up(self, text: str) -> Domain:
        name, folded = canonical(text), text.casefold()
        if name is not None and (text.isascii() or canonical(folded) == name):  # by far the most
            place = self.place(name)
            plain = text == name or is_plain(text, name)
            return Domain(name, *place, plain, self._claimed(name), (Reading(name, place.zone, False),))
        readings = [self._reading(text, name), self._reading(folded, canonical(folded))]
        usable = tuple(dict.fromkeys(reading for reading in readings if reading is not None))
        if name is None:
            return Domain(None, readings=usable)
        place = self.place(name)
        folded_owner = NOBODY if readings[1] is None else self.owner(readings[1].name)
        plain = folded_owner == place.owner and is_plain(text, name)
        is_ambiguous = len({NOBODY if reading is None else reading.zone for reading in readings}) > 1
        return Domain(name, *place, plain, self._claimed(name), usable, is_ambiguous)

    def _reading(self, text: str, name: str | None) -> Reading | None:
        """What is usable of one reading of a domain; None where nothing is."""
        usable = usable_suffix(text) if name is None else name
        return None if usable is None else Reading(usable, self.place(usable).zone, name is None)

    def _claimed(self, name: str) -> frozenset[int]:
        """The organizations for which the name is pending."""
        if not self.pending:
            return _NOBODY
        return frozenset(
            number
            for up, claims in upwards_in(self.pending, name)
            for number, wildcard in claims
            if wildcard or up == name
        )

    def remember_identity(self, key: tuple[str, ...], identity: object, size: int) -> None:
        """Keeps what `identity` worked out for a client: `size` connectors that match it."""
        if sum(map(len, key)) > _IDENTITY_KEY_LIMIT:
            return
        self._remembered += size
        if len(self.identities) >= _MEMO_LIMIT or self._remembered > _MATCHES_LIMIT:
            self.identities.clear()
            self._remembered = size
        self.identities[key] = identity

    def organization_name(self, number: int) -> str:
        """The name of an organization by its number; empty for NOBODY."""
        return "" if number == NOBODY else self.organizations[number].name


def _accepted_index(organizations: tuple[Organization, ...]) -> dict[str, tuple[int, bool]]:
    entries: dict[str, tuple[int, bool]] = {}
    for number, organization in enumerate(organizations):
        for pattern in organization.accepted_domains:
            wildcard = pattern.wildcard or entries.get(pattern.name, (number, False))[1]
            entries[pattern.name] = (number, wildcard)
    return entries


def _pending_index(organizations: tuple[Organization, ...]) -> dict[str, tuple[tuple[int, bool], ...]]:
    patterns: Iterable[tuple[int, Pattern]] = (
        (number, pattern)
        for number, organization in enumerate(organizations)
        for pattern in organization.pending_domains
    )
    return _index((pattern.name, (number, pattern.wildcard)) for number, pattern in patterns)


def certificates_of(connector: Connector) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Certificate fingerprints that match it, each with the names of the stored certificate that it is of."""
    for fingerprint in connector.certificate_fingerprints:
        yield fingerprint, ()
    for stored in connector.stored_certificates:
        for fingerprint in stored.certificate_fingerprints:
            yield fingerprint, stored.names


def keys_of(connector: Connector) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Fingerprints of public keys, likewise."""
    for fingerprint in connector.public_key_fingerprints:
        yield fingerprint, ()
    for stored in connector.stored_certificates:
        for fingerprint in stored.public_key_fingerprints:
            yield fingerprint, stored.names


def _index(pairs: Iterable[tuple[K, V]]) -> dict[K, tuple[V, ...]]:
    index: dict[K, list[V]] = {}
    for key, value in pairs:
        index.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in index.items()}
