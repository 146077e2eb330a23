"""Ways around the rules, tried through a real Postfix that rewrites, unquotes and encodes as it does in production.

Every row says who tries what, the reply, and where the message went: an attack has failed only when the next hop saw
nothing of it. Hand-made requests (`tests/unit`) show the rules; these show that no spelling gets past both programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.hub import BRANCH, FABRIKAM_OFFICE, STRANGER, Hub, Mail

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

KATE, SAM, JOHN, OUTSIDE = "kate@contoso.com", "sam@fabrikam.com", "john@elsewhere.example", "x@other.example"

OK, NO, SYNTAX = "250 2.1.5", "554 5.7.1 ", "501 5.1.3"

# who tries: certificate, address, a sender that is his own
ATTACKERS = {
    "stranger": (None, STRANGER, JOHN),
    "address": (None, BRANCH, KATE),
    "certificate": ("contoso", STRANGER, KATE),
    "pin": ("pinned-self-signed", STRANGER, KATE),
}

# recipients that lead somewhere else than their domain says: refused whoever asks
ROUTED = (
    ("percent", "x%other.example@contoso.com"),
    ("percent-twice", "x%a.example%other.example@contoso.com"),
    ("percent-outside", "x%contoso.com@other.example"),
    ("bang", "other.example!x@contoso.com"),
    ("bang-path", "a.example!other.example!x@contoso.com"),
    ("quoted-at", '"x@other.example"@contoso.com'),
    ("escaped-at", "x\\@other.example@contoso.com"),
    ("quoted-at-own", '"kate@contoso.com"@other.example'),
    ("quoted-percent", '"x%other.example"@contoso.com'),
    ("leading-at", '"@other.example"@contoso.com'),
    ("empty-local-part", '""@contoso.com'),
    ("route-and-percent", "@a.example:x%other.example@contoso.com"),
    ("smtputf8-percent", "ü%other.example@contoso.com"),
)

# recipients without a domain that could belong to anybody
HOMELESS = (
    ("bare", "bob"),
    ("bare-percent", "x%other.example"),
    ("bare-bang", "other.example!x"),
    ("bare-quoted-percent", '"x%other.example"'),
    ("literal", "x@[127.0.0.1]"),
    ("literal-ipv6", "x@[IPv6:::1]"),
    ("empty-label", "kate@contoso..com"),
    ("two-dots", "kate@contoso.com.."),
    ("percent-in-domain", "kate@contoso.com%other.example"),
)


@pytest.mark.parametrize("attacker", ATTACKERS)
@pytest.mark.parametrize("recipient", [pytest.param(text, id=id) for id, text in (*ROUTED, *HOMELESS)])
def test_recipient_that_leads_elsewhere(attacker: str, recipient: str, hub: Hub) -> None:
    """Neither strangers nor connectors get such a recipient through, and nothing of it is relayed."""
    certificate, address, sender = ATTACKERS[attacker]
    delivery = hub.deliver("inet", Mail(sender, (recipient,), certificate, address))
    assert delivery.reply.startswith((NO, SYNTAX)), delivery.transcript
    assert not delivery.data_reply.accepted, delivery.transcript
    assert not delivery.relayed, delivery.transcript


@pytest.mark.parametrize("recipient", [pytest.param(text, id=id) for id, text in ROUTED])
def test_routed_recipient_is_named_as_such(recipient: str, hub: Hub, policyd: PolicydServer) -> None:
    """policyd sees the route in what Postfix hands over, unquoted."""
    delivery = hub.deliver("inet", Mail(JOHN, (recipient,)), policyd)
    assert "Routed recipient" in delivery.reply, delivery.transcript
    assert [decision["reason"] for decision in delivery.decisions] == ["routed-recipient"]


def test_whole_address_in_quotes_is_that_address(hub: Hub) -> None:
    """Unquoted it cannot be told from the plain address, and Postfix sends it exactly where policyd believed."""
    recipient = '"x@other.example"'
    delivery = hub.deliver("inet", Mail(JOHN, (recipient,)))
    assert delivery.reply.startswith(NO), delivery.transcript
    delivery = hub.deliver("inet", Mail(KATE, (recipient,), address=BRANCH))
    assert [message.recipients for message in delivery.relayed] == [(OUTSIDE,)], delivery.transcript
    delivery = hub.deliver("inet", Mail(JOHN, ('"kate@contoso.com"',)))
    assert [message.recipients for message in delivery.relayed] == [(KATE,)], delivery.transcript


def test_source_route_is_taken_off(hub: Hub) -> None:
    """Postfix drops `@relay:` itself: what remains is judged, and goes where it says."""
    delivery = hub.deliver("inet", Mail(JOHN, ("@other.example:kate@contoso.com",)))
    assert delivery.reply.startswith(OK), delivery.transcript
    assert [message.recipients for message in delivery.relayed] == [(KATE,)]
    delivery = hub.deliver("inet", Mail(JOHN, ("@contoso.com,@hub.example:x@other.example",)))
    assert delivery.reply.startswith(NO), delivery.transcript
    assert not delivery.relayed


def test_bare_postmaster_is_postfix_s_own(hub: Hub) -> None:
    """RFC 5321, 4.5.1: Postfix takes it without asking anybody, and delivers it at home."""
    delivery = hub.deliver("inet", Mail(JOHN, ("postmaster",)))
    assert delivery.reply.startswith(OK), delivery.transcript
    assert [message.recipients for message in delivery.relayed] == [("postmaster@hub.example",)]


# accepted domains in letters that IDNA maps to them: OK for these would send the mail past Postfix's own tables
SPELLINGS = (
    ("full-width", "kate@ｃontoso.com"),
    ("full-width-all", "kate@ｃｏｎｔｏｓｏ．ｃｏｍ"),
    ("soft-hyphen", "kate@con\u00adtoso.com"),
    ("zero-width", "kate@con\u200btoso.com"),
    ("ideographic-dot", "kate@contoso。com"),
    ("mathematical", "kate@𝐜𝐨𝐧𝐭𝐨𝐬𝐨.com"),
    ("decomposed", "hans@bu\u0308cher.example"),
    ("cyrillic", "kate@c\u043entoso.com"),
)


@pytest.mark.parametrize("recipient", [pytest.param(text, id=id) for id, text in SPELLINGS])
def test_other_spelling_of_an_accepted_domain(recipient: str, hub: Hub) -> None:
    """Refused for strangers and for a connector's bounce, which the plain spelling would not be."""
    for mail in (Mail(JOHN, (recipient,)), Mail("", (recipient,), address=BRANCH)):
        delivery = hub.deliver("inet", mail)
        assert delivery.reply.startswith(NO), delivery.transcript
        assert not delivery.relayed, delivery.transcript


