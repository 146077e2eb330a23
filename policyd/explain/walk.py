"""The walk of a decision, told step by step: the same functions as `decide`, with what each of them found.

For a refusal also what would have let the mail through (`near_misses`). Knows no file and no terminal; `cli.explain`
prints it. SPEC 7.
"""

from __future__ import annotations

from dataclasses import dataclass

from policyd.explain.candidates import Case
from policyd.explain.clues import is_shared
from policyd.explain.failures import TEXTS, Failure, failures
from policyd.explain.near_misses import Hint, NearMiss, hints, near_misses
from policyd.policy.attribution import covers_sender, row_0, row_of, unmet_requirement
from policyd.policy.decision import SENTENCES, Decision
from policyd.policy.identity import ADDRESS_ONLY, EXACT_NAME, PIN, WILDCARD_NAME, Client, Match
from policyd.policy.model import NO_PROVIDER, Connector, Provider
from policyd.policy.names import domain_text
from policyd.policy.networks import PRIVATE, format_address
from policyd.policy.ruleset import NOBODY, Domain, RuleSet
from policyd.protocol.request import Request

MOST_CONNECTORS = 60  # steps about connectors
MOST_OTHERS = 5  # of them about connectors that match, of organizations that this mail has nothing to do with


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
    """A decision, how it came about, and what would have made another one of a refusal."""

    decision: Decision
    steps: tuple[Step, ...]
    near_misses: tuple[NearMiss, ...] = ()
    hints: tuple[Hint, ...] = ()


def explain(
    rules: RuleSet, request: Request, provider: Provider = NO_PROVIDER, *, verifiable: bool = True
) -> Explanation:
    """Decides the request and tells how; `provider` is what no proposal may claim.

    `verifiable`: whether a CA in smtpd_tls_CAfile can be what a certificate that is not verified lacks.
    """
    case = Case(rules, provider, request, verifiable=verifiable)
    decision = case.decision
    steps: list[Step] = []
    if request.protocol_state == "RCPT":
        steps += _facts(case)
        steps += _connectors(case)
        steps += _organizations(case)
        if decision.action == "REJECT":
            steps += _claimants(case)
    steps.append(Step("decision", SENTENCES[decision.reason], decision.organization, decision.connector))
    return Explanation(decision, tuple(steps), near_misses(case), hints(case))


def _facts(case: Case) -> list[Step]:
    request = case.request
    malformed = row_0(request, case.recipient)
    steps = [
        Step("client", _address_text(request, case.client)),
        Step("client", _certificate_text(case)),
        *(Step("client", f"{what} {text}") for what, text in _fingerprints(request) if text),
        Step("sender", _domain_text(case.rules, request.sender, case.sender, "sender")),
        Step("recipient", _domain_text(case.rules, request.recipient, case.recipient, "recipient")),
    ]
    if malformed is not None:
        steps.append(Step("decision", SENTENCES[malformed], holds=False))
    return steps


def _address_text(request: Request, client: Client) -> str:
    tls = f"over {request.encryption_protocol}" if client.tls else "without TLS"
    if not request.client_address:
        return f"no client address given, {tls}"
    if client.address is None:
        return f'no usable client address ("{request.client_address}"), {tls}'
    text = f"from {format_address(client.address)}, {tls}"
    if any(network.holds(client.address) for network in PRIVATE):
        text += "; a private address: if it is a container's or NAT gateway, every client arrives with it"
    return text


def _fingerprints(request: Request) -> tuple[tuple[str, str], ...]:
    """As Postfix sent them, to be compared by eye and to be pasted."""
    return ("public key", request.ccert_pubkey_fingerprint), ("certificate", request.ccert_fingerprint)


def _certificate_text(case: Case) -> str:
    request, client = case.request, case.client
    if client.name is not None:
        text = f"a verified certificate named {'*.' if client.wildcard else ''}{client.name}"
        many = " (many parties present it, so it says nothing about whose mail this is)"
        return text + (many if is_shared(case.provider, client) else "")
    if request.ccert_subject:
        return f'a verified certificate whose CN "{request.ccert_subject}" is no host name'
    if request.ccert_issuer:
        return "a verified certificate without a CN (Postfix passes no subjectAltName on): only a pin can match it"
    if client.fingerprint or client.key:
        return "a certificate that Postfix did not verify: only a pin can match it"
    if client.tls:
        return "no client certificate (none sent, or smtpd_tls_ask_ccert = no)"
    return "no client certificate (it needs TLS)"


def _domain_text(rules: RuleSet, address: str, domain: Domain, what: str) -> str:
    if domain.name is None:
        text = domain_text(address)
        if not address:
            return f"the null {what}: in no domain"
        return f"the {what} has no domain" if text is None else f'"{text}" is no domain name'
    owned = f"accepted for {domain.owner}" if domain.owner != NOBODY else "accepted for nobody"
    zone = ""
    if domain.owner == NOBODY and domain.zone != NOBODY:
        zone = f", in the zone of {domain.zone}{', which delegates it' * domain.given_away}"
    pending = f", pending for {', '.join(sorted(domain.pending))}" if domain.pending else ""
    plain = "" if domain.plain or what == "sender" else ", but not spelt plainly"
    return f"{domain.name} is {owned}{zone}{pending}{plain}"


