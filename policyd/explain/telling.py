"""What `policyd explain` tells, as lines for people and as data for programs: both of plain values (SPEC 7).

So the running service can send it, and the command prints what it made itself and what was sent in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TypedDict

from policyd.config.toml.writing import dumps
from policyd.explain.change import Change
from policyd.explain.near_misses import NearMiss
from policyd.explain.walk import Explanation
from policyd.policy.decision import SENTENCES, action_text, refuses
from policyd.protocol.request import Request

TOML = " " * 8  # in front of lines to paste, which stay as they are

_LINES_SHOWN = 16  # of the TOML of one proposal; the data has it whole


class Told(TypedDict):
    """An explanation. The lines may hold whatever the request holds."""

    data: dict[str, Any]  # for --json
    lines: list[str]


def told(explanation: Explanation, request: Request) -> Told:
    """The explanation of a request."""
    answer = action_text(explanation.decision, request.sender, request.instance)
    return {"data": _data(explanation, answer), "lines": list(_lines(explanation, answer))}


def toml_of(change: Change | None) -> str:
    """A change to the configuration, to paste; empty where there is none."""
    return "" if change is None else dumps(change.data())


# ------------------------------------------------------------------------------------------- as JSON


def _data(explanation: Explanation, answer: str) -> dict[str, Any]:
    decision = explanation.decision
    return {
        "action": decision.action,
        "reason": decision.reason.value,
        "organization": decision.organization,
        "connector": decision.connector,
        "answer": answer,
        "sentence": SENTENCES[decision.reason],
        "steps": [asdict(step) for step in explanation.steps],
        "near_misses": [_near_miss_data(near_miss) for near_miss in explanation.near_misses],
        "hints": [asdict(hint) for hint in explanation.hints],
    }


def _near_miss_data(near_miss: NearMiss) -> dict[str, Any]:
    """A near miss for `--json`."""
    proposal = near_miss.proposal
    return {
        "organization": near_miss.organization,
        "connector": near_miss.connector,
        "partner": near_miss.partner,
        "failed_at": near_miss.failed_at.value,
        "text": near_miss.text,
        "proposal": {
            "kind": proposal.kind,
            "text": proposal.text,
            "toml": toml_of(proposal.change),
            "request": dict(proposal.instead),
        },
    }


# ------------------------------------------------------------------------------------------- for people

_MARKS = {True: "+", False: "-", None: " "}
_WHO = {"configuration": "In the configuration", "sender": "At the sender's end", "postfix": "In Postfix"}


def _lines(explanation: Explanation, answer: str) -> Iterator[str]:
    decision = explanation.decision
    yield f"{decision.action}  {decision.reason.value or '(not a matter of policy)'}"
    if decision.organization:
        by = f", connector {decision.connector}" if decision.connector else ""
        yield f"organization {decision.organization}{by}"
    yield SENTENCES[decision.reason]
    yield f"answer to Postfix: {answer}"
    *looked_at, _ = explanation.steps
    if looked_at:
        yield ""
        yield "What was looked at:"
    for step in looked_at:
        where = "/".join(part for part in (step.organization, step.connector) if part)
        yield f" {_MARKS[step.holds]} {step.about}{f' {where}' if where else ''}: {step.text}"
    if refuses(decision.action):
        yield ""
        yield from _near_misses(explanation.near_misses)
    if explanation.hints:
        yield ""
        yield "What no change is proposed for, since it would let others in:"
    for hint in explanation.hints:
        yield f" - {f'organization {hint.organization}: ' if hint.organization else ''}{hint.text}."


def _near_misses(nearest: tuple[NearMiss, ...]) -> Iterator[str]:
    if not nearest:
        yield "No single change would have let this mail through: its addresses and its client have too little to do"
        yield "with an organization here. (A bounce to outside needs a certificate in the organization's own name.)"
        return
    yield "What would have let this mail through, the nearest first:"
    for number, near_miss in enumerate(nearest, 1):
        yield f"{number:2}. {_who(near_miss)}{near_miss.text}."
        proposal = near_miss.proposal
        yield f"    {_WHO[proposal.kind]}: {proposal.text}{'' if proposal.text.endswith('...') else '.'}"
        lines = toml_of(proposal.change).splitlines()
        if len(lines) > _LINES_SHOWN:
            yield f"    (the new value is long: {len(lines)} lines, see --json)"
        elif lines:
            yield ""
            yield from (f"{TOML}{line}" if line else "" for line in lines)
            yield ""


def _who(near_miss: NearMiss) -> str:
    if near_miss.partner:
        return f"partner {near_miss.organization}/{near_miss.partner}: "
    if near_miss.connector:
        return f"connector {near_miss.organization}/{near_miss.connector}: "
    return f"organization {near_miss.organization}: " if near_miss.organization else ""
