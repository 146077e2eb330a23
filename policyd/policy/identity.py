"""Who is the client: the connectors that match it (SPEC 3.2), and whether its certificate is theirs (SPEC 3.3, D).

    client_of()   the client's side of a request as facts
    identify()    the enabled connectors that match it
    identity_of() the same, remembered

Pure functions of a RuleSet and a request. Nothing here raises on odd mail data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from policyd.policy.fingerprints import sent_fingerprint
from policyd.policy.lookups import ConnectorName, ConnectorTraits, EvidenceIndex, Pinned
from policyd.policy.model import Evidence, ForeignSenders
from policyd.policy.names import Pattern, canonical, is_below, upwards
from policyd.policy.networks import Address, parse_address
from policyd.policy.ruleset import Domain, RuleSet
from policyd.policy.shared_evidence import CROWD, Choice, concerned, everybody
from policyd.policy.zones import NOWHERE

# How a connector was recognised, in the order in which ties are broken (SPEC 3.4).
PIN, EXACT_NAME, WILDCARD_NAME, ADDRESS_ONLY = range(4)
_CROWDED = object()  # remembered in place of an identity that depends on whose mail it is


class RequestShaped(Protocol):
    """What a decision needs of a request; `policyd.protocol.request.Request` has it."""

    @property
    def protocol_state(self) -> str: ...
    @property
    def client_address(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def recipient(self) -> str: ...
    @property
    def ccert_subject(self) -> str: ...
    @property
    def ccert_issuer(self) -> str: ...
    @property
    def ccert_fingerprint(self) -> str: ...
    @property
    def ccert_pubkey_fingerprint(self) -> str: ...
    @property
    def encryption_protocol(self) -> str: ...
    @property
    def certificate_subject(self) -> str | None: ...


class Client(NamedTuple):
    """What a request says about the client, in canonical form."""

    address: Address | None
    name: str | None  # the certificate's name without `*.`; None: no name
    wildcard: bool  # the certificate's name began with `*.`
    fingerprint: str  # upper-case hex without colons; empty: none
    key: str  # the same of the public key
    tls: bool


def client_of(request: RequestShaped) -> Client:
    """The client's side of a request (SPEC 3.1, 3.2)."""
    name, wildcard = certificate_name(request.certificate_subject)
    return Client(
        parse_address(request.client_address),
        name,
        wildcard,
        sent_fingerprint(request.ccert_fingerprint),
        sent_fingerprint(request.ccert_pubkey_fingerprint),
        request.encryption_protocol != "",
    )


def certificate_name(subject: str | None) -> tuple[str | None, bool]:
    """The cn of SPEC 3.1 without its `*.`, and whether it had one; (None, False) where it is no host name."""
    if not subject:
        return None, False
    wildcard = subject.startswith("*.")
    name = canonical(subject[2:] if wildcard else subject)
    return name, wildcard and name is not None


class Match(NamedTuple):
    """A connector that matches the client."""

    organization: str
    connector: str
    kind: int  # PIN, EXACT_NAME, WILDCARD_NAME or ADDRESS_ONLY
    name_length: int  # of the longest matching entry of that kind; 0 for pins and addresses
    prefix_length: int  # of the longest matching network; 0 without
    owns_certificate: bool  # condition D
    for_domains: tuple[Pattern, ...] = ()  # the connector's
    foreign_senders: ForeignSenders = "allow"  # the connector's


class Identity(NamedTuple):
    """All connectors that match a client, in order of organization and name.

    One that is suspended is left out where SPEC 3.4 says so; then it is as if it did not match.
    """

    matches: tuple[Match, ...]
    organizations: frozenset[str]  # that the client is identified by
    only_tls_is_missing: bool  # a connector would match, but for its require_tls
    contenders: tuple[Match, ...]  # the matches that can be the first of the table: the others have a better one
    suspended: Match | None = None  # the first that is


NOBODY_KNOWN = Identity((), frozenset(), False, ())  # no connector matches


def identity_of(rules: RuleSet, request: RequestShaped) -> Identity:
    """`identify`, remembered: one client sends many requests."""
    key = _key(request)
    known = rules.identities.get(key)
    if isinstance(known, Identity):
        return known
    shown = client_of(request)
    return _remembered(rules, key, shown, listed_of(rules.lookups, shown))


def _remembered(rules: RuleSet, key: tuple[str, ...], shown: Client, listed: Listed) -> Identity:
    identity = identify(rules, shown, listed=listed)
    rules.remember_identity(key, identity, len(identity.matches))
    return identity


