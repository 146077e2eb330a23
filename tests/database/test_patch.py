"""A patched RuleSet is the one that compiling everything would give (policyd/loading/patch.py)."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policyd.loading import patch
from policyd.loading.patch import patched, spaced
from policyd.policy.attribution import decide
from policyd.policy.model import Connector, Delta, Organization, Rules
from policyd.policy.names import Pattern
from policyd.policy.networks import Network, parse_network
from policyd.policy.ruleset import NOBODY, RuleSet
from tests.helpers.compiled import compiled, request_of
from tests.strategies import configurations, requests


def contents(rules: RuleSet) -> dict[str, Any]:
    """Everything that the indexes say, with names for numbers."""

    def organization(number: int) -> str:
        return "" if number == NOBODY else rules.organizations[number].name

    def connector(number: int) -> tuple[str, str]:
        return organization(rules.owners[number]), rules.connectors[number].name

    numbered = {number for index in (rules.exact_names, rules.wildcard_names) for of in index.values() for number in of}
    return {
        "accepted": {name: (organization(number), wildcard) for name, (number, wildcard) in rules.accepted.items()},
        "cuts": {name: sorted((organization(n), w) for n, w in of) for name, of in rules.cuts.items()},
        "pending": {name: sorted((organization(n), w) for n, w in of) for name, of in rules.pending.items()},
        "exact": {name: [connector(n) for n in of] for name, of in rules.exact_names.items()},
        "wildcard": {name: [connector(n) for n in of] for name, of in rules.wildcard_names.items()},
        "certificates": {key: [(connector(n), names) for n, names in of] for key, of in rules.certificates.items()},
        "keys": {key: [(connector(n), names) for n, names in of] for key, of in rules.keys.items()},
        "addresses": {
            (family, length, bits): [connector(n) for n in numbers]
            for family, tables in rules.addresses._tables.items()
            for length, _, table in tables
            for bits, numbers in table.items()
        },
        "lengths": {family: [length for length, _, _ in tables] for family, tables in rules.addresses._tables.items()},
        "partners": {
            one.name: rules.partners[n]
            for n, one in enumerate(rules.organizations)
            if one.name and (n == 0 or one is not rules.organizations[n - 1])
        },
        "named": {connector(number) for number in numbered},
        "organizations": {one.name: one for one in rules.rules.organizations},
        "count": rules.connector_count,
        "expiry": rules.next_expiry,
    }


def sound(rules: RuleSet) -> None:
    """What the decision relies on."""
    names = [one.name for one in rules.organizations]
    assert names == sorted(names)
    assert list(rules.owners) == sorted(rules.owners)
    assert len(rules.owners) == len(rules.connectors)
    assert len(rules.partners) == len(rules.organizations)
    keys = [
        (rules.organizations[rules.owners[n]].name, connector.name)
        for n, connector in enumerate(rules.connectors)
        if connector.name and (n == 0 or connector is not rules.connectors[n - 1])
    ]
    assert keys == sorted(keys)


def delta_between(before: Rules, after: Rules) -> Delta:
    """The difference of two."""
    old = {one.name: one for one in before.organizations}
    new = {one.name: one for one in after.organizations}
    changed = tuple(one for one in after.organizations if old.get(one.name) != one)
    return Delta(frozenset(old.keys() - new.keys()), changed)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(st.lists(configurations(5), min_size=2, max_size=3), st.booleans(), st.data())
def test_patching_is_compiling(configs: list[dict[str, Any]], roomy: bool, data: st.DataObject) -> None:
    compiled_ones = [compiled(config) for config in configs]
    rules = spaced(compiled_ones[0]) if roomy else compiled_ones[0]
    sound(rules)
    assert contents(rules) == contents(compiled_ones[0])
    incoming = rules.incoming
    for config, expected in zip(configs[1:], compiled_ones[1:], strict=True):
        whole = Rules(organizations=expected.rules.organizations, incoming=incoming)
        before = contents(rules)
        new = patched(rules, delta_between(rules.rules, whole), rules.generation + 1)
        assert contents(rules) == before  # the old one serves on
        rules = new
        sound(rules)
        fresh = RuleSet(whole, rules.generation)
        assert contents(rules) == contents(fresh)
        for attributes in data.draw(st.lists(requests(config), max_size=4)):
            assert decide(rules, request_of(attributes)) == decide(fresh, request_of(attributes))


def made(name: str, connectors: int) -> Organization:
    """An organization with addresses and names of its own."""
    at = sum(ord(letter) * 31**place for place, letter in enumerate(name)) % (1 << 24)
    return Organization(
        name=name,
        accepted_domains=(Pattern(f"{name}.example", len(name) % 2 == 0),),
        delegated_domains=(Pattern(f"d.{name}.example"), Pattern("shared.example"))[: at % 3],
        outside_domains=(Pattern(f"o.{name}.example", True), Pattern("shared.example"))[: at % 4],
        connectors=tuple(
            Connector(name=f"c{n}", addresses=(Network(4, (10 << 24) + at + n, (10 << 24) + at + n),))
            for n in range(connectors)
        ),
    )


def test_many_small_patches_in_one_place() -> None:
    """Room runs out again and again, at the front, at the end and between two; organizations grow, shrink and go."""
    chance = random.Random(7)
    present: dict[str, Organization] = {}
    rules = RuleSet(Rules())
    for step in range(300):
        name = "".join(chance.choice("ab") for _ in range(chance.randint(1, 5)))
        if name in present and chance.random() < 0.4:
            del present[name]
            delta = Delta(frozenset((name,)), ())
        else:
            present[name] = made(name, chance.randint(0, 4))
            delta = Delta(frozenset(), (present[name],))
        rules = patched(rules, delta, rules.generation + 1)
        if step % 10 == 9:
            sound(rules)
            assert contents(rules) == contents(RuleSet(Rules(organizations=tuple(present.values()))))


def test_names_below_what_changes_get_another_owner() -> None:
    """An organization between two names of another one comes and goes."""
    around = Organization(name="b", accepted_domains=(Pattern("example", True), Pattern("lab.a.example")))
    between = Organization(name="a", accepted_domains=(Pattern("a.example"),))
    rules = RuleSet(Rules(organizations=(around, between)))
    assert rules.owner("deep.lab.a.example") == NOBODY
    rules = patched(rules, Delta(frozenset(("a",)), ()), 2)
    assert rules.organization_name(rules.owner("deep.lab.a.example")) == "b"
    rules = patched(rules, Delta(frozenset(), (between,)), 3)
    assert rules.owner("deep.lab.a.example") == NOBODY
    assert rules.organization_name(rules.owner("lab.a.example")) == "b"


def test_a_patch_costs_no_compiling(monkeypatch: Any) -> None:
    """With room for it, a change works out only the entries of what changes."""
    base = spaced(RuleSet(Rules(organizations=tuple(made(f"o{n}", 1) for n in range(200)))))
    asked: list[str] = []
    certificates_of = patch.certificates_of
    monkeypatch.setattr(patch, "certificates_of", lambda one: asked.append(one.name) or certificates_of(one))
    monkeypatch.setattr(RuleSet, "__init__", lambda *_: 1 / 0)
    rules = patched(base, Delta(frozenset(("o7",)), (made("o8", 2), made("o100a", 2))), 2)
    assert len(asked) == 1 + (1 + 2) + 2
    assert rules.exact_names is base.exact_names
    assert rules.connector_count == 202
    assert rules.zone("o7.example") == NOBODY
    assert rules.organization_name(rules.zone("o100a.example")) == "o100a"


def test_networks_within_others() -> None:
    filed = ("192.0.2.0/28", "192.0.2.32", "192.0.2.64-192.0.2.71", "2001:db8::/64", "198.51.0.0/16")
    connectors = tuple(Connector(name=f"c{n}", addresses=(parse_network(text)[0],)) for n, text in enumerate(filed))
    rules = RuleSet(Rules(organizations=(Organization(name="o", connectors=connectors),)))
    for text, expected in (
        ("192.0.2.3", {0}),
        ("192.0.2.0/24", {0, 1, 2}),
        ("192.0.2.16-192.0.2.31", set()),
        ("192.0.2.70-192.0.2.90", {2}),
        ("2001:db8::1", {3}),
        ("2001:db8::/32", {3}),
        ("2001:db9::/32", set()),
        ("198.51.100.0/24", {4}),
        ("198.50.0.0-198.51.0.0", {4}),
    ):
        assert set(rules.addresses.within(parse_network(text)[0])) == expected, text
