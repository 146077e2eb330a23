"""Fine points of who is identified and to whom mail is attributed, one small configuration each (SPEC 3.2 to 3.4).

The worked cases and the comparison with the reference cover the rules at large; here stand the ties, the corners and
what must hold at the edges of a condition, each with the reason why it is so.
"""

from __future__ import annotations

from typing import Any

import pytest

from policyd.policy.attribution import decide
from policyd.policy.identity import (
    ADDRESS_ONLY,
    EXACT_NAME,
    PIN,
    WILDCARD_NAME,
    Client,
    certificate_name,
    client_of,
    identify,
    identity_of,
    name_matches,
)
from policyd.protocol.request import Request
from tests.helpers.compiled import compiled
from tests.strategies import CERTIFICATE_FOLDER, FILE_DIGESTS

PIN_A, PIN_B = "aa" * 32, "bb" * 20


def asked(**attributes: str) -> Request:
    given = {
        "protocol_state": "RCPT",
        "client_address": "198.51.100.9",
        "sender": "john@elsewhere.example",
        "recipient": "x@other.example",
    }
    return Request(**(given | attributes))


def by_name(name: str, **attributes: str) -> Request:
    """From a client with a verified certificate."""
    shown = {
        "ccert_subject": name,
        "ccert_issuer": "CA",
        "ccert_fingerprint": "CC:DD",
        "encryption_protocol": "TLSv1.3",
    }
    return asked(**(shown | attributes))


def organizations(**tables: dict[str, Any]) -> dict[str, Any]:
    return {"organizations": tables}


def outcome(config: dict[str, Any], request: Request) -> tuple[str, str, str, str]:
    return tuple(decide(compiled(config), request))  # type: ignore[return-value]


# --- the client -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "name", "wildcard"),
    [
        ("mail.contoso.com", "mail.contoso.com", False),
        ("*.contoso.com", "contoso.com", True),
        ("*.CONTOSO.com.", "contoso.com", True),
        ("", None, False),
        (None, None, False),
        ("*.", None, False),
        ("*", None, False),
        ("*.*.contoso.com", None, False),
        ("*x.contoso.com", None, False),
        ("*mail.contoso.com", None, False),
        ("a.*.contoso.com", None, False),
        (" mail.contoso.com", None, False),
        ("mail.contoso.com\n", None, False),
        ("kate@contoso.com", None, False),
    ],
)
def test_certificate_name(subject: str | None, name: str | None, wildcard: bool) -> None:
    assert certificate_name(subject) == (name, wildcard)


def test_the_facts_of_a_client() -> None:
    request = asked(
        client_address="::ffff:203.0.113.5",
        ccert_subject="*.B+C3+BCcher.example",
        ccert_fingerprint="aa:Bb",
        ccert_pubkey_fingerprint="CC:dd",
        encryption_protocol="TLSv1.2",
    )
    shown = client_of(request)
    assert shown == Client((4, 0xCB007105), "xn--bcher-kva.example", True, "AABB", "CCDD", True)
    assert client_of(Request()) == Client(None, None, False, "", "", False)


@pytest.mark.parametrize(
    ("entry", "wildcard", "cn", "matches"),
    [
        ("contoso.com", False, "contoso.com", True),
        ("contoso.com", False, "*.contoso.com", False),
        ("contoso.com", False, "mail.contoso.com", False),
        ("contoso.com", True, "contoso.com", True),
        ("contoso.com", True, "mail.contoso.com", True),
        ("contoso.com", True, "a.b.contoso.com", True),
        ("contoso.com", True, "*.contoso.com", True),
        ("contoso.com", True, "*.y.contoso.com", True),
        ("contoso.com", True, "evilcontoso.com", False),
        ("contoso.com", True, "com", False),
        ("contoso.com", True, "*.com", False),
        ("contoso.com", True, "", False),
    ],
)
def test_entries_and_names(entry: str, wildcard: bool, cn: str, matches: bool) -> None:
    name, is_wildcard = certificate_name(cn)
    shown = Client(None, name, is_wildcard, "", "", True)
    assert name_matches(entry, wildcard, shown) == matches
    text = f"*.{entry}" if wildcard else entry
    rules = compiled(organizations(a={"connectors": {"c": {"certificate_names": [text]}}}))
    assert bool(identify(rules, shown).matches) == matches


