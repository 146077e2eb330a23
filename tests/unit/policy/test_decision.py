"""Every text that a stranger can read: form, length, stability, and what it must not say (SPEC 3.6)."""

from __future__ import annotations

import re

import pytest

from policyd.policy.decision import INTERNAL_ERROR, SENTENCES, Decision, Reason, action_text, refusal
from policyd.protocol.wire import encode_reply

GRANTS = {Reason.NOT_ASKED, Reason.CERTIFICATE_DOMAIN, Reason.SENDER_DOMAIN, Reason.RECIPIENT_DOMAIN, Reason.INCOMING}
REFUSALS = [reason for reason in Reason if reason not in GRANTS]
LONGEST_INSTANCE = "f" * 48
FORM = re.compile(r"(?:REJECT (5\.7\.1|5\.7\.10)|DEFER 4\.7\.1) ([^:;,]+): ([ -~]+?)( \(ref [0-9A-Za-z.]+\))?")

ALL = [(reason, sender) for reason in REFUSALS for sender in ("kate@contoso.com", "")]


@pytest.mark.parametrize(("reason", "sender"), ALL)
def test_form(reason: Reason, sender: str) -> None:
    text = refusal(reason, sender, LONGEST_INSTANCE)
    match = FORM.fullmatch(text)
    assert match is not None
    assert text.startswith("DEFER") == (reason is Reason.SUSPENDED)
    assert (match[1] == "5.7.10") == (reason in (Reason.TLS_REQUIRED, Reason.PARTNER_TLS))
    assert len(text) < 200
    assert len(encode_reply(text)) == len("action=") + len(text) + 2


@pytest.mark.parametrize(("reason", "sender"), ALL)
def test_no_data_but_the_reference(reason: Reason, sender: str) -> None:
    """Neither what the peer sent nor what is configured: the text depends on the reason, and on a null sender."""
    assert refusal(reason, sender, "1.2").replace("1.2", "3.4") == refusal(reason, sender and "other@x.example", "3.4")
    text = refusal(reason, sender, "")
    assert "@" not in text.replace("user@domain", "").replace("after the @", "").replace("second @", "")
    assert not re.search(r"\d", re.sub(r"^(REJECT 5\.7\.10?|DEFER 4\.7\.1) ", "", text))


def test_phrases_are_keys() -> None:
    """One phrase for each reason, and each of its own: pflogsumm counts by it."""
    phrases = {}
    for reason, sender in ALL:
        match = FORM.fullmatch(refusal(reason, sender, "1.2"))
        assert match is not None
        phrases.setdefault(reason, set()).add(match[2])
    assert all(len(found) == 1 for found in phrases.values())
    assert len({phrase for found in phrases.values() for phrase in found}) == len(REFUSALS)


@pytest.mark.parametrize(
    ("instance", "shown"),
    [
        ("1f3.65e.0", " (ref 1f3.65e.0)"),
        ("", ""),
        (LONGEST_INSTANCE, f" (ref {LONGEST_INSTANCE})"),
        (LONGEST_INSTANCE + "f", ""),
        ("a b", ""),
        ("a\nb", ""),
        ("a\n", ""),
        ("1)x", ""),
        ("ä", ""),
        ("٣", ""),
        ("\udcff", ""),
    ],
)
def test_reference(instance: str, shown: str) -> None:
    text = refusal(Reason.NO_CONNECTOR, "kate@contoso.com", instance)
    assert text == refusal(Reason.NO_CONNECTOR, "kate@contoso.com", "") + shown


# What he can fix: a word that must stand in the text.
TELLS = [
    (Reason.CERTIFICATE_UNTRUSTED, "a@x", "not verified"),
    (Reason.CERTIFICATE_UNTRUSTED, "a@x", "without its chain"),
    (Reason.CERTIFICATE_UNKNOWN, "a@x", "not registered"),
    (Reason.NO_CONNECTOR, "a@x", "address is not registered"),
    (Reason.NOT_YOUR_DOMAIN, "a@x", "domain of its organization"),
    (Reason.NOT_YOUR_DOMAIN, "", "null sender"),
    (Reason.NOT_YOUR_DOMAIN, "", "client certificate"),
    (Reason.PENDING_DOMAIN, "a@x", "verification"),
    (Reason.TLS_REQUIRED, "a@x", "STARTTLS"),
    (Reason.PARTNER_TLS, "a@x", "STARTTLS"),
    (Reason.AMBIGUOUS_RECIPIENT, "a@x", "xn--"),
    (Reason.SUSPENDED, "a@x", "operator of this mail hub"),
    (Reason.ROUTED_RECIPIENT, "a@x", "user@domain"),
    (Reason.RECIPIENT_WITHOUT_DOMAIN, "a@x", "user@domain"),
    (Reason.SENDER_WITHOUT_DOMAIN, "a", "full address"),
    (Reason.PARTNER_CERTIFICATE, "a@x", "certificate"),
    (Reason.PARTNER_ADDRESS, "a@x", "address"),
    (Reason.CONNECTORS_ONLY, "a@x", "registered servers only"),
    (Reason.SENDER_PROTECTED, "a@x", "protected"),
    (Reason.INCOMING_REFUSED, "a@x", "registered servers only"),
]


@pytest.mark.parametrize(("reason", "sender", "told"), TELLS)
def test_it_tells_what_can_be_done(reason: Reason, sender: str, told: str) -> None:
    assert told in refusal(reason, sender, "")


def test_every_refusal_is_in_the_table_above() -> None:
    assert {reason for reason, _, _ in TELLS} == set(REFUSALS)


def test_actions() -> None:
    assert action_text(Decision("OK", Reason.INCOMING, "a"), "", "") == "OK"
    assert action_text(Decision("DUNNO", Reason.INCOMING, "a"), "", "") == "DUNNO"
    refused = Decision("REJECT", Reason.NO_CONNECTOR)
    assert action_text(refused, "a@x", "1.2") == refusal(Reason.NO_CONNECTOR, "a@x", "1.2")


def test_the_internal_error_is_temporary_and_short() -> None:
    assert INTERNAL_ERROR.startswith("DEFER 4.3.0 ")
    assert len(INTERNAL_ERROR) < 200
    encode_reply(INTERNAL_ERROR)


def test_every_reason_has_a_sentence_for_the_administrator() -> None:
    assert set(SENTENCES) == set(Reason)
    assert all(sentence.endswith(".") for sentence in SENTENCES.values())