def _connectors(case: Case) -> list[Step]:
    """Each connector that matched, then those of the organizations that this mail concerns, with why not."""
    rules, matches = case.rules, case.identity.matches
    matched = {match[:2] for match in matches}
    spoken_for = case.spoken_for()

    def nearness(match: Match) -> tuple[bool, bool]:
        return row_of(match, case.sender, case.recipient) is None, match.organization not in spoken_for

    others = 0
    steps: list[Step] = []
    for match in sorted(matches, key=nearness):
        others += nearness(match) == (True, True)
        if others <= MOST_OTHERS and len(steps) < MOST_CONNECTORS:
            steps.append(_matched(rules, match, case.sender, case.recipient))
    left = len(matches) - len(steps)
    for name in case.concerned():
        organization = rules.organization(name)
        for connector in sorted(organization.connectors, key=lambda c: c.name):
            if (organization.name, connector.name) in matched:
                continue
            if len(steps) >= MOST_CONNECTORS:
                left += 1
                continue
            text = why_not(connector, case, name)
            steps.append(Step("connector", text, organization.name, connector.name, False))
    if left:
        steps.append(Step("connector", f"and {left} more connectors"))
    return steps


_KINDS = {PIN: "a pin", EXACT_NAME: "an exact name", WILDCARD_NAME: "a wildcard name", ADDRESS_ONLY: "its address"}


def _matched(rules: RuleSet, match: Match, sender: Domain, recipient: Domain) -> Step:
    organization = rules.organization(match.organization)
    connector = rules.connector_as_written(match.organization, match.connector)
    row = row_of(match, sender, recipient)
    suspended = connector.suspended or organization.suspended
    if suspended:
        found, row = f"suspended: {suspended}", None
    elif row is not None:
        found = f"row {row} holds"
    else:
        found = _without_row(connector, match)
    text = f"identifies the client by {_KINDS[match.kind]}; {found}"
    return Step("connector", text, organization.name, connector.name, row is not None)


def _without_row(connector: Connector, match: Match) -> str:
    """Why mail of a client that the connector identifies is not its organization's, as far as it can be told."""
    if match.owns_certificate:
        who = "no foreign sender" if match.foreign_senders == "refuse" else "no foreign sender but the null one"
        return f"but it takes {who} (foreign_senders), and sender and recipient are not the organization's"
    domains = "the organization's"
    if match.for_domains:
        domains = f"in {', '.join(map(str, match.for_domains))} (for_domains)"
    found = f"but neither sender nor recipient is {domains}"
    if match.kind != ADDRESS_ONLY:
        found += ", nor the domain of the certificate's name"
    if match.kind == PIN and not connector.stored_certificates:
        found += " (a fingerprint alone has none: certificate_files would)"
    return found


def why_not(connector: Connector, case: Case, name: str) -> str:
    """Everywhere that a connector fails to recognise the client, in order. It is known that it does."""
    first, *more = failures(connector, case.request, case.client, case.is_foreign(name)) or (Failure.LEFT_OUT,)
    then = [_BRIEFLY[failure] for failure in more]
    return TEXTS[first] + (f"; besides: {', '.join(then)}" if then else "")


# What fails besides the first, in few words.
_BRIEFLY = {
    Failure.NO_TLS: "no certificate",
    Failure.NO_CERTIFICATE: "no certificate",
    Failure.NOT_VERIFIED: "certificate not verified",
    Failure.NO_NAME: "certificate without a CN",
    Failure.NO_HOST_NAME: "certificate without a host name",
    Failure.OTHER_NAME: "another certificate",
    Failure.FOREIGN_NAME: "the certificate's name is another organization's",
    Failure.OTHER_DIGEST: "pins in another digest",
    Failure.OTHER_FINGERPRINT: "another certificate",
    Failure.NOT_GIVEN: "a certificate that cannot be compared",
    Failure.ADDRESS: "another address",
    Failure.REQUIRE_TLS: "no TLS",
}


def _claimants(case: Case) -> list[Step]:
    """Whose server it is by what nothing above shows: connectors that are disabled, or match in part only."""
    told = {*case.identity.organizations, *case.concerned()}
    names = sorted(case.third_parties.claimants(case.client) - told)
    text = "lists the client's certificate, key, name or address"
    return [Step("organization", text, name) for name in names[:MOST_OTHERS]]


def _organizations(case: Case) -> list[Step]:
    rules, steps = case.rules, []
    theirs = case.recipient.zone
    if theirs != NOBODY and theirs not in case.identity.organizations:
        organization = rules.organization(theirs)
        for partner in rules.partners(theirs):
            if covers_sender(partner, case.sender):
                unmet = unmet_requirement(partner, case.client)
                text = "all it asks for is met" if unmet is None else SENTENCES[unmet]
                steps.append(Step("partner", text, organization.name, partner.name, unmet is None))
        if organization.connectors_only:
            steps.append(Step("organization", "takes mail over its connectors and partners only", organization.name))
    for zone in dict.fromkeys(reading.zone for reading in case.sender.readings):
        if zone != NOBODY and rules.traits(zone).protect_sender_domains:
            text = "lets only its own connectors use its sender domains"
            identified = zone in case.identity.organizations
            steps.append(Step("organization", text, zone, holds=identified))
    return steps