def test_an_empty_fingerprint_matches_nothing() -> None:
    config = organizations(
        a={
            "accepted_domains": ["a.example"],
            "connectors": {"c": {"certificate_fingerprints": [PIN_A], "public_key_fingerprints": [PIN_B]}},
        }
    )
    assert not identify(compiled(config), client_of(asked())).matches


# --- identity -------------------------------------------------------------------------------------------------------

EVIDENCE = organizations(
    a={
        "accepted_domains": ["a.example"],
        "connectors": {
            "c": {
                "certificate_names": ["*.a.example", "mail.a.example", "*.mail.a.example"],
                "public_key_fingerprints": [PIN_A],
                "addresses": ["203.0.113.0/24", "203.0.113.16/28"],
            }
        },
    }
)


@pytest.mark.parametrize(
    ("attributes", "kind", "name_length", "prefix_length"),
    [
        ({"ccert_subject": "mail.a.example"}, EXACT_NAME, len("mail.a.example"), 28),
        ({"ccert_subject": "x.a.example"}, WILDCARD_NAME, len("a.example"), 28),
        ({"ccert_subject": "x.mail.a.example"}, WILDCARD_NAME, len("mail.a.example"), 28),
        ({"ccert_subject": "*.mail.a.example"}, WILDCARD_NAME, len("mail.a.example"), 28),
        ({"ccert_subject": "mail.a.example", "ccert_pubkey_fingerprint": PIN_A}, PIN, 0, 28),
        ({"ccert_pubkey_fingerprint": PIN_A, "client_address": "203.0.113.99"}, PIN, 0, 24),
    ],
)
def test_the_best_evidence_counts(attributes: dict[str, str], kind: int, name_length: int, prefix_length: int) -> None:
    request = asked(**({"client_address": "203.0.113.17"} | attributes))
    (match,) = identify(compiled(EVIDENCE), client_of(request)).matches
    assert (match.kind, match.name_length, match.prefix_length) == (kind, name_length, prefix_length)


def test_a_wildcard_entry_belongs_whatever_the_name_below_it() -> None:
    """x.y.a.example is two labels below a.example, but the entry's own name counts too (condition D)."""
    config = organizations(
        a={"accepted_domains": ["a.example"], "connectors": {"c": {"certificate_names": ["*.a.example"]}}}
    )
    assert outcome(config, by_name("x.y.a.example")) == ("OK", "certificate-domain", "a", "c")
    exact = organizations(
        a={"accepted_domains": ["a.example"], "connectors": {"c": {"certificate_names": ["x.y.a.example"]}}}
    )
    assert outcome(exact, by_name("x.y.a.example"))[1] == "not-your-domain"


def test_the_name_of_a_pinned_certificate_counts_for_d_when_postfix_sent_it() -> None:
    config = organizations(
        a={"accepted_domains": ["a.example"], "connectors": {"c": {"certificate_fingerprints": [PIN_A]}}}
    )
    assert outcome(config, by_name("mail.a.example", ccert_fingerprint=PIN_A)) == ("OK", "certificate-domain", "a", "c")
    assert outcome(config, asked(ccert_fingerprint=PIN_A))[1] == "not-your-domain"


def test_a_foreign_name_is_no_name_but_a_pin_holds() -> None:
    """The certificate's name lies in b's zone: a's names do not match it; a's pin does, and gives no D."""
    config = organizations(
        a={
            "accepted_domains": ["*.a.example"],
            "delegated_domains": ["b.a.example"],
            "connectors": {"names": {"certificate_names": ["*.a.example"]}},
        },
        b={"accepted_domains": ["b.a.example"]},
    )
    foreign = by_name("mx.b.a.example", sender="kate@a.example")
    assert outcome(config, foreign)[1] == "certificate-unknown"
    config["organizations"]["a"]["connectors"]["pin"] = {"certificate_fingerprints": [PIN_A]}
    pinned = foreign._replace(ccert_fingerprint=PIN_A)
    assert outcome(config, pinned) == ("OK", "sender-domain", "a", "pin")
    assert outcome(config, pinned._replace(sender=""))[1] == "not-your-domain"


