"""Where policyd stands in Postfix's restriction lists, and what each place gives: the recommended one and the others.

These document Postfix as much as they test policyd: a wiring that does not relay connectors' mail, or relays
everybody's while policyd is down, must be known for it (`policyd check --postfix` warns of them). Rows are the guide's
table; the replies are those to RCPT, and what they let through is seen at the next hop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

from tests.e2e.hub import BRANCH, STRANGER, TRUSTED_NETWORK, Hub, Mail, policy_service, relay_settings
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Sink
from tests.helpers.certificates import CertificateFiles
from tests.helpers.programs import why_no_postfix

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

RELAY, RECIPIENT, CLIENT = "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_client_restrictions"
PERMITS = "permit_mynetworks permit_sasl_authenticated"
DEBIAN = f"{PERMITS} defer_unauth_destination"

# POLICY stands for check_policy_service with its options
WIRINGS: Mapping[str, Mapping[str, str]] = {
    "W1": {RELAY: DEBIAN, RECIPIENT: "POLICY"},
    "W2": {RELAY: "", RECIPIENT: f"{PERMITS} POLICY reject_unauth_destination"},
    "W3": {RELAY: f"{PERMITS} POLICY reject_unauth_destination", RECIPIENT: ""},
    "W4": {RELAY: f"{PERMITS} POLICY reject_unauth_destination", RECIPIENT: "POLICY"},
    "W5": {RELAY: "", RECIPIENT: f"{PERMITS} reject_unauth_destination POLICY"},
    "W6": {RELAY: DEBIAN, RECIPIENT: "POLICY", "smtpd_relay_before_recipient_restrictions": "no"},
    "W7": {RELAY: DEBIAN, RECIPIENT: "", CLIENT: "POLICY"},
    "W8": {RELAY: "", RECIPIENT: "POLICY permit_auth_destination reject"},
}

# the service that a listener asks, and its default_action
SERVICES: Mapping[str, tuple[str, str]] = {
    "up": ("enforcing", "451 4.3.5 Connector policy unavailable"),
    "monitor": ("watching", "451 4.3.5 Connector policy unavailable"),
    "down": ("dead", "451 4.3.5 Connector policy unavailable"),
    "down, DUNNO": ("dead", "DUNNO"),
    "down, REJECT": ("dead", "REJECT"),
    "down, OK": ("dead", "OK"),
}

CONNECTOR_OUT = Mail("kate@contoso.com", ("x@other.example",), address=BRANCH)
STRANGER_IN = Mail("john@elsewhere.example", ("kate@contoso.com",), address=STRANGER)
STRANGER_OUT = Mail("john@elsewhere.example", ("x@other.example",), address=STRANGER)
MYNETWORKS_OUT = Mail("john@elsewhere.example", ("x@other.example",), address=TRUSTED_NETWORK)
MAILS = (CONNECTOR_OUT, STRANGER_IN, STRANGER_OUT, MYNETWORKS_OUT)

# wiring, service: connector to external, stranger to accepted, stranger to external, mynetworks to external
TABLE = (
    ("W1", "up", "454 4.7.1", "250", "454 4.7.1", "554 5.7.1"),
    ("W1", "monitor", "454 4.7.1", "250", "454 4.7.1", "250"),
    ("W1", "down", "454 4.7.1", "451 4.3.5", "454 4.7.1", "451 4.3.5"),
    ("W2", "up", "250", "250", "554 5.7.1", "250"),
    ("W2", "monitor", "554 5.7.1", "250", "554 5.7.1", "250"),
    ("W2", "down", "451 4.3.5", "451 4.3.5", "451 4.3.5", "250"),
    ("W2", "down, DUNNO", "554 5.7.1", "250", "554 5.7.1", "250"),
    ("W2", "down, REJECT", "554 5.7.1", "554 5.7.1", "554 5.7.1", "250"),
    ("W3", "up", "250", "250", "554 5.7.1", "250"),
    ("W3", "monitor", "554 5.7.1", "250", "554 5.7.1", "250"),
    ("W3", "down", "451 4.3.5", "451 4.3.5", "451 4.3.5", "250"),
    ("W3", "down, DUNNO", "554 5.7.1", "250", "554 5.7.1", "250"),
    ("W4", "up", "250", "250", "554 5.7.1", "554 5.7.1"),
    ("W4", "down", "451 4.3.5", "451 4.3.5", "451 4.3.5", "451 4.3.5"),
    ("W5", "up", "554 5.7.1", "250", "554 5.7.1", "250"),
    ("W5", "monitor", "554 5.7.1", "250", "554 5.7.1", "250"),
    ("W5", "down", "554 5.7.1", "451 4.3.5", "554 5.7.1", "250"),
    ("W6", "up", "454 4.7.1", "250", "554 5.7.1", "554 5.7.1"),
    ("W6", "down", "451 4.3.5", "451 4.3.5", "451 4.3.5", "451 4.3.5"),
    ("W7", "up", "454 4.7.1", "250", "554 5.7.1", "554 5.7.1"),
    ("W7", "monitor", "454 4.7.1", "250", "454 4.7.1", "250"),
    ("W7", "down", "451 4.3.5", "451 4.3.5", "451 4.3.5", "451 4.3.5"),
    ("W8", "up", "250", "250", "554 5.7.1", "554 5.7.1"),
    ("W8", "monitor", "554 5.7.1", "250", "554 5.7.1", "554 5.7.1"),
    ("W8", "down", "451 4.3.5", "451 4.3.5", "451 4.3.5", "451 4.3.5"),
    ("W8", "down, DUNNO", "554 5.7.1", "250", "554 5.7.1", "554 5.7.1"),
)

# A stranger's mail to outside is relayed: what must never be configured, and why it is never shipped.
OPEN_RELAYS = (
    ("W2", "down, OK", "default_action=OK grants relaying to everybody as soon as policyd is away"),
    ("W3", "down, OK", "the same in the relay list"),
    ("W8", "down, OK", "the same before permit_auth_destination"),
    ("whitelist", "up", "an OK before policyd in its own list ends the list"),
)


def settings(wiring: str, service: str, addresses: Mapping[str, str]) -> dict[str, str]:
    """The smtpd settings of a wiring, with POLICY spelled out; a dead service is tried once, which saves a second."""
    if wiring == "whitelist":
        lists = {
            RELAY: "",
            RECIPIENT: f"check_client_access inline:{{ {STRANGER}=OK }} POLICY reject_unauth_destination",
        }
    else:
        lists = dict(WIRINGS[wiring])
    address, default_action = SERVICES[service]
    policy = policy_service(addresses[address], default_action)
    spelled = {name: value.replace("POLICY", policy) for name, value in lists.items()}
    return {**spelled, "smtpd_policy_service_try_limit": "1" if address == "dead" else "2"}


@pytest.fixture(scope="module")
def wirings(
    free_port: Callable[[], int],
    services: Mapping[str, str],
    policyd: PolicydServer,
    watching_policyd: PolicydServer,
    sink: Sink,
    certificates: Mapping[str, CertificateFiles],
) -> Iterator[Hub]:
    """One Postfix with a listener "WIRING SERVICE" for each row of both tables; both policyd servers run."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    rows = [row[:2] for row in (*TABLE, *OPEN_RELAYS)]
    listeners = {listener_name(*row): Listener(free_port(), settings(*row, services)) for row in rows}
    with Postfix(listeners, relay_settings(sink.port, certificates)) as postfix:
        yield Hub(postfix, sink, certificates)