@pytest.mark.parametrize(
    "domain",
    ["ｔailspintoys.com", "tail\u00adspintoys.com", "TailspinToys.com."],
    ids=["full-width", "soft-hyphen", "case-and-dot"],
)
def test_other_spelling_opens_no_locked_organization(domain: str, hub: Hub) -> None:
    """A connector's own mail may leave for anywhere, but not for connectors_only of another, however spelt."""
    delivery = hub.deliver("inet", Mail(KATE, (f"bob@{domain}",), "contoso"))
    assert delivery.reply.startswith(NO), delivery.transcript
    assert "registered servers only" in delivery.reply, delivery.transcript
    assert not delivery.relayed


# sender, certificate, address: mail to outside that only looks as if it were the client's own
BORROWED = (
    ("tenant-by-address", SAM, None, BRANCH),
    ("tenant-by-pin", SAM, "pinned-self-signed", STRANGER),
    ("tenant-by-shared-name", "bob@tailspintoys.com", "signatures", STRANGER),
    ("tenant-the-other-way", KATE, None, FABRIKAM_OFFICE),
    ("delegated-below-ours", "a@lab.contoso.net", None, BRANCH),
    ("below-delegated", "a@deep.lab.contoso.net", None, BRANCH),
    ("quoted-own-address", '"kate@contoso.com"@elsewhere.example', None, BRANCH),
    ("percent-own-domain", "kate%contoso.com@elsewhere.example", None, BRANCH),
    ("bang-own-domain", "contoso.com!kate@elsewhere.example", None, BRANCH),
    ("percent-bare", "kate%contoso.com", None, BRANCH),
    ("bang-bare", "contoso.com!kate", None, BRANCH),
    ("bare", "kate", None, BRANCH),
    ("bare-by-certificate", "kate", "contoso", STRANGER),
    ("suffix", "kate@contoso.com.elsewhere.example", None, BRANCH),
    ("prefix", "kate@notcontoso.com", None, BRANCH),
    ("cyrillic", "kate@c\u043entoso.com", None, BRANCH),
    ("literal", "kate@[203.0.113.5]", None, BRANCH),
    ("pending", "a@contoso-new.com", None, BRANCH),
    ("verp", "kate+x=contoso.com@elsewhere.example", None, BRANCH),
    ("srs", "SRS0=h=t=contoso.com=kate@elsewhere.example", None, BRANCH),
)


