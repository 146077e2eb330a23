"""What `explain` proposes is true: after the change, and only it, the mail passes, and `policyd check` is content.

For any configuration and any request that it refuses: every TOML change, put over the configuration's own file, is
loaded as `policyd serve` would load it, and decides for the mail. It is never wider than one address, one exact name,
one fingerprint or one exact domain. A change of the sender or of Postfix, as far as a request shows it, is true too.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from policyd.config.toml.writing import dumps
from policyd.explain.change import Change, Value
from policyd.explain.failures import failures
from policyd.explain.near_misses import MOST_SHOWN
from policyd.explain.permitted import (
    connector_may_be_enabled,
    connector_may_have_address,
    connector_may_have_name,
    is_some_servers_own,
    organization_may_accept,
    single,
)
from policyd.explain.walk import explain
from policyd.loading.load import Loaded, load
from policyd.policy.attribution import decide
from policyd.policy.identity import client_of, identity_of
from policyd.policy.names import Pattern, canonical
from policyd.policy.networks import Network, parse_address
from policyd.policy.ruleset import NOBODY, RuleSet
from policyd.protocol.request import Request, parse_request
from tests.strategies import FOREIGN, OWNABLE, configurations, requests, to_toml, wire

NOW = 1_800_000_000.0
FOLDER = Path(tempfile.mkdtemp(prefix="policyd-proposals-"))


@pytest.fixture(scope="module", autouse=True)
def _clean() -> Iterator[None]:
    yield
    for file in FOLDER.iterdir():
        file.unlink()
    FOLDER.rmdir()


def loaded(config: Mapping[str, Any]) -> Loaded:
    path = FOLDER / "policyd.toml"
    path.write_text(to_toml(config), "utf-8")
    return load(str(path), NOW)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """What an editor makes of the file: the keys of `over` take the place of those of `base`."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


@st.composite
def worlds(draw: Any) -> tuple[dict[str, Any], list[Request]]:
    """A configuration and some requests to it."""
    config = draw(configurations())
    return config, [parse_request(wire(draw(requests(config)))) for _ in range(draw(st.integers(1, 4)))]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_every_proposal_is_true(world: tuple[dict[str, Any], list[Request]]) -> None:
    config, asked = world
    before = loaded(config)
    assert before.configuration is not None, before.problems
    rules, provider = RuleSet(before.configuration.rules), before.configuration.provider
    for request in asked:
        explanation = explain(rules, request, provider)
        assert explanation.decision == decide(rules, request)
        assert explanation.steps[-1].about == "decision"
        near_misses = explanation.near_misses
        if explanation.decision.action != "REJECT":
            assert near_misses == ()
            continue
        assert len(near_misses) <= MOST_SHOWN
        for near_miss in near_misses:
            event(f"{near_miss.failed_at}: {near_miss.proposal.kind}")
            note(f"{request}\n{near_miss}")
            if near_miss.proposal.change is not None:
                assert near_miss.proposal.kind == "configuration"
                holds_as_toml(config, near_miss.proposal.change, request, rules.incoming)
                is_narrow(before, near_miss.proposal.change)
            elif near_miss.proposal.instead:
                assert near_miss.proposal.kind in ("sender", "postfix")
                after = decide(rules, request._replace(**dict(near_miss.proposal.instead)))
                assert after.action in ("OK", rules.incoming if rules.incoming == "DUNNO" else "OK")


def holds_as_toml(config: Mapping[str, Any], change: Change, request: Request, incoming: str) -> None:
    text = dumps(change.data())
    note(text)
    after = loaded(merged(config, tomllib.loads(text)))
    assert after.configuration is not None, [str(p) for p in after.problems if p.severity == "error"]
    answer = decide(RuleSet(after.configuration.rules), request)
    assert answer.action == "OK" or (answer.action == incoming == "DUNNO"), answer


def is_narrow(before: Loaded, change: Change) -> None:
    """What the change adds is one exact thing; it takes nothing away but a pending domain that becomes accepted."""
    assert before.configuration is not None
    organization = next(o for o in before.configuration.rules.organizations if o.name == change.organization)
    table: Any = organization
    if change.table != "organization":
        items = organization.connectors if change.table == "connector" else organization.partners
        table = next((item for item in items if item.name == change.name), None)
        assert (table is None) == change.new
    added: list[object] = []
    for key, value in change.values:
        if key == "enabled":
            assert value is True
            continue
        assert isinstance(value, tuple)
        old = () if table is None else getattr(table, key)
        if key != "pending_domains":
            assert set(old) <= set(value)
        if key != "sender_domains":
            added += set(value) - set(old)
        for item in set(value) - set(old):
            assert not (isinstance(item, Pattern) and item.wildcard)
            assert not (isinstance(item, Network) and item.size != 1)
    assert len(added) == (0 if change.values[0][0] == "enabled" else 1)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_a_connector_fails_somewhere_exactly_when_it_does_not_match(
    world: tuple[dict[str, Any], list[Request]],
) -> None:
    config, asked = world
    before = loaded(config)
    assert before.configuration is not None
    rules = RuleSet(before.configuration.rules)
    for request in asked:
        client = client_of(request)
        zone = rules.zone(client.name) if client.name is not None else NOBODY
        matching = {id(rules.connectors[match.connector]) for match in identity_of(rules, request).matches}
        for number, organization in enumerate(rules.organizations):
            for connector in organization.connectors:
                failed = failures(connector, request, client, zone not in (NOBODY, number))
                assert (failed == ()) == (id(connector) in matching)


