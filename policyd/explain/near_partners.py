"""Near misses of partners: what an organization asks of a foreign sender, and who may write to it at all.

For answers that were taken back (SPEC 3.4, partners and connectors_only). A partner never grants relaying, so the
worst that a change here can do is to let a foreign server deliver.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyd.explain.candidates import Candidate, Case, Nearness
from policyd.explain.clues import clues
from policyd.explain.failures import Failure, failures
from policyd.explain.near_evidence import evidence_proposals
from policyd.explain.proposals import as_agreed, register_partner
from policyd.policy.attribution import covers_sender
from policyd.policy.model import Partner
from policyd.policy.ruleset import NOBODY


def partner_candidates(case: Case) -> Iterator[Candidate]:
    """Partners of the recipient's organization that ask for something else, and one that is not written yet."""
    name = case.recipient.zone
    if name == NOBODY or name in case.identity.organizations:
        return
    organization = case.rules.organization(name)
    for partner in organization.partners:
        has_evidence = partner.asks_for_certificate or bool(partner.addresses)
        covers = covers_sender(partner, case.sender)
        if covers or (organization.connectors_only and not case.request.sender and has_evidence):
            yield from _of_partner(case, name, partner, has_evidence)
    if organization.connectors_only:
        yield from _new_partner(case, name)


def _of_partner(case: Case, name: str, partner: Partner, has_evidence: bool) -> Iterator[Candidate]:
    failed = failures(partner, case.request, case.client, foreign=False)
    if not failed or Failure.DISABLED in failed:
        return
    if len(failed) == 1:
        rank = Nearness.TLS if failed[0] is Failure.REQUIRE_TLS else Nearness.PARTNER, int(not has_evidence)
        proposals = tuple(evidence_proposals(case, name, partner, failed[0]))
    else:
        rank = Nearness.PARTNER, 1
        proposals = (as_agreed(partner, encrypted=case.client.tls),)
    if proposals:
        yield Candidate(rank, name, failed[0], proposals, partner=partner.name)


def _new_partner(case: Case, name: str) -> Iterator[Candidate]:
    """A partner for exactly this sender domain; there is none for a null sender."""
    organization, domain = case.rules.organization(name), case.sender.name
    if domain is None or domain.rpartition(".")[2].isdigit():
        return
    evidence = clues(case.rules, case.provider, name, case.client, "partner")
    proposals = tuple(register_partner(organization, domain, clue) for clue in evidence)
    if proposals:
        yield Candidate((Nearness.PARTNER, 2), name, Failure.NO_PARTNER, proposals)
