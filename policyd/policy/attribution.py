"""Does the mail belong to who sends it: SPEC 3.3 and 3.4, to be read beside the table.

    decide()    rows 0 to 7, then what is taken back

Who the client is, `identity` says. Pure functions of a RuleSet and a request. Nothing here raises on odd mail data.
"""

from __future__ import annotations

from functools import lru_cache

from policyd.policy.decision import Action, Decision, Reason
from policyd.policy.identity import (
    ADDRESS_ONLY,
    Client,
    Identity,
    Match,
    RequestShaped,
    client_of,
    comes_from,
    identity_for,
    shows_certificate,
    tie,
)
from policyd.policy.model import Partner
from policyd.policy.ruleset import NOBODY, Domain, RuleSet
from policyd.policy.zones import speaks_for

NOT_ASKED = Decision("DUNNO", Reason.NOT_ASKED)


def decide(rules: RuleSet, request: RequestShaped) -> Decision:
    """The answer to a request (SPEC 3.4)."""
    if request.protocol_state != "RCPT":
        return NOT_ASKED
    sender, recipient = rules.domain_of(request.sender), rules.domain_of(request.recipient)
    identity = identity_for(rules, request, sender, recipient)
    malformed = row_0(request, recipient)
    if malformed is not None:
        return _refused(identity, malformed)
    if identity.suspended is not None:
        return _of_match("DEFER", Reason.SUSPENDED, identity.suspended)
    granted = rows_1_to_6(rules, identity, sender, recipient)
    if granted is None:
        return _refused(identity, row_7(request, identity, sender, recipient))
    return taken_back(rules, request, identity, sender, recipient) or granted


def row_0(request: RequestShaped, recipient: Domain) -> Reason | None:
    """Addresses that Postfix would rewrite or route after it has asked, or read as another domain's."""
    if recipient.name is None or ("." not in recipient.name and recipient.zone == NOBODY):
        return Reason.RECIPIENT_WITHOUT_DOMAIN
    if recipient.is_ambiguous:
        return Reason.AMBIGUOUS_RECIPIENT
    local_part, _, _ = request.recipient.rpartition("@")
    if not local_part or "@" in local_part or "%" in local_part or "!" in local_part:
        return Reason.ROUTED_RECIPIENT
    if request.sender and "@" not in request.sender:
        return Reason.SENDER_WITHOUT_DOMAIN
    return None


def row_of(match: Match, sender: Domain, recipient: Domain) -> int | None:
    """The first of rows 1 to 5 that holds for one matching connector, by itself."""
    by_certificate = match.kind != ADDRESS_ONLY
    if by_certificate and match.owns_certificate and takes_sender(match, sender):
        return 1
    if holds_s(match, sender):
        return 2 if by_certificate else 3
    if holds_r(match, recipient):
        return 4 if by_certificate else 5
    return None


def takes_sender(match: Match, sender: Domain) -> bool:
    """Whether row 1 takes this sender (SPEC 3.7, foreign_senders)."""
    return (
        match.foreign_senders == "allow"
        or (match.foreign_senders == "bounces" and sender.is_null)
        or holds_s(match, sender)
    )


def holds_s(match: Match, sender: Domain) -> bool:
    """Condition S (SPEC 3.3)."""
    return sender.owner == match.organization and _is_spoken_for(match, sender)


def holds_r(match: Match, recipient: Domain) -> bool:
    """Condition R (SPEC 3.3)."""
    return recipient.owner == match.organization and recipient.plain and _is_spoken_for(match, recipient)


def _is_spoken_for(match: Match, domain: Domain) -> bool:
    return not match.for_domains or speaks_for(match.for_domains, domain.name or "", domain.covering)


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
    best: tuple[int | str, ...] = ()
    for match in identity.contenders:
        row = row_of(match, sender, recipient)
        if row is None:
            continue
        if len(identity.contenders) == 1:
            first, best = match, (row,)  # the usual case has nothing to compare
            break
        rank = (
            row,
            not holds_s(match, sender),
            not holds_r(match, recipient),
            *tie(match),
        )
        if first is None or rank < best:
            first, best = match, rank
    if first is not None:
        return _of_match("OK", _REASON_OF_ROW[int(best[0])], first)
    if recipient.owner != NOBODY and recipient.plain and rules.incoming != "REJECT":
        return _decision(rules.incoming, Reason.INCOMING, recipient.owner, "")
    return None


@lru_cache(maxsize=65536)
def _decision(action: Action, reason: Reason, organization: str, connector: str) -> Decision:
    """The same decision is one object: their number is the connectors', not the requests'."""
    return Decision(action, reason, organization, connector)


def row_7(request: RequestShaped, identity: Identity, sender: Domain, recipient: Domain) -> Reason:
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


def _refused(identity: Identity, reason: Reason) -> Decision:
    """A refusal names who identified the client when there is exactly one."""
    if len(identity.matches) != 1:
        return _decision("REJECT", reason, "", "")
    return _of_match("REJECT", reason, identity.matches[0])


def _of_match(action: Action, reason: Reason, match: Match) -> Decision:
    return _decision(action, reason, match.organization, match.connector)


def taken_back(
    rules: RuleSet, request: RequestShaped, identity: Identity, sender: Domain, recipient: Domain
) -> Decision | None:
    """What an organization asks for its own recipients and senders beyond the rows."""
    theirs = recipient.zone
    if theirs != NOBODY and theirs not in identity.organizations:
        connectors_only, _, has_partners = rules.traits(theirs)
        if has_partners or connectors_only:
            shown = client_of(request)
            partners = rules.partners(theirs) if has_partners else ()
            for partner in partners:
                unmet = covers_sender(partner, sender) and unmet_requirement(partner, shown)
                if unmet:
                    return Decision("REJECT", unmet, theirs)
            if connectors_only and not any(vouches(partner, sender, shown) for partner in partners):
                return Decision("REJECT", Reason.CONNECTORS_ONLY, theirs)
    for _, zone, _ in sender.readings:
        if zone != NOBODY and zone not in identity.organizations and rules.traits(zone).protect_sender_domains:
            return Decision("REJECT", Reason.SENDER_PROTECTED, zone)
    return None


def covers_sender(partner: Partner, sender: Domain) -> bool:
    """Whether an entry of `sender_domains` covers a reading of the sender; `*` also covers the null one.

    `*.x` covers a usable suffix at or below x, `x` covers none: who knows what stands before it.
    """
    return partner.every_sender or any(
        pattern.covers(name) and (pattern.wildcard or not is_suffix)
        for name, _, is_suffix in sender.readings
        for pattern in partner.sender_domains
    )


def unmet_requirement(partner: Partner, shown: Client) -> Reason | None:
    """The first thing a partner asks for that this client does not have."""
    if partner.require_tls and not shown.tls:
        return Reason.PARTNER_TLS
    if partner.asks_for_certificate and not shows_certificate(partner, shown):
        return Reason.PARTNER_CERTIFICATE
    if partner.addresses and not comes_from(partner, shown):
        return Reason.PARTNER_ADDRESS
    return None


def vouches(partner: Partner, sender: Domain, shown: Client) -> bool:
    """Whether a partner lets this mail past `connectors_only`: TLS alone is no evidence, nor another reading."""
    return (
        (partner.asks_for_certificate or bool(partner.addresses))
        and (sender.is_null or partner.every_sender or _covers_as_it_stands(partner, sender))
        and unmet_requirement(partner, shown) is None
    )


def _covers_as_it_stands(partner: Partner, sender: Domain) -> bool:
    return sender.name is not None and any(pattern.covers(sender.name) for pattern in partner.sender_domains)
