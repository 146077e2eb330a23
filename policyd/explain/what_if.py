"""What the answer to a request would be, if one thing were different: each proposal is tried here.

The server's own `decide`, over a small cut of the rules: the organizations whose domains decide about this mail, with
just the connectors that the answer hangs on. That adding a connector never turns an OK into a REJECT is a law of the
rules, so an OK in the cut is an OK of all the rules, while the cost does not grow with them. SPEC 7, explain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from policyd.explain.candidates import Case
from policyd.explain.change import Change
from policyd.policy.attribution import decide, rows_1_to_6
from policyd.policy.decision import Decision, Reason
from policyd.policy.identity import certificate_name, identity_of
from policyd.policy.model import Connector, Rules
from policyd.policy.names import upwards
from policyd.policy.ruleset import NOBODY, RuleSet
from policyd.protocol.request import Request


class WhatIf:
    """Asks for answers to one request under one thing changed."""

    def __init__(self, case: Case) -> None:
        self._rules = rules = case.rules
        self._request = case.request
        granted = rows_1_to_6(rules, case.identity, case.sender, case.recipient)
        # Of those whom the client is identified by: the one whose row grants, and one of each organization that
        # could take a grant back.
        self._kept: dict[int, Connector] = {}
        for match in case.identity.matches:
            connector = rules.connectors[match.connector]
            name = rules.organization_name(match.organization)
            if granted is not None and (granted.organization, granted.connector) == (name, connector.name):
                self._kept[match.organization] = connector
            elif match.organization in (case.recipient.zone, *(reading.zone for reading in case.sender.readings)):
                self._kept.setdefault(match.organization, connector)

    def answer(
        self, number: int, change: Change | None, connector: Connector | None, instead: Mapping[str, str]
    ) -> Decision:
        """The answer after the organization's change, or with attributes `instead`.

        `connector` is the one in question. Names of certificates that stand in `instead` are host names, which xtext
        leaves as they are.
        """
        request = self._request._replace(**instead)
        if instead and (suspended := identity_of(self._rules, request).suspended) is not None:
            return Decision("DEFER", Reason.SUSPENDED, self._rules.organization_name(suspended.organization))
        kept = {owner: [found] for owner, found in self._kept.items()}
        if connector is not None:
            others = [other for other in kept.get(number, ()) if other.name != connector.name]
            kept[number] = [*others, connector]
        names = set(self._names(request, kept.values()))
        numbers = {zone for name in names for up in upwards(name) if (zone := self._rules.zone(up)) != NOBODY}
        numbers |= kept.keys()
        if number != NOBODY:
            numbers.add(number)
        organizations = {
            owner: replace(self._rules.organizations[owner], connectors=tuple(kept.get(owner, ()))) for owner in numbers
        }
        if change is not None:
            organizations[number] = change.applied(organizations[number])
        rules = Rules(organizations=tuple(organizations.values()), incoming=self._rules.incoming)
        return decide(RuleSet(rules), request)

    def _names(self, request: Request, kept: Iterable[Iterable[Connector]]) -> Iterable[str]:
        """Every name whose owner the answer depends on."""
        for address in (request.sender, request.recipient):
            yield from (reading.name for reading in self._rules.domain_of(address).readings)
        name, _ = certificate_name(request.certificate_subject)
        if name is not None:
            yield name
        for connectors in kept:
            for connector in connectors:
                yield from (pattern.name for pattern in connector.certificate_names)
                for stored in connector.stored_certificates:
                    yield from stored.names
