"""Near misses of connectors: those that fail at one point only, and those that are not written yet.

Used by `near_misses`. For each point there are proposals, the best first; which of them is true is tried there.
SPEC 3.2, 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyd.explain.candidates import Candidate, Case, Nearness
from policyd.explain.change import Change
from policyd.explain.clues import (
    Clue,
    added,
    addresses,
    belongs,
    is_shared,
    names,
    new_clues,
    new_connector,
    pins,
)
from policyd.explain.failures import Failure, failures
from policyd.explain.permitted import connector_may_be_enabled
from policyd.explain.proposals import _ISSUER, _TLS, Proposal, show_certificate
from policyd.policy.decision import Reason
from policyd.policy.fingerprints import DIGESTS, STRONG, is_fingerprint
from policyd.policy.model import Connector
from policyd.policy.names import labels_shared
from policyd.policy.networks import Network, format_address
from policyd.policy.ruleset import NOBODY

_NEAR = {4: 1 << 8, 6: 1 << 64}  # addresses this near to registered ones count as neighbours
_AS_AGREED = (Reason.PARTNER_TLS, Reason.PARTNER_CERTIFICATE, Reason.PARTNER_ADDRESS)


def connector_candidates(case: Case, number: int) -> Iterator[Candidate]:
    """The organization's connectors that fail to recognise the client at one point only."""
    foreign = case.is_foreign(number)
    for connector in case.rules.organizations[number].connectors:
        points = failures(connector, case.request, case.shown, foreign)
        if len(points) == 1 and _could_be_theirs(case, number, connector):
            yield from _of_connector(case, number, connector, points[0])


def new_connector_candidates(case: Case, number: int) -> Iterator[Candidate]:
    """The client as a connector of its own."""
    if number not in (case.sender.owner, case.sender.zone, case.recipient.owner) and not case.owns_certificate(number):
        return
    if case.decision.reason in _AS_AGREED and not case.speaks_as_sender(number):
        return  # mail of a partner: its server is not one of the organization's
    organization = case.rules.organizations[number]
    taken = {connector.name for connector in organization.connectors}
    proposals = []
    for clue in new_clues(case.rules, case.provider, number, case.shown, case.is_foreign(number)):
        change = new_connector(organization.name, taken, case.shown, clue)
        text = (
            f'if this server is one of "{organization.name}": register {clue[2]} with a new connector'
            f"{_digest_warning(clue)}"
        )
        proposals.append(Proposal("configuration", text, change))
    if proposals:
        own_name = case.owns_certificate(number) and not any(c.certificate_names for c in organization.connectors)
        nearness = Nearness.OWN_NAME if own_name else Nearness.NEW
        rank = (_side(case, number) + nearness,)
        yield Candidate(rank, number, organization.name, Failure.NO_CONNECTOR, tuple(proposals))


def _could_be_theirs(case: Case, number: int, connector: Connector) -> bool:
    """Whether the mail could be the organization's if the connector recognised the client; saves tries in vain."""
    if number in (case.sender.owner, case.sender.zone, case.recipient.owner) or case.owns_certificate(number):
        return True
    own = [pattern.name for pattern in connector.certificate_names]
    own += [name for stored in connector.stored_certificates for name in stored.names]
    return any(belongs(case.rules, number, name) for name in own)


def _side(case: Case, number: int) -> int:
    return 0 if case.speaks_as_sender(number) else Nearness.RECIPIENTS_SIDE


def _of_connector(case: Case, number: int, connector: Connector, point: Failure) -> Iterator[Candidate]:
    name = case.name(number)
    proposals = tuple(_proposals(case, number, connector, point))
    if proposals:
        yield Candidate(_rank(case, number, connector, point), number, name, point, proposals, connector)
    if point is Failure.NO_CERTIFICATE:
        asked = Proposal(
            "postfix",
            "if the server shows its certificate to others: Postfix asks for it only with smtpd_tls_ask_ccert = yes",
            instead=proposals[0].instead if proposals else (),
        )
        rank = (_side(case, number) + Nearness.ASK_CERTIFICATE,)
        yield Candidate(rank, number, name, point, (asked,), connector)
    if point is Failure.NOT_VERIFIED:
        entry = connector.certificate_names[0]
        trusted = Proposal(
            "postfix",
            f"if its certificate is named {entry}, from a public CA, and nothing else is wrong with it: add that CA to "
            "smtpd_tls_CAfile, never a customer's own (smtpd_tls_loglevel = 1 logs why it was not verified)",
            instead=(("ccert_subject", entry.name), _ISSUER),
        )
        yield Candidate((_side(case, number) + Nearness.TRUST_CA,), number, name, point, (trusted,), connector)


def _rank(case: Case, number: int, connector: Connector, point: Failure) -> tuple[int, ...]:
    side = _side(case, number)
    match point:
        case Failure.REQUIRE_TLS:
            return (Nearness.TLS,)
        case Failure.DISABLED:
            return (Nearness.DISABLED,)
        case Failure.FOREIGN_NAME:
            return (Nearness.FOREIGN_NAME,)
        case Failure.OTHER_DIGEST:
            return (side + (Nearness.ANOTHERS if case.is_foreign(number) else Nearness.DIGEST),)
        case Failure.ADDRESS if connector.asks_for_certificate:
            return (Nearness.HALF, _distance(case, connector))
        case Failure.ADDRESS:
            distance = _distance(case, connector)
            family = case.shown.address[0] if case.shown.address is not None else 4
            nearness = Nearness.NEAR_ADDRESS if distance < _NEAR[family] else Nearness.FAR_ADDRESS
            return (side + nearness, distance)
        case Failure.NO_TLS | Failure.NO_CERTIFICATE:
            nearness = Nearness.HALF if connector.addresses else Nearness.SHOW_CERTIFICATE
            return (side + nearness, -_likeness(case, connector))
        case _ if connector.addresses:
            return (Nearness.HALF,)
        case _ if case.owns_certificate(number) and case.sender.zone in (NOBODY, number):
            return (Nearness.OWN_NAME, -_likeness(case, connector))
        case _ if case.is_foreign(number):
            return (side + Nearness.ANOTHERS, -_likeness(case, connector))
        case _:
            return (side + Nearness.CERTIFICATE, -_likeness(case, connector), not connector.certificate_names)


