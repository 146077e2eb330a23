"""The production rules and the slow reference give the same verdict, on configurations and requests made at random.

Also that `explain` tells of the same decision, and that the indexes behind `identify` agree with the functions that
match one connector at a time.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.explain.walk import explain
from policyd.policy.attribution import decide
from policyd.policy.identity import client_of, comes_from, identify, identity_of, name_matches, shows_certificate
from policyd.policy.model import Connector
from policyd.policy.ruleset import NOBODY
from policyd.policy.zones import NOWHERE
from tests.helpers.compiled import compiled, request_of
from tests.laws.reference import Reference
from tests.strategies import ATTRIBUTES, CERTIFICATE_FOLDER, conversations, patient

many = settings(patient, max_examples=120)


def agree(config: dict[str, Any], asked: list[dict[str, str]]) -> None:
    """Each is asked twice, so that what is remembered is compared as well as what is worked out."""
    rules, reference = compiled(config), Reference(config, CERTIFICATE_FOLDER)
    verdicts = [reference.decide(attributes) for attributes in asked]
    for _ in range(2):
        for attributes, verdict in zip(asked, verdicts, strict=True):
            decision = decide(rules, request_of(attributes))
            assert (decision.action, decision.reason, decision.organization, decision.connector) == (
                verdict.action,
                verdict.reason,
                verdict.organization,
                verdict.connector,
            ), attributes


@many
@given(conversations())
def test_decide_is_the_reference(conversation: tuple[dict[str, Any], list[dict[str, str]]]) -> None:
    agree(*conversation)


octets = st.binary(max_size=40).map(lambda data: data.decode("utf-8", "surrogateescape"))
labels = st.from_regex(r"(xn--[a-z0-9-]{0,62}\.?){1,3}", fullmatch=True)
odd_values = st.one_of(
    octets, st.text(), labels, st.builds("{}@{}".format, octets, st.one_of(octets, st.text(), labels))
)


@settings(many, max_examples=60)
@given(conversations(1), st.dictionaries(st.sampled_from(ATTRIBUTES), odd_values))
def test_decide_is_the_reference_for_odd_requests(
    conversation: tuple[dict[str, Any], list[dict[str, str]]], odd: dict[str, str]
) -> None:
    config, asked = conversation
    agree(config, [odd, odd | {"protocol_state": "RCPT"}, *(attributes | odd for attributes in asked)])


@settings(many, max_examples=50)
@given(conversations())
def test_explain_tells_of_the_decision(conversation: tuple[dict[str, Any], list[dict[str, str]]]) -> None:
    config, asked = conversation
    rules = compiled(config)
    for attributes in asked:
        request = request_of(attributes)
        told = explain(rules, request)
        assert told.decision == decide(rules, request)
        matched = {match[:2] for match in identity_of(rules, request).matches}
        steps = {(s.organization, s.connector): s.text for s in told.steps if s.about == "connector"}
        identifying = {key for key, text in steps.items() if text.startswith("identifies the client")}
        if request.protocol_state == "RCPT":
            left_out = any(s.text.startswith("and ") and s.text.endswith(" more connectors") for s in told.steps)
            assert identifying <= matched if left_out else identifying == matched
        for (organization, name), text in steps.items():
            if (organization, name) not in matched:
                assert text != "does not match", "it must say why"


def matches_one_by_one(rules: Any, connector: Connector, organization: str, shown: Any) -> bool:
    """SPEC 3.2 for one connector, by the functions that need no index."""
    place = rules.place(shown.name) if shown.name is not None else NOWHERE
    if connector.asks_for_certificate:
        names = any(name_matches(p.name, p.wildcard, shown) for p in connector.certificate_names)
        nameless = Connector(
            name=connector.name,
            stored_certificates=connector.stored_certificates,
            certificate_fingerprints=connector.certificate_fingerprints,
            public_key_fingerprints=connector.public_key_fingerprints,
        )
        foreign = place.given_away or place.zone not in (NOBODY, organization)
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
        enabled = [
            (organization.name, connector)
            for organization in rules.organizations()
            for connector in sorted(organization.connectors, key=attrgetter("name"))
            if connector.enabled
        ]
        expected = [
            (owner, connector.name)
            for owner, connector in enabled
            if matches_one_by_one(rules, connector, owner, shown)
        ]
        matched = [match[:2] for match in identity.matches]
        left_out = {name for name in expected if name not in matched}
        assert matched == [name for name in expected if name not in left_out]
        assert all(rules.connector(name).is_suspended for name in left_out)
        assert identity.organizations == {owner for owner, _ in matched}
        but_for_tls = any(
            connector.require_tls
            and not shown.tls
            and matches_one_by_one(rules, connector, owner, shown._replace(tls=True))
            for owner, connector in enabled
        )
        assert identity.only_tls_is_missing == but_for_tls
