"""Near misses of connectors: those that fail in one thing only, and those that are not written yet.

For each failure there are proposals, the best first; which of them is true, `near_misses` has tried. SPEC 3.2, 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyd.explain.candidates import Candidate, Case, Nearness
from policyd.explain.change import Change
from policyd.explain.clues import new_clues, pins
from policyd.explain.failures import Failure, failures
from policyd.explain.near_evidence import evidence_proposals
from policyd.explain.permitted import connector_may_be_enabled
from policyd.explain.proposals import Proposal, add_clue, ask_for_certificates, register_connector, set_digest, trust_ca
from policyd.explain.third_parties import unusable_address
from policyd.policy.decision import Reason
from policyd.policy.model import Connector
from policyd.policy.names import labels_shared
from policyd.policy.ruleset import NOBODY

_NEAR = {4: 1 << 8, 6: 1 << 64}  # addresses this near to registered ones count as neighbours
_AS_AGREED = (Reason.PARTNER_TLS, Reason.PARTNER_CERTIFICATE, Reason.PARTNER_ADDRESS)


def connector_candidates(case: Case, name: str) -> Iterator[Candidate]:
    """The organization's connectors that fail to recognise the client in one thing only."""
    foreign = case.is_foreign(name)
    for connector in case.rules.organization(name).connectors:
        failed = failures(connector, case.request, case.client, foreign)
        if len(failed) == 1 and _could_be_theirs(case, name, connector):
            yield from _of_connector(case, name, connector, failed[0])


def new_connector_candidates(case: Case, name: str) -> Iterator[Candidate]:
    """The client as a connector of its own."""
    if name not in (case.sender.owner, case.sender.zone, case.recipient.owner) and not case.owns_certificate(name):
        return
    if case.decision.reason in _AS_AGREED and not case.speaks_as_sender(name):
        return  # mail of a partner: its server is not one of the organization's
    organization = case.rules.organization(name)
    clues = new_clues(case.rules, case.provider, name, case.client, case.is_foreign(name))
    proposals = tuple(register_connector(organization, case.client, clue) for clue in clues)
    if proposals:
        own_name = case.owns_certificate(name) and not any(c.certificate_names for c in organization.connectors)
        nearness = Nearness.OWN_NAME if own_name else Nearness.NEW
        rank = (_side(case, name) + nearness,)
        yield Candidate(rank, name, Failure.NO_CONNECTOR, proposals)


def _could_be_theirs(case: Case, name: str, connector: Connector) -> bool:
    """Whether the mail could be the organization's if the connector recognised the client; saves tries in vain."""
    if name in (case.sender.owner, case.sender.zone, case.recipient.owner) or case.owns_certificate(name):
        return True
    own = [pattern.name for pattern in connector.certificate_names]
    own += [host for stored in connector.stored_certificates for host in stored.names]
    return any(case.rules.belongs(host, name) for host in own)


def _side(case: Case, name: str) -> int:
    return 0 if case.speaks_as_sender(name) else Nearness.RECIPIENTS_SIDE


def _of_connector(case: Case, name: str, connector: Connector, failure: Failure) -> Iterator[Candidate]:
    proposals = tuple(_proposals(case, name, connector, failure))
    ranked = [(_rank(case, name, connector, failure), proposals)] if proposals else []
    if failure is Failure.NO_CERTIFICATE:
        asked = ask_for_certificates(proposals[0].instead if proposals else ())
        ranked.append(((_side(case, name) + Nearness.ASK_CERTIFICATE,), (asked,)))
    if failure is Failure.NOT_VERIFIED and case.verifiable:
        trusted = trust_ca(connector.certificate_names[0])
        ranked.append(((_side(case, name) + Nearness.TRUST_CA,), (trusted,)))
    for rank, choice in ranked:
        yield Candidate(rank, name, failure, choice, connector)


def _rank(case: Case, name: str, connector: Connector, failure: Failure) -> tuple[int, ...]:
    side = _side(case, name)
    match failure:
        case Failure.REQUIRE_TLS:
            return (Nearness.TLS,)
        case Failure.DISABLED:
            return (Nearness.DISABLED,)
        case Failure.FOREIGN_NAME:
            return (Nearness.FOREIGN_NAME,)
        case Failure.OTHER_DIGEST:
            return (side + (Nearness.ANOTHERS if case.is_foreign(name) else Nearness.DIGEST),)
        case Failure.ADDRESS if connector.asks_for_certificate:
            return (Nearness.HALF, _distance(case, connector))
        case Failure.ADDRESS:
            distance = _distance(case, connector)
            family = case.client.address[0] if case.client.address is not None else 4
            nearness = Nearness.NEAR_ADDRESS if distance < _NEAR[family] else Nearness.FAR_ADDRESS
            return (side + nearness, distance)
        case Failure.NO_TLS | Failure.NO_CERTIFICATE:
            nearness = Nearness.HALF if connector.addresses else Nearness.SHOW_CERTIFICATE
            return (side + nearness, -_likeness(case, connector))
        case _ if connector.addresses:
            return (Nearness.HALF,)
        case _ if case.owns_certificate(name) and case.sender.zone in (NOBODY, name):
            return (Nearness.OWN_NAME, -_likeness(case, connector))
        case _ if case.is_foreign(name):
            return (side + Nearness.ANOTHERS, -_likeness(case, connector))
        case _:
            return (side + Nearness.CERTIFICATE, -_likeness(case, connector), not connector.certificate_names)


def _likeness(case: Case, connector: Connector) -> int:
    """How much the connector's names have in common with the certificate's, or where that is unknown, the sender's."""
    host = case.client.name or case.sender.name
    return max((labels_shared(entry.name, host) for entry in connector.certificate_names), default=0)


_FAR = 1 << 128


def _distance(case: Case, connector: Connector) -> int:
    """From the client's address to the nearest registered one; of another family: far."""
    if case.client.address is None:
        return _FAR
    family, value = case.client.address
    return min(
        (max(n.first - value, value - n.last, 0) for n in connector.addresses if n.family == family), default=_FAR
    )


# ------------------------------------------------------------------------------------------- what to change


def _proposals(case: Case, name: str, connector: Connector, failure: Failure) -> Iterator[Proposal]:
    match failure:
        case Failure.DISABLED:
            if _may_be_enabled(case, name, connector):
                change = Change(name, "connector", connector.name, (("enabled", True),))
                text = f'enable connector "{connector.name}" of "{name}", if it is meant to be in use'
                yield Proposal("configuration", text, change)
        case Failure.OTHER_DIGEST:
            others = _pins_in_use(case)
            for clue in pins(case.client, like=connector):
                yield add_clue(name, connector, clue, others)
            if not others:
                yield from set_digest(connector, case.client)
        case _:
            yield from evidence_proposals(case, name, connector, failure)


def _may_be_enabled(case: Case, name: str, connector: Connector) -> bool:
    """Whether that is no error, lets in no other organization's server, nor anybody by a private address alone."""
    return (
        (connector.asks_for_certificate or not unusable_address(case.client.address))
        and connector_may_be_enabled(case.rules, name, connector)
        and case.third_parties.may_be_enabled(name, connector)
    )


def _pins_in_use(case: Case) -> int:
    """How many pins of all organizations are in the digest that Postfix sends, and would end with another one."""
    digits = len(case.client.key or case.client.fingerprint)
    return sum(
        len(pin) == digits
        for organization in case.rules.organizations()
        for item in (*organization.connectors, *organization.partners)
        for pin in (*item.certificate_fingerprints, *item.public_key_fingerprints)
    )