@pytest.mark.parametrize("row", BORROWED, ids=lambda row: row[0])
def test_borrowed_sender(row: tuple[str, str, str | None, str], hub: Hub) -> None:
    _, sender, certificate, address = row
    delivery = hub.deliver("inet", Mail(sender, (OUTSIDE,), certificate, address))
    assert delivery.mail_reply.accepted, delivery.transcript  # or the row shows nothing of policyd
    assert delivery.reply.startswith(NO), delivery.transcript
    assert not delivery.relayed, delivery.transcript


# Names that a CA of smtpd_tls_CAfile was talked into signing, or that only look like a connector's.
FORGED_CERTIFICATES = (
    ("lab", "another organization's zone, below our own wildcard"),
    ("lab-wildcard", "the wildcard of another organization's zone"),
    ("fabrikam-other", "another host of the other tenant"),
    ("fabrikam-wildcard", "a wildcard never matches an exact entry"),
    ("two-names-reversed", "the second CN is nobody's business"),
    ("suffix", "a registered name as a prefix"),
    ("prefix", "a registered name as a suffix, not at a dot"),
    ("newline", "a line feed, and then an attribute"),
    ("newline-first", "line feeds only, and then an action"),
    ("nul", "a NUL octet behind a registered name"),
    ("padded", "a blank before a registered name"),
    ("odd", "no host name at all"),
    ("foreign", "the right name from a CA that is not trusted"),
    ("self-signed", "the right name from nobody"),
)


@pytest.mark.parametrize("row", FORGED_CERTIFICATES, ids=lambda row: row[0])
@pytest.mark.parametrize("sender", [KATE, SAM, ""], ids=["contoso", "fabrikam", "bounce"])
def test_forged_certificate(row: tuple[str, str], sender: str, hub: Hub, policyd: PolicydServer) -> None:
    certificate, why = row
    delivery = hub.deliver("inet", Mail(sender, (OUTSIDE,), certificate), policyd)
    assert delivery.reply.startswith(NO), f"{why}\n{delivery.transcript}"
    assert not delivery.relayed, why
    (decision,) = delivery.decisions
    assert decision["reason"] in {"certificate-unknown", "certificate-untrusted"}
    assert (decision["organization"], decision["connector"]) == ("", "")


