"""Which rows are in force where some are bad or in conflict (SPEC 9). No server is needed: rows are made here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policyd.config.conflicts import PlacedProvider
from policyd.config.parsed import Parsed
from policyd.config.tables import parse_organization
from policyd.database.documents import SOURCE
from policyd.database.last_good import remaining
from policyd.database.standings import NOTHING, Standing, Standings, changed, problems_of, settled
from policyd.database.view import Row, Rows
from policyd.policy.model import Organization, Provider, Rules
from policyd.policy.names import Pattern, upwards
from policyd.policy.networks import parse_network
from policyd.policy.ruleset import NOBODY, RuleSet
from policyd.store.file import Store, rule_set

Tables = Mapping[str, Any]  # organization -> its table

A = {"accepted_domains": ["a.example"], "connectors": {"c": {"addresses": ["192.0.2.1"]}}}
B = {"accepted_domains": ["b.example"], "connectors": {"c": {"addresses": ["192.0.2.2"]}}}
UNREADABLE = {"certificates": ["-----BEGIN CERTIFICATE-----"]}
FOREIGN = {"connectors": {"c": {"certificate_names": ["mail.a.example"]}}}
SHARP = {"accepted_domains": ["straße.example"]}
SHARP_FOLDED = {"accepted_domains": ["strasse.example"]}
HOSTED = {"connectors": {"c": {"tlsa": ["mx.hosted.example"]}}}
PROVIDER = PlacedProvider(Provider((parse_network("198.51.100.0/24")[0],)), "policyd.toml:2")


def after(before: Standings, tables: Tables, revision: int, files: Iterable[Parsed] = ()) -> Standings:
    """What is in force once the database holds `tables`."""
    return settled(read(before, tables, revision)[0], list(files), PROVIDER, 0.0)[0]


def read(before: Standings, tables: Tables, revision: int) -> tuple[Standings, frozenset[str]]:
    """The rows of `tables`, and whose are other ones than before."""
    rows = {name: Row(revision, json.dumps(table)) for name, table in tables.items()}
    known = {name: one.latest.document for name, one in before.by_name.items()}
    rows = {name: row for name, row in rows.items() if known.get(name) != row.document}
    gone = frozenset(before.by_name.keys() - tables.keys())
    return before.with_rows(Rows("", revision, rows, gone), 0.0), gone.union(rows)


def from_files(tables: Tables) -> list[Parsed]:
    """The same organizations as a file would hold them."""
    return [parse_organization(name, table, SOURCE, 0.0, n) for n, (name, table) in enumerate(tables.items())]


def rules_of(standings: Standings, files: Iterable[Parsed] = ()) -> RuleSet:
    """Compiled."""
    return rule_set(Rules(organizations=(*(parsed.organization for parsed in files), *standings.organizations)))


def forms(standings: Standings) -> dict[str, str]:
    """What of each organization is in force."""
    found = {}
    for name, one in standings.by_name.items():
        found[name] = "latest" if not one.left_out else "held" if one.good is None else "last good"
    return found


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ({}, {"a": A, "b": B}, {"a": "latest", "b": "latest"}),
        ({}, {"a": A | UNREADABLE, "b": B}, {"a": "held", "b": "latest"}),  # an unknown key
        ({"a": A}, {"a": A | UNREADABLE, "b": B}, {"a": "last good", "b": "latest"}),
        # both new: nothing says who is right
        ({}, {"a": A, "b": B | {"accepted_domains": ["a.example"]}}, {"a": "held", "b": "held"}),
        ({}, {"a": A, "b": B | {"connectors": A["connectors"]}}, {"a": "held", "b": "held"}),
        ({}, {"a": A, "b": B | {"accepted_domains": ["lab.a.example"]}}, {"a": "held", "b": "held"}),
        # one is in force
        ({"a": A}, {"a": A, "b": B | {"accepted_domains": ["*.a.example"]}}, {"a": "latest", "b": "held"}),
        ({"a": A}, {"a": A, "b": B | {"connectors": A["connectors"]}}, {"a": "latest", "b": "held"}),
        ({"a": A, "b": B}, {"a": A, "b": B | {"accepted_domains": ["a.example"]}}, {"a": "latest", "b": "last good"}),
        ({"a": A}, {"a": A, "b": B | {"accepted_domains": ["example"]}}, {"a": "latest", "b": "held"}),
        # a moves its domain to b, and is unreadable besides: that keeps nothing from b
        (
            {"a": A, "b": B},
            {"a": A | UNREADABLE | {"accepted_domains": []}, "b": B | {"accepted_domains": ["a.example"]}},
            {"a": "last good", "b": "latest"},
        ),
        # a moves its domain to b in one transaction
        (
            {"a": A, "b": B},
            {"a": A | {"accepted_domains": ["c.example"]}, "b": B | {"accepted_domains": ["a.example"]}},
            {"a": "latest", "b": "latest"},
        ),
        # two domains that fold together
        ({}, {"a": A | SHARP, "b": B | SHARP_FOLDED}, {"a": "held", "b": "held"}),
        ({"b": B | SHARP_FOLDED}, {"a": A | SHARP, "b": B | SHARP_FOLDED}, {"a": "held", "b": "latest"}),
        # a host in another's zone is the fault of who uses it, too; of a host in nobody's zone both have it
        ({}, {"a": A, "b": B | {"connectors": {"c": {"tlsa": ["mx.a.example"]}}}}, {"a": "latest", "b": "held"}),
        ({}, {"a": A | HOSTED, "b": B | HOSTED}, {"a": "held", "b": "held"}),
        # a certificate name in another's zone is the fault of who uses it
        ({}, {"a": A, "b": B | FOREIGN}, {"a": "latest", "b": "held"}),
        ({"b": B | FOREIGN}, {"a": A, "b": B | FOREIGN}, {"a": "held", "b": "latest"}),
        # what is held keeps its domains from newcomers
        ({}, {"a": A | UNREADABLE, "b": B | {"accepted_domains": ["a.example"]}}, {"a": "held", "b": "held"}),
        ({}, {"a": A | UNREADABLE, "b": B | {"accepted_domains": ["x.a.example"]}}, {"a": "held", "b": "held"}),
        # and takes none from those in force
        ({"b": B}, {"a": A | UNREADABLE | {"accepted_domains": ["b.example"]}, "b": B}, {"a": "held", "b": "latest"}),
        # the hub's own settings
        ({}, {"a": A | {"connectors": {"c": {"addresses": ["198.51.100.9"]}}}, "b": B}, {"a": "held", "b": "latest"}),
        # mended
        ({"a": A | UNREADABLE}, {"a": A}, {"a": "latest"}),
        # three in a row: the conflict that the second has with the first frees nobody
        (
            {},
            {"a": A, "b": {"accepted_domains": ["a.example", "c.example"]}, "c": {"accepted_domains": ["c.example"]}},
            {"a": "held", "b": "held", "c": "held"},
        ),
    ],
)  # fmt: skip
def test_who_is_in_force(first: Tables, then: Tables, expected: dict[str, str]) -> None:
    before = after(NOTHING, first, 1)
    standings = after(before, then, 2)
    assert forms(standings) == expected
    told = {problem.subject.split('"')[1] for problem in problems_of(standings, standings.left_out)}
    assert told >= set(standings.left_out)
    for name, form in expected.items():
        standing = standings.by_name[name]
        assert standing.organization is not None
        good = before.by_name[name].organization if form == "last good" else None
        if good is not None:
            assert standing.organization == remaining(good, *from_files({name: then[name]}))
        assert bool(standing.organization.connectors) == (form != "held" and "connectors" in then[name])


def test_a_slip_freezes_nothing() -> None:
    """What the operator takes away while other rows of the organization do not compile; also read anew."""
    base = A | {
        "accepted_domains": ["a.example", "x.example"],
        "connectors": {"c": A["connectors"]["c"], "d": B["connectors"]["c"]},
    }
    slip = {"slip": UNREADABLE}
    before = after(NOTHING, {"a": base}, 1)
    steps = [
        base | {"connectors": {"c": A["connectors"]["c"], **slip}},
        base | {"connectors": {**base["connectors"], "c": {**A["connectors"]["c"], "enabled": False}, **slip}},
        base | {"suspended": "ticket 1", "connectors": {**base["connectors"], **slip}},
        base | {"accepted_domains": ["a.example"], "connectors": {**base["connectors"], **slip}},
        base | {"connectors": {**base["connectors"], **slip}},
    ]
    found = []
    standings = before
    for revision, step in enumerate(steps, 2):
        standings = after(standings, {"a": step}, revision)
        rows = {name: Standing(one.latest, one.good, None) for name, one in standings.by_name.items()}
        anew, _ = settled(Standings("", revision, 0.0, rows), [], PROVIDER, 0.0)
        assert anew.organizations == standings.organizations
        (organization,) = standings.organizations
        found.append(
            (
                [one.name for one in organization.connectors if one.enabled],
                organization.suspended,
                [pattern.name for pattern in organization.accepted_domains],
            )
        )
    both = ["a.example", "x.example"]
    assert found == [
        (["c"], "", both),
        (["d"], "", both),
        (["c", "d"], "ticket 1", both),
        (["c", "d"], "", ["a.example"]),
        (["c", "d"], "", both),  # what was in force for a while only is no matter
    ]
    standings = after(standings, {"a": base}, 9)
    assert standings.organizations == before.organizations  # mended: whole again
    assert not standings.left_out


def test_one_that_is_too_large_is_left_out_by_name() -> None:
    stub = {"too_large": True, "accepted_domains": ["a.example"], "connectors_only": True}
    for first in ({"b": B}, {"a": A, "b": B}):
        standings = after(after(NOTHING, first, 1), {"a": stub, "b": B}, 2)
        (problem, *_) = problems_of(standings, ["a"])
        assert str(problem).startswith(
            'database:organizations/a: warning: organization "a": all of it is more than 1 MiB'
        )
        organization = standings.by_name["a"].organization
        assert organization is not None
        assert (organization.connectors, organization.connectors_only) == ((), True)
        rules = rules_of(standings)
        assert rules.owner("a.example") == "a"
        assert forms(standings)["b"] == "latest"


def test_a_file_counts_before_the_database() -> None:
    files = from_files({"a": A, "f": {"accepted_domains": ["f.example"]}})
    before = after(NOTHING, {"g": B | {"accepted_domains": ["f.example"]}, "b": B}, 1)
    assert forms(before) == {"g": "held", "b": "held"}  # the same address
    before = after(NOTHING, {"g": {"accepted_domains": ["f.example", "g.example"]}, "a": B}, 1)
    assert forms(before) == {"g": "latest", "a": "latest"}
    standings = after(before, {"g": {"accepted_domains": ["f.example", "g.example"]}, "a": B}, 2, files)
    assert forms(standings) == {"g": "held", "a": "held"}
    assert [organization.name for organization in standings.organizations] == ["g"]  # the file has "a"
    rules = rules_of(standings, files)
    names = {name: rules.owner(name) for name in ("a.example", "b.example", "f.example")}
    assert names == {"a.example": "a", "b.example": "", "f.example": "f"}
    assert rules.owner("g.example") == "g"
    assert any("a file defines this organization already" in str(p) for p in problems_of(standings, ["a"]))


def test_what_is_held_still_restricts() -> None:
    table = {
        "accepted_domains": ["a.example", "-.-..x"],
        "protect_sender_domains": "perhaps",
        "connectors": {"c": {"addresses": ["192.0.2.1"]}},
        "partners": {
            "bank": {"sender_domains": ["bank.example"], "certificate_names": ["not a name"]},
            "tls": {"sender_domains": ["*"], "require_tls": True},
        },
    }
    (held,) = after(NOTHING, {"a": table}, 1).organizations
    assert held.accepted_domains == (Pattern("a.example"),)
    assert held.protect_sender_domains  # nobody can say that it was meant to be off
    assert not held.connectors_only
    assert held.connectors == ()
    bank, tls = held.partners
    assert bank.asks_for_certificate
    assert (tls.require_tls, tls.every_sender) == (True, True)


def test_two_held_ones_share_restrictions() -> None:
    same = {"accepted_domains": ["a.example"], "connectors": {"c": {"addresses": ["192.0.2.1"]}}}
    tables = {"a": same, "b": same | {"accepted_domains": ["*.a.example"], "connectors_only": True}}
    rules = rules_of(after(NOTHING, tables, 1))
    owner = rules.organization(rules.owner("deep.a.example"))
    assert (owner.name, owner.connectors_only, owner.connectors) == ("a", True, ())


# ------------------------------------------------------------------------------------------- laws

DOMAINS = (
    "a.example",
    "*.a.example",
    "x.a.example",
    "b.example",
    "*.b.example",
    "example",
    "xn--zca.example",
    "*.ss.example",
)


@st.composite
def tables(draw: st.DrawFn) -> Tables:
    """A few organizations in every kind of trouble."""
    found = {}
    for name in draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4)):
        table: dict[str, Any] = {"accepted_domains": draw(st.lists(st.sampled_from(DOMAINS), unique=True, max_size=2))}
        for key in ("delegated_domains",):
            if draw(st.booleans()):
                table[key] = [draw(st.sampled_from(DOMAINS[2:5]))]
        if draw(st.booleans()):
            table["connectors_only"] = True
        evidence: dict[str, Any] = {"addresses": [f"192.0.2.{draw(st.integers(1, 4))}"]}
        if draw(st.integers(0, 3)) == 0:
            evidence = {"certificate_names": [draw(st.sampled_from(("mail.a.example", "*.b.example")))]}
        if draw(st.integers(0, 3)) == 0:
            evidence["tlsa"] = [draw(st.sampled_from(("_x.mail.a.example", "mx.else.example", "mx.ss.example")))]
        if draw(st.integers(0, 4)) == 0:
            evidence["addresses"] = ["nonsense"]
        table["connectors"] = {"c": evidence}
        found[name] = table
    return found


def grants(organization: Organization) -> tuple[set[str], set[object]]:
    """What its connectors can be used for: domains, and evidence."""
    if not organization.connectors:
        return set(), set()
    evidence: set[object] = {item for one in organization.connectors for item in one.addresses}
    return {pattern.name for pattern in organization.accepted_domains}, evidence


@settings(max_examples=300, deadline=None)
@given(st.lists(tables(), min_size=1, max_size=4), tables())
def test_neither_grants_what_the_other_owns(history: list[Tables], filed: Tables) -> None:
    files = [parsed for parsed in from_files(filed) if parsed.sound][:1]
    standings = NOTHING
    for revision, step in enumerate(history, 1):
        before, standings = standings, after(standings, step, revision, files)
        rules = rules_of(standings, files)
        seen: set[str] = set()
        used: set[object] = set()
        for organization in rules.organizations():
            domains, evidence = grants(organization)
            assert not domains & seen
            assert not evidence & used
            seen |= domains
            used |= evidence
        # What the rows say is owned by nobody else than they say, and shielded.
        for name, table in step.items():
            if name in {parsed.organization.name for parsed in files} or forms(standings)[name] == "last good":
                continue  # the file says all about it; the last good rows do
            for text in table["accepted_domains"]:
                assert rules.zone(text.removeprefix("*.")) != NOBODY, (name, text)
        # Whatever else is in force, nothing of it is beyond the latest rows.
        for name, one in standings.by_name.items():
            if one.organization is not None:
                table = step[name]
                for pattern in one.organization.accepted_domains:
                    covering = {pattern.name, *(f"*.{above}" for above in upwards(pattern.name))}
                    assert covering & set(table["accepted_domains"]), (name, pattern)
                used_by = {str(item) for c in one.organization.connectors for item in c.addresses}
                assert used_by <= set(table["connectors"]["c"].get("addresses", ()))
        # Files and rows that were in force and have not changed stay as they are.
        for parsed in files:
            assert rules.organization(parsed.organization.name) == parsed.organization
        for name, one in before.by_name.items():
            unchanged = name in step and one.latest.document == json.dumps(step[name]) and not one.left_out
            if unchanged:
                assert standings.by_name[name].organization == one.organization
        # The order in which rows are read is no matter, and nothing changes when nothing does.
        again = after(before, dict(reversed(list(step.items()))), revision, files)
        assert forms(again) == forms(standings)
        assert set(again.organizations) == set(standings.organizations)
        assert forms(after(standings, step, revision, files)) == forms(standings)


@st.composite
def histories(draw: st.DrawFn) -> list[Tables]:
    """What a database holds after each of some transactions, which leave most of it as it is."""
    now: dict[str, Any] = {}
    found: list[Tables] = []
    for _ in range(draw(st.integers(2, 6))):
        now = {**now, **draw(tables())}
        for name in draw(st.lists(st.sampled_from("abcd"), max_size=2)):
            now.pop(name, None)
        found.append(dict(now))
    return found


ALIKE = {"connectors": {"c": {"addresses": ["192.0.2.1"]}}}


@settings(max_examples=300, deadline=None)
@example([{"a": ALIKE, "b": ALIKE}, {"b": ALIKE}], {})  # the reason why it was left out is gone
@example([{"b": SHARP}, {"b": SHARP, "a": SHARP_FOLDED}], {})
@example([{"b": SHARP_FOLDED}, {"b": SHARP_FOLDED, "a": SHARP}], {})
@example([{"b": HOSTED}, {"b": HOSTED, "a": {"accepted_domains": ["hosted.example"]}}], {})
@example([{"b": HOSTED}, {"b": HOSTED, "a": HOSTED}], {})
@given(histories(), tables())
def test_deciding_about_a_few_is_deciding_about_all(history: list[Tables], filed: Tables) -> None:
    files = [parsed for parsed in from_files(filed) if parsed.sound][:1]
    in_files = {parsed.organization.name: parsed for parsed in files}
    standings = after(NOTHING, history[0], 1, files)
    store = Store()
    store.replace_all((*(parsed.organization for parsed in files), *standings.organizations), 1, {})
    for revision, step in enumerate(history[1:], 2):
        with_rows, touched = read(standings, step, revision)
        expected = settled(with_rows, files, PROVIDER, 0.0)[0]
        found = changed(with_rows, touched, store.snapshot(), in_files, PROVIDER, 0.0)
        assert found is not None
        standings, delta = found
        assert forms(standings) == forms(expected)
        assert set(standings.organizations) == set(expected.organizations)
        assert standings.left_out == expected.left_out
        store.change(delta, revision)
        assert list(store.snapshot().organizations()) == list(rules_of(expected, files).organizations())