# What the configurations of the strategies do not have: names that fold, hosts of TLSA records, names given away.
ADDED = (
    "straße.fold.example",
    "strasse.fold.example",
    "fold.example",
    "mx.hosted.example",
    "hosted.example",
    "mail.given.upper.example",
    "given.upper.example",
    "upper.example",
)
ADDITIONS = (
    {"accepted_domains": ["straße.fold.example"]},
    {"accepted_domains": ["strasse.fold.example"]},
    {"accepted_domains": ["fold.example"]},
    {"accepted_domains": ["*.upper.example"], "delegated_domains": ["given.upper.example"]},
    {"accepted_domains": ["upper.example"], "outside_domains": ["given.upper.example"]},
    {"connectors": {"hosted": {"tlsa": ["mx.hosted.example"]}}},
    {"connectors": {"named": {"certificate_names": ["mail.given.upper.example"]}}},
)


def _add(config: dict[str, Any], data: st.DataObject) -> None:
    for addition in data.draw(st.lists(st.sampled_from(ADDITIONS), unique_by=str, max_size=3)):
        if organizations := config.get("organizations"):
            table = organizations[data.draw(st.sampled_from(sorted(organizations)))]
            for key, value in addition.items():
                before = table.get(key, type(value)())
                table[key] = {**before, **value} if isinstance(value, dict) else [*before, *value]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(configurations(4), st.data())
def test_what_is_permitted_is_what_the_check_takes(config: dict[str, Any], data: st.DataObject) -> None:
    """Both ways: what is never proposed would be an error, but for addresses that nobody should be told to register."""
    _add(config, data)
    before = loaded(config)
    if before.configuration is None:
        return  # the additions are in conflict
    rules, provider = RuleSet(before.configuration.rules), before.configuration.provider
    if not rules.organizations:
        return
    number = data.draw(st.integers(0, len(rules.organizations) - 1))
    organization = rules.organizations[number]
    kind = data.draw(st.sampled_from(("domain", "name", "address", "enabled")))
    if kind == "domain":
        names = (*OWNABLE, *FOREIGN, *ADDED, "new.lab.contoso.net", "host.192.0.2.7", "co.uk", "com", "github.io")
        name = canonical(data.draw(st.sampled_from(names)))
        assert name is not None
        if any(pattern.name == name for pattern in organization.accepted_domains):
            return
        permitted = organization_may_accept(rules, number, name)
        value: Value = (*organization.accepted_domains, Pattern(name))
        change = Change(organization.name, "organization", "", (("accepted_domains", value),))
    elif kind == "name":
        names = (*OWNABLE, *FOREIGN, *ADDED, "mx.lab.contoso.net", "smtp.gmail.com", "192.0.2.7", "co.uk", "com")
        name = canonical(data.draw(st.sampled_from(names)))
        assert name is not None
        permitted = connector_may_have_name(rules, provider, number, name)
        values: tuple[tuple[str, Value], ...] = (("certificate_names", (Pattern(name),)),)
        change = Change(organization.name, "connector", "new", values, new=True)
    elif kind == "address":
        texts = (
            "203.0.113.5",
            "203.0.113.21",
            "10.0.3.9",
            "2001:db8:0::5",
            "198.18.0.9",
            "192.0.2.1",
            "2002::1",
            "ff02::1",
        )
        address = parse_address(data.draw(st.sampled_from(texts)))
        assert address is not None
        permitted = connector_may_have_address(rules, provider, number, address)
        change = Change(organization.name, "connector", "new", (("addresses", (single(address),)),), new=True)
        if not permitted and not is_some_servers_own(address):
            return
    else:
        disabled = [connector for connector in organization.connectors if not connector.enabled]
        if not disabled:
            return
        permitted = connector_may_be_enabled(rules, number, disabled[0])
        change = Change(organization.name, "connector", disabled[0].name, (("enabled", True),))
    event(f"{kind}: {'permitted' if permitted else 'not permitted'}")
    after = loaded(merged(config, tomllib.loads(dumps(change.data()))))
    assert (after.configuration is not None) == permitted, [str(p) for p in after.problems if p.severity == "error"]
