"""What the answer to a request would be, if one thing were different (SPEC 7, explain).

The server's own `decide`, over a small cut of the rules: the organizations whose domains decide about this mail, with
just the connectors that the answer hangs on. That adding a connector never turns an OK into a REJECT is a law of the
rules, so an OK in the cut is an OK of all the rules, while the cost does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

from policyd.explain.change import Change
from policyd.policy.attribution import decide, rows_1_to_6
from policyd.policy.decision import Decision
from policyd.policy.identity import RequestShaped, certificate_name, identity_of
from policyd.policy.model import Connector, Rules
from policyd.policy.names import canonical, domain_text, upwards
from policyd.policy.ruleset import NOBODY, RuleSet


@dataclass(frozen=True, slots=True)
class Supposed:
    """A request that nobody sent: a real one with some attributes changed."""

    protocol_state: str
    client_address: str
    sender: str
    recipient: str
    ccert_subject: str
    ccert_issuer: str
    ccert_fingerprint: str
    ccert_pubkey_fingerprint: str
    encryption_protocol: str
    certificate_subject: str | None


_ATTRIBUTES = tuple(field.name for field in fields(Supposed))


def supposed(request: RequestShaped, instead: Mapping[str, str]) -> Supposed:
    """The request with other values; a new `ccert_subject` is given without xtext."""
    values = {name: getattr(request, name) for name in _ATTRIBUTES} | dict(instead)
    if "ccert_subject" in instead:
        values["certificate_subject"] = instead["ccert_subject"]
    return Supposed(**values)


class WhatIf:
    """Asks for answers to one request under one thing changed."""

    def __init__(self, rules: RuleSet, request: RequestShaped) -> None:
        self._rules = rules
        self._request = request
        identity = identity_of(rules, request)
        sender, recipient = rules.domain_of(request.sender), rules.domain_of(request.recipient)
        granted = rows_1_to_6(rules, identity, sender, recipient)
        # Of those whom the client is identified by: the one whose row grants, and one of each organization that
        # could take a grant back.
        self._kept: dict[int, Connector] = {}
        for match in identity.matches:
            connector = rules.connectors[match.connector]
            name = rules.organization_name(match.organization)
            if granted is not None and (granted.organization, granted.connector) == (name, connector.name):
                self._kept[match.organization] = connector
            elif match.organization in (sender.zone, recipient.owner):
                self._kept.setdefault(match.organization, connector)

    def answer(
        self,
        organization: int,
        change: Change | None = None,
        connector: Connector | None = None,
        instead: Mapping[str, str] | None = None,
    ) -> Decision:
        """The answer after the change, or with attributes `instead`; `connector` is the one in question."""
        request = self._request if instead is None else supposed(self._request, instead)
        kept = {number: [found] for number, found in self._kept.items()}
        if connector is not None:
            others = [found for found in kept.get(organization, ()) if found.name != connector.name]
            kept[organization] = [*others, connector]
        names = set(self._names(request, kept.values()))
        numbers = {zone for name in names for up in upwards(name) if (zone := self._rules.zone(up)) != NOBODY}
        numbers |= kept.keys()
        if organization != NOBODY:
            numbers.add(organization)
        organizations = []
        for number in numbers:
            found = replace(self._rules.organizations[number], connectors=tuple(kept.get(number, ())))
            organizations.append(change.applied(found) if change is not None and number == organization else found)
        return decide(RuleSet(Rules(organizations=tuple(organizations), incoming=self._rules.incoming)), request)

    def _names(self, request: RequestShaped, kept: Iterable[Iterable[Connector]]) -> Iterable[str]:
        """Every name whose owner the answer depends on."""
        for address in (request.sender, request.recipient):
            name = canonical(domain_text(address) or "")
            if name is not None:
                yield name
        shown, _ = certificate_name(request.certificate_subject)
        if shown is not None:
            yield shown
        for connectors in kept:
            for connector in connectors:
                yield from (pattern.name for pattern in connector.certificate_names)
                for stored in connector.stored_certificates:
                    yield from stored.names
