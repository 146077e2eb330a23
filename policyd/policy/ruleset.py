"""The compiled rules: immutable indexes over the model, so that a decision costs the same at any size.

`zone` and `owner` (SPEC 3.1) are answered here; who is identified and what follows is in `attribution`.
A RuleSet is never changed after it was made. It keeps two bounded memos of look-ups, which hold nothing
that could not be worked out again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from policyd.policy.model import Connector, Organization, Partner, Rules
from policyd.policy.names import Pattern, canonical, domain_text, is_plain, upwards
from policyd.policy.networks import PrefixIndex

K = TypeVar("K")
V = TypeVar("V")

_MEMO_LIMIT = 32768  # entries; then a memo starts anew
# Characters; what is longer is no usual request and is worked out each time.
_DOMAIN_KEY_LIMIT = 255
_IDENTITY_KEY_LIMIT = 1024
_MATCHES_LIMIT = 131072  # connectors in all remembered identities together

NOBODY = -1  # an organization's number is its place among the names in order; this is none


class Domain(NamedTuple):
    """What there is to know of the domain of an address. Organizations are numbers, or NOBODY."""

    name: str | None  # canonical; None: no domain
    zone: int = NOBODY
    owner: int = NOBODY
    plain: bool = False
    pending: frozenset[int] = frozenset()  # the organizations that claim it


NO_DOMAIN = Domain(None)


class RuleSet:
    """`rules`, indexed. `generation` counts the rule sets of one running service."""

    __slots__ = (
        "_accepted",
        "_domains",
        "_pending",
        "_remembered",
        "addresses",
        "certificates",
        "connectors",
        "exact_names",
        "generation",
        "identities",
        "incoming",
        "keys",
        "next_expiry",
        "organizations",
        "owners",
        "partners",
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
        self.owners: tuple[int, ...] = tuple(number for number, _ in numbered)
        self.partners: tuple[tuple[Partner, ...], ...] = tuple(
            tuple(sorted((p for p in organization.partners if p.enabled), key=lambda p: p.name))
            for organization in self.organizations
        )
        self._accepted = _accepted_index(self.organizations)
        self._pending = _pending_index(self.organizations)
        self.exact_names: dict[str, tuple[int, ...]] = _index(
            (p.name, n) for n, c in enumerate(self.connectors) for p in c.certificate_names if not p.wildcard
        )
        self.wildcard_names: dict[str, tuple[int, ...]] = _index(
            (p.name, n) for n, c in enumerate(self.connectors) for p in c.certificate_names if p.wildcard
        )
        # Fingerprint: (connector, names of the stored certificate that it is of).
        self.certificates: dict[str, tuple[tuple[int, tuple[str, ...]], ...]] = _index(
            (fingerprint, (n, names)) for n, c in enumerate(self.connectors) for fingerprint, names in _certificates(c)
        )
        self.keys: dict[str, tuple[tuple[int, tuple[str, ...]], ...]] = _index(
            (fingerprint, (n, names)) for n, c in enumerate(self.connectors) for fingerprint, names in _keys(c)
        )
        self.addresses = PrefixIndex((network, n) for n, c in enumerate(self.connectors) for network in c.addresses)
        # Unix time at which the first of all stored certificates expires
        self.next_expiry: int | None = min(
            (stored.not_after for c in self.connectors for stored in c.stored_certificates), default=None
        )
        self._domains: dict[str, Domain] = {}
        self._remembered = 0  # connectors in all of them together
        self.identities: dict[tuple[str, ...], object] = {}  # attribution's memo

    def zone(self, name: str) -> int:
        """The organization of the nearest accepted domain that equals `name` or lies above it (SPEC 3.1)."""
        for up in upwards(name):
            entry = self._accepted.get(up)
            if entry is not None:
                return entry[0]
        return NOBODY

    def owner(self, name: str) -> int:
        """The organization that owns `name` (SPEC 3.1)."""
        for up in upwards(name):
            entry = self._accepted.get(up)
            if entry is not None:
                return entry[0] if up == name else entry[1]
        return NOBODY

    def belongs(self, name: str, organization: int) -> bool:
        """SPEC 3.3, D: `name` is the organization's, or one host label below a domain that is."""
        if self.owner(name) == organization:
            return True
        _, dot, parent = name.partition(".")
        return bool(dot) and self.owner(parent) == organization and self.zone(name) == organization

    def domain_of(self, address: str) -> Domain:
        """The domain of an address as Postfix sends it (SPEC 3.1)."""
        text = domain_text(address)
        if text is None:
            return NO_DOMAIN
        known = self._domains.get(text)
        if known is None:
            known = self._look_up(text)
            if len(text) <= _DOMAIN_KEY_LIMIT:
                if len(self._domains) >= _MEMO_LIMIT:
                    self._domains.clear()
                self._domains[text] = known
        return known

    def _look_up(self, text: str) -> Domain:
        name = canonical(text)
        if name is None:
            return NO_DOMAIN
        claimed = frozenset(
            number for up in upwards(name) for number, wildcard in self._pending.get(up, ()) if wildcard or up == name
        )
        return Domain(name, self.zone(name), self.owner(name), is_plain(text, name), claimed)

    def remember_identity(self, key: tuple[str, ...], identity: object, size: int) -> None:
        """Keeps what `attribution` worked out for a client: `size` connectors that match it."""
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


def _accepted_index(organizations: tuple[Organization, ...]) -> dict[str, tuple[int, int]]:
    """Accepted name: (the organization it is of, the owner of the names below it that nothing nearer covers)."""
    entries: dict[str, tuple[int, bool]] = {}
    for number, organization in enumerate(organizations):
        for pattern in organization.accepted_domains:
            wildcard = pattern.wildcard or entries.get(pattern.name, (number, False))[1]
            entries[pattern.name] = (number, wildcard)
    return {name: (number, _owner_below(name, entries)) for name, (number, _) in entries.items()}


def _owner_below(name: str, entries: dict[str, tuple[int, bool]]) -> int:
    zone = entries[name][0]
    for up in upwards(name):
        entry = entries.get(up)
        if entry is None:
            continue
        number, wildcard = entry
        if number != zone:
            return NOBODY
        if wildcard:
            return zone
    return NOBODY


def _pending_index(organizations: tuple[Organization, ...]) -> dict[str, tuple[tuple[int, bool], ...]]:
    patterns: Iterable[tuple[int, Pattern]] = (
        (number, pattern)
        for number, organization in enumerate(organizations)
        for pattern in organization.pending_domains
    )
    return _index((pattern.name, (number, pattern.wildcard)) for number, pattern in patterns)


def _certificates(connector: Connector) -> Iterable[tuple[str, tuple[str, ...]]]:
    for fingerprint in connector.certificate_fingerprints:
        yield fingerprint, ()
    for stored in connector.stored_certificates:
        for fingerprint in stored.certificate_fingerprints:
            yield fingerprint, stored.names


def _keys(connector: Connector) -> Iterable[tuple[str, tuple[str, ...]]]:
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
