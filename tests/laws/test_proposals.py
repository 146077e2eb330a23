"""What `explain` proposes is true: after the change, and only it, the mail passes, and `policyd check` is content.

For any configuration and any request that it refuses: every TOML change, put over the configuration's own file, is
loaded as `policyd serve` would load it, and decides for the mail. It is never wider than one address, one exact name,
one fingerprint or one exact domain. A change of the sender or of Postfix, as far as a request shows it, is true too.
And no change lets in a server that another organization's evidence identifies.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
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
from policyd.policy.model import Connector, Organization, Partner, Provider, Rules
from policyd.policy.names import Pattern, canonical
from policyd.policy.networks import Network, parse_address
from policyd.policy.ruleset import NOBODY
from policyd.policy.zones import Place
from policyd.protocol.request import Request, parse_request
from policyd.store.file import rule_set
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
    rules, provider = rule_set(before.configuration.rules), before.configuration.provider
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
    answer = decide(rule_set(after.configuration.rules), request)
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


# ------------------------------------------------------------------------------------------- nobody else's servers

SHARED_BY_ALL = ("mx.hosting.example", "pool.shared.example")
NAMES = (*SHARED_BY_ALL, "mail.contoso.com", "mail.fabrikam.com")
PINS = ("AA" * 32, "BB" * 32, "CC" * 16)
ADDRESSES = ("203.0.113.5", "192.0.2.7", "10.0.0.1", "172.17.0.1", "2001:db8::5")
DOMAINS = {
    "contoso": ("contoso.com", "contoso.net", "contoso-new.com"),
    "fabrikam": ("fabrikam.com", "fabrikam.net", "fabrikam-new.com"),
    "tailspin": ("tailspin.com", "tailspin.net", "tailspin-new.com"),
}
OUTSIDE = "elsewhere.example"
SENDERS = (*(domain for domains in DOMAINS.values() for domain in domains), OUTSIDE, "sub.contoso.com", "")
SHARED = Provider(certificate_names=(Pattern("shared.example", True),))


def few(values: Sequence[Any], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


@st.composite
def evidence(draw: Any, organization: str) -> dict[str, Any]:
    """Something of what all organizations here share; of names in their domains only the organization's own."""
    keys = draw(st.lists(st.sampled_from(("names", "key", "certificate", "addresses")), min_size=1, max_size=2))
    found: dict[str, Any] = {"enabled": draw(st.integers(0, 3)) > 0, "require_tls": draw(st.integers(0, 5)) == 0}
    if "names" in keys:
        exact = tuple(Pattern(name) for name in NAMES if organization in name or name in SHARED_BY_ALL)
        found["certificate_names"] = draw(few((*exact, Pattern("hosting.example", True))))
    if "key" in keys:
        found["public_key_fingerprints"] = draw(few(PINS))
    if "certificate" in keys:
        found["certificate_fingerprints"] = draw(few(PINS))
    if "addresses" in keys:
        found["addresses"] = tuple(single(a) for text in draw(few(ADDRESSES)) if (a := parse_address(text)) is not None)
    return found


@st.composite
def connectors(draw: Any, organization: str, name: str) -> Connector:
    domains = DOMAINS[organization]
    narrower: dict[str, Any] = {}
    if draw(st.integers(0, 4)) == 0:
        narrower["for_domains"] = (Pattern(draw(st.sampled_from(domains[:2]))),)
    if draw(st.integers(0, 4)) == 0:
        narrower["foreign_senders"] = draw(st.sampled_from(("bounces", "refuse")))
    if draw(st.integers(0, 9)) == 0:
        narrower["suspended"] = "ticket 4711"
    return Connector(name=name, **draw(evidence(organization)), **narrower)


@st.composite
def sharing(draw: Any) -> Rules:
    """Two or three organizations with the same names, keys and addresses among their connectors."""
    organizations = []
    for name in list(DOMAINS)[: draw(st.integers(2, 3))]:
        accepted, more, pending = DOMAINS[name]
        partner = Partner(name="p", sender_domains=(Pattern(OUTSIDE),), **draw(evidence(name)))
        organization = Organization(
            name=name,
            accepted_domains=(Pattern(accepted), Pattern(more)),
            pending_domains=(Pattern(pending),),
            protect_sender_domains=draw(st.booleans()),
            connectors_only=draw(st.booleans()),
            suspended=draw(st.sampled_from(("", "", "", "", "unpaid"))),
            connectors=tuple(draw(connectors(name, f"c{i}")) for i in range(draw(st.integers(0, 3)))),
            partners=(partner,) if draw(st.booleans()) else (),
        )
        organizations.append(organization)
    return Rules(organizations=tuple(organizations), incoming=draw(st.sampled_from(("OK", "REJECT"))))


@st.composite
def asking(draw: Any) -> Request:
    verified = {"ccert_subject": draw(st.sampled_from(NAMES)), "ccert_issuer": "CA"} if draw(st.booleans()) else {}
    pins = {
        "ccert_fingerprint": draw(st.sampled_from((*PINS, "DD" * 32))),
        "ccert_pubkey_fingerprint": draw(st.sampled_from((*PINS, "EE" * 32))),
    }
    tls = {"encryption_protocol": "TLSv1.3", **verified, **pins} if draw(st.integers(0, 3)) else {}
    return Request(
        protocol_state="RCPT",
        client_address=draw(st.sampled_from((*ADDRESSES, "198.51.100.9"))),
        sender=address_in(draw(st.sampled_from(SENDERS))),
        recipient=address_in(draw(st.sampled_from(SENDERS[:-1]))),
        **tls,
    )


