"""What would have let a refused mail through: the nearest misses, each with one change that is tried before it is told.

Looks at the organizations that the mail concerns and at those near in evidence, never at all of them. A proposal is
told only when `decide` lets the mail through after it (`what_if`), `policyd check` would take it (`permitted`) and it
lets nobody else in (`third_parties`), and never when it is wider than one address, one exact name, one fingerprint or
one domain. SPEC 7, explain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from policyd.explain.candidates import Candidate, Case
from policyd.explain.change import Change
from policyd.explain.failures import TEXTS, Failure
from policyd.explain.near_connectors import connector_candidates, new_connector_candidates
from policyd.explain.near_mail import recognised_candidates, spelling_candidates, wording_candidate
from policyd.explain.near_partners import partner_candidates
from policyd.explain.proposals import Kind, Proposal
from policyd.explain.third_parties import unusable_address
from policyd.explain.what_if import WhatIf
from policyd.policy.decision import refuses
from policyd.policy.ruleset import NOBODY

MOST_SHOWN = 20
MOST_TRIED = 200  # candidates; a try costs as much as the organization that it changes
MOST_HINTS = 5
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
    told: set[Proposal] = set()  # what one server can do may be enough for several connectors and partners
    alike: Counter[tuple[str, Failure, Kind]] = Counter()
    for tried, candidate in enumerate(sorted(_candidates(case), key=lambda c: c.order)):
        kind = (candidate.organization, candidate.failed_at, candidate.proposals[0].kind)
        if tried == MOST_TRIED or len(nearest) == MOST_SHOWN:
            break
        if alike[kind] == MOST_ALIKE:
            continue
        open_ = (p for p in candidate.proposals if p.change is None or _is_open(case, candidate, p.change))
        proposal = next((p for p in open_ if _lets_through(what_if, p)), None)
        if proposal is not None and proposal not in told:
            alike[kind] += 1
            if proposal.instead:
                told.add(proposal)
            nearest.append(_near_miss(candidate, proposal))
    return tuple(_without_idle_hints(nearest))


@dataclass(frozen=True, slots=True)
class Hint:
    """Why no change is proposed where one could be looked for; the organization is empty where it concerns none."""

    organization: str
    text: str


def hints(case: Case) -> tuple[Hint, ...]:
    """What stands against registering the client of a refused request at the organizations that its mail is about."""
    if case.decision.action != "REJECT" or wording_candidate(case) is not None:
        return ()
    told = [
        Hint(name, text)
        for name in dict.fromkeys(case.spoken_for())
        if name != NOBODY and (text := _barrier(case, name) or case.third_parties.kept_out(name, case.client))
    ]
    unusable = unusable_address(case.client.address)
    if unusable and not case.identity.matches and any(name != NOBODY for name in case.spoken_for()):
        told.append(Hint("", unusable))
    return tuple(told[:MOST_HINTS])


def _barrier(case: Case, name: str) -> str:
    return case.third_parties.barrier(name, case.client)


def _is_open(case: Case, candidate: Candidate, change: Change) -> bool:
    """Whether the change would let in nobody but the organization's own, and nothing that is kept out on purpose."""
    if _barrier(case, candidate.organization):
        return False
    return change.table != "connector" or not case.third_parties.kept_out(
        candidate.organization, case.client, but=candidate.connector
    )


def _candidates(case: Case) -> Iterator[Candidate]:
    yield from spelling_candidates(case)
    yield from recognised_candidates(case)
    for name in case.concerned():
        yield from connector_candidates(case, name)
        yield from new_connector_candidates(case, name)
    yield from partner_candidates(case)


def _lets_through(what_if: WhatIf, proposal: Proposal) -> bool:
    answer = what_if.answer(proposal.change, dict(proposal.instead))
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
