"""Near misses of partners: what an organization asks of a foreign sender, and who may write to it at all.

Used by `near_misses`, for answers that were taken back (SPEC 3.4, partners and connectors_only). A partner never grants
relaying, so the worst that a change here can do is to let a foreign server deliver.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyd.explain.candidates import Candidate, Case, Nearness
from policyd.explain.clues import Clue, added, addresses, clues, names, new_partner, pins
from policyd.explain.failures import Failure, failures
from policyd.explain.proposals import Proposal, show_certificate
from policyd.policy.attribution import covers_sender
from policyd.policy.model import Partner
from policyd.policy.networks import format_address
from policyd.policy.ruleset import NOBODY

_TLS = ("encryption_protocol", "TLSv1.3")


def partner_candidates(case: Case) -> Iterator[Candidate]:
    """Partners of the recipient's organization that fail at one point, and one that is not written yet."""
    number = case.recipient.owner
    if number == NOBODY or number in case.identity.organizations:
        return
    organization = case.rules.organizations[number]
    for partner in organization.partners:
        has_evidence = partner.asks_for_certificate or bool(partner.addresses)
        covers = covers_sender(partner, case.sender)
        if covers or (organization.connectors_only and not case.request.sender and has_evidence):
            points = failures(partner, case.request, case.shown, foreign=False)
            if len(points) == 1:
                yield from _of_partner(case, number, partner, points[0], has_evidence)
            elif points and Failure.DISABLED not in points:
                rank = (Nearness.PARTNER, 1)
                proposal = (_as_agreed(case, partner),)
                yield Candidate(rank, number, organization.name, points[0], proposal, partner=partner.name)
    if organization.connectors_only:
        yield from _new_partner(case, number)


def _of_partner(case: Case, number: int, partner: Partner, point: Failure, has_evidence: bool) -> Iterator[Candidate]:
    proposals = tuple(_proposals(case, number, partner, point))
    if proposals:
        rank = (Nearness.TLS if point is Failure.REQUIRE_TLS else Nearness.PARTNER, not has_evidence)
        yield Candidate(rank, number, case.name(number), point, proposals, partner=partner.name)


def _proposals(case: Case, number: int, partner: Partner, point: Failure) -> Iterator[Proposal]:
    organization = case.name(number)
    match point:
        case Failure.REQUIRE_TLS:
            yield Proposal("sender", "let the server use STARTTLS", instead=(_TLS,))
        case Failure.ADDRESS:
            for clue in addresses(case.rules, case.provider, number, case.shown, "partner"):
                yield _addition(organization, partner, clue)
            first = partner.addresses[0]
            text = f"let the server connect from an agreed address ({first})"
            yield Proposal("sender", text, instead=(("client_address", format_address((first.family, first.first))),))
        case Failure.NO_TLS | Failure.NO_CERTIFICATE:
            yield from show_certificate(partner, encrypted=case.shown.tls)
        case Failure.DISABLED:
            return
        case _:
            if partner.certificate_names:
                for clue in names(case.rules, case.provider, number, case.shown, "partner"):
                    yield _addition(organization, partner, clue)
            for clue in pins(case.shown, partner):
                yield _addition(organization, partner, clue)
            yield from show_certificate(partner, encrypted=True, verified=point is Failure.NOT_VERIFIED)


def _as_agreed(case: Case, partner: Partner) -> Proposal:
    """All that the partner asks for, where more than one thing is missing."""
    does: list[str] = []
    instead: list[tuple[str, str]] = []
    if partner.asks_for_certificate:
        shown = next(show_certificate(partner, encrypted=case.shown.tls))
        does.append(shown.text)
        instead += shown.instead
    elif partner.require_tls:
        does.append("let the server use STARTTLS")
        instead.append(_TLS)
    if partner.addresses:
        agreed = partner.addresses[0]
        does.append(f"connect from an agreed address ({agreed})")
        instead.append(("client_address", format_address((agreed.family, agreed.first))))
    return Proposal("sender", f"{', and '.join(does)}: all that was agreed", instead=tuple(instead))


def _addition(organization: str, partner: Partner, clue: Clue) -> Proposal:
    where = f'{clue[0]} of partner "{partner.name}" of "{organization}"'
    text = f"if this server is the partner's own: add {clue[2]} to {where}"
    return Proposal("configuration", text, added(organization, partner, clue))


def _new_partner(case: Case, number: int) -> Iterator[Candidate]:
    """A partner for exactly this sender domain; there is none for a null sender."""
    organization = case.rules.organizations[number]
    if case.sender.name is None or case.sender.name.rpartition(".")[2].isdigit():
        return
    taken = {partner.name for partner in organization.partners}
    proposals = tuple(
        Proposal(
            "configuration",
            f'if "{organization.name}" wants mail from {case.sender.name} over this server: register {clue[2]} with a '
            "new partner (its mail is then taken from there only)",
            new_partner(organization.name, taken, case.sender.name, clue),
        )
        for clue in clues(case.rules, case.provider, number, case.shown, "partner")
    )
    if proposals:
        yield Candidate((Nearness.PARTNER, 2), number, organization.name, Failure.NO_PARTNER, proposals)