def address_in(domain: str) -> str:
    return f"a@{domain}" if domain else ""


def recognising(organization: Organization) -> Organization:
    """All its connectors, whether in use or not."""
    connectors = tuple(replace(one, enabled=True, suspended="") for one in organization.connectors)
    return replace(organization, connectors=connectors, suspended="")


def without_connectors(organization: Organization) -> Organization:
    return replace(organization, connectors=())


def lists(organization: Organization, key: str, entry: object) -> bool:
    return any(entry in getattr(connector, key) for connector in organization.connectors)


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(sharing(), st.lists(asking(), min_size=1, max_size=3))
def test_nothing_is_proposed_for_another_organizations_server(model: Rules, asked: list[Request]) -> None:
    """Whoever another organization's evidence identifies, used or not, gains nothing by any change that is proposed."""
    rules = rule_set(model)
    for request in asked:
        explanation = explain(rules, request, SHARED)
        event(f"{explanation.decision.action}, hints: {len(explanation.hints) > 0}")
        for near_miss in explanation.near_misses:
            change = near_miss.proposal.change
            if change is None:
                continue
            event(f"change of a {change.table}")
            note(f"{request}\n{near_miss}")
            own = next(one for one in model.organizations if one.name == change.organization)
            others = [one for one in model.organizations if one is not own]
            assert not own.suspended
            assert request.ccert_subject != "pool.shared.example"
            for key, value in change.values:
                if key != "sender_domains" and isinstance(value, tuple) and change.table != "organization":
                    before = next((c for c in (*own.connectors, *own.partners) if c.name == change.name), None)
                    for entry in set(value) - set(getattr(before, key, ())):
                        assert not any(lists(other, key, entry) for other in others)
                        assert not str(entry).startswith(("10.", "172.17."))
            theirs = rule_set(Rules(organizations=(without_connectors(own), *map(recognising, others))))
            after = rule_set(replace(model, organizations=(change.applied(own), *others)))
            for sender, recipient in product(SENDERS, SENDERS[:-1]):
                other_mail = request._replace(sender=address_in(sender), recipient=address_in(recipient))
                if identity_of(theirs, other_mail).matches and decide(after, other_mail).action == "OK":
                    assert decide(rules, other_mail).action == "OK", (other_mail, near_miss)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_a_connector_fails_somewhere_exactly_when_it_does_not_match(
    world: tuple[dict[str, Any], list[Request]],
) -> None:
    config, asked = world
    before = loaded(config)
    assert before.configuration is not None
    rules = rule_set(before.configuration.rules)
    for request in asked:
        client = client_of(request)
        place = Place() if client.name is None else rules.place(client.name)
        matching = {match[:2] for match in identity_of(rules, request).matches}
        for organization in rules.organizations():
            for connector in organization.connectors:
                foreign = place.given_away or place.zone not in (NOBODY, organization.name)
                failed = failures(connector, request, client, foreign)
                if (organization.name, connector.name) in matching:
                    assert failed == ()
                elif failed == ():  # left out: SPEC 3.4, suspended by name alone
                    assert connector.suspended or organization.suspended


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
    rules, provider = rule_set(before.configuration.rules), before.configuration.provider
    organizations = list(rules.organizations())
    if not organizations:
        return
    organization = data.draw(st.sampled_from(organizations))
    kind = data.draw(st.sampled_from(("domain", "name", "address", "enabled")))
    if kind == "domain":
        names = (*OWNABLE, *FOREIGN, *ADDED, "new.lab.contoso.net", "host.192.0.2.7", "co.uk", "com", "github.io")
        name = canonical(data.draw(st.sampled_from(names)))
        assert name is not None
        if any(pattern.name == name for pattern in organization.accepted_domains):
            return
        permitted = organization_may_accept(rules, organization.name, name)
        value: Value = (*organization.accepted_domains, Pattern(name))
        change = Change(organization.name, "organization", "", (("accepted_domains", value),))
    elif kind == "name":
        names = (*OWNABLE, *FOREIGN, *ADDED, "mx.lab.contoso.net", "smtp.gmail.com", "192.0.2.7", "co.uk", "com")
        name = canonical(data.draw(st.sampled_from(names)))
        assert name is not None
        permitted = connector_may_have_name(rules, provider, organization.name, name)
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
        permitted = connector_may_have_address(rules, provider, organization.name, address)
        change = Change(organization.name, "connector", "new", (("addresses", (single(address),)),), new=True)
        if not permitted and not is_some_servers_own(address):
            return
    else:
        disabled = [connector for connector in organization.connectors if not connector.enabled]
        if not disabled:
            return
        permitted = connector_may_be_enabled(rules, organization.name, disabled[0])
        change = Change(organization.name, "connector", disabled[0].name, (("enabled", True),))
    event(f"{kind}: {'permitted' if permitted else 'not permitted'}")
    after = loaded(merged(config, tomllib.loads(dumps(change.data()))))
    assert (after.configuration is not None) == permitted, [str(p) for p in after.problems if p.severity == "error"]
