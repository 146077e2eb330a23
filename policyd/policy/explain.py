"""The walk of a decision, told step by step: the same functions as `decide`, with what each of them found.

Knows no file and no terminal; `cli.explain` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass

from policyd.policy.attribution import (
    ADDRESS_ONLY,
    EXACT_NAME,
    PIN,
    WILDCARD_NAME,
    Client,
    Identity,
    Match,
    RequestShaped,
    client,
    comes_from,
    covers_sender,
    decide,
    identity_of,
    row_0,
    row_of,
    shows_certificate,
    unmet_requirement,
)
from policyd.policy.decision import SENTENCES, Decision
from policyd.policy.model import Connector
from policyd.policy.names import domain_text
from policyd.policy.networks import format_address
from policyd.policy.ruleset import NOBODY, Domain, RuleSet


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the walk; organization and connector are empty where the step concerns none."""

    about: str  # "client", "sender", "recipient", "connector", "partner", "organization", "decision"
    text: str
    organization: str = ""
    connector: str = ""
    holds: bool | None = None  # whether the connector matched, the requirement was met; None: neither


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and how it came about."""

    decision: Decision
    steps: tuple[Step, ...]


def explain(rules: RuleSet, request: RequestShaped) -> Explanation:
    """Decides the request and tells how."""
    decision = decide(rules, request)
    steps: list[Step] = []
    if request.protocol_state == "RCPT":
        shown = client(request)
        identity = identity_of(rules, request)
        sender, recipient = rules.domain_of(request.sender), rules.domain_of(request.recipient)
        steps += _facts(rules, request, shown, sender, recipient)
        steps += _connectors(rules, request, shown, identity, sender, recipient)
        steps += _organizations(rules, request, shown, identity, sender, recipient)
    steps.append(Step("decision", SENTENCES[decision.reason], decision.organization, decision.connector))
    return Explanation(decision, tuple(steps))


def _facts(rules: RuleSet, request: RequestShaped, shown: Client, sender: Domain, recipient: Domain) -> list[Step]:
    malformed = row_0(request, recipient)
    steps = [
        Step("client", _address_text(request, shown)),
        Step("client", _certificate_text(request, shown)),
        Step("sender", _domain_text(rules, request.sender, sender, "sender")),
        Step("recipient", _domain_text(rules, request.recipient, recipient, "recipient")),
    ]
    if malformed is not None:
        steps.append(Step("decision", SENTENCES[malformed], holds=False))
    return steps


def _address_text(request: RequestShaped, shown: Client) -> str:
    tls = f"over {request.encryption_protocol}" if shown.tls else "without TLS"
    if shown.address is None:
        return f'no usable client address ("{request.client_address}"), {tls}'
    return f"from {format_address(shown.address)}, {tls}"


def _certificate_text(request: RequestShaped, shown: Client) -> str:
    if shown.name is not None:
        return f"a verified certificate named {'*.' if shown.wildcard else ''}{shown.name}"
    if request.ccert_subject:
        return f'a verified certificate whose CN "{request.ccert_subject}" is no host name'
    if request.ccert_issuer:
        return "a verified certificate without a CN (Postfix passes no subjectAltName on): only a pin can match it"
    if shown.fingerprint or shown.key:
        return "a certificate that Postfix did not verify: only a pin can match it"
    if shown.tls:
        return "no client certificate (none sent, or smtpd_tls_ask_ccert = no)"
    return "no client certificate (it needs TLS)"


def _domain_text(rules: RuleSet, address: str, domain: Domain, what: str) -> str:
    if domain.name is None:
        text = domain_text(address)
        if not address:
            return f"the null {what}: in no domain"
        return f"the {what} has no domain" if text is None else f'"{text}" is no domain name'
    owned = f"accepted for {rules.organization_name(domain.owner)}" if domain.owner != NOBODY else "accepted for nobody"
    zone = ""
    if domain.owner == NOBODY and domain.zone != NOBODY:
        zone = f", in the zone of {rules.organization_name(domain.zone)}"
    pending = (
        f", pending for {', '.join(sorted(map(rules.organization_name, domain.pending)))}" if domain.pending else ""
    )
    plain = "" if domain.plain or what == "sender" else ", but not spelt plainly"
    return f"{domain.name} is {owned}{zone}{pending}{plain}"


def _connectors(
    rules: RuleSet, request: RequestShaped, shown: Client, identity: Identity, sender: Domain, recipient: Domain
) -> list[Step]:
    """Each connector that matched, then those of the organizations that this mail concerns, with why not."""
    steps = [_matched(rules, match, sender, recipient) for match in identity.matches]
    zone = rules.zone(shown.name) if shown.name is not None else NOBODY
    concerned = {sender.zone, recipient.zone, zone} | sender.pending | recipient.pending
    matched = {rules.connectors[match.connector] for match in identity.matches}
    for number in sorted(concerned - {NOBODY}):
        organization = rules.organizations[number]
        for connector in sorted(organization.connectors, key=lambda c: c.name):
            if connector not in matched:
                text = why_not(connector, shown, foreign=zone not in (NOBODY, number))
                steps.append(Step("connector", text, organization.name, connector.name, False))
    return steps


_KINDS = {PIN: "a pin", EXACT_NAME: "an exact name", WILDCARD_NAME: "a wildcard name", ADDRESS_ONLY: "its address"}


def _matched(rules: RuleSet, match: Match, sender: Domain, recipient: Domain) -> Step:
    row = row_of(match, sender, recipient)
    organization = rules.organization_name(match.organization)
    if row is None:
        found = "but neither sender nor recipient is the organization's"
        if match.kind != ADDRESS_ONLY:
            found += ", nor the domain of the certificate's name"
    else:
        found = f"row {row} holds"
    return Step(
        "connector",
        f"identifies the client by {_KINDS[match.kind]}; {found}",
        organization,
        rules.connectors[match.connector].name,
        row is not None,
    )


def why_not(connector: Connector, shown: Client, foreign: bool) -> str:
    """The first point at which a connector fails to match this client. It is known that it does not."""
    if not connector.enabled:
        return "disabled (enabled = false)"
    if connector.asks_for_certificate:
        if not shows_certificate(connector, shown):
            if not (shown.fingerprint or shown.key or shown.name):
                return "asks for a certificate, and the client showed none"
            if connector.certificate_names and shown.name is None:
                return "asks for a certificate by name, and the client's has no verified name; its pins are others"
            return "asks for another certificate"
        by_pin = shows_certificate(_without_names(connector), shown)
        if foreign and not by_pin:
            return "the certificate's name lies in another organization's domain: names do not match, pins would"
    if connector.addresses and not comes_from(connector, shown):
        return "the client's address is none of its addresses"
    if connector.require_tls and not shown.tls:
        return "asks for TLS (require_tls), and the session has none"
    return "does not match"


def _without_names(connector: Connector) -> Connector:
    return Connector(
        name=connector.name,
        stored_certificates=connector.stored_certificates,
        certificate_fingerprints=connector.certificate_fingerprints,
        public_key_fingerprints=connector.public_key_fingerprints,
    )


def _organizations(
    rules: RuleSet, request: RequestShaped, shown: Client, identity: Identity, sender: Domain, recipient: Domain
) -> list[Step]:
    steps = []
    if recipient.owner != NOBODY and recipient.owner not in identity.organizations:
        organization = rules.organizations[recipient.owner]
        for partner in rules.partners[recipient.owner]:
            if covers_sender(partner, sender):
                unmet = unmet_requirement(partner, shown)
                text = "all it asks for is met" if unmet is None else SENTENCES[unmet]
                steps.append(Step("partner", text, organization.name, partner.name, unmet is None))
        if organization.connectors_only:
            steps.append(Step("organization", "takes mail over its connectors and partners only", organization.name))
    if sender.zone != NOBODY and rules.organizations[sender.zone].protect_sender_domains:
        identified = sender.zone in identity.organizations
        text = "lets only its own connectors use its sender domains"
        steps.append(Step("organization", text, rules.organization_name(sender.zone), holds=identified))
    return steps
