"""Near misses of partners: what an organization asks of a foreign sender, and who may write to it at all.

For answers that were taken back (SPEC 3.4, partners and connectors_only). A partner never grants relaying, so the
worst that a change here can do is to let a foreign server deliver.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyd.explain.candidates import Candidate, Case, Nearness
from policyd.explain.clues import addresses, clues, names, pins
from policyd.explain.failures import Failure, failures
from policyd.explain.proposals import (
    Proposal,
    add_clue,
    as_agreed,
    connect_from,
    register_partner,
    show_certificate,
    use_starttls,
)
from policyd.policy.attribution import covers_sender
from policyd.policy.model import Partner
from policyd.policy.ruleset import NOBODY


def partner_candidates(case: Case) -> Iterator[Candidate]:
    """Partners of the recipient's organization that fail in one thing, and one that is not written yet."""
    number = case.recipient.owner
    if number == NOBODY or number in case.identity.organizations:
        return
    organization = case.rules.organizations[number]
    for partner in organization.partners:
        has_evidence = partner.asks_for_certificate or bool(partner.addresses)
        covers = covers_sender(partner, case.sender)
        if covers or (organization.connectors_only and not case.request.sender and has_evidence):
            failed = failures(partner, case.request, case.client, foreign=False)
            if len(failed) == 1:
                yield from _of_partner(case, number, partner, failed[0], has_evidence)
            elif failed and Failure.DISABLED not in failed:
                rank = (Nearness.PARTNER, 1)
                proposal = (as_agreed(partner, encrypted=case.client.tls),)
                yield Candidate(rank, number, organization.name, failed[0], proposal, partner=partner.name)
    if organization.connectors_only:
        yield from _new_partner(case, number)


def _of_partner(case: Case, number: int, partner: Partner, failure: Failure, has_evidence: bool) -> Iterator[Candidate]:
    proposals = tuple(_proposals(case, number, partner, failure))
    if proposals:
        rank = (Nearness.TLS if failure is Failure.REQUIRE_TLS else Nearness.PARTNER, not has_evidence)
        yield Candidate(rank, number, case.name(number), failure, proposals, partner=partner.name)


def _proposals(case: Case, number: int, partner: Partner, failure: Failure) -> Iterator[Proposal]:
    organization = case.name(number)
    match failure:
        case Failure.REQUIRE_TLS:
            yield use_starttls()
        case Failure.ADDRESS:
            for clue in addresses(case.rules, case.provider, number, case.client, "partner"):
                yield add_clue(organization, partner, clue)
            yield connect_from(partner)
        case Failure.NO_TLS | Failure.NO_CERTIFICATE:
            yield from show_certificate(partner, encrypted=case.client.tls)
        case Failure.DISABLED:
            return
        case _:
            if partner.certificate_names:
                for clue in names(case.rules, case.provider, number, case.client, "partner"):
                    yield add_clue(organization, partner, clue)
            for clue in pins(case.client, partner):
                yield add_clue(organization, partner, clue)
            yield from show_certificate(partner, encrypted=True, verified=failure is Failure.NOT_VERIFIED)


def _new_partner(case: Case, number: int) -> Iterator[Candidate]:
    """A partner for exactly this sender domain; there is none for a null sender."""
    organization, domain = case.rules.organizations[number], case.sender.name
    if domain is None or domain.rpartition(".")[2].isdigit():
        return
    evidence = clues(case.rules, case.provider, number, case.client, "partner")
    proposals = tuple(register_partner(organization, domain, clue) for clue in evidence)
    if proposals:
        yield Candidate((Nearness.PARTNER, 2), number, organization.name, Failure.NO_PARTNER, proposals)
