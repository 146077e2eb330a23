"""What stands against registering a client, and against enabling a connector (SPEC 7)."""

from __future__ import annotations

import pytest

from policyd.explain.third_parties import ThirdParties, is_cut_out
from policyd.policy.model import NO_PROVIDER, Connector
from policyd.policy.names import Pattern
from policyd.policy.networks import parse_network
from tests.helpers.compiled import compiled

KEY, CERTIFICATE = "AB" * 32, "CD" * 32
RULES = f"""
[organizations.contoso]
accepted_domains = ["contoso.com"]
delegated_domains = ["lab.contoso.com", "given.contoso.com"]
outside_domains = ["news.contoso.com"]

[organizations.contoso.connectors.mail]
certificate_names = ["mail.contoso.com"]

[organizations.fabrikam]
accepted_domains = ["lab.contoso.com"]

[organizations.fabrikam.connectors.named]
certificate_names = ["mx.hosting.example", "*.shared.example"]

[organizations.fabrikam.connectors.off]
enabled = false
public_key_fingerprints = ["{KEY}"]
certificate_fingerprints = ["{CERTIFICATE}"]
addresses = ["192.0.2.0/28"]
"""
CONTOSO = 0


@pytest.mark.parametrize(
    ("evidence", "may"),
    [
        ({"public_key_fingerprints": (KEY,)}, False),
        ({"public_key_fingerprints": (CERTIFICATE,)}, True),
        ({"certificate_fingerprints": (CERTIFICATE,)}, False),
        ({"addresses": (parse_network("192.0.2.8-192.0.2.99")[0],)}, False),
        ({"addresses": (parse_network("192.0.2.16-192.0.2.99")[0],)}, True),
        ({"certificate_names": (Pattern("hosting.example", True),)}, False),
        ({"certificate_names": (Pattern("a.b.shared.example"),)}, False),
        ({"certificate_names": (Pattern("other.example"),)}, True),
    ],
)
def test_enabling(evidence: dict[str, tuple[object, ...]], may: bool) -> None:
    connector = Connector(name="c", enabled=False, **evidence)  # type: ignore[arg-type]
    assert ThirdParties(compiled(RULES), NO_PROVIDER).may_be_enabled(CONTOSO, connector) is may


@pytest.mark.parametrize(
    ("name", "cut_out"),
    [
        ("contoso.com", False),
        ("mail.contoso.com", False),
        ("given.contoso.com", True),
        ("mx.given.contoso.com", True),
        ("news.contoso.com", True),
        ("mx.news.contoso.com", True),
        ("lab.contoso.com", False),
        ("mx.lab.contoso.com", False),
        ("elsewhere.example", False),
    ],
)
def test_given_away_or_hosted_elsewhere(name: str, cut_out: bool) -> None:
    assert is_cut_out(compiled(RULES), name) is cut_out