def test_the_zone_of_a_name_that_nobody_owns_is_foreign_all_the_same() -> None:
    """b.example is accepted without its subdomains, but mx.b.example is b's zone."""
    config = organizations(
        a={"accepted_domains": ["a.example"], "connectors": {"c": {"certificate_names": ["*.example.net"]}}},
        b={"accepted_domains": ["b.example.net"]},
    )
    assert outcome(config, by_name("x.mx.b.example.net", sender="k@a.example"))[1] == "certificate-unknown"
    assert outcome(config, by_name("mx.example.net", sender="k@a.example"))[0] == "OK"


@pytest.mark.parametrize(
    ("table", "request_", "reason"),
    [
        ({"addresses": ["203.0.113.5"], "require_tls": True}, asked(client_address="203.0.113.5"), "tls-required"),
        (
            {"addresses": ["203.0.113.5"], "require_tls": True, "enabled": False},
            asked(client_address="203.0.113.5"),
            "no-connector",
        ),
        (
            {"addresses": ["203.0.113.5"], "require_tls": True, "certificate_names": ["mail.a.example"]},
            asked(client_address="203.0.113.5"),
            "no-connector",  # TLS alone would not do
        ),
        (
            {"addresses": ["203.0.113.5"], "certificate_names": ["mail.a.example"]},
            by_name("mail.a.example"),
            "certificate-unknown",
        ),
    ],
)
def test_what_is_missing(table: dict[str, Any], request_: Request, reason: str) -> None:
    config = organizations(a={"accepted_domains": ["a.example"], "connectors": {"c": table}})
    assert outcome(config, request_._replace(sender="kate@a.example"))[1] == reason


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "no-connector"),
        ({"encryption_protocol": "TLSv1.3"}, "no-connector"),
        ({"ccert_fingerprint": "AA"}, "certificate-untrusted"),
        ({"ccert_pubkey_fingerprint": "AA"}, "certificate-untrusted"),
        ({"ccert_fingerprint": "AA", "ccert_subject": "x"}, "certificate-unknown"),
        ({"ccert_fingerprint": "AA", "ccert_issuer": "CA"}, "certificate-unknown"),
        ({"ccert_pubkey_fingerprint": "AA", "ccert_issuer": "CA"}, "certificate-unknown"),
        ({"ccert_subject": "x"}, "certificate-unknown"),
        ({"ccert_issuer": "CA"}, "certificate-unknown"),
    ],
)
def test_why_nobody_was_identified(attributes: dict[str, str], reason: str) -> None:
    config = organizations(a={"accepted_domains": ["a.example"]})
    assert outcome(config, asked(**attributes)) == ("REJECT", reason, "", "")
    closed = config | {"policy": {"incoming": "REJECT"}}
    incoming = asked(**attributes, recipient="kate@a.example")
    assert outcome(closed, incoming)[1] == ("incoming-refused" if reason == "no-connector" else reason)


# --- ties -----------------------------------------------------------------------------------------------------------


def shared(**connectors: dict[str, Any]) -> dict[str, Any]:
    """One organization with the domains a.example and b.example."""
    return organizations(a={"accepted_domains": ["a.example", "b.example"], "connectors": connectors})


