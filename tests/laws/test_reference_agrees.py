"""The production rules and the slow reference give the same verdict, on configurations and requests made at random.

Also that `explain` tells of the same decision, and that the indexes behind `identify` agree with the functions that
match one connector at a time.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from policyd.explain.walk import explain
from policyd.policy.attribution import decide
from policyd.policy.identity import client_of, comes_from, identify, identity_of, name_matches, shows_certificate
from policyd.policy.model import Connector
from policyd.policy.ruleset import NOBODY
from tests.laws.reference import Reference
from tests.server.compiled import compiled, request_of
from tests.strategies import CERTIFICATE_FOLDER, conversations, patient

many = settings(patient, max_examples=120)


@many
@given(conversations())
def test_decide_is_the_reference(conversation: tuple[dict[str, Any], list[dict[str, str]]]) -> None:
    config, asked = conversation
    rules, reference = compiled(config), Reference(config, CERTIFICATE_FOLDER)
    for attributes in asked:
        decision, verdict = decide(rules, request_of(attributes)), reference.decide(attributes)
        assert (decision.action, decision.reason, decision.organization, decision.connector) == (
            verdict.action,
            verdict.reason,
            verdict.organization,
            verdict.connector,
        ), attributes


@settings(many, max_examples=50)
@given(conversations())
def test_explain_tells_of_the_decision(conversation: tuple[dict[str, Any], list[dict[str, str]]]) -> None:
    config, asked = conversation
    rules = compiled(config)
    for attributes in asked:
        request = request_of(attributes)
        told = explain(rules, request)
        assert told.decision == decide(rules, request)
        matched = {
            (rules.organization_name(m.organization), rules.connectors[m.connector].name)
            for m in identity_of(rules, request).matches
        }
        steps = {(s.organization, s.connector): s.text for s in told.steps if s.about == "connector"}
        identifying = {key for key, text in steps.items() if text.startswith("identifies the client")}
        if request.protocol_state == "RCPT":
            left_out = any(s.text.startswith("and ") and s.text.endswith(" more connectors") for s in told.steps)
            assert identifying <= matched if left_out else identifying == matched
        for (organization, name), text in steps.items():
            if (organization, name) not in matched:
                assert text != "does not match", "it must say why"


def matches_one_by_one(rules: Any, connector: Connector, organization: int, shown: Any) -> bool:
    """SPEC 3.2 for one connector, by the functions that need no index."""
    zone = rules.zone(shown.name) if shown.name is not None else NOBODY
    if connector.asks_for_certificate:
        names = any(name_matches(p.name, p.wildcard, shown) for p in connector.certificate_names)
        nameless = Connector(
            name=connector.name,
            stored_certificates=connector.stored_certificates,
            certificate_fingerprints=connector.certificate_fingerprints,
            public_key_fingerprints=connector.public_key_fingerprints,
        )
        foreign = zone not in (NOBODY, organization)
        if not (shows_certificate(nameless, shown) or (names and not foreign)):
            return False
    if connector.addresses and not comes_from(connector, shown):
        return False
    return shown.tls or not connector.require_tls


@settings(many, max_examples=50)
@given(conversations())
def test_identify_is_matching_one_by_one(conversation: tuple[dict[str, Any], list[dict[str, str]]]) -> None:
    config, asked = conversation
    rules = compiled(config)
    for attributes in asked:
        shown = client_of(request_of(attributes))
        identity = identify(rules, shown)
        expected = [
            number
            for number, connector in enumerate(rules.connectors)
            if matches_one_by_one(rules, connector, rules.owners[number], shown)
        ]
        assert [match.connector for match in identity.matches] == expected
        assert identity.organizations == {rules.owners[number] for number in expected}
        but_for_tls = any(
            connector.require_tls
            and not shown.tls
            and matches_one_by_one(rules, connector, rules.owners[number], shown._replace(tls=True))
            for number, connector in enumerate(rules.connectors)
        )
        assert identity.only_tls_is_missing == but_for_tls


@settings(many, max_examples=20)
@given(conversations())
def test_what_is_remembered_is_what_is_worked_out(conversation: tuple[dict[str, Any], list[dict[str, str]]]) -> None:
    """A rule set that has answered everything once answers everything as a new one does."""
    config, asked = conversation
    used = compiled(config)
    for attributes in asked:
        decide(used, request_of(attributes))
    for attributes in reversed(asked):
        assert decide(used, request_of(attributes)) == decide(compiled(config), request_of(attributes))
