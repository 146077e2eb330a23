"""Cases that `python -m tests.mutation` found no other test for: each fails for one small change of the code.

The comment behind a case names the change. Rules are compiled from the model directly where the configuration check
would refuse them (other sources than TOML may be less strict).
"""

from __future__ import annotations

from typing import Any

import pytest

from policyd.policy.attribution import decide
from policyd.policy.model import Connector, Organization, Partner, Rules, StoredCertificate
from policyd.policy.names import Pattern, canonical
from policyd.policy.networks import parse_network
from policyd.protocol.request import Request
from policyd.protocol.wire import REQUEST_LIMIT, RequestReader
from policyd.store.file import rule_set

CERTIFICATE, KEY = "AA" * 32, "BB" * 32


def accepting(name: str, *domains: str, connectors: tuple[Connector, ...] = ()) -> Organization:
    return Organization(name=name, accepted_domains=tuple(map(Pattern, domains)), connectors=connectors)


def test_pins_of_certificate_and_key_are_equal_evidence() -> None:
    """names of connectors decide between them, not the kind of pin (attribution: the length given to a pin)."""
    for first, second in (("a", "b"), ("b", "a")):
        connectors = (
            Connector(name=first, certificate_fingerprints=(CERTIFICATE,)),
            Connector(name=second, public_key_fingerprints=(KEY,)),
        )
        rules = rule_set(Rules(organizations=(accepting("contoso", "contoso.com", connectors=connectors),)))
        request = Request(
            protocol_state="RCPT",
            sender="x@contoso.com",
            recipient="y@other.example",
            ccert_fingerprint=CERTIFICATE,
            ccert_pubkey_fingerprint=KEY,
        )
        assert decide(rules, request)[2:] == ("contoso", "a")


@pytest.mark.parametrize("wildcard", [False, True])
@pytest.mark.parametrize("accepted", ["fabrikam.com", "mail.fabrikam.com"])
def test_foreign_name_matches_no_entry_whatever_the_check_let_through(wildcard: bool, accepted: str) -> None:
    """(attribution: the test for foreign names taken out, for exact entries)"""
    thief = Connector(name="a", certificate_names=(Pattern("mail.fabrikam.com", wildcard),))
    organizations = (accepting("contoso", "contoso.com", connectors=(thief,)), accepting("fabrikam", accepted))
    request = Request(
        protocol_state="RCPT",
        sender="x@contoso.com",
        recipient="y@other.example",
        ccert_subject="mail.fabrikam.com",
        ccert_fingerprint=CERTIFICATE,
    )
    decision = decide(rule_set(Rules(organizations=organizations)), request)
    assert (decision.action, decision.reason) == ("REJECT", "certificate-unknown")
    assert decide(rule_set(Rules(organizations=organizations[:1])), request).action == "OK"


@pytest.mark.parametrize("octets", [252, 253, 254, 255])
def test_longest_name(octets: int) -> None:
    """(names: 253 -> 254)"""
    text = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * (octets - 192)])
    assert len(text) == octets
    assert (canonical(text) is not None) == (octets <= 253)


def stored(certificate: str, key: str) -> StoredCertificate:
    return StoredCertificate("f.pem", (), frozenset({certificate}), frozenset({key}), 0)


def from_stranger(sender: str, **shown: str) -> Request:
    return Request(protocol_state="RCPT", sender=sender, recipient="y@contoso.com", **shown)


@pytest.mark.parametrize(
    ("certificate", "key", "met"),
    [(CERTIFICATE, "", True), ("", KEY, True), (CERTIFICATE, "CC" * 32, True), ("CC" * 32, "CC" * 32, False)],
)
def test_partner_s_certificate_file_counts_by_certificate_or_key(certificate: str, key: str, met: bool) -> None:
    """(attribution: `or` -> `and` between the two)"""
    bank = Partner(
        name="bank", sender_domains=(Pattern("bank.example"),), stored_certificates=(stored(CERTIFICATE, KEY),)
    )
    contoso = Organization(name="contoso", accepted_domains=(Pattern("contoso.com"),), partners=(bank,))
    request = from_stranger("a@bank.example", ccert_fingerprint=certificate, ccert_pubkey_fingerprint=key)
    decision = decide(rule_set(Rules(organizations=(contoso,))), request)
    assert (decision.action, decision.reason) == (("OK", "incoming") if met else ("REJECT", "partner-certificate"))


AT_BANK = {"client_address": "192.0.2.9", "encryption_protocol": "TLSv1.3"}


@pytest.mark.parametrize(
    ("sender", "shown", "asked", "passes"),
    [
        ("a@bank.example", AT_BANK, {"addresses": (parse_network("192.0.2.9")[0],)}, True),
        ("", AT_BANK, {"addresses": (parse_network("192.0.2.9")[0],)}, True),
        ("", {"client_address": "192.0.2.10"}, {"addresses": (parse_network("192.0.2.9")[0],)}, False),
        ("a@other.example", AT_BANK, {"addresses": (parse_network("192.0.2.9")[0],)}, False),
        ("a@bank.example", AT_BANK, {"require_tls": True}, False),
        ("", AT_BANK, {"require_tls": True}, False),
        ("", AT_BANK, {"certificate_fingerprints": (CERTIFICATE,)}, False),
        ("", AT_BANK | {"ccert_fingerprint": CERTIFICATE}, {"certificate_fingerprints": (CERTIFICATE,)}, True),
    ],
)
def test_who_passes_connectors_only(sender: str, shown: dict[str, str], asked: dict[str, Any], passes: bool) -> None:
    """(attribution: any of the three conditions of a partner that vouches taken out)"""
    bank = Partner(name="bank", sender_domains=(Pattern("bank.example"),), **asked)
    contoso = Organization(
        name="contoso", accepted_domains=(Pattern("contoso.com"),), connectors_only=True, partners=(bank,)
    )
    decision = decide(rule_set(Rules(organizations=(contoso,))), from_stranger(sender, **shown))
    assert (decision.action, decision.reason) == (("OK", "incoming") if passes else ("REJECT", "connectors-only"))


def test_request_that_can_no_longer_fit_is_given_up_at_once() -> None:
    """(wire: `>=` -> `>`) 64 KiB without an empty line cannot become a request of 64 KiB."""
    begin = b"request=smtpd_access_policy\nx="
    reader = RequestReader()
    assert reader.receive(begin + b"y" * (REQUEST_LIMIT - len(begin) - 1)) == []
    assert reader.error is None
    reader.receive(b"y")
    assert reader.error is not None


def test_what_came_before_is_no_part_of_a_half_request() -> None:
    """(wire: `len(buffer) - start` -> `+`) the limit counts from the begin of the request that is not whole yet."""
    whole = b"request=smtpd_access_policy\nx=" + b"y" * 40_000 + b"\n\n"
    reader = RequestReader()
    assert len(reader.receive(whole + whole + whole[:-1])) == 2
    assert reader.error is None
    assert len(reader.receive(b"\n")) == 1