TIES = [
    # row before row: what holds by itself for one connector wins over a later row of another
    (
        shared(z={"certificate_names": ["mail.a.example"]}, a={"addresses": ["198.51.100.9"]}),
        by_name("mail.a.example", sender="k@a.example"),
        ("certificate-domain", "z"),
    ),
    (
        shared(z={"certificate_names": ["mail.cloud.example"]}, a={"addresses": ["198.51.100.9"]}),
        by_name("mail.cloud.example", sender="k@a.example"),
        ("sender-domain", "z"),
    ),
    (
        shared(z={"certificate_names": ["mail.cloud.example"]}, a={"addresses": ["198.51.100.9"]}),
        by_name("mail.cloud.example", recipient="k@a.example"),
        ("recipient-domain", "z"),
    ),
    # within a row: pin before exact before wildcard
    (
        shared(
            a={"certificate_names": ["*.cloud.example"]},
            b={"certificate_names": ["mx.cloud.example"]},
            c={"certificate_fingerprints": [PIN_A]},
        ),
        by_name("mx.cloud.example", sender="k@a.example", ccert_fingerprint=PIN_A),
        ("sender-domain", "c"),
    ),
    (
        shared(a={"certificate_names": ["*.cloud.example"]}, b={"certificate_names": ["mx.cloud.example"]}),
        by_name("mx.cloud.example", sender="k@a.example"),
        ("sender-domain", "b"),
    ),
    # longer before shorter name
    (
        shared(a={"certificate_names": ["*.cloud.example"]}, b={"certificate_names": ["*.eu.cloud.example"]}),
        by_name("mx.eu.cloud.example", sender="k@a.example"),
        ("sender-domain", "b"),
    ),
    # longer prefix first
    (
        shared(a={"addresses": ["198.51.100.0/28"]}, b={"addresses": ["198.51.100.8/30"]}),
        asked(sender="k@a.example"),
        ("sender-domain", "b"),
    ),
    (
        shared(
            a={"certificate_names": ["mx.cloud.example"]},
            b={"certificate_names": ["mx.cloud.example"], "addresses": ["198.51.100.0/28"]},
        ),
        by_name("mx.cloud.example", sender="k@a.example"),
        ("sender-domain", "b"),
    ),
    # then the connector's name
    (
        shared(b={"addresses": ["198.51.100.9"]}, a={"addresses": ["198.51.100.9"]}),
        asked(sender="k@a.example"),
        ("sender-domain", "a"),
    ),
    # a range counts as the block of it that holds the address: .9 is in 198.51.100.8/31 of the range
    (
        shared(a={"addresses": ["198.51.100.8/30"]}, b={"addresses": ["198.51.100.5-198.51.100.9"]}),
        asked(sender="k@a.example"),
        ("sender-domain", "b"),
    ),
]


@pytest.mark.parametrize(("config", "request_", "expected"), TIES, ids=range(len(TIES)))
def test_ties(config: dict[str, Any], request_: Request, expected: tuple[str, str]) -> None:
    assert outcome(config, request_) == ("OK", expected[0], "a", expected[1])


def two(**common: Any) -> dict[str, Any]:
    """Organizations a and z that share a certificate name below nobody's domain."""
    connector = {"c": {"certificate_names": ["mx.cloud.example"]} | common}
    return organizations(
        a={"accepted_domains": ["a.example"], "connectors": connector},
        z={"accepted_domains": ["z.example"], "connectors": connector},
    )


@pytest.mark.parametrize(
    ("sender", "recipient", "expected"),
    [
        ("k@a.example", "x@other.example", ("sender-domain", "a")),
        ("k@z.example", "x@other.example", ("sender-domain", "z")),
        ("k@z.example", "k@a.example", ("sender-domain", "z")),  # S stands in an earlier row than R
        ("", "k@z.example", ("recipient-domain", "z")),
        ("k@a.example", "k@a.example", ("sender-domain", "a")),
    ],
)
def test_a_shared_name_belongs_to_whose_mail_it_is(sender: str, recipient: str, expected: tuple[str, str]) -> None:
    request = by_name("mx.cloud.example", sender=sender, recipient=recipient)
    assert outcome(two(), request) == ("OK", expected[0], expected[1], "c")


@pytest.mark.parametrize(
    ("sender", "recipient", "organization"),
    [
        ("k@z.example", "x@other.example", "z"),  # S before not S
        ("k@elsewhere.example", "k@z.example", "z"),  # R before not R
        ("k@z.example", "k@a.example", "z"),  # S weighs more than R
        ("k@elsewhere.example", "x@other.example", "a"),  # then the name
    ],
)
def test_within_row_1_sender_and_recipient_decide(sender: str, recipient: str, organization: str) -> None:
    """Two organizations stored one certificate, which carries a name of each: D holds for both."""
    table = {"connectors": {"c": {"certificate_files": [str(CERTIFICATE_FOLDER / "cn-and-san.pem")]}}}
    config = organizations(
        a=table | {"accepted_domains": ["a.example", "contoso.net"]},
        z=table | {"accepted_domains": ["z.example", "signatures.example"]},
    )
    certificate, _ = FILE_DIGESTS["cn-and-san.pem"]["sha256"]
    request = asked(sender=sender, recipient=recipient, ccert_fingerprint=certificate)
    assert outcome(config, request) == ("OK", "certificate-domain", organization, "c")


def test_an_oddly_spelt_recipient_is_no_r_and_no_incoming() -> None:
    config = shared(c={"addresses": ["198.51.100.9"]})
    assert outcome(config, asked(recipient="k@a.example."))[1] == "recipient-domain"
    assert outcome(config, asked(recipient="k@ａ.example"))[1] == "not-your-domain"
    assert outcome(config, asked(recipient="k@ａ.example", client_address="192.0.2.1"))[1] == "no-connector"
    assert outcome(config, asked(sender="k@ａ.example"))[1] == "sender-domain", "of the sender any spelling will do"


