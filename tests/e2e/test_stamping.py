"""The attribution header through a real Postfix: who gets it, who cannot forge it.

policyd answers the DATA request with a header of a secret name; `header_checks` make it the public one and drop public
ones that came from outside. The settings are the guide's, with `regexp:` in place of `pcre:` (built into Postfix).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.hub import BRANCH, STRANGER, Delivery, Hub, Mail, recommended_wiring, relay_settings, write_configuration
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Message, Sink
from tests.helpers.certificates import CertificateFiles
from tests.helpers.programs import why_no_postfix

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

SECRET, PUBLIC = "X-Internal-2f9c61d0a7-Attribution", "X-Org-Attribution"
KATE, SAM, JOHN, OUTSIDE = "kate@contoso.com", "sam@fabrikam.com", "john@elsewhere.example", "x@other.example"
OK = "250 2.1.5"


@pytest.fixture(scope="module")
def stamping(
    free_port: Callable[[], int],
    policyd_server: Callable[..., PolicydServer],
    sink: Sink,
    certificates: Mapping[str, CertificateFiles],
    scratch: Path,
) -> Iterator[Hub]:
    """A hub that asks at RCPT and at DATA, and renames the header."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    address = f"inet:127.0.0.1:{free_port()}"
    config = write_configuration(scratch / "stamping", [address], certificates, attribution_header=SECRET)
    checks = scratch / "header_checks"
    checks.write_text(f"/^{SECRET}:[[:space:]]*(.*)$/ REPLACE {PUBLIC}: $1\n/^{PUBLIC}[[:space:]]*:/ IGNORE\n")
    settings = {
        **recommended_wiring(address),
        "smtpd_data_restrictions": f"check_policy_service {{ {address}, timeout=10s }}",
    }
    main = {
        **relay_settings(sink.port, certificates),
        "header_checks": f"regexp:{checks}",
        "nested_header_checks": "",
    }
    listeners = {"stamping": Listener(free_port(), settings)}
    with policyd_server(config), Postfix(listeners, main) as postfix:
        yield Hub(postfix, sink, certificates)


def stamps(message: Message) -> list[str]:
    """The values of all public headers; fails where the secret name got out."""
    headers = message.content.split("\n\n")[0].replace("\n\t", " ").replace("\n ", " ").split("\n")
    assert not any(SECRET.lower() in line.lower() for line in headers), message.content
    return [
        line.partition(": ")[2] for line in headers if line.lower().replace(" ", "").startswith(f"{PUBLIC.lower()}:")
    ]


def stamp_of(delivery: Delivery) -> list[str]:
    """The headers that every relayed copy has; fails where copies differ."""
    assert delivery.relayed, delivery.transcript
    found = {tuple(stamps(message)) for message in delivery.relayed}
    assert len(found) == 1, found
    return list(*found)


HEAD_OFFICE = "organization=contoso; connector=head-office; by=certificate-domain"
BRANCH_OFFICE = "organization=contoso; connector=branch; by=sender-domain"

ROWS = (
    ("certificate", "by certificate", "contoso", STRANGER, "", (OUTSIDE,), HEAD_OFFICE),
    ("address", "by address", None, BRANCH, KATE, (OUTSIDE,), BRANCH_OFFICE),
    ("several", "once for all recipients", None, BRANCH, KATE, (OUTSIDE, "y@other.example", KATE), BRANCH_OFFICE),
    ("one-refused", "those that were refused do not count", None, BRANCH, KATE,
     (OUTSIDE, "a%b@other.example", "nobody@fabrikam.com"), BRANCH_OFFICE),
    ("repeated", "a recipient twice", None, BRANCH, KATE, (OUTSIDE, OUTSIDE), BRANCH_OFFICE),
    ("incoming", "mail from a stranger", None, STRANGER, JOHN, (KATE,), None),
    ("mixed", "a connector's and incoming mail in one", None, BRANCH, JOHN, (KATE, SAM), None),
    ("two-organizations", "two organizations in one", "signatures", STRANGER, JOHN, (KATE, SAM), None),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_stamp(row: tuple[str, str, str | None, str, str, tuple[str, ...], str | None], stamping: Hub) -> None:
    _, why, certificate, address, sender, recipients, expected = row
    delivery = stamping.deliver("stamping", Mail(sender, recipients, certificate, address))
    assert stamp_of(delivery) == ([expected] if expected else []), f"{why}\n{delivery.transcript}"


FORGED = "organization=tailspin; connector=cert; by=certificate-domain"
FORGERIES = (
    ("plain", f"{PUBLIC}: {FORGED}"),
    ("lower-case", f"{PUBLIC.lower()}: {FORGED}"),
    ("blank-before-colon", f"{PUBLIC} : {FORGED}"),
    ("tab-before-colon", f"{PUBLIC}\t: {FORGED}"),
    ("folded", f"{PUBLIC}:\r\n {FORGED}"),
    ("no-blank", f"{PUBLIC}:{FORGED}"),
)


@pytest.mark.parametrize("forgery", [pytest.param(header, id=id) for id, header in FORGERIES])
def test_forged_header_is_gone(forgery: str, stamping: Hub) -> None:
    """A stranger's is dropped; beside a connector's own only the genuine one is left."""
    delivery = stamping.deliver("stamping", Mail(JOHN, (KATE,)), headers=(forgery,))
    assert stamp_of(delivery) == [], delivery.relayed
    delivery = stamping.deliver("stamping", Mail(KATE, (OUTSIDE,), address=BRANCH), headers=(forgery, forgery))
    assert stamp_of(delivery) == [BRANCH_OFFICE], delivery.relayed
    assert "tailspin" not in delivery.relayed[0].content


def test_each_message_of_a_connection_has_its_own_stamp(stamping: Hub) -> None:
    """RSET and the next message make a new instance: nothing of the one before counts."""
    with stamping.client("stamping", Mail("", (), address=BRANCH)) as client:
        client.mail(KATE)
        assert client.rcpt(OUTSIDE).text.startswith(OK), client
        client.command("RSET")
        client.mail(JOHN)
        assert client.rcpt(SAM).text.startswith(OK), client
        client.data(b"Subject: stamp-second\r\n\r\n")
        client.mail(KATE)
        assert client.rcpt(OUTSIDE).text.startswith(OK), client
        client.data(b"Subject: stamp-third\r\n\r\n")
        client.quit()
    stamping.postfix.wait_until_idle()
    (second,), (third,) = (stamping.sink.with_token(token) for token in ("stamp-second", "stamp-third"))
    assert stamps(second) == []
    assert stamps(third) == [BRANCH_OFFICE]
