"""What would have let a refused mail through: the nearest misses, each with one change that is tried before it is told.

Looks at the organizations that the mail concerns and at those near in evidence, never at all of them. A proposal is
shown only when `decide` lets the mail through after it (`what_if`), when `policyd check` would take it (`permitted`),
and never when it is wider than one address, one exact name, one fingerprint or one domain. SPEC 7, explain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from policyd.explain.candidates import Candidate, Case, NearMiss
from policyd.explain.failures import Failure
from policyd.explain.near_connectors import connector_candidates, new_connector_candidates
from policyd.explain.near_mail import recognised_candidates, spelling_candidates, wording_candidate
from policyd.explain.near_partners import partner_candidates
from policyd.explain.proposals import Kind, Proposal
from policyd.explain.what_if import WhatIf
from policyd.policy.attribution import row_0
from policyd.policy.identity import RequestShaped
from policyd.policy.model import NO_PROVIDER, Provider
from policyd.policy.ruleset import RuleSet

MOST_SHOWN = 20
MOST_TRIED = 200  # candidates; a try costs the compilation of a few organizations
MOST_ALIKE = 3  # of one organization that fail at the same point and ask the same people: the nearest ones


def near_misses(rules: RuleSet, request: RequestShaped, provider: Provider = NO_PROVIDER) -> tuple[NearMiss, ...]:
    """The nearest misses of a refused request, nearest first; empty for any other answer."""
    case = Case(rules, provider, request)
    if case.decision.action != "REJECT":
        return ()
    malformed = row_0(request, case.recipient)
    if malformed is not None:
        candidate = wording_candidate(case, malformed)
        return (_miss(candidate, candidate.proposals[0]),)
    trial = WhatIf(rules, request)
    found: list[NearMiss] = []
    alike: Counter[tuple[str, Failure, Kind]] = Counter()
    for tried, candidate in enumerate(sorted(_candidates(case), key=lambda c: c.order)):
        kind = (candidate.organization, candidate.point, candidate.proposals[0].kind)
        if tried == MOST_TRIED or len(found) == MOST_SHOWN:
            break
        if alike[kind] == MOST_ALIKE:
            continue
        proposal = next((p for p in candidate.proposals if _lets_through(trial, candidate, p)), None)
        if proposal is not None:
            alike[kind] += 1
            found.append(_miss(candidate, proposal))
    return tuple(_without_idle_hints(found))


def _candidates(case: Case) -> Iterator[Candidate]:
    yield from spelling_candidates(case)
    yield from recognised_candidates(case)
    for number in case.concerned():
        yield from connector_candidates(case, number)
        yield from new_connector_candidates(case, number)
    yield from partner_candidates(case)


def _lets_through(trial: WhatIf, candidate: Candidate, proposal: Proposal) -> bool:
    instead = dict(proposal.instead) or None
    answer = trial.answer(candidate.number, proposal.change, candidate.connector, instead)
    return answer.action != "REJECT"


def _miss(candidate: Candidate, proposal: Proposal) -> NearMiss:
    connector = candidate.connector.name if candidate.connector is not None else ""
    return NearMiss(candidate.organization, connector, candidate.partner, candidate.point, proposal)


def _without_idle_hints(found: list[NearMiss]) -> Iterator[NearMiss]:
    """What Postfix's settings may be missing is said once, after the nearest connector that it concerns."""
    said: set[Failure] = set()
    for miss in found:
        if miss.proposal.kind == "postfix" and miss.failed_at in (Failure.NO_CERTIFICATE, Failure.NOT_VERIFIED):
            if miss.failed_at in said:
                continue
            said.add(miss.failed_at)
        yield miss