# --- whom a refusal names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipient", ["bob", "x%y@other.example", "x@other.example"])
def test_a_refusal_names_who_was_identified_when_that_is_one(recipient: str) -> None:
    one = organizations(
        a={"accepted_domains": ["a.example"], "connectors": {"c": {"certificate_names": ["mx.cloud.example"]}}}
    )
    request = by_name("mx.cloud.example", recipient=recipient)
    assert outcome(one, request)[2:] == ("a", "c")
    assert outcome(two(), request)[2:] == ("", "")


# --- what is taken back ---------------------------------------------------------------------------------------------


def guarded(**table: Any) -> dict[str, Any]:
    """Organization u with one accepted domain and a connector for mail.u.example, and organization v beside it."""
    return organizations(
        u={
            "accepted_domains": ["*.u.example"],
            "delegated_domains": ["v.u.example"],
            "connectors": {"c": {"certificate_names": ["mail.u.example"]}, "ip": {"addresses": ["203.0.113.5"]}},
        }
        | table,
        v={"accepted_domains": ["v.u.example", "v.example"], "connectors": {"c": {"addresses": ["198.51.100.9"]}}},
    )


BANK = {"sender_domains": ["*.bank.example"], "require_tls": True, "certificate_names": ["mail.bank.example"]}
ANYBODY = {"sender_domains": ["*"], "addresses": ["192.0.2.0/24"]}
TAKEN_BACK = [
    ({"connectors_only": True}, asked(recipient="k@u.example"), ("REJECT", "connectors-only", "u", "")),
    # identified by u, whatever the conditions
    (
        {"connectors_only": True},
        asked(recipient="k@u.example", client_address="203.0.113.5"),
        ("OK", "recipient-domain", "u", "ip"),
    ),
    # also what another organization's connector was granted
    (
        {"connectors_only": True},
        asked(recipient="k@u.example", sender="k@v.example"),
        ("REJECT", "connectors-only", "u", ""),
    ),
    ({"connectors_only": True}, asked(recipient="k@v.u.example"), ("OK", "recipient-domain", "v", "c")),
    # partners
    ({"partners": {"bank": BANK}}, asked(recipient="k@u.example"), ("OK", "incoming", "u", "")),
    (
        {"partners": {"bank": BANK}},
        asked(recipient="k@u.example", sender="t@x.bank.example"),
        ("REJECT", "partner-tls", "u", ""),
    ),
    (
        {"partners": {"bank": BANK}},
        by_name("evil.example", recipient="k@u.example", sender="t@bank.example"),
        ("REJECT", "partner-certificate", "u", ""),
    ),
    (
        {"partners": {"bank": BANK | {"enabled": False}}},
        asked(recipient="k@u.example", sender="t@bank.example"),
        ("OK", "incoming", "u", ""),
    ),
    (
        {"partners": {"bank": BANK}},
        asked(recipient="k@u.example", sender="t@bank.example", client_address="203.0.113.5"),
        ("OK", "recipient-domain", "u", "ip"),
    ),
    # `*` covers every sender, also the null one
    ({"partners": {"all": ANYBODY}}, asked(recipient="k@u.example", sender=""), ("REJECT", "partner-address", "u", "")),
    (
        {"partners": {"all": ANYBODY}},
        asked(recipient="k@u.example", sender="", client_address="192.0.2.7"),
        ("OK", "incoming", "u", ""),
    ),
    # the first unmet partner by name
    (
        {"partners": {"b": BANK, "a": ANYBODY}},
        asked(recipient="k@u.example", sender="t@bank.example"),
        ("REJECT", "partner-address", "u", ""),
    ),
    # connectors_only: a partner who shows evidence may pass; for a null sender any such partner will do
    (
        {"connectors_only": True, "partners": {"bank": BANK}},
        by_name("mail.bank.example", recipient="k@u.example", sender="t@bank.example"),
        ("OK", "incoming", "u", ""),
    ),
    (
        {"connectors_only": True, "partners": {"bank": BANK}},
        by_name("mail.bank.example", recipient="k@u.example", sender=""),
        ("OK", "incoming", "u", ""),
    ),
    (
        {"connectors_only": True, "partners": {"bank": BANK}},
        by_name("mail.bank.example", recipient="k@u.example", sender="t@elsewhere.example"),
        ("REJECT", "connectors-only", "u", ""),
    ),
    (
        {"connectors_only": True, "partners": {"bank": {"sender_domains": ["bank.example"], "require_tls": True}}},
        by_name("mail.bank.example", recipient="k@u.example", sender="t@bank.example"),
        ("REJECT", "connectors-only", "u", ""),
    ),
    # protected senders: the whole zone, also what nobody owns in it
    (
        {"protect_sender_domains": True},
        asked(recipient="k@u.example", sender="k@u.example"),
        ("REJECT", "sender-protected", "u", ""),
    ),
    (
        {"protect_sender_domains": True},
        asked(recipient="k@v.example", sender="k@x.u.example"),
        ("REJECT", "sender-protected", "u", ""),
    ),
    ({"protect_sender_domains": True}, asked(recipient="k@v.example", sender=""), ("OK", "recipient-domain", "v", "c")),
    (
        {"protect_sender_domains": True},
        asked(recipient="k@v.example", sender="k@v.u.example"),
        ("OK", "sender-domain", "v", "c"),
    ),
    (
        {"protect_sender_domains": True},
        by_name("mail.u.example", recipient="k@v.example", sender="k@u.example"),
        ("OK", "certificate-domain", "u", "c"),
    ),
    # the order of the three
    (
        {"protect_sender_domains": True, "connectors_only": True, "partners": {"all": ANYBODY}},
        asked(recipient="k@u.example", sender="k@u.example"),
        ("REJECT", "partner-address", "u", ""),
    ),
    (
        {"protect_sender_domains": True, "connectors_only": True},
        asked(recipient="k@u.example", sender="k@u.example"),
        ("REJECT", "connectors-only", "u", ""),
    ),
]


