"""What else a session can be made to look like: addresses in disguise, everything at once, chunks, many recipients.

As in `test_odd_addresses`, what counts is where mail went.
"""

from __future__ import annotations

import pytest

from tests.e2e.hub import BRANCH, RELAY_RECIPIENTS, STRANGER, Hub, Mail
from tests.e2e.smtp import SmtpClient

KATE, SAM, JOHN, OUTSIDE = "kate@contoso.com", "sam@fabrikam.com", "john@elsewhere.example", "x@other.example"

# How a connector's address 203.0.113.5 could be written. The first are it, to Postfix already, before it asks.
SAME = ("203.0.113.5", "IPV6:::ffff:203.0.113.5", "203.0.113.005", "203.0.113.5+00")
OTHERS = (
    "IPV6:::203.0.113.5", "IPV6:64:ff9b::203.0.113.5", "IPV6:2002:cb00:7105::1", "IPV6:::ffff:0:203.0.113.5",
    "IPV6:fe80::1", "IPV6:fe80::203.0.113.5%lo", "203.0.113.5.", "0203.0.113.5", "203.0.28933",
    "3405803781", "0xcb007105", "203.0.113.5%lo", "203.0.113.5/32", "203.0.113.16", "[UNAVAILABLE]", "unknown",
    "IPV6:2001:db8:d::25", "203.0.113.5+0Aclient_address=203.0.113.5",
)  # fmt: skip


def one(client: SmtpClient, sender: str, recipient: str) -> bool:
    """Whether the recipient was taken."""
    client.mail(sender)
    taken = client.rcpt(recipient).accepted
    client.command("RSET")
    return taken


@pytest.mark.parametrize("address", [*SAME, *OTHERS])
def test_addresses_in_disguise(address: str, hub: Hub) -> None:
    """Who may say XCLIENT is believed, but no other spelling of an address is that address."""
    with hub.postfix.connect("inet") as client:
        client.ehlo()
        believed = client.command(f"XCLIENT ADDR={address} NAME=[UNAVAILABLE]").accepted
        client.ehlo()
        assert one(client, KATE, OUTSIDE) == (address in SAME), client
        assert believed or address not in SAME, client
        client.quit()


@pytest.mark.parametrize("chunked", [False, True], ids=["DATA", "BDAT"])
def test_everything_at_once(chunked: bool, hub: Hub) -> None:
    """Commands that wait for no answer, each recipient on its own: the message goes to those that were accepted."""
    token = f"at-once-{chunked}"
    body = f"Subject: {token}\r\n\r\nbody\r\n".encode()
    good = [*RELAY_RECIPIENTS[:1], SAM]
    recipients = [OUTSIDE, KATE, "x%other.example@contoso.com", SAM, "bob@tailspintoys.com", "y@other.example"]
    with hub.client("inet", Mail(JOHN, (), address=STRANGER)) as client:
        commands: list[str | bytes] = [f"MAIL FROM:<{JOHN}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients)]
        if chunked:
            commands += [f"BDAT {len(body)} LAST\r\n".encode() + body.removesuffix(b"\r\n")]
        else:
            commands += ["DATA"]
        replies = client.pipeline(*commands)
        assert [reply.accepted for reply in replies[1:7]] == [recipient in good for recipient in recipients], client
        if not chunked:
            client.pipeline(body + b".")
        client.quit()
    hub.postfix.wait_until_idle()
    got = [recipient for message in hub.sink.with_token(token) for recipient in message.recipients]
    assert sorted(got) == sorted(good)


@pytest.mark.parametrize("command", ["DATA", "BDAT 15 LAST\r\nSubject: x\r\n\r\nx"], ids=["DATA", "BDAT"])
def test_nothing_goes_without_an_accepted_recipient(command: str, hub: Hub) -> None:
    with hub.client("inet", Mail(JOHN, (), address=STRANGER)) as client:
        *_, last = client.pipeline(f"MAIL FROM:<{JOHN}>", f"RCPT TO:<{OUTSIDE}>", command)
        assert last.code in (503, 554), client


def test_hundreds_of_recipients(hub: Hub) -> None:
    """Each is judged by itself, also the last of many, and what was decided for others does not count for it."""
    token = "hundreds"
    recipients = [f"x{n}@other.example" if n % 3 else KATE for n in range(600)]
    for address, taken in ((STRANGER, KATE), (BRANCH, "")):
        with hub.client("inet", Mail(JOHN, (), address=address)) as client:
            client.mail(JOHN if address == STRANGER else KATE)
            replies = client.pipeline(*(f"RCPT TO:<{recipient}>" for recipient in recipients))
            accepted = {r for r, reply in zip(recipients, replies, strict=True) if reply.accepted}
            assert accepted == ({taken} if taken else set(recipients))
            client.data(f"Subject: {token}-{address}\r\n\r\n".encode())
            client.quit()
    hub.postfix.wait_until_idle()
    strangers = {r for message in hub.sink.with_token(f"{token}-{STRANGER}") for r in message.recipients}
    assert strangers == {KATE}


def test_sender_changes_between_messages_of_a_session(hub: Hub) -> None:
    """Nothing of the message before is left over, in any order."""
    mine, theirs, nobody = (KATE, True), (SAM, False), ("", False)
    with hub.client("inet", Mail("", (), address=BRANCH)) as client:
        for sender, expected in (mine, theirs, mine, nobody, theirs, nobody, mine):
            assert one(client, sender, OUTSIDE) == expected, client
        client.quit()
