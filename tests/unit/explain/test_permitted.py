"""What `explain` may propose to accept: nothing that `policyd check` would refuse for another organization's sake."""

from __future__ import annotations

import pytest

from policyd.explain.permitted import organization_may_accept
from policyd.policy.ruleset import RuleSet
from tests.helpers.compiled import compiled

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com", "*.contoso.net", "both.contoso.net"]
delegated_domains = ["lab.contoso.net", "both.contoso.net"]

[organizations.fabrikam]
accepted_domains = ["fabrikam.example", "*.deep.below.example", "mx.shop.example"]

[organizations.fabrikam.connectors.named]
certificate_names = ["mail.named.example", "*.wide.example", "a.mx.shop.example", "a.deep.below.example"]

[organizations.northwind]
accepted_domains = ["northwind.example"]
delegated_domains = ["deep.below.example"]

[organizations.northwind.connectors.own]
certificate_names = ["mail.own.example"]

[organizations.zenith]
accepted_domains = ["mx.late.example", "straße.example", "weiss.example"]

[organizations.zenith.connectors.pinned]
tlsa = ["_25._tcp.mx.hosted.example"]
"""
ROWS = (
    ("new.example", True, "nobody's"),
    ("x.northwind.example", True, "below its own"),
    ("own.example", True, "its own certificate's domain"),
    ("contoso.com", False, "taken"),
    ("x.contoso.com", False, "below one that is taken and not delegated"),
    ("x.contoso.net", False, "below a wildcard"),
    ("lab.contoso.net", True, "delegated"),
    ("x.lab.contoso.net", True, "below a delegated one"),
    ("both.contoso.net", False, "delegated, and still accepted there"),
    ("below.example", True, "above one of another, to which it is delegated"),
    ("shop.example", False, "above one of another"),
    ("late.example", False, "above one of another, whatever its name"),
    ("named.example", False, "above a certificate name of another"),
    ("mail.named.example", False, "a certificate name of another"),
    ("wide.example", False, "a wildcard certificate name of another"),
    ("x.wide.example", True, "below it: the name of that certificate stays who it was"),
    ("example", False, "above all"),
    ("127.0.0.1", False, "no host name"),
    ("_x.example", True, "an underscore is a letter like any other"),
    ("strasse.example", False, "another's folds into it"),
    ("xn--wei-7ka.example", False, "it folds into another's"),
    ("xn--fu-hia.example", True, "it folds into nobody's"),
    ("hosted.example", False, "above the TLSA host of another"),
    ("co.uk", False, "a public suffix"),
    ("com", False, "a public suffix"),
    ("northwind.co.uk", True, "below one"),
)


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return compiled(RULES)


@pytest.mark.parametrize(("name", "may", "why"), ROWS, ids=[row[0] for row in ROWS])
def test_organization_may_accept(name: str, may: bool, why: str, rules: RuleSet) -> None:
    assert organization_may_accept(rules, "northwind", name) is may, why
