"""Who sends, and does the mail belong to him: SPEC 3.2 to 3.4, to be read beside its table.

    client()    the request's identity as facts          3.1, 3.2
    identify()  the connectors that match this client     3.2, and condition D of 3.3
    decide()    rows 0 to 7, then what is taken back      3.4

Pure functions of a RuleSet and a request. Nothing here raises on odd mail data.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol

from policyd.policy.crowd import CROWD, Choice, concerned, everybody
from policyd.policy.decision import Action, Decision, Reason
from policyd.policy.model import Evidence, Partner
from policyd.policy.names import canonical, is_below, upwards
from policyd.policy.networks import Address, parse_address
from policyd.policy.ruleset import NOBODY, Domain, RuleSet


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


def client(request: RequestShaped) -> Client:
    """The client's side of a request (SPEC 3.1, 3.2)."""
    name, wildcard = certificate_name(request.certificate_subject)
    return Client(
        parse_address(request.client_address),
        name,
        wildcard,
        fingerprint(request.ccert_fingerprint),
        fingerprint(request.ccert_pubkey_fingerprint),
        request.encryption_protocol != "",
    )


def fingerprint(text: str) -> str:
    """A fingerprint as Postfix sends it, as upper-case hex without colons; empty where it cannot be one."""
    return text.upper().replace(":", "") if text.isascii() else ""


def certificate_name(subject: str | None) -> tuple[str | None, bool]:
    """The cn of SPEC 3.1 without its `*.`, and whether it had one; (None, False) where it is no host name."""
    if not subject:
        return None, False
    wildcard = subject.startswith("*.")
    name = canonical(subject[2:] if wildcard else subject)
    return name, wildcard and name is not None


# How a connector was recognised, in the order in which ties are broken (SPEC 3.4).
PIN, EXACT_NAME, WILDCARD_NAME, ADDRESS_ONLY = range(4)


class Match(NamedTuple):
    """A connector that matches the client."""

    connector: int
    organization: int
    kind: int  # PIN, EXACT_NAME, WILDCARD_NAME or ADDRESS_ONLY
    name_length: int  # of the longest matching entry of that kind; 0 for pins and addresses
    prefix_length: int  # of the longest matching network; 0 without
    owns_certificate: bool  # condition D


class Identity(NamedTuple):
    """All connectors that match a client, in order of organization and name."""

    matches: tuple[Match, ...]
    organizations: frozenset[int]  # that the client is identified by
    only_tls_is_missing: bool  # a connector would match, but for its require_tls
    contenders: tuple[Match, ...]  # the matches that can be the first of the table: the others have a better one


NOBODY_KNOWN = Identity((), frozenset(), False, ())  # no connector matches


def identity_of(rules: RuleSet, request: RequestShaped) -> Identity:
    """`identify`, remembered: one client sends many requests."""
    key = _key(request)
    known = rules.identities.get(key)
    return known if isinstance(known, Identity) else _remembered(rules, key, client(request))


def _remembered(rules: RuleSet, key: tuple[str, ...], shown: Client) -> Identity:
    identity = identify(rules, shown)
    rules.remember_identity(key, identity, len(identity.matches))
    return identity


def identity_for(rules: RuleSet, request: RequestShaped, sender: Domain, recipient: Domain) -> Identity:
    """As `identity_of`, but of connectors that very many share evidence with only those that this answer depends on."""
    if not (request.ccert_subject or request.ccert_fingerprint or request.ccert_pubkey_fingerprint):
        address = parse_address(request.client_address)
        if address is None or not rules.addresses.find(address):
            return NOBODY_KNOWN  # most strangers: worked out as fast as it is remembered
    key = _key(request)
    known = rules.identities.get(key)
    if isinstance(known, Identity):
        return known
    shown = client(request)
    if known is None:
        if not _is_crowded(rules, shown):
            return _remembered(rules, key, shown)
        rules.remember_identity(key, _CROWDED, 1)
    organizations = concerned(rules, sender, recipient, shown.name)
    return identify(rules, shown, organizations)


def _key(request: RequestShaped) -> tuple[str, ...]:
    return (
        request.client_address,
        request.ccert_subject,
        request.ccert_fingerprint,
        request.ccert_pubkey_fingerprint,
        request.encryption_protocol,
    )


_CROWDED = object()  # remembered in place of an identity that depends on whose mail it is


