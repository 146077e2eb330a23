"""The recommended wiring, whole: a real Postfix, real certificates, a running policyd, and what reached the next hop.

Each row of CASES is one message; what is expected is the SMTP reply, policyd's decision in its log, and, seen from the
other side of Postfix, that the message was relayed exactly as sent or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.certificates import DIGESTS
from tests.e2e.hub import BRANCH, STRANGER, TRUSTED_NETWORK, Delivery, Hub, Mail
from tests.e2e.relay_cases import BOB, CASES, JOHN, KATE, NO, OK, OUTSIDE, SAM, Case

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer


def decided(delivery: Delivery) -> str:
    """The only decision as "reason organization/connector"; empty when policyd was not asked."""
    if not delivery.decisions:
        return ""
    (line,) = delivery.decisions
    return f"{line['reason']} {line['organization']}/{line['connector']}"


def assert_relayed(delivery: Delivery, mail: Mail, accepted: tuple[str, ...]) -> None:
    """Exactly these recipients got the message, from the sender as given; nobody else got anything."""
    senders = {message.sender for message in delivery.relayed}
    recipients = sorted(recipient for message in delivery.relayed for recipient in message.recipients)
    # Postfix drops a trailing dot on its way
    assert recipients == sorted(address.removesuffix(".") for address in accepted), delivery.transcript
    assert senders == ({mail.sender} if accepted else set()), delivery.transcript
    assert delivery.data_reply.accepted == bool(accepted), delivery.transcript


def check(case: Case, hub: Hub, listener: str, policyd: PolicydServer) -> None:
    mail = Mail(case.sender, (case.recipient,), case.certificate, case.address)
    delivery = hub.deliver(listener, mail, policyd if case.decision else None)
    assert delivery.reply.startswith(case.reply), delivery.transcript
    assert case.text in delivery.reply, delivery.transcript
    assert decided(delivery) == case.decision, delivery.transcript
    assert_relayed(delivery, mail, (case.recipient,) if case.reply == OK else ())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case, hub: Hub, policyd: PolicydServer) -> None:
    check(case, hub, "inet", policyd)


SOME = tuple(case for case in CASES if case.id in {"stranger-out", "in", "address-out", "cert-bounce", "pin-file-san"})


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.id)
@pytest.mark.parametrize("listener", ["unix", "unix-chroot"])
def test_unix_socket(case: Case, listener: str, hub: Hub, policyd: PolicydServer) -> None:
    """A socket in a folder of its own below the queue, as smtpd reaches it with and without chroot."""
    check(case, hub, listener, policyd)


MONITORED = (
    ("stranger to outside", None, STRANGER, KATE, OUTSIDE, NO, "no-connector", "REJECT"),
    ("certificate to outside", "contoso", STRANGER, KATE, OUTSIDE, NO, "certificate-domain", "OK"),
    ("address to outside", None, BRANCH, KATE, OUTSIDE, NO, "sender-domain", "OK"),
    ("stranger to accepted", None, STRANGER, JOHN, KATE, OK, "incoming", "OK"),
    ("stranger to connectors_only", None, STRANGER, JOHN, BOB, OK, "connectors-only", "REJECT"),
    ("unknown user", None, STRANGER, JOHN, "nobody@contoso.com", "550 5.1.1 ", "incoming", "OK"),
    ("routed recipient", None, STRANGER, JOHN, "boss%other.example@contoso.com", NO, "routed-recipient", "REJECT"),
)


@pytest.mark.parametrize("row", MONITORED, ids=lambda row: row[0])
def test_monitor_decides_and_leaves_it_to_postfix(
    row: tuple[str, str | None, str, str, str, str, str, str], hub: Hub, watching_policyd: PolicydServer
) -> None:
    _, certificate, address, sender, recipient, reply, reason, action = row
    mail = Mail(sender, (recipient,), certificate, address)
    delivery = hub.deliver("monitor", mail, watching_policyd)
    assert delivery.reply.startswith(reply), delivery.transcript
    if reply == NO:
        assert "Relay access denied" in delivery.reply, delivery.transcript  # Postfix's own words
    (decision,) = delivery.decisions
    assert (decision["action"], decision["reason"], decision["mode"]) == (action, reason, "monitor")
    assert_relayed(delivery, mail, (recipient,) if reply == OK else ())


SEVERAL = (
    ("stranger", None, STRANGER, JOHN, ((KATE, OK), (OUTSIDE, NO), (SAM, OK), (BOB, NO), ("bob", NO))),
    (
        "address",
        None,
        BRANCH,
        JOHN,
        ((OUTSIDE, NO), (KATE, OK), ("a%b@contoso.com", NO), ("nobody@contoso.com", "550")),
    ),
    ("certificate", "contoso", STRANGER, "", ((OUTSIDE, OK), (BOB, NO), (KATE, OK), ("y@other.example", OK))),
    ("refused altogether", None, STRANGER, JOHN, ((OUTSIDE, NO), (BOB, NO))),
)


@pytest.mark.parametrize("row", SEVERAL, ids=lambda row: row[0])
def test_several_recipients(
    row: tuple[str, str | None, str, str, tuple[tuple[str, str], ...]], hub: Hub, policyd: PolicydServer
) -> None:
    """Each recipient is judged by itself, and the message goes to those that were accepted."""
    _, certificate, address, sender, expected = row
    mail = Mail(sender, tuple(recipient for recipient, _ in expected), certificate, address)
    delivery = hub.deliver("inet", mail, policyd)
    for reply, (_, prefix) in zip(delivery.replies, expected, strict=True):
        assert reply.text.startswith(prefix), delivery.transcript
    assert_relayed(delivery, mail, tuple(recipient for recipient, prefix in expected if prefix == OK))
    assert [decision["recipient"] for decision in delivery.decisions] == [f"<{each}>" for each in mail.recipients]
    assert len({decision["instance"] for decision in delivery.decisions}) == 1


def test_pipelined_messages_on_one_connection(hub: Hub) -> None:
    """Answers never get out of step: three messages in one write, another decision for each recipient."""
    with hub.client("inet", Mail("", (), address=BRANCH)) as client:
        replies = client.pipeline(
            f"MAIL FROM:<{KATE}>", f"RCPT TO:<{OUTSIDE}>", "RCPT TO:<a%b@contoso.com>", f"RCPT TO:<{SAM}>", "RSET",
            f"MAIL FROM:<{SAM}>", f"RCPT TO:<{OUTSIDE}>", f"RCPT TO:<{KATE}>", "RSET",
            "MAIL FROM:<>", f"RCPT TO:<{BOB}>", f"RCPT TO:<{KATE}>", f"RCPT TO:<{OUTSIDE}>", "RSET",
        )  # fmt: skip
        client.quit()
        codes = [reply.code for reply in replies]
        assert codes == [250, 250, 554, 250, 250, 250, 554, 250, 250, 250, 554, 250, 554, 250], client


def test_stopped_policyd_defers_and_never_relays(hub: Hub, policyd: PolicydServer) -> None:
    """451 for everybody but mynetworks while it is away; the same sessions' mail flows again afterwards."""
    messages: tuple[tuple[Mail, str], ...] = (
        (Mail(KATE, (OUTSIDE,), "contoso"), OK),
        (Mail(KATE, (OUTSIDE,), address=BRANCH), OK),
        (Mail(JOHN, (KATE,)), OK),
        (Mail(JOHN, (OUTSIDE,)), NO),
    )
    away = "451 4.3.5 "
    policyd.stop()
    try:
        for listener in ("inet", "unix"):
            for mail, _ in messages:
                delivery = hub.deliver(listener, mail)
                assert delivery.reply.startswith(away), delivery.transcript
                assert "Connector policy unavailable" in delivery.reply, delivery.transcript
                assert_relayed(delivery, mail, ())
        delivery = hub.deliver("inet", Mail(JOHN, (OUTSIDE,), address=TRUSTED_NETWORK))
        assert delivery.reply.startswith(OK), delivery.transcript
    finally:
        policyd.start()
    for listener in ("inet", "unix"):
        for mail, reply in messages:
            delivery = hub.deliver(listener, mail)
            assert delivery.reply.startswith(reply), delivery.transcript
            assert_relayed(delivery, mail, mail.recipients if reply == OK else ())


