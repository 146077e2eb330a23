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
    _tie,
    client_of,
    comes_from,
    identity_for,
    shows_certificate,
)
from policyd.policy.model import Partner
from policyd.policy.ruleset import NOBODY, Domain, RuleSet

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
            shown = client_of(request)
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