def identify(rules: RuleSet, client: Client, organizations: set[int] | None = None) -> Identity:
    """The enabled connectors that match the client (SPEC 3.2).

    With `organizations`, of a crowd only those that an answer about these can depend on.
    """
    at: dict[int, int] = {}  # connector: longest prefix that holds the address
    if client.address is not None:
        for number, length in rules.addresses.find(client.address):
            at.setdefault(number, length)
    choice = None if organizations is None else Choice(rules, organizations, at)
    shown = _certificate_evidence(rules, client, choice)
    matches = []
    only_tls_is_missing = False
    for number in sorted(shown.keys() | at.keys()):
        connector = rules.connectors[number]
        evidence = shown.get(number)
        if evidence is None and connector.asks_for_certificate:
            continue  # the address alone is not enough
        if connector.addresses and number not in at:
            continue  # the certificate counts from its addresses only
        if connector.require_tls and not client.tls:
            only_tls_is_missing = True
            continue
        organization = rules.owners[number]
        if evidence is None:
            matches.append(Match(number, organization, ADDRESS_ONLY, 0, at[number], False))
            continue
        if client.name is not None:
            evidence.names.append(client.name)
        owns = any(rules.belongs(name, organization) for name in evidence.names)
        matches.append(Match(number, organization, evidence.kind, evidence.name_length, at.get(number, 0), owns))
    found = tuple(matches)
    return Identity(found, frozenset(m.organization for m in found), only_tls_is_missing, _contenders(found))


def _contenders(matches: tuple[Match, ...]) -> tuple[Match, ...]:
    """For each organization and each row of the table the best match."""
    if len(matches) < 2:
        return matches
    best: dict[tuple[int, bool, bool], Match] = {}
    for match in sorted(matches, key=_tie):
        best.setdefault((match.organization, match.kind == ADDRESS_ONLY, match.owns_certificate), match)
    return tuple(best.values())


def _tie(match: Match) -> tuple[int, int, int, int]:
    """What decides between two matches of one organization in one row; connectors are numbered by name."""
    return match.kind, -match.name_length, -match.prefix_length, match.connector


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


def _certificate_evidence(rules: RuleSet, client: Client, choice: Choice | None) -> dict[int, _Shown]:
    shown: dict[int, _Shown] = {}
    among = everybody if choice is None else choice.among
    for number, names in among(rules.certificates.get(client.fingerprint, ())):
        shown.setdefault(number, _Shown()).add(PIN, 0, names)
    for number, names in among(rules.keys.get(client.key, ())):
        shown.setdefault(number, _Shown()).add(PIN, 0, names)
    if client.name is None:
        return shown
    zone = rules.zone(client.name)
    if not client.wildcard:
        for number in among(rules.exact_names.get(client.name, ())):
            if not _is_foreign(zone, rules.owners[number]):
                shown.setdefault(number, _Shown()).add(EXACT_NAME, len(client.name), (client.name,))
    for up in upwards(client.name):
        for number in among(rules.wildcard_names.get(up, ())):
            if not _is_foreign(zone, rules.owners[number]):
                shown.setdefault(number, _Shown()).add(WILDCARD_NAME, len(up), (up,))
    return shown


def _is_crowded(rules: RuleSet, client: Client) -> bool:
    """Whether any evidence of the client is shared by a crowd."""
    if len(rules.certificates.get(client.fingerprint, ())) > CROWD or len(rules.keys.get(client.key, ())) > CROWD:
        return True
    if client.name is None:
        return False
    return len(rules.exact_names.get(client.name, ())) > CROWD or any(
        len(rules.wildcard_names.get(up, ())) > CROWD for up in upwards(client.name)
    )


def _is_foreign(zone: int, organization: int) -> bool:
    """SPEC 3.1: a certificate name in another organization's zone matches no name of this one."""
    return zone not in (NOBODY, organization)


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


# ------------------------------------------------------------------------------------------- the decision

NOT_ASKED = Decision("DUNNO", Reason.NOT_ASKED)


def decide(rules: RuleSet, request: RequestShaped) -> Decision:
    """The answer to a request (SPEC 3.4)."""
    if request.protocol_state != "RCPT":
        return NOT_ASKED
    sender, recipient = rules.domain_of(request.sender), rules.domain_of(request.recipient)
    identity = identity_for(rules, request, sender, recipient)
    malformed = row_0(request, recipient)
    if malformed is not None:
        return _refused(rules, identity, malformed)
    granted = rows_1_to_6(rules, identity, sender, recipient)
    if granted is None:
        return _refused(rules, identity, row_7(rules, request, identity, sender, recipient))
    return taken_back(rules, request, identity, sender, recipient) or granted


def row_0(request: RequestShaped, recipient: Domain) -> Reason | None:
    """Addresses that Postfix would rewrite or route after it has asked."""
    if recipient.name is None:
        return Reason.RECIPIENT_WITHOUT_DOMAIN
    local_part, _, _ = request.recipient.rpartition("@")
    if not local_part or "@" in local_part or "%" in local_part or "!" in local_part:
        return Reason.ROUTED_RECIPIENT
    if request.sender and "@" not in request.sender:
        return Reason.SENDER_WITHOUT_DOMAIN
    return None


def row_of(match: Match, sender: Domain, recipient: Domain) -> int | None:
    """The first of rows 1 to 5 that holds for one matching connector, by itself."""
    by_certificate = match.kind != ADDRESS_ONLY
    if by_certificate and match.owns_certificate:
        return 1
    if sender.owner == match.organization:
        return 2 if by_certificate else 3
    if recipient.owner == match.organization and recipient.plain:
        return 4 if by_certificate else 5
    return None


