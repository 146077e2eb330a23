"""What `explain` tells of a request: the facts, each connector that concerns it, and why it did not match (SPEC 7)."""

from __future__ import annotations

from typing import Any

import pytest

from policyd.explain.walk import Step, explain
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request
from tests.helpers.compiled import compiled
from tests.strategies import CERTIFICATE_FOLDER

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com", "*.contoso.net"]
delegated_domains = ["lab.contoso.net"]
pending_domains = ["contoso-new.com"]
protect_sender_domains = true
connectors_only = true

[organizations.contoso.connectors.cert]
certificate_names = ["*.contoso.com", "*.contoso.net"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]

[organizations.contoso.connectors.both]
certificate_names = ["scanner.devices.example"]
addresses = ["203.0.113.80/29"]

[organizations.contoso.connectors.off]
enabled = false
addresses = ["198.51.100.9"]

[organizations.contoso.connectors.pin]
public_key_fingerprints = ["aa:bb:cc:dd:aa:bb:cc:dd:aa:bb:cc:dd:aa:bb:cc:dd"]

[organizations.contoso.connectors.tls]
addresses = ["198.51.100.64/29"]
require_tls = true

[organizations.contoso.partners.bank]
sender_domains = ["bank.example"]
require_tls = true

[organizations.fabrikam]
accepted_domains = ["lab.contoso.net", "fabrikam.com"]
"""


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return compiled(RULES)


def asked(**attributes: str) -> Request:
    given = {
        "protocol_state": "RCPT",
        "client_address": "198.51.100.9",
        "sender": "kate@contoso.com",
        "recipient": "x@other.example",
    }
    return Request(**(given | attributes))


def steps(rules: RuleSet, about: str, **attributes: str) -> dict[str, str]:
    """The text of each step about something, by connector (or the text itself where it is of none)."""
    told = explain(rules, asked(**attributes)).steps
    return {step.connector or step.text: step.text for step in told if step.about == about}


@pytest.mark.parametrize(
    ("address", "private"), [("172.17.0.1", True), ("100.64.0.1", True), ("fd00::1", True), ("198.51.100.9", False)]
)
def test_a_private_address_is_told(address: str, private: bool, rules: RuleSet) -> None:
    (text, *_) = steps(rules, "client", client_address=address)
    assert text.startswith(f"from {address}, without TLS")
    assert (
        text.endswith("; a private address: if it is a container's or NAT gateway, every client arrives with it")
        is private
    )


def test_why_each_connector_did_not_match(rules: RuleSet) -> None:
    """All of the organization that the mail concerns are told of, each with the first point at which it fails."""
    told = steps(rules, "connector")
    expected = {
        "cert": "asks for a certificate, and the client showed none",
        "branch": "the client's address is none of its addresses",
        "both": "asks for a certificate, and the client showed none",
        "off": "disabled",
        "pin": "asks for a certificate, and the client showed none",
        "tls": "the client's address is none of its addresses",
    }
    assert told.keys() == expected.keys()
    assert all(told[connector].startswith(text) for connector, text in expected.items())


UNTRUSTED = {"ccert_fingerprint": "AA:" * 15 + "AA", "ccert_pubkey_fingerprint": "BB:" * 15 + "BB"} | {
    "encryption_protocol": "TLSv1.3"
}
TRUSTED = UNTRUSTED | {"ccert_issuer": "CA"}
WHY_NOT: list[tuple[str, dict[str, str], str]] = [
    ("cert", UNTRUSTED, "did not verify"),
    ("pin", UNTRUSTED, "asks for another certificate"),
    ("cert", TRUSTED, "has no CN"),
    ("cert", TRUSTED | {"ccert_subject": "Acme+20Appliance"}, "is no host name"),
    ("cert", TRUSTED | {"ccert_subject": "mail.evil.example"}, "asks for another certificate"),
    ("cert", TRUSTED | {"ccert_subject": "mx.lab.contoso.net"}, "another organization's domain"),
    ("both", TRUSTED | {"ccert_subject": "scanner.devices.example"}, "none of its addresses"),
    ("tls", {"client_address": "198.51.100.65"}, "asks for TLS"),
]


@pytest.mark.parametrize(("connector", "attributes", "told"), WHY_NOT, ids=range(len(WHY_NOT)))
def test_why_not(connector: str, attributes: dict[str, str], told: str, rules: RuleSet) -> None:
    assert told in steps(rules, "connector", **attributes)[connector]


def test_what_matched(rules: RuleSet) -> None:
    found = explain(rules, asked(client_address="203.0.113.5")).steps
    (branch,) = [step for step in found if step.connector == "branch" and step.about == "connector"]
    assert branch == Step("connector", "identifies the client by its address; row 3 holds", "contoso", "branch", True)
    away = explain(rules, asked(client_address="203.0.113.5", sender="a@elsewhere.example")).steps
    (branch,) = [step for step in away if step.connector == "branch" and step.about == "connector"]
    assert branch.holds is False
    assert "neither sender nor recipient" in branch.text


DOMAINS = [
    ("sender", "kate@contoso.com", "contoso.com is accepted for contoso"),
    ("sender", "", "the null sender: in no domain"),
    ("sender", "root", "the sender has no domain"),
    ("recipient", "a@x.contoso.com", "x.contoso.com is accepted for nobody, in the zone of contoso"),
    ("recipient", "a@CONTOSO.com.", "contoso.com is accepted for contoso"),
    ("recipient", "a@ｃontoso.com", "contoso.com is accepted for contoso, but not spelt plainly"),
    ("recipient", "a@contoso-new.com", "contoso-new.com is accepted for nobody, pending for contoso"),
    ("recipient", "a@[192.0.2.1]", '"[192.0.2.1]" is no domain name'),
]


@pytest.mark.parametrize(("which", "address", "told"), DOMAINS)
def test_domains(which: str, address: str, told: str, rules: RuleSet) -> None:
    assert told in steps(rules, which, **{which: address})


CERTIFICATES: list[tuple[dict[str, str], str]] = [
    ({}, "no client certificate (it needs TLS)"),
    ({"encryption_protocol": "TLSv1.3"}, "none sent, or smtpd_tls_ask_ccert = no"),
    (UNTRUSTED, "did not verify"),
    (TRUSTED, "without a CN"),
    (TRUSTED | {"ccert_subject": "Acme+20Appliance"}, 'whose CN "Acme+20Appliance" is no host name'),
    (TRUSTED | {"ccert_subject": "*.Contoso.com"}, "a verified certificate named *.contoso.com"),
]


@pytest.mark.parametrize(("attributes", "told"), CERTIFICATES, ids=range(len(CERTIFICATES)))
def test_the_certificate(attributes: dict[str, str], told: str, rules: RuleSet) -> None:
    assert any(told in text for text in steps(rules, "client", **attributes))


def test_partners_and_guards(rules: RuleSet) -> None:
    told = explain(rules, asked(sender="t@bank.example", recipient="k@contoso.com"))
    assert told.decision.reason == "partner-tls"
    assert any(step.about == "partner" and step.connector == "bank" and step.holds is False for step in told.steps)
    assert any(step.about == "organization" and "connectors and partners only" in step.text for step in told.steps)
    protected = explain(rules, asked(recipient="k@fabrikam.com"))
    assert protected.decision.reason == "sender-protected"
    assert any(step.about == "organization" and step.holds is False for step in protected.steps)


def test_the_last_step_is_the_decision(rules: RuleSet) -> None:
    for request in (asked(), asked(protocol_state="DATA"), asked(recipient="bob")):
        told = explain(rules, request)
        assert told.steps[-1].about == "decision"
        assert (told.steps[-1].organization, told.steps[-1].connector) == told.decision[2:]


def test_a_connector_of_another_organization_that_looks_the_same_is_told_apart() -> None:
    """Two organizations with equal connectors, one of which does not match since the name lies in the other's zone."""
    table: dict[str, Any] = {"connectors": {"c": {"certificate_names": ["*.example.net"]}}}
    rules = compiled(
        {
            "organizations": {
                "a": table | {"accepted_domains": ["a.example.net"]},
                "b": table | {"accepted_domains": ["b.example.net"]},
            }
        }
    )
    request = asked(ccert_subject="mx.a.example.net", ccert_issuer="CA", sender="k@b.example.net")
    told = {step.organization: step for step in explain(rules, request).steps if step.about == "connector"}
    assert told["a"].holds is True
    assert told["b"].holds is False
    assert "another organization's domain" in told["b"].text