def _likeness(case: Case, connector: Connector) -> int:
    """How much the connector's names have in common with the certificate's, or where that is unknown, the sender's."""
    name = case.shown.name or case.sender.name
    return max((labels_shared(entry.name, name) for entry in connector.certificate_names), default=0)


_FAR = 1 << 128


def _distance(case: Case, connector: Connector) -> int:
    """From the client's address to the nearest registered one; of another family: far."""
    if case.shown.address is None:
        return _FAR
    family, value = case.shown.address
    return min(
        (max(n.first - value, value - n.last, 0) for n in connector.addresses if n.family == family), default=_FAR
    )


# ------------------------------------------------------------------------------------------- what to change


def _proposals(case: Case, number: int, connector: Connector, point: Failure) -> Iterator[Proposal]:
    organization = case.name(number)
    match point:
        case Failure.DISABLED:
            if connector_may_be_enabled(case.rules, number, connector):
                change = Change(organization, "connector", connector.name, (("enabled", True),))
                text = f'enable connector "{connector.name}" of "{organization}", if it is meant to be in use'
                yield Proposal("configuration", text, change)
        case Failure.REQUIRE_TLS:
            yield Proposal("sender", "let the server use STARTTLS", instead=(_TLS,))
        case Failure.ADDRESS:
            for clue in addresses(case.rules, case.provider, number, case.shown, "connector"):
                yield _addition(case, organization, connector, clue)
            yield from _from_its_address(connector)
        case Failure.NO_TLS | Failure.NO_CERTIFICATE:
            yield from show_certificate(connector, encrypted=case.shown.tls)
        case Failure.OTHER_DIGEST:
            registered = [_addition(case, organization, connector, clue) for clue in _pins(case, connector)]
            digest = list(_digest_of_pins(case, connector))
            yield from (*registered, *digest) if _is_stronger(case, connector) else (*digest, *registered)
        case _:
            if connector.certificate_names:
                for clue in names(case.rules, case.provider, number, case.shown, "connector"):
                    yield _addition(case, organization, connector, clue)
            for clue in _pins(case, connector):
                yield _addition(case, organization, connector, clue)
            yield from show_certificate(connector, encrypted=True, verified=point is Failure.NOT_VERIFIED)


def _pins(case: Case, connector: Connector) -> Iterator[Clue]:
    if not is_shared(case.provider, case.shown):
        yield from pins(case.shown, connector)


def _addition(case: Case, organization: str, connector: Connector, clue: Clue) -> Proposal:
    text = (
        f'if this server is the one meant: add {clue[2]} to {clue[0]} of connector "{connector.name}" of '
        f'"{organization}"{_digest_warning(clue)}'
    )
    return Proposal("configuration", text, added(organization, connector, clue))


def _digest_warning(clue: Clue) -> str:
    """A pin in a digest that can be forged should not be the last word."""
    key, value, _ = clue
    if not key.endswith("_fingerprints") or not isinstance(value, tuple) or len(str(value[0])) >= STRONG:
        return ""
    digest = DIGESTS[len(str(value[0]))]
    return f" (better first set smtpd_tls_fingerprint_digest = sha256 in Postfix: this is {digest})"


def _from_its_address(connector: Connector) -> Iterator[Proposal]:
    if connector.addresses:
        first = connector.addresses[0]
        listed = ", ".join(map(str, connector.addresses[:3])) + (", ..." if len(connector.addresses) > 3 else "")
        text = f"let the server connect from a registered address ({listed})"
        yield Proposal("sender", text, instead=(("client_address", _first(first)),))


def _first(network: Network) -> str:
    return format_address((network.family, network.first))


def _digest_of_pins(case: Case, connector: Connector) -> Iterator[Proposal]:
    """Postfix's digest made that of the pins."""
    for attribute, pinned, sent in (
        ("ccert_pubkey_fingerprint", connector.public_key_fingerprints, case.shown.key),
        ("ccert_fingerprint", connector.certificate_fingerprints, case.shown.fingerprint),
    ):
        for pin in pinned[:1]:
            if sent and is_fingerprint(pin):
                text = (
                    f"the pin is {DIGESTS[len(pin)]}, and Postfix sends {_digest_name(sent)}: if it is this server's, "
                    f"set smtpd_tls_fingerprint_digest = {DIGESTS[len(pin)]} in Postfix"
                )
                yield Proposal("postfix", text, instead=((attribute, pin),))


def _digest_name(sent: str) -> str:
    return DIGESTS.get(len(sent), f"{len(sent) // 2} octets")


def _is_stronger(case: Case, connector: Connector) -> bool:
    """Whether Postfix's digest is a good one and stronger than the pins': then these are to be renewed."""
    sent = case.shown.key or case.shown.fingerprint
    pinned = connector.public_key_fingerprints or connector.certificate_fingerprints
    return len(sent) >= STRONG and any(len(pin) < len(sent) for pin in pinned)
