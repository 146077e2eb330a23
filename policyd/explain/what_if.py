"""What the answer to a request would be, if one thing were different: each proposal is tried here.

The server's own `decide`, over the rules with one organization exchanged; nothing is written or compiled for it.
SPEC 7, explain.
"""

from __future__ import annotations

from collections.abc import Mapping

from policyd.explain.candidates import Case
from policyd.explain.change import Change
from policyd.policy.attribution import decide
from policyd.policy.decision import Decision
from policyd.policy.ruleset import RuleSet


class WhatIf:
    """Asks for answers to one request under one thing changed."""

    def __init__(self, case: Case) -> None:
        self._rules = case.rules
        self._request = case.request

    def answer(self, change: Change | None, instead: Mapping[str, str]) -> Decision:
        """The answer after the change, or with attributes `instead`.

        Names of certificates that stand in `instead` are host names, which xtext leaves as they are.
        """
        request = self._request._replace(**instead)
        if change is None:
            return decide(self._rules, request)
        before = self._rules.organization(change.organization)
        return decide(RuleSet(self._rules.lookups.after((before, change.applied(before)))), request)