def test_restart_in_the_middle_of_a_session(hub: Hub, policyd: PolicydServer) -> None:
    """smtpd finds its connection closed at the next request, connects anew, and gets the right answer."""
    with hub.client("inet", Mail("", (), address=BRANCH)) as client:
        client.mail(KATE)
        assert client.rcpt(OUTSIDE).text.startswith(OK), client
        policyd.stop()
        policyd.start()
        assert client.rcpt("y@other.example").text.startswith(OK), client
        assert client.rcpt("a%b@other.example").text.startswith(NO), client
        client.quit()


@pytest.mark.parametrize("digest", DIGESTS)
def test_fingerprints_in_every_digest(digest: str, hub: Hub, policyd: PolicydServer) -> None:
    """certificate_files match whatever digest Postfix uses; a pin, made of sha256, is another number in another one."""
    listener = f"digest-{digest}"
    delivery = hub.deliver(listener, Mail("", (OUTSIDE,), "pinned-san-only"), policyd)
    assert delivery.reply.startswith(OK), delivery.transcript
    assert decided(delivery) == "certificate-domain contoso/gateway"
    delivery = hub.deliver(listener, Mail(KATE, (OUTSIDE,), "pinned-self-signed"), policyd)
    assert delivery.reply.startswith(OK if digest == "sha256" else NO), delivery.transcript
    key = hub.certificates["pinned-self-signed"].key_fingerprint(digest)
    assert delivery.decisions[0]["key"] == key, "the log has the fingerprint as Postfix sent it"
