"""A guessed `instance`: a local user of the hub who wants another's attribution header on his own message (SPEC 3.5).

He lies in mynetworks, so that policyd is not asked about his recipients, and over TCP he asks it himself: about a
connector's recipients, of messages with every instance that his own can have. Postfix makes it of the smtpd's process
id, the time of MAIL in microseconds and a counter, and a refusal of policyd's names one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.hub import (
    BRANCH,
    STRANGER,
    TRUSTED_NETWORK,
    Hub,
    recommended_wiring,
    relay_settings,
    write_configuration,
)
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Sink, SmtpClient
from tests.helpers.certificates import CertificateFiles
from tests.helpers.conversation import Peer, question
from tests.helpers.programs import why_no_postfix

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

HEADER = "X-Org-Attribution"
MALLORY, OUTSIDE = "mallory@hub.example", "x@other.example"
MOST_GUESSES = 200_000


@pytest.fixture(scope="module")
def address(free_port: Callable[[], int]) -> str:
    return f"inet:127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def stamping(
    address: str,
    free_port: Callable[[], int],
    policyd_server: Callable[..., PolicydServer],
    sink: Sink,
    certificates: Mapping[str, CertificateFiles],
    scratch: Path,
) -> Iterator[Hub]:
    """A hub that asks at DATA; it has one smtpd, as one that is not busy."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    config = write_configuration(scratch / "guess", [address], certificates, attribution_header=HEADER)
    data = {"smtpd_data_restrictions": f"check_policy_service {{ {address}, timeout=10s }}"}
    listeners = {"stamping": Listener(free_port(), {**recommended_wiring(address), **data})}
    may_be_two = {"smtpd_authorized_xclient_hosts": f"127.0.0.1 {STRANGER}"}
    with policyd_server(config), Postfix(listeners, relay_settings(sink.port, certificates) | may_be_two) as postfix:
        yield Hub(postfix, sink, certificates)


def own_instance(client: SmtpClient) -> tuple[str, int]:
    """The process id and the counter in the reference of a refusal; the next message has the next number."""
    client.xclient(STRANGER)
    client.mail(MALLORY)
    found = re.search(r"\(ref ([0-9a-f]+)\.[0-9a-f]+\.[0-9a-f]+\.([0-9a-f]+)\)", client.rcpt("a%b@other.example").text)
    assert found is not None, client
    client.command("RSET")
    return found[1], int(found[2], 16)


def remembered(address: str, instances: list[str], attributes: Mapping[str, str]) -> None:
    """Has policyd answer OK for a recipient of each of these messages."""
    peer = Peer(address)
    for first in range(0, len(instances), 500):
        some = instances[first : first + 500]
        peer.send(b"".join(question(**attributes, instance=instance) for instance in some))
        assert {peer.reply() for _ in some} == {"OK"}
    peer.socket.close()


PORT = "40404"  # as XCLIENT says, and so as he knows it
OWN = {
    "client_address": TRUSTED_NETWORK,
    "client_port": PORT,
    "sender": MALLORY,
    "ccert_subject": "mail.contoso.com",
    "ccert_issuer": "Example Connector CA",
    "encryption_protocol": "TLSv1.3",
}
# What he says of the client in his questions, the certificate that he really shows, and whether the header is his.
GUESSES: Mapping[str, tuple[Mapping[str, str], str | None, bool]] = {
    "of-a-connectors-server": (
        {"client_address": BRANCH, "client_port": PORT, "sender": "kate@contoso.com"},
        None,
        False,
    ),
    "of-his-own-address-port-and-sender": (OWN, None, False),
    "with-anothers-certificate": (OWN, "unknown", False),
    "with-the-connectors-certificate": (OWN, "contoso", True),  # so the guesses are good
}


@pytest.mark.parametrize("guess", GUESSES)
def test_a_guessed_instance_gives_no_header(guess: str, address: str, stamping: Hub) -> None:
    attributes, certificate, has_header = GUESSES[guess]
    token = f"guess-{guess}"
    with stamping.postfix.connect("stamping") as client:
        client.ehlo()
        if certificate is not None:
            assert client.starttls(stamping.certificates[certificate]).accepted, client
        process, number = own_instance(client)
        assert client.command(f"XCLIENT ADDR={TRUSTED_NETWORK} PORT={PORT} NAME=[UNAVAILABLE]").accepted, client
        client.ehlo()
        before = time.time_ns() // 1000
        client.mail(MALLORY)
        after = time.time_ns() // 1000
        assert client.rcpt(OUTSIDE).accepted, client
        instances = [
            f"{process}.{at // 10**6:x}.{at % 10**6:x}.{counted:x}"
            for at in range(before, after + 1)
            for counted in (0, number + 1)
        ]
        assert len(instances) < MOST_GUESSES, "this machine is too slow for the attack"
        remembered(address, instances, {**attributes, "recipient": OUTSIDE})
        assert client.data(f"Subject: {token}\r\n\r\n".encode()).accepted, client
        client.quit()
    stamping.postfix.wait_until_idle()
    (message,) = stamping.sink.with_token(token)
    assert (HEADER in message.content) == has_header, f"{len(instances)} guesses: {message.content}"
