"""What would have let a refused mail through: the nearest misses, each with one change that is tried before it is told.

Looks at the organizations that the mail concerns and at those near in evidence, never at all of them. A proposal is
told only when `decide` lets the mail through after it (`what_if`) and `policyd check` would take it (`permitted`), and
never when it is wider than one address, one exact name, one fingerprint or one domain. SPEC 7, explain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from policyd.explain.candidates import Candidate, Case
from policyd.explain.failures import TEXTS, Failure
from policyd.explain.near_connectors import connector_candidates, new_connector_candidates
from policyd.explain.near_mail import recognised_candidates, spelling_candidates, wording_candidate
from policyd.explain.near_partners import partner_candidates
from policyd.explain.proposals import Kind, Proposal
from policyd.explain.what_if import WhatIf
from policyd.policy.decision import refuses

MOST_SHOWN = 20
MOST_TRIED = 200  # candidates; a try costs the compilation of a few organizations
MOST_ALIKE = 3  # of one organization that fail in the same way and ask the same people: the nearest ones


@dataclass(frozen=True, slots=True)
class NearMiss:
    """What nearly took the mail; connector or partner are empty where it concerns none."""

    organization: str
    connector: str
    partner: str
    failed_at: Failure
    proposal: Proposal

    @property
    def text(self) -> str:
        """Where it failed, in a sentence."""
        return TEXTS[self.failed_at]


def near_misses(case: Case) -> tuple[NearMiss, ...]:
    """The nearest misses of a refused request, nearest first; empty for any other answer."""
    if case.decision.action != "REJECT":
        return ()
    wording = wording_candidate(case)
    if wording is not None:
        return (_near_miss(wording, wording.proposals[0]),)
    what_if = WhatIf(case)
    nearest: list[NearMiss] = []
    alike: Counter[tuple[str, Failure, Kind]] = Counter()
    for tried, candidate in enumerate(sorted(_candidates(case), key=lambda c: c.order)):
        kind = (candidate.organization, candidate.failed_at, candidate.proposals[0].kind)
        if tried == MOST_TRIED or len(nearest) == MOST_SHOWN:
            break
        if alike[kind] == MOST_ALIKE:
            continue
        proposal = next((p for p in candidate.proposals if _lets_through(what_if, candidate, p)), None)
        if proposal is not None:
            alike[kind] += 1
            nearest.append(_near_miss(candidate, proposal))
    return tuple(_without_idle_hints(nearest))


def _candidates(case: Case) -> Iterator[Candidate]:
    yield from spelling_candidates(case)
    yield from recognised_candidates(case)
    for number in case.concerned():
        yield from connector_candidates(case, number)
        yield from new_connector_candidates(case, number)
    yield from partner_candidates(case)


def _lets_through(what_if: WhatIf, candidate: Candidate, proposal: Proposal) -> bool:
    answer = what_if.answer(candidate.number, proposal.change, candidate.connector, dict(proposal.instead))
    return not refuses(answer.action)


def _near_miss(candidate: Candidate, proposal: Proposal) -> NearMiss:
    connector = candidate.connector.name if candidate.connector is not None else ""
    return NearMiss(candidate.organization, connector, candidate.partner, candidate.failed_at, proposal)


def _without_idle_hints(nearest: list[NearMiss]) -> Iterator[NearMiss]:
    """What Postfix's settings may be missing is said once, after the nearest connector that it concerns."""
    said: set[Failure] = set()
    for near_miss in nearest:
        failure = near_miss.failed_at
        if near_miss.proposal.kind == "postfix" and failure in (Failure.NO_CERTIFICATE, Failure.NOT_VERIFIED):
            if failure in said:
                continue
            said.add(failure)
        yield near_miss