@pytest.mark.parametrize(("table", "request_", "expected"), TAKEN_BACK, ids=range(len(TAKEN_BACK)))
def test_taken_back(table: dict[str, Any], request_: Request, expected: tuple[str, str, str, str]) -> None:
    assert outcome(guarded(**table), request_) == expected


def test_a_dunno_is_taken_back_too() -> None:
    config = guarded(connectors_only=True) | {"policy": {"incoming": "DUNNO"}}
    assert outcome(config, asked(recipient="k@u.example", client_address="192.0.2.1"))[1] == "connectors-only"
    assert outcome(config, asked(recipient="k@v.example", client_address="192.0.2.1"))[0] == "DUNNO"


def test_foreign_names_are_no_matter_for_partners() -> None:
    """A partner may have its certificate from a domain that another organization of ours accepts."""
    config = guarded(partners={"p": {"sender_domains": ["p.example"], "certificate_names": ["mx.v.example"]}})
    request = by_name("mx.v.example", recipient="k@u.example", sender="t@p.example", client_address="192.0.2.1")
    assert outcome(config, request) == ("OK", "incoming", "u", "")


def test_protected_is_what_lies_in_the_zone_whoever_owns_it() -> None:
    """u.example is accepted without its subdomains: nobody owns x.u.example, and it is protected all the same."""
    config = organizations(
        u={"accepted_domains": ["u.example"], "protect_sender_domains": True},
        v={"accepted_domains": ["v.example"]},
    )
    expected = ("REJECT", "sender-protected", "u", "")
    assert outcome(config, asked(sender="k@x.u.example", recipient="k@v.example")) == expected
    assert outcome(config, asked(sender="k@xu.example", recipient="k@v.example"))[1] == "incoming"


# --- row 0 and row 7 ------------------------------------------------------------------------------------------------

ROW_0 = [
    ({"recipient": "bob"}, "recipient-without-domain"),
    ({"recipient": ""}, "recipient-without-domain"),
    ({"recipient": "bob@"}, "recipient-without-domain"),
    ({"recipient": "bob@a..example"}, "recipient-without-domain"),
    ({"recipient": "bob%a.example"}, "recipient-without-domain"),
    ({"recipient": "@a.example"}, "routed-recipient"),
    ({"recipient": "bob%x@a.example"}, "routed-recipient"),
    ({"recipient": "x!bob@a.example"}, "routed-recipient"),
    ({"recipient": "bob@x@a.example"}, "routed-recipient"),
    ({"recipient": "@x:bob@a.example"}, "routed-recipient"),
    ({"sender": "root"}, "sender-without-domain"),
    ({"sender": "root%a.example"}, "sender-without-domain"),
    # the first line that holds
    ({"recipient": "bob", "sender": "root"}, "recipient-without-domain"),
    ({"recipient": "b%c@a.example", "sender": "root"}, "routed-recipient"),
]