def identity_for(rules: RuleSet, request: RequestShaped, sender: Domain, recipient: Domain) -> Identity:
    """As `identity_of`, but of connectors that very many share evidence with only those that this answer depends on."""
    key = _key(request)
    known = rules.identities.get(key)
    if isinstance(known, Identity):
        return known
    if not (request.ccert_subject or request.ccert_fingerprint or request.ccert_pubkey_fingerprint):
        address = parse_address(request.client_address)
        if address is None or not rules.at_address(address):
            return NOBODY_KNOWN  # most strangers: worked out as fast as it is remembered
    shown = client_of(request)
    listed = listed_of(rules.lookups, shown)
    if known is None:
        if not listed.is_crowded:
            return _remembered(rules, key, shown, listed)
        rules.remember_identity(key, _CROWDED, 1)
    organizations = concerned(rules, sender, recipient, shown.name)
    identity = identify(rules, shown, organizations, listed)
    if not identity.organizations <= organizations:  # their suspended connectors count, and may not have been chosen
        identity = identify(rules, shown, organizations | identity.organizations, listed)
    return identity


def _key(request: RequestShaped) -> tuple[str, ...]:
    return (
        request.client_address,
        request.ccert_subject,
        request.ccert_fingerprint,
        request.ccert_pubkey_fingerprint,
        request.encryption_protocol,
    )


# An entry that matches a certificate's name, with the connectors that list it exactly, and with `*.`.
ListedName = tuple[str, tuple[ConnectorName, ...], tuple[ConnectorName, ...]]


class Listed(NamedTuple):
    """The connectors that list what a client shows, whatever else they ask for."""

    certificates: tuple[Pinned, ...]
    keys: tuple[Pinned, ...]
    names: list[ListedName]
    at: list[tuple[ConnectorName, int]]  # with the prefix length of the network that holds the address, longest first

    @property
    def is_crowded(self) -> bool:
        """Whether any of the certificate evidence is shared by a crowd."""
        if len(self.certificates) > CROWD or len(self.keys) > CROWD:
            return True
        return any(len(exactly) > CROWD or len(with_wildcard) > CROWD for _, exactly, with_wildcard in self.names)


def listing_names(evidence: EvidenceIndex, name: str, wildcard: bool) -> list[ListedName]:
    """The entries that match a certificate named `name`, or (`wildcard`) `*.name`, which no exact entry does."""
    found = []
    for up in upwards(name):
        exactly, with_wildcard = evidence.certificate_names(up)
        if exactly and (up != name or wildcard):
            exactly = ()
        if exactly or with_wildcard:
            found.append((up, exactly, with_wildcard))
    return found


def listed_of(evidence: EvidenceIndex, client: Client) -> Listed:
    """Looks up everything that the client shows."""
    return Listed(
        evidence.certificates(client.fingerprint),
        evidence.keys(client.key),
        [] if client.name is None else listing_names(evidence, client.name, client.wildcard),
        evidence.at_address(client.address) if client.address is not None else [],
    )


def identify(
    rules: RuleSet, client: Client, organizations: set[str] | None = None, listed: Listed | None = None
) -> Identity:
    """The enabled connectors that match the client (SPEC 3.2); `listed` is what was looked up for it already.

    With `organizations`, of a crowd only those that an answer about these can depend on.
    """
    listed = listed_of(rules.lookups, client) if listed is None else listed
    at: dict[ConnectorName, int] = {}  # longest prefix that holds the address
    for name, length in listed.at:
        at.setdefault(name, length)
    choice = None if organizations is None else Choice(rules, organizations, at)
    shown = _certificate_evidence(rules, client, listed, choice)
    matches, suspended = [], []
    only_tls_is_missing = False
    for name in sorted(shown.keys() | at.keys()):
        connector = rules.connector(name)
        evidence = shown.get(name)
        if evidence is None and connector.asks_for_certificate:
            continue  # the address alone is not enough
        if connector.has_addresses and name not in at:
            continue  # the certificate counts from its addresses only
        if connector.require_tls and not client.tls:
            only_tls_is_missing = True
            continue
        match = _match(rules, name, connector, client, evidence, at.get(name, 0))
        matches.append(match)
        if connector.is_suspended:
            suspended.append(match)
    return _identity(rules, matches, suspended, only_tls_is_missing)