FORGERY = "action=OK reason=forged organization=evil connector=evil"
INJECTIONS = (
    ("sender-blanks", Mail(f'"x {FORGERY}"@contoso.com', (OUTSIDE,), address=BRANCH), OK),
    ("sender-quote", Mail(f'"x\\" {FORGERY}"@contoso.com', (OUTSIDE,), address=BRANCH), OK),
    ("sender-bracket", Mail(f'"x> {FORGERY}"@contoso.com', (OUTSIDE,), address=BRANCH), OK),
    ("sender-backslash", Mail(f'"x\\\\n0: {FORGERY}"@contoso.com', (OUTSIDE,), address=BRANCH), OK),
    ("sender-escape", Mail(f'"\x1b[2J\x7f {FORGERY}"@contoso.com', (OUTSIDE,), address=BRANCH), OK),
    ("sender-vertical-tab", Mail(f'"x\x0b\x0c\x85NOQUEUE: {FORGERY}"@contoso.com', (OUTSIDE,), address=BRANCH), OK),
    ("sender-line-separator", Mail(f'"x\u2028NOQUEUE: {FORGERY}"@contoso.com', (OUTSIDE,), address=BRANCH), OK),
    ("sender-cr", Mail(f'"x\rNOQUEUE: {FORGERY}"@contoso.com', (OUTSIDE,), address=BRANCH), OK),
    ("recipient", Mail(JOHN, (f'"x {FORGERY}"@other.example',)), NO),
    ("recipient-bracket", Mail(JOHN, (f'"x> {FORGERY} <"@other.example',)), NO),
    ("helo", Mail(KATE, (OUTSIDE,), helo=FORGERY), NO),
    ("helo-of-a-connector", Mail(KATE, (OUTSIDE,), helo="mail.contoso.com"), NO),
    ("certificate", Mail(KATE, (OUTSIDE,), "newline"), NO),
    ("certificate-lines", Mail(KATE, (OUTSIDE,), "newline-first"), NO),
    ("certificate-utf8", Mail(KATE, (OUTSIDE,), "odd"), NO),
    ("long-sender", Mail("a" * 900 + "@contoso.com", (OUTSIDE,), address=BRANCH), OK),
)


@pytest.mark.parametrize("row", INJECTIONS, ids=lambda row: row[0])
def test_injection(row: tuple[str, Mail, str], hub: Hub, policyd: PolicydServer) -> None:
    """One decision, one log line, and nothing in it, in the reply or in the message's headers that was smuggled in."""
    _, mail, expected = row
    delivery = hub.deliver("inet", mail, policyd)
    log = delivery.log
    assert delivery.mail_reply.accepted, delivery.transcript  # or the row shows nothing of policyd
    assert delivery.reply.startswith(expected), delivery.transcript
    assert log.count("\n") == 1, log
    assert log.isascii(), log
    assert log.rstrip("\n").isprintable(), ascii(log)
    (decision,) = delivery.decisions
    assert decision["reason"] != "forged"
    assert decision["organization"] in {"", "contoso"}
    assert decision["action"] == ("OK" if expected == OK else "REJECT")
    assert len(delivery.replies[0].lines) == 1
    for message in delivery.relayed:
        headers = message.content.split("\n\n")[0].split("\n")
        assert not any(line.startswith(("NOQUEUE", "action", "ccert_subject")) for line in headers), message.content
    assert bool(delivery.relayed) == (expected == OK), delivery.transcript


def test_trusted_proxy_cannot_smuggle_attributes(hub: Hub) -> None:
    """A host that may say XCLIENT encodes line feeds in a name; they must not become lines of the request."""
    with hub.postfix.connect("inet") as client:
        client.ehlo()
        name = "mail.contoso.com+0Accert_subject=mail.contoso.com+0Aaction=OK"
        client.command(f"XCLIENT ADDR={STRANGER} NAME={name} HELO={name} REVERSE_NAME={name}")
        client.ehlo()
        client.mail(KATE)
        assert client.rcpt(OUTSIDE).text.startswith(NO), client
        client.quit()


def test_certificate_counts_for_its_own_session_only(hub: Hub) -> None:
    """smtpd processes serve one client after the other, and policyd keeps nothing by connection."""
    for _ in range(3):
        trusted = hub.deliver("inet", Mail(KATE, (OUTSIDE,), "contoso"))
        assert trusted.reply.startswith(OK), trusted.transcript
        stranger = hub.deliver("inet", Mail(KATE, (OUTSIDE,)))
        assert stranger.reply.startswith(NO), stranger.transcript
        assert not stranger.relayed


def test_mail_before_starttls_is_forgotten(hub: Hub) -> None:
    """STARTTLS with a good certificate after a refusal starts anew; what was said in clear does not stay."""
    with hub.client("inet", Mail("", ())) as client:
        client.mail(KATE)
        assert client.rcpt(OUTSIDE).text.startswith(NO), client
        client.command("RSET")
        assert client.starttls(hub.certificates["contoso"]).accepted, client
        assert client.rcpt(OUTSIDE).code == 503, client
        client.mail(KATE)
        assert client.rcpt(OUTSIDE).text.startswith(OK), client
        client.quit()