@pytest.mark.parametrize(("attributes", "reason"), ROW_0)
def test_row_0_comes_first(attributes: dict[str, str], reason: str) -> None:
    """Whoever asks, also where the rows below would say OK."""
    config = shared(c={"addresses": ["198.51.100.9"]})
    given = {"sender": "k@a.example", "recipient": "k@a.example"} | attributes
    assert outcome(config, asked(**given)) == ("REJECT", reason, "a", "c")


@pytest.mark.parametrize("sender", ["", "k@", "k@a..b", "k@[192.0.2.1]", "k%x@a.example", "k@x@a.example"])
def test_odd_senders_are_let_through_where_the_recipient_counts(sender: str) -> None:
    config = organizations(a={"accepted_domains": ["a.example"]})
    assert outcome(config, asked(sender=sender, recipient="k@a.example")) == ("OK", "incoming", "a", "")


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"sender": "k@new.example"}, "pending-domain"),
        ({"recipient": "k@new.example"}, "pending-domain"),
        ({"sender": "k@x.new.example"}, "not-your-domain"),
        ({"sender": "k@x.wide.example"}, "pending-domain"),
        ({"sender": "k@theirs.example"}, "not-your-domain"),
        ({}, "not-your-domain"),
        ({"client_address": "192.0.2.1", "sender": "k@new.example"}, "no-connector"),
    ],
)
def test_pending_is_told_to_whom_it_concerns(attributes: dict[str, str], reason: str) -> None:
    config = organizations(
        a={
            "accepted_domains": ["a.example"],
            "pending_domains": ["new.example", "*.wide.example"],
            "connectors": {"c": {"addresses": ["198.51.100.9"]}},
        },
        b={"pending_domains": ["theirs.example"]},
    )
    assert outcome(config, asked(**attributes))[:2] == ("REJECT", reason)


def test_a_client_is_worked_out_once() -> None:
    """One client sends many requests; a rule set remembers who it is."""
    rules = compiled(shared(c={"addresses": ["198.51.100.9"]}))
    first = identity_of(rules, asked(sender="k@a.example"))
    assert identity_of(rules, asked(sender="", recipient="other@x.example", instance="5")) is first
    for other in ({"client_address": "198.51.100.8"}, {"ccert_subject": "x"}, {"encryption_protocol": "TLSv1.3"}):
        assert identity_of(rules, asked(**other)) is not first
    for other in ({"ccert_fingerprint": "AA"}, {"ccert_pubkey_fingerprint": "AA"}):
        assert identity_of(rules, asked(**other)) is not first


def test_what_is_remembered_is_bounded_by_its_size_not_only_by_its_number() -> None:
    """A service that many tenants share identifies all of them at once, from as many addresses as it likes."""
    table = {"connectors": {"c": {"certificate_names": ["relay.signatures.example"]}}}
    rules = compiled(organizations(**{f"tenant{n}": table for n in range(100)}))
    for number in range(1500):
        request = by_name("relay.signatures.example", client_address=f"2001:db8::{number:x}")
        assert len(identity_of(rules, request).organizations) == 100
    remembered = sum(len(identity.matches) for identity in rules.identities.values())  # type: ignore[attr-defined]
    assert remembered <= 65536


# --- the states -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", ["CONNECT", "EHLO", "HELO", "MAIL", "VRFY", "ETRN", "DATA", "END-OF-MESSAGE", "", "rcpt", "RCPT ", "X"]
)
def test_only_rcpt_is_decided(state: str) -> None:
    config = shared(c={"addresses": ["198.51.100.9"]})
    assert outcome(config, asked(protocol_state=state, sender="k@a.example")) == ("DUNNO", "", "", "")


def test_kinds_are_ranked_in_the_order_of_the_specification() -> None:
    assert PIN < EXACT_NAME < WILDCARD_NAME < ADDRESS_ONLY