def _match(
    rules: RuleSet,
    name: ConnectorName,
    connector: ConnectorTraits,
    client: Client,
    evidence: _Shown | None,
    prefix_length: int,
) -> Match:
    speaks_for = connector.for_domains
    if evidence is None:
        return Match(*name, ADDRESS_ONLY, 0, prefix_length, False, speaks_for)
    hosts = evidence.names if client.name is None else [*evidence.names, client.name]
    owns = any(rules.belongs(host, name[0], speaks_for) for host in hosts)
    kind, length = evidence.kind, evidence.name_length
    return Match(*name, kind, length, prefix_length, owns, speaks_for, connector.foreign_senders)


def _identity(rules: RuleSet, matches: list[Match], suspended: list[Match], only_tls_is_missing: bool) -> Identity:
    """The matches without those that suspension leaves out, and the first that it does not (SPEC 3.4)."""
    if suspended:
        free = {match.organization for match in matches if match not in suspended and match.kind != ADDRESS_ONLY}
        left_out = [
            match for match in suspended if _is_by_name_alone(rules, match) and not free <= {match.organization}
        ]
        suspended = [match for match in suspended if match not in left_out]
        matches = [match for match in matches if match not in left_out]
    found = tuple(matches)
    organizations = frozenset(match.organization for match in found)
    first = suspended[0] if suspended else None
    return Identity(found, organizations, only_tls_is_missing, _contenders(found), first)


def _is_by_name_alone(rules: RuleSet, match: Match) -> bool:
    """Whether nothing but the certificate's name identifies the client: any other certificate may carry that."""
    return match.kind in (EXACT_NAME, WILDCARD_NAME) and not rules.connector(match[:2]).has_addresses


def _contenders(matches: tuple[Match, ...]) -> tuple[Match, ...]:
    """For each organization and each row of the table the best match."""
    if len(matches) < 2:
        return matches
    best: dict[tuple[object, ...], Match] = {}
    for match in sorted(matches, key=tie):
        alike = match.kind == ADDRESS_ONLY, match.owns_certificate, match.for_domains, match.foreign_senders
        best.setdefault((match.organization, *alike), match)
    return tuple(best.values())


def tie(match: Match) -> tuple[int, int, int, str, str]:
    """What decides between two matches in one row."""
    return match.kind, -match.name_length, -match.prefix_length, match.organization, match.connector


class _Shown:
    """The best certificate evidence for one connector, and all names that speak for condition D."""

    __slots__ = ("kind", "name_length", "names")

    def __init__(self) -> None:
        self.kind = ADDRESS_ONLY
        self.name_length = 0
        self.names: list[str] = []

    def add(self, kind: int, name_length: int, names: Iterable[str]) -> None:
        if (kind, -name_length) < (self.kind, -self.name_length):
            self.kind, self.name_length = kind, name_length
        self.names.extend(names)


def _certificate_evidence(
    rules: RuleSet, client: Client, listed: Listed, choice: Choice | None
) -> dict[ConnectorName, _Shown]:
    shown: dict[ConnectorName, _Shown] = {}
    among = everybody if choice is None else choice.among
    for pinned in (listed.certificates, listed.keys):
        for connector, names in among(pinned):
            shown.setdefault(connector, _Shown()).add(PIN, 0, names)
    place = NOWHERE if client.name is None else rules.place(client.name)
    for name, exactly, with_wildcard in listed.names:
        for kind, listing in ((EXACT_NAME, exactly), (WILDCARD_NAME, with_wildcard)):
            for connector in among(listing):
                if not place.is_foreign(connector[0]):
                    shown.setdefault(connector, _Shown()).add(kind, len(name), (name,))
    return shown


def shows_certificate(evidence: Evidence, client: Client) -> bool:
    """Whether any certificate evidence holds, foreign names aside (SPEC 3.2); partners are few, so one by one."""
    return (
        client.fingerprint in evidence.certificate_fingerprints
        or client.key in evidence.public_key_fingerprints
        or any(
            client.fingerprint in stored.certificate_fingerprints or client.key in stored.public_key_fingerprints
            for stored in evidence.stored_certificates
        )
        or any(name_matches(pattern.name, pattern.wildcard, client) for pattern in evidence.certificate_names)
    )


def name_matches(entry: str, wildcard: bool, client: Client) -> bool:
    """SPEC 3.1: whether an entry `entry` or `*.entry` matches the certificate's name."""
    if client.name is None:
        return False
    if wildcard:
        return client.name == entry or is_below(client.name, entry)
    return client.name == entry and not client.wildcard


def comes_from(evidence: Evidence, client: Client) -> bool:
    """Whether the client's address lies in one of the addresses."""
    return client.address is not None and any(network.holds(client.address) for network in evidence.addresses)