def listener_name(wiring: str, service: str) -> str:
    """As it appears in the log of Postfix, too: without blanks."""
    return f"{wiring}-{service.replace(', ', '-')}"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: listener_name(*row[:2]))
def test_wiring(row: tuple[str, ...], wirings: Hub) -> None:
    wiring, service, *expected = row
    for mail, reply in zip(MAILS, expected, strict=True):
        delivery = wirings.deliver(listener_name(wiring, service), mail)
        assert delivery.reply.startswith(reply), delivery.transcript
        relayed = [recipient for message in delivery.relayed for recipient in message.recipients]
        assert relayed == (list(mail.recipients) if reply == "250" else []), delivery.transcript


@pytest.mark.parametrize("row", OPEN_RELAYS, ids=lambda row: listener_name(*row[:2]))
def test_open_relay_is_what_it_is(row: tuple[str, str, str], wirings: Hub) -> None:
    """Kept as a warning: when this stops failing open, the documentation may stop warning."""
    wiring, service, why = row
    delivery = wirings.deliver(listener_name(wiring, service), STRANGER_OUT)
    assert delivery.reply.startswith("250"), f"{why}\n{delivery.transcript}"
    assert [message.recipients for message in delivery.relayed] == [STRANGER_OUT.recipients], why


def test_rollout_stages_by_reload(
    free_port: Callable[[], int],
    services: Mapping[str, str],
    policyd: PolicydServer,
    watching_policyd: PolicydServer,
    sink: Sink,
    certificates: Mapping[str, CertificateFiles],
) -> None:
    """Watch, grant without refusing, enforce: one listener whose list is edited and reloaded, as in the guide."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    old_permits = f"check_client_access inline:{{ {OLD_CUSTOMER.address}=permit }}"
    watch = policy_service(services["watching"], "DUNNO")
    policy = policy_service(services["enforcing"])
    stages = (
        ("watch", f"{watch} {PERMITS} {old_permits} reject_unauth_destination", ("554", "554", "250")),
        ("grant", f"warn_if_reject {policy} {PERMITS} {old_permits} reject_unauth_destination", ("250", "554", "250")),
        ("enforce", f"{PERMITS} {policy} reject_unauth_destination", ("250", "554", "554")),
    )
    port = free_port()
    main = relay_settings(sink.port, certificates)
    with Postfix({"rollout": Listener(port, {RELAY: stages[0][1], RECIPIENT: ""})}, main) as postfix:
        hub = Hub(postfix, sink, certificates)
        for name, restrictions, expected in stages:
            if name != "watch":
                postfix.listeners["rollout"] = Listener(port, {RELAY: restrictions, RECIPIENT: ""})
                postfix.reload()
            for mail, reply in zip((CONNECTOR_OUT, STRANGER_OUT, OLD_CUSTOMER), expected, strict=True):
                delivery = hub.deliver("rollout", mail)
                assert delivery.reply.startswith(reply), f"{name}\n{delivery.transcript}"
        assert "reject_warning" in postfix.log()


OLD_CUSTOMER = Mail("john@elsewhere.example", ("x@other.example",), address="192.0.2.200")
