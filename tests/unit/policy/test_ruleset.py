"""Zones, owners, belonging and pending domains of a compiled configuration, and its bounded memos (SPEC 3.1, 3.3)."""

from __future__ import annotations

import pytest

from policyd.policy import ruleset
from policyd.policy.ruleset import NOBODY, RuleSet
from tests.helpers.compiled import compiled

TREE = """
[organizations.contoso]
accepted_domains = ["contoso.com", "*.contoso.net", "x.lab.contoso.net", "bücher.example"]
delegated_domains = ["lab.contoso.net"]
pending_domains = ["new.example", "*.wide.example"]

[organizations.fabrikam]
accepted_domains = ["lab.contoso.net", "*.w.lab.contoso.net", "fabrikam.com", "*.both.example", "both.example"]
delegated_domains = ["x.lab.contoso.net"]
pending_domains = ["wide.example"]

[organizations.empty]
"""


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return compiled(TREE)


ZONES_AND_OWNERS = [
    ("contoso.com", "contoso", "contoso"),
    ("a.contoso.com", "contoso", ""),  # in the zone, but contoso.com is no *.contoso.com
    ("com", "", ""),
    ("contoso.net", "contoso", "contoso"),
    ("a.contoso.net", "contoso", "contoso"),
    ("a.b.c.contoso.net", "contoso", "contoso"),
    ("lab.contoso.net", "fabrikam", "fabrikam"),
    ("deep.lab.contoso.net", "fabrikam", ""),  # contoso's *. does not reach through
    ("w.lab.contoso.net", "fabrikam", "fabrikam"),
    ("a.w.lab.contoso.net", "fabrikam", "fabrikam"),
    ("x.lab.contoso.net", "contoso", "contoso"),
    ("a.x.lab.contoso.net", "contoso", ""),  # nor does it reach through from below
    ("xn--bcher-kva.example", "contoso", "contoso"),
    ("fabrikam.com", "fabrikam", "fabrikam"),
    ("x.both.example", "fabrikam", "fabrikam"),
    ("both.example", "fabrikam", "fabrikam"),
    ("new.example", "", ""),
    ("other.example", "", ""),
    ("evilcontoso.net", "", ""),
]


@pytest.mark.parametrize(("name", "zone", "owner"), ZONES_AND_OWNERS)
def test_zone_and_owner(name: str, zone: str, owner: str, rules: RuleSet) -> None:
    assert rules.zone(name) == zone
    assert rules.owner(name) == owner
    domain = rules.domain_of(f"kate@{name}")
    assert (domain.name, domain.zone, domain.owner) == (name, rules.zone(name), rules.owner(name))


@pytest.mark.parametrize(
    ("name", "organization", "belongs"),
    [
        ("contoso.com", "contoso", True),
        ("mail.contoso.com", "contoso", True),  # one host label
        ("mail.eu.contoso.com", "contoso", False),
        ("mail.fabrikam.com", "fabrikam", True),
        ("mail.contoso.com", "fabrikam", False),
        ("a.b.contoso.net", "contoso", True),
        ("lab.contoso.net", "contoso", False),  # one label below contoso.net, but fabrikam's
        ("lab.contoso.net", "fabrikam", True),
        ("a.lab.contoso.net", "contoso", False),
        ("a.lab.contoso.net", "fabrikam", True),
        ("a.x.lab.contoso.net", "contoso", True),
        ("com", "contoso", False),
        ("lan", "contoso", False),
    ],
)
def test_belongs(name: str, organization: str, belongs: bool, rules: RuleSet) -> None:
    assert rules.belongs(name, organization) == belongs


@pytest.mark.parametrize(
    ("name", "claimed"),
    [
        ("new.example", {"contoso"}),
        ("a.new.example", set()),
        ("wide.example", {"contoso", "fabrikam"}),
        ("a.b.wide.example", {"contoso"}),
        ("contoso.com", set()),
    ],
)
def test_pending(name: str, claimed: set[str], rules: RuleSet) -> None:
    assert rules.domain_of(f"a@{name}").pending == claimed


@pytest.mark.parametrize("address", ["", "bob", "bob@", "bob@.", "bob@[203.0.113.1]", "bob@a..b", "bob@\udcff"])
def test_no_domain(address: str, rules: RuleSet) -> None:
    domain = rules.domain_of(address)
    assert (domain.name, domain.zone, domain.owner, domain.plain) == (None, NOBODY, NOBODY, False)
    assert not domain.pending


def test_organizations_come_by_name(rules: RuleSet) -> None:
    assert [organization.name for organization in rules.organizations()] == ["contoso", "empty", "fabrikam"]


def test_memos_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger who asks for a million domains costs no more memory than one who asks for a few."""
    monkeypatch.setattr(ruleset, "_MEMO_LIMIT", 10)
    rules = compiled(TREE)
    for number in range(1000):
        assert rules.domain_of(f"a@d{number}.contoso.net").owner == rules.owner("contoso.net")
        rules.remember_identity((f"{number}", "", "", "", ""), object(), 1)
        assert len(rules._domains) <= 10
        assert len(rules.identities) <= 10


def test_what_is_remembered_is_bounded_by_its_connectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that thousands of connectors share makes each remembered client a large one."""
    monkeypatch.setattr(ruleset, "_MATCHES_LIMIT", 100)
    rules = compiled(TREE)
    for number in range(50):
        rules.remember_identity((f"{number}", "", "", "", ""), object(), 30)
        assert len(rules.identities) <= 3


def test_long_texts_are_not_remembered() -> None:
    rules = compiled(TREE)
    rules.domain_of("a@" + "x" * 5000)
    rules.remember_identity(("x" * 5000, "", "", "", ""), object(), 1)
    assert not rules._domains
    assert not rules.identities


def test_the_same_spelling_again_is_answered_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = compiled(TREE)
    first = rules.domain_of("kate@CONTOSO.com")
    monkeypatch.setattr(ruleset, "canonical", lambda text: pytest.fail("worked out again"))
    assert rules.domain_of("bob@CONTOSO.com") is first