_REASON_OF_ROW = (
    Reason.NOT_ASKED,
    Reason.CERTIFICATE_DOMAIN,
    Reason.SENDER_DOMAIN,
    Reason.SENDER_DOMAIN,
    Reason.RECIPIENT_DOMAIN,
    Reason.RECIPIENT_DOMAIN,
)


def rows_1_to_6(rules: RuleSet, identity: Identity, sender: Domain, recipient: Domain) -> Decision | None:
    """The grant of the first row that holds, attributed; None when row 7 is next."""
    first: Match | None = None
    best: tuple[int | bool, ...] = ()
    for match in identity.contenders:
        row = row_of(match, sender, recipient)
        if row is None:
            continue
        if len(identity.contenders) == 1:
            first, best = match, (row,)  # the usual case has nothing to compare
            break
        rank = (
            row,
            sender.owner != match.organization,
            not (recipient.owner == match.organization and recipient.plain),
            *_tie(match),
        )
        if first is None or rank < best:
            first, best = match, rank
    if first is not None:
        name = rules.connectors[first.connector].name
        return _decision("OK", _REASON_OF_ROW[int(best[0])], rules.organizations[first.organization].name, name)
    if recipient.owner != NOBODY and recipient.plain and rules.incoming != "REJECT":
        return _decision(rules.incoming, Reason.INCOMING, rules.organizations[recipient.owner].name, "")
    return None


@lru_cache(maxsize=65536)
def _decision(action: Action, reason: Reason, organization: str, connector: str) -> Decision:
    """The same decision is one object: their number is the connectors', not the requests'."""
    return Decision(action, reason, organization, connector)


def row_7(rules: RuleSet, request: RequestShaped, identity: Identity, sender: Domain, recipient: Domain) -> Reason:
    """The reason of a refusal: the first that applies."""
    if identity.organizations & (recipient.pending | sender.pending):
        return Reason.PENDING_DOMAIN
    if identity.matches:
        return Reason.NOT_YOUR_DOMAIN
    if identity.only_tls_is_missing:
        return Reason.TLS_REQUIRED
    fingerprint = request.ccert_fingerprint or request.ccert_pubkey_fingerprint
    verified = request.ccert_subject or request.ccert_issuer
    if fingerprint and not verified:
        return Reason.CERTIFICATE_UNTRUSTED
    if fingerprint or verified:
        return Reason.CERTIFICATE_UNKNOWN
    if recipient.owner != NOBODY and recipient.plain:
        return Reason.INCOMING_REFUSED
    return Reason.NO_CONNECTOR


def _refused(rules: RuleSet, identity: Identity, reason: Reason) -> Decision:
    """A refusal names who identified the client when there is exactly one."""
    if len(identity.matches) != 1:
        return _decision("REJECT", reason, "", "")
    match = identity.matches[0]
    return _decision(
        "REJECT", reason, rules.organization_name(match.organization), rules.connectors[match.connector].name
    )


def taken_back(
    rules: RuleSet, request: RequestShaped, identity: Identity, sender: Domain, recipient: Domain
) -> Decision | None:
    """What an organization asks for its own recipients and senders beyond the rows."""
    theirs = recipient.owner
    if theirs != NOBODY and theirs not in identity.organizations:
        partners = rules.partners[theirs]
        connectors_only = rules.organizations[theirs].connectors_only
        if partners or connectors_only:
            shown = client(request)
            for partner in partners:
                unmet = covers_sender(partner, sender) and unmet_requirement(partner, shown)
                if unmet:
                    return Decision("REJECT", unmet, rules.organizations[theirs].name)
            if connectors_only and not any(vouches(partner, request, sender, shown) for partner in partners):
                return Decision("REJECT", Reason.CONNECTORS_ONLY, rules.organizations[theirs].name)
    if sender.zone != NOBODY and sender.zone not in identity.organizations:
        organization = rules.organizations[sender.zone]
        if organization.protect_sender_domains:
            return Decision("REJECT", Reason.SENDER_PROTECTED, organization.name)
    return None


def covers_sender(partner: Partner, sender: Domain) -> bool:
    """Whether an entry of `sender_domains` covers the sender; `*` also covers the null one."""
    if partner.every_sender:
        return True
    return sender.name is not None and any(pattern.covers(sender.name) for pattern in partner.sender_domains)


def unmet_requirement(partner: Partner, shown: Client) -> Reason | None:
    """The first thing a partner asks for that this client does not have."""
    if partner.require_tls and not shown.tls:
        return Reason.PARTNER_TLS
    if partner.asks_for_certificate and not shows_certificate(partner, shown):
        return Reason.PARTNER_CERTIFICATE
    if partner.addresses and not comes_from(partner, shown):
        return Reason.PARTNER_ADDRESS
    return None


def vouches(partner: Partner, request: RequestShaped, sender: Domain, shown: Client) -> bool:
    """Whether a partner lets this mail past `connectors_only`: TLS alone is no evidence."""
    return (
        (partner.asks_for_certificate or bool(partner.addresses))
        and (covers_sender(partner, sender) or not request.sender)
        and unmet_requirement(partner, shown) is None
    )
