"""SMTP smuggling: a message that hides in another one behind a lone dot between bare newlines.

Contoso's server passes on what its users write, commands behind such a dot included. Where Postfix takes the dot for
the end of the message, what follows is a message of its own, with the rights of contoso's certificate: any sender. The
settings are those that README tells, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

from tests.e2e.documented import documented_settings
from tests.e2e.hub import STRANGER, Hub, Mail, recommended_wiring, relay_settings
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Message, Sink
from tests.helpers.certificates import CertificateFiles
from tests.helpers.programs import why_no_postfix
from tests.places import PROJECT

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

KATE, CEO, OUTSIDE = "kate@contoso.com", "ceo@fabrikam.com", "x@other.example"
ENDS = {"newlines": b"\n.\n", "newline-first": b"\n.\r\n", "newline-last": b"\r\n.\n"}


# The first is README's; of what arrives at once behind the end of a message, Postfix 3.9 and later refuse by default.
FORBIDDING = ("smtpd_forbid_bare_newline", "smtpd_forbid_unauth_pipelining")


@pytest.fixture(scope="module")
def readme(
    policyd: PolicydServer,
    services: Mapping[str, str],
    free_port: Callable[[], int],
    sink: Sink,
    certificates: Mapping[str, CertificateFiles],
) -> Iterator[Hub]:
    """README's settings; `open` has what forbids taken back."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    told = documented_settings(PROJECT / "README.md")
    lists = recommended_wiring(services["enforcing"])
    assert told.keys() >= lists.keys()
    told = {name: value for name, value in told.items() if not name.startswith("smtpd_tls_CA")} | lists
    listeners = {
        "readme": Listener(free_port(), told),
        "open": Listener(free_port(), told | dict.fromkeys(FORBIDDING, "no")),
    }
    with Postfix(listeners, relay_settings(sink.port, certificates)) as postfix:
        yield Hub(postfix, sink, certificates)


def smuggled(hub: Hub, listener: str, end: bytes, token: str) -> list[Message]:
    """What the next hop got of a message with another one in it."""
    inner = f"MAIL FROM:<{CEO}>\r\nRCPT TO:<{OUTSIDE}>\r\nDATA\r\nSubject: {token}\r\n\r\npay him\r\n"
    outer = f"Subject: {token}\r\n\r\nhello".encode() + end + inner.encode()
    with hub.client(listener, Mail("", (), "contoso", STRANGER)) as client:
        client.mail(KATE)
        assert client.rcpt(OUTSIDE).accepted, client
        client.data(outer)
        client.quit()
    hub.postfix.wait_until_idle()
    return hub.sink.with_token(token)


@pytest.mark.parametrize("end", ENDS)
def test_no_message_leaves_within_another(end: str, readme: Hub) -> None:
    """It is refused, or it arrives as one message: nothing leaves with a sender of fabrikam."""
    found = smuggled(readme, "readme", ENDS[end], f"smuggled-{end}")
    assert CEO not in {message.sender for message in found}, found
    assert len(found) <= 1


def test_without_the_setting_it_leaves(readme: Hub) -> None:
    """As is Postfix 3.7's own default; so the test above would see it."""
    found = smuggled(readme, "open", ENDS["newlines"], "smuggled-open")
    assert sorted(message.sender for message in found) == [CEO, KATE]


def test_good_mail_arrives(readme: Hub) -> None:
    delivery = readme.deliver("readme", Mail(KATE, (OUTSIDE,), "contoso"))
    assert [message.sender for message in delivery.relayed] == [KATE], delivery.transcript