def test_misses_of_every_kind_can_be_ranked() -> None:
    """Two ways to let this client in, one of them ranked by more than the other: sorting must not break over it."""
    config = {
        "organizations": {
            "contoso": {
                "accepted_domains": ["dept.contoso.com", "lab.contoso.net"],
                "connectors": {"ip": {"certificate_files": [str(CERTIFICATE_FOLDER / "cn-and-san.pem")]}},
            }
        }
    }
    request = asked(sender="", recipient="bob@host.lan", client_address="", ccert_subject="lab.contoso.net")
    assert explain(compiled(config), request).decision.reason == "certificate-unknown"


def test_whose_server_it_is_by_a_connector_that_is_disabled() -> None:
    """The operator is told whom to ask; what is said instead of a proposal names nobody."""
    listed = f'[organizations.fabrikam.connectors.off]\nenabled = false\npublic_key_fingerprints = ["{"AB" * 32}"]\n'
    told = explain(compiled(RULES + listed), asked(encryption_protocol="TLSv1.3", ccert_pubkey_fingerprint="AB" * 32))
    (step,) = [step for step in told.steps if step.organization == "fabrikam"]
    assert step == Step("organization", "lists the client's certificate, key, name or address", "fabrikam")
    (hint,) = told.hints
    assert (hint.organization, "fabrikam" in hint.text) == ("contoso", False)
    assert all(near_miss.proposal.change is None for near_miss in told.near_misses)
