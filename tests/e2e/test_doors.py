"""Every door that `policyd check --postfix` warns of, on a real Postfix: it stands open, is found, and can be shut.

Each row of DOORS is a fault in the wiring of a hub that is wired as recommended. With the fault an attacker's message
arrives, or a connector's does not, and the check says so by the identifier of the row; with the remedy both have an
end. Rows run on whichever Postfix is installed; what only a later one knows is skipped on an older.

The hub listens on loopback, and clients claim their addresses there by XCLIENT. What is checked is a copy of the very
configuration that Postfix runs with, as if its ports were open to everybody.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from policyd.cli.main import main
from tests.e2e.hub import BRANCH, STRANGER, Hub, Mail, policy_service, relay_settings, write_configuration
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Sink, SmtpClient, client_context
from tests.helpers.certificates import CertificateFiles
from tests.helpers.programs import why_no_postfix

if TYPE_CHECKING:
    from tests.conftest import PolicydServer

RELAY, RECIPIENT = "smtpd_relay_restrictions", "smtpd_recipient_restrictions"
CLIENT, HELO, SENDER = "smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions"
DATA, END = "smtpd_data_restrictions", "smtpd_end_of_data_restrictions"
PERMITS = "permit_mynetworks permit_sasl_authenticated"
DEBIAN = f"{PERMITS} defer_unauth_destination"
CLASSES = "smtpd_restriction_classes"
LOCKED = "bob@tailspintoys.com"  # connectors_only
OUTSIDE = "x@other.example"

# attackers: none of this may arrive
STRANGER_OUT = Mail("john@elsewhere.example", (OUTSIDE,))
STRANGER_TO_LOCKED = Mail("john@elsewhere.example", (LOCKED,))
STRANGER_WITH_CERTIFICATE = Mail("john@elsewhere.example", (OUTSIDE,), certificate="unknown")
CONNECTOR_AS_ANOTHER = Mail("sam@fabrikam.com", (OUTSIDE,), address=BRANCH)
CERTIFICATE_AS_ANOTHER = Mail("bob@tailspintoys.com", (OUTSIDE,), certificate="contoso")
FORGED_CERTIFICATE = Mail("kate@contoso.com", (OUTSIDE,), certificate="foreign")
# connectors: all of this must arrive
CONNECTOR_OUT = Mail("kate@contoso.com", (OUTSIDE,), address=BRANCH)
CERTIFICATE_OUT = Mail("kate@contoso.com", (OUTSIDE,), certificate="contoso")
PINNED_OUT = Mail("kate@contoso.com", (OUTSIDE,), certificate="pinned-self-signed")
GOOD = (CONNECTOR_OUT, CERTIFICATE_OUT, PINNED_OUT)

Settings = Mapping[str, str]
Sending = Callable[[Hub, Mail, str], None]
_NUMBERS = itertools.count(1)


# ------------------------------------------------------------------------------------------------- ways to send


def _message(token: str) -> bytes:
    return f"Subject: {token}\r\n\r\nbody\r\n".encode()


def _send_by(client: SmtpClient, mail: Mail, token: str) -> None:
    client.mail(mail.sender)
    (recipient,) = mail.recipients
    if client.rcpt(recipient).accepted:
        client.data(_message(token))


def usual(hub: Hub, mail: Mail, token: str, at: str = "smtp") -> None:
    """As every client does; where STARTTLS is not to be had, nothing is sent."""
    with hub.postfix.connect(at) as client:
        client.ehlo(mail.helo)
        try:
            if mail.certificate is not None and not client.starttls(hub.certificates[mail.certificate]).accepted:
                return
        except (ssl.SSLError, ConnectionError):
            return
        if client.xclient(mail.address).accepted:
            _send_by(client, mail, token)


def at_the_other_port(hub: Hub, mail: Mail, token: str) -> None:
    usual(hub, mail, token, at="2525")


def by_proxy_line(hub: Hub, mail: Mail, token: str) -> None:
    """With the connector's address in a line of the PROXY protocol before the first command."""
    line = f"PROXY TCP4 {BRANCH} 192.0.2.25 40001 25\r\n".encode()
    with SmtpClient(hub.postfix.listeners["smtp"].port, before=line) as client:
        client.ehlo()
        _send_by(client, mail, token)


def by_xclient(hub: Hub, mail: Mail, token: str) -> None:
    """From an address that the hub does not know, claiming that of the connector."""
    with SmtpClient(hub.postfix.listeners["smtp"].port, source="127.0.0.2") as client:
        client.ehlo()
        client.xclient(BRANCH)
        _send_by(client, mail, token)


def _resuming(version: ssl.TLSVersion) -> Sending:
    def send(hub: Hub, mail: Mail, token: str) -> None:
        """With the TLS session that began at the other port, where the certificate's CA is known."""
        assert mail.certificate is not None
        context = client_context(hub.certificates[mail.certificate], version)
        with hub.postfix.connect("2525") as client:
            client.ehlo()
            client.starttls_in(context, mail.certificate)
            session = client.session
            client.quit()
        with hub.postfix.connect("smtp") as client:
            client.ehlo()
            client.starttls_in(context, mail.certificate, session)
            client.xclient(mail.address)
            _send_by(client, mail, token)

    return send


def by_qmqp(hub: Hub, mail: Mail, token: str) -> None:
    """A netstring of the message, the sender and the recipients, each a netstring: all of the protocol."""
    parts = (_message(token).replace(b"\r\n", b"\n"), mail.sender.encode(), mail.recipients[0].encode())
    inner = b"".join(b"%d:%s," % (len(part), part) for part in parts)
    with socket.create_connection(("127.0.0.1", hub.postfix.listeners["628"].port), 60) as connection:
        connection.sendall(b"%d:%s," % (len(inner), inner))
        connection.recv(1000)


def smuggled(hub: Hub, mail: Mail, token: str) -> None:
    """Within a connector's message, behind a lone dot between bare newlines."""
    inner = f"MAIL FROM:<{mail.sender}>\r\nRCPT TO:<{OUTSIDE}>\r\nDATA\r\nSubject: {token}\r\n\r\npay him\r\n"
    with hub.client("smtp", CERTIFICATE_OUT) as client:
        client.mail(CERTIFICATE_OUT.sender)
        assert client.rcpt(OUTSIDE).accepted, client
        client.data(f"Subject: {token}\r\n\r\nhello\n.\n{inner}".encode())
        client.quit()


def by_raw_public_key(hub: Hub, mail: Mail, token: str) -> None:
    """A client that shows its key without the certificate around it, as OpenSSL does from 3.2 on (RFC 7250)."""
    assert mail.certificate is not None
    shown = hub.certificates[mail.certificate]
    command = ["openssl", "s_client", "-quiet", "-starttls", "smtp", "-enable_client_rpk", "-no_ign_eof"]
    command += ["-connect", f"127.0.0.1:{hub.postfix.listeners['smtp'].port}"]
    command += ["-cert", str(shown.pem), "-key", str(shown.key)]
    lines = ["EHLO client.example", f"XCLIENT ADDR={mail.address}", "EHLO client.example", f"MAIL FROM:<{mail.sender}>"]
    lines += [f"RCPT TO:<{mail.recipients[0]}>", "DATA", f"Subject: {token}", "", "body", ".", "QUIT", ""]
    subprocess.run(command, input="\r\n".join(lines), capture_output=True, text=True, timeout=60, check=False)


# ------------------------------------------------------------------------------------------------- doors


@dataclass(frozen=True)
class Door:
    """A fault in a hub that is wired as recommended, and what ends it.

    Settings go over those of the recommended wiring: `fault` and `remedy` into main.cf, the two of `services` into
    master.cf, as `-o`; a service that stands in neither but smtp is not there. POLICY, DIR and others are filled in.
    """

    finding: str
    mail: Mail
    fault: Settings = field(default_factory=dict)
    remedy: Settings = field(default_factory=dict)
    services: Mapping[str, Settings] = field(default_factory=dict)
    remedied_services: Mapping[str, Settings] | None = None  # None: they stay
    send: Sending = usual
    arriving: str = ""  # the sender at the next hop, where that is not the one that was sent
    why: str = ""  # of what is special, beside others of the same finding
    needs: tuple[int, int] = (3, 5)
    until: tuple[int, int] = (9, 9)
    policyd: str = "enforcing"  # or "dead": nobody listens
    severity: str = "error"

    def __str__(self) -> str:
        return " ".join(filter(None, (self.finding, self.why)))


def before(restriction: str, **others: str) -> Settings:
    """The recommended list with something in front of policyd."""
    return {RECIPIENT: f"{PERMITS} {restriction} POLICY reject_unauth_destination", **others}


LOGINS = {RECIPIENT: "permit_sasl_authenticated, reject"}
NO_TICKET = {"tls_ssl_options": "NO_TICKET"}

OPEN = (
    # who is taken for one of the hub's own
    Door("mynetworks-everybody", STRANGER_OUT, {"mynetworks": "127.0.0.0/8, 0.0.0.0/0"}),
    Door("mynetworks-everybody", STRANGER_OUT, {"mynetworks": "0.0.0.0/1 128.0.0.0/1"}, why="in halves"),
    Door("mynetworks-everybody", STRANGER_OUT, {"mynetworks": "static:all"}, why="by a table"),
    Door("mynetworks-everybody", STRANGER_OUT, {"mynetworks": "!10.0.0.0/8 cidr:DIR/everybody"}, why="by a file"),
    Door(
        "mynetworks-everybody",
        STRANGER_OUT,
        services={"2525": {"mynetworks": "0.0.0.0/0"}},
        remedied_services={"2525": {}},
        send=at_the_other_port,
        why="at one port",
    ),
    Door("connector-in-mynetworks", CONNECTOR_AS_ANOTHER, {"mynetworks": "203.0.113.0/24"}, severity="warning"),
    # who chooses an address
    Door(
        "proxy-protocol",
        CONNECTOR_OUT,
        services={"smtp": {"smtpd_upstream_proxy_protocol": "haproxy"}},
        remedied_services={},
        send=by_proxy_line,
        severity="warning",
    ),
    Door("xclient-everybody", CONNECTOR_OUT, {"smtpd_authorized_xclient_hosts": "0.0.0.0/0"}, send=by_xclient),
    # certificates instead of policyd
    Door(
        "permit-before",
        CERTIFICATE_AS_ANOTHER,
        before("permit_tls_clientcerts", relay_clientcerts="inline:{ CONTOSO=x }"),
        why="permit_tls_clientcerts",
    ),
    Door("permit-before", STRANGER_WITH_CERTIFICATE, before("permit_tls_all_clientcerts"), why="any certificate"),
    Door(
        "permit-without",
        STRANGER_WITH_CERTIFICATE,
        services={"2525": {RELAY: "permit_tls_all_clientcerts, reject", RECIPIENT: ""}},
        remedied_services={"2525": {RELAY: "permit_sasl_authenticated, reject", RECIPIENT: ""}},
        send=at_the_other_port,
        why="any certificate, at a port that does not ask policyd",
    ),
    *(
        Door(
            "shared-sessions",
            FORGED_CERTIFICATE,
            cache,
            cache,
            services={"2525": {"smtpd_tls_CAfile": "FOREIGN", **LOGINS}},
            remedied_services=remedy,
            send=_resuming(version),
            why=" ".join(filter(None, (version.name, name, "with a cache" if cache else ""))),
            until=(3, 11),
        )
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
        for cache in ({}, {"smtpd_tls_session_cache_database": "btree:$data_directory/sessions"})
        for name, remedy in (
            ("ended by one CA file", {"2525": LOGINS}),
            ("ended by NO_TICKET there", {"2525": {"smtpd_tls_CAfile": "FOREIGN", **NO_TICKET, **LOGINS}}),
            ("ended by NO_TICKET here", {"smtp": NO_TICKET, "2525": {"smtpd_tls_CAfile": "FOREIGN", **LOGINS}}),
        )
    ),
    # tables and classes before policyd
    Door("table-permits", STRANGER_OUT, before(f"check_client_access inline:{{ {STRANGER}=OK }}"), why="OK"),
    Door("table-permits", STRANGER_OUT, before(f"check_client_access inline:{{ {STRANGER}=550 }}"), why="a number"),
    Door("table-permits", STRANGER_OUT, before("check_client_access cidr:DIR/everybody"), why="cidr"),
    Door("table-permits", STRANGER_OUT, before("check_helo_access inline:{ client.example=permit }"), why="helo"),
    Door(
        "table-permits",
        Mail("kate@contoso.com", (OUTSIDE,)),
        before("check_sender_access inline:{ contoso.com=OK }"),
        why="sender",
    ),
    Door(
        "table-permits",
        CERTIFICATE_AS_ANOTHER,
        before("check_ccert_access inline:{ CONTOSO=OK }"),
        why="certificate",
    ),
    Door(
        "table-permits",
        STRANGER_OUT,
        before(f"check_client_access inline:{{ {{ {STRANGER} = reject_invalid_helo_hostname, permit }} }}"),
        why="that refuses first",
    ),
    Door(
        "table-permits",
        STRANGER_OUT,
        before("check_client_access static:friends", **{CLASSES: "friends", "friends": "permit"}),
        why="a class by its name",
    ),
    Door(
        "permit-before",
        STRANGER_OUT,
        before("reject_strangers", **{CLASSES: "reject_strangers", "reject_strangers": "permit"}),
        why="a class with another name",
    ),
    Door("service-before", STRANGER_OUT, before("check_policy_service OTHER"), why="that says OK", severity="warning"),
    Door(
        "table-opens-locked",
        STRANGER_TO_LOCKED,
        before("check_recipient_access inline:{ tailspintoys.com=OK }"),
        why="recipient",
        severity="warning",
    ),
    Door(
        "table-opens-recipient",
        Mail("john@elsewhere.example", ("postmaster@tailspintoys.com",)),
        before("check_recipient_access inline:{ postmaster@=OK }", relay_recipient_maps=""),
        {"relay_recipient_maps": ""},
        why="postmaster",
        severity="warning",
    ),
    Door("permit-auth-before", STRANGER_TO_LOCKED, before("permit_auth_destination")),
    Door(
        "permit-auth-before",
        STRANGER_TO_LOCKED,
        before("local_first", **{CLASSES: "local_first", "local_first": "permit_auth_destination"}),
        why="in a class",
    ),
    Door(
        "only-warns",
        STRANGER_TO_LOCKED,
        {RECIPIENT: "warn_if_reject POLICY reject_unauth_destination"},
        severity="warning",
    ),
    # when policyd is down
    Door("default-ok", STRANGER_OUT, {RECIPIENT: "ANSWERING(OK) reject_unauth_destination"}, policyd="dead"),
    Door(
        "default-ok",
        STRANGER_OUT,
        {RECIPIENT: "ANSWERING(friends) reject_unauth_destination", CLASSES: "friends", "friends": "permit"},
        policyd="dead",
        why="a class",
    ),
    Door(
        "default-ok",
        STRANGER_OUT,
        {
            RECIPIENT: "check_policy_service ADDRESS, reject_unauth_destination",
            "smtpd_policy_service_default_action": "permit",
        },
        policyd="dead",
        why="of all services",
    ),
    # other ports, and other servers
    Door(
        "list-of-its-own",
        STRANGER_TO_LOCKED,
        services={"2525": {RECIPIENT: "reject_unauth_destination"}},
        remedied_services={"2525": {}},
        send=at_the_other_port,
        severity="warning",
    ),
    Door(
        "service-not-asked",
        STRANGER_TO_LOCKED,
        {RECIPIENT: "reject_unauth_destination"},
        {RECIPIENT: "reject_unauth_destination"},
        services={"smtp": {RECIPIENT: "POLICY reject_unauth_destination"}, "2525": {}},
        remedied_services={
            "smtp": {RECIPIENT: "POLICY reject_unauth_destination"},
            "2525": {RECIPIENT: "POLICY reject_unauth_destination"},
        },
        send=at_the_other_port,
        severity="warning",
    ),
    Door(
        "permit-without",
        STRANGER_OUT,
        {CLASSES: "everybody", "everybody": "permit"},
        services={"2525": {RECIPIENT: "everybody, reject"}},
        remedied_services={"2525": {}},
        send=at_the_other_port,
    ),
    Door("qmqpd-open", STRANGER_OUT, {"qmqpd_authorized_clients": "static:all"}, services={"628": {}}, send=by_qmqp),
    # what becomes of a message
    Door(
        "append-dot",
        Mail("bob@tailspintoys", (OUTSIDE,), certificate="contoso"),
        {"append_dot_mydomain": "yes", "mydomain": "com"},
        {"append_dot_mydomain": "no", "mydomain": "com"},
        arriving="bob@tailspintoys.com",
        why="of a protected sender",
    ),
    Door(
        "bare-newline",
        Mail("sam@fabrikam.com", (OUTSIDE,)),
        {"smtpd_forbid_bare_newline": "no", "smtpd_forbid_unauth_pipelining": "no"},
        send=smuggled,
        severity="warning",
    ),
    Door(
        "bare-newline-exclusions",
        Mail("sam@fabrikam.com", (OUTSIDE,)),
        {
            RECIPIENT: "POLICY reject_unauth_destination",
            "mynetworks": "0.0.0.0/0",
            "smtpd_forbid_unauth_pipelining": "no",
        },
        send=smuggled,
        severity="warning",
        why="by mynetworks, which nothing permits",
    ),
    Door(
        "bare-newline-exclusions",
        Mail("sam@fabrikam.com", (OUTSIDE,)),
        {"smtpd_forbid_bare_newline_exclusions": f"{STRANGER}/32", "smtpd_forbid_unauth_pipelining": "no"},
        send=smuggled,
        severity="warning",
    ),
)

REFUSES = (
    # in the lists before
    Door("list-refuses", CONNECTOR_OUT, {CLIENT: f"{PERMITS} reject"}, why="client list"),
    Door(
        "list-refuses",
        CONNECTOR_OUT,
        {CLIENT: "closed_shop", CLASSES: "closed_shop", "closed_shop": "reject"},
        why="class",
    ),
    Door("list-refuses", CONNECTOR_OUT, {CLIENT: "check_client_access cidr:DIR/nobody"}, why="table of the rest"),
    Door(
        "connector-refused",
        CONNECTOR_OUT,
        {CLIENT: "check_client_access inline:{ 203.0.113=REJECT }"},
        why="connector",
    ),
    Door("list-refuses", CONNECTOR_OUT, {HELO: "permit_mynetworks, defer"}, why="helo list"),
    Door("list-refuses", CONNECTOR_OUT, {SENDER: "reject_unauth_destination"}, why="sender list"),
    Door(
        "connector-refused", CONNECTOR_OUT, {SENDER: "check_sender_access inline:{ contoso.com=REJECT }"}, why="senders"
    ),
    Door(
        "connector-refused", CONNECTOR_OUT, {SENDER: "check_sender_access regexp:DIR/own"}, why="senders by a pattern"
    ),
    Door("list-refuses", CONNECTOR_OUT, {CLIENT: "check_recipient_access regexp:DIR/abroad"}, why="recipients"),
    Door("list-refuses", CONNECTOR_OUT, {DATA: f"{PERMITS} reject"}, why="at DATA"),
    Door("list-refuses", CONNECTOR_OUT, {END: f"{PERMITS} reject"}, why="at the end of the data"),
    Door(
        "unlisted-senders",
        Mail("ann@contoso.com", (OUTSIDE,), address=BRANCH),
        {"smtpd_reject_unlisted_sender": "yes"},
        severity="warning",
    ),
    # 451 to all
    Door("unknown-restriction", CONNECTOR_OUT, before("reject_unknown_sender_domains")),
    Door("unknown-restriction", CONNECTOR_OUT, {CLIENT: "permit_mynetwork"}, why="in the client list"),
    Door(
        "unknown-restriction",
        CONNECTOR_OUT,
        {RELAY: "trusted_first", CLASSES: "trusted", "trusted": "permit_mynetworks"},
        why="a class",
    ),
    Door("table-missing", CONNECTOR_OUT, {SENDER: "check_sender_access texthash:DIR/nothing"}),
    Door("table-missing", CONNECTOR_OUT, {CLIENT: "check_client_access hash:DIR/own"}, why="postmap was not run"),
    Door(
        "table-in-braces",
        CONNECTOR_OUT,
        {SENDER: "check_sender_access { inline:{ a.example=REJECT } }"},
        {SENDER: "check_sender_access inline:{ a.example=REJECT }"},
    ),
    # the order
    Door("other-list-refuses", CONNECTOR_OUT, {RELAY: DEBIAN}, why="Debian's"),
    Door("after-refusal", CONNECTOR_OUT, {RECIPIENT: "reject_unauth_destination POLICY"}),
    # nobody asks policyd
    Door("not-asked", CONNECTOR_OUT, {RECIPIENT: f"{PERMITS} reject_unauth_destination"}),
    Door("not-asked", CONNECTOR_OUT, {RECIPIENT: "reject_unauth_destination check_policy_service OTHER"}, why="other"),
    # certificates and TLS
    Door(
        "required-certificate",
        PINNED_OUT,
        {"smtpd_tls_req_ccert": "yes", "smtpd_tls_security_level": "encrypt"},
        severity="warning",
    ),
    Door("no-starttls", CERTIFICATE_OUT, {"smtpd_discard_ehlo_keywords": "starttls"}),
    Door("old-protocols", CERTIFICATE_OUT, {"smtpd_tls_protocols": "TLSv1"}),
    Door("no-tls", CERTIFICATE_OUT, {"smtpd_tls_security_level": "none"}),
    Door("no-ask-ccert", CERTIFICATE_OUT, {"smtpd_tls_ask_ccert": "no"}),
    Door("no-ca", CERTIFICATE_OUT, {"smtpd_tls_CAfile": ""}),
    Door("ca-not-read", CERTIFICATE_OUT, {"smtpd_tls_CAfile": "nothing.pem"}),
    Door("ca-is-none", CERTIFICATE_OUT, {"smtpd_tls_CAfile": "SERVER"}),
    Door("ca-is-none", CERTIFICATE_OUT, {"smtpd_tls_CAfile": "INTERMEDIATE"}),
    Door("ca-folder", CERTIFICATE_OUT, {"smtpd_tls_CAfile": "", "smtpd_tls_CApath": "DIR/nothing"}, why="missing"),
    Door("ca-folder", CERTIFICATE_OUT, {"smtpd_tls_CAfile": "", "smtpd_tls_CApath": "DIR"}, why="without links"),
    Door("hub-key", CERTIFICATE_OUT, {"smtpd_tls_chain_files": "OTHERKEY, SERVER"}, why="of another"),
    Door("hub-key", CERTIFICATE_OUT, {"smtpd_tls_chain_files": "SERVER"}, why="missing"),
    Door("pin-length", PINNED_OUT, {"smtpd_tls_fingerprint_digest": "md5"}),
    Door("pin-length", PINNED_OUT, services={"smtp": {"smtpd_tls_fingerprint_digest": "sha512"}}, remedied_services={}),
    Door(
        "raw-public-keys",
        CERTIFICATE_OUT,
        {"smtpd_tls_enable_rpk": "yes", "smtpd_forbid_unauth_pipelining": "no"},
        {"smtpd_tls_enable_rpk": "no", "smtpd_forbid_unauth_pipelining": "no"},
        send=by_raw_public_key,
        needs=(3, 9),
        severity="warning",
    ),
)
FILES = {
    "everybody": "0.0.0.0/0 OK\n",
    "nobody": "192.0.2.99 OK\n0.0.0.0/0 REJECT not one of ours\n",
    "own": "/@contoso\\.com$/ REJECT log in first\n",
    "abroad": "!/@tailspintoys\\.com$/ REJECT Relay access denied\n",
}


PROGRAMS = {"628": "qmqpd"}


# ------------------------------------------------------------------------------------------------- the hub


@dataclass(frozen=True)
class Doors:
    """The hub whose wiring changes with each row."""

    hub: Hub
    ports: Mapping[str, int]
    configurations: Mapping[str, Path]
    services: Mapping[str, str]
    words: Mapping[str, str]

    def wire(self, door: Door, main_cf: Settings, services: Mapping[str, Settings]) -> None:
        """Give Postfix these settings, over the recommended ones."""
        postfix = self.hub.postfix
        recommended = {RELAY: "", RECIPIENT: f"{PERMITS} POLICY reject_unauth_destination"}
        settings = {**relay_settings(self.hub.sink.port, self.hub.certificates), **recommended, **main_cf}
        postfix.settings = {
            "smtpd_forbid_bare_newline": "yes",
            "smtpd_policy_service_try_limit": "1",
            "notify_classes": "",
        }
        postfix.settings |= {name: self._filled(value, door) for name, value in settings.items()}
        postfix.listeners.clear()
        for name, own in {"smtp": {}, **services}.items():
            filled = {key: self._filled(value, door) for key, value in own.items()}
            postfix.listeners[name] = Listener(self.ports[name], filled, program=PROGRAMS.get(name, "smtpd"))
        postfix.reload()

    def found(self, door: Door, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, set[str]]:
        """The severities of each finding about this Postfix, as if it took mail from everywhere."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.hub.postfix.folder / "etc", folder)
        main_cf, master_cf = folder / "main.cf", folder / "master.cf"
        text = main_cf.read_text("utf-8").replace("inet_interfaces = 127.0.0.1\n", "inet_interfaces = all\n")
        main_cf.write_text(text, "utf-8")
        text = master_cf.read_text("utf-8")
        for name, listener in self.hub.postfix.listeners.items():
            text = text.replace(f"127.0.0.1:{listener.port} inet", f"{name} inet")
        master_cf.write_text(text, "utf-8")
        capsys.readouterr()
        config = self.configurations[door.policyd]
        status = main(["check", "-c", str(config), "--json", "--postfix", str(folder)])
        problems = json.loads(capsys.readouterr().out)["problems"]
        found: dict[str, set[str]] = {}
        for problem in problems:
            if str(problem["file"]).startswith(str(folder)):
                found.setdefault(problem["id"], set()).add(problem["severity"])
        assert (status == 78) == any("error" in severities for severities in found.values())
        return found

    def arrives(self, door: Door) -> bool:
        """Whether the row's message gets through to the next hop."""
        token = f"door-{next(_NUMBERS):04d}"
        with contextlib.suppress(ConnectionError):  # a server may hang up on what it does not like
            door.send(self.hub, door.mail, token)
        self.hub.postfix.wait_until_idle()
        return (door.arriving or door.mail.sender) in {each.sender for each in self.hub.sink.with_token(token)}

    def _filled(self, text: str, door: Door) -> str:
        address = self.services[door.policyd]
        text = re.sub(r"\bANSWERING\((.*?)\)", lambda found: policy_service(address, found[1]), text)
        words = {**self.words, "POLICY": policy_service(address), "ADDRESS": address}
        return re.sub(rf"\b({'|'.join(words)})\b", lambda found: words[found[0]], text)


@pytest.fixture(scope="module")
def doors(
    policyd: PolicydServer,
    services: Mapping[str, str],
    certificates: Mapping[str, CertificateFiles],
    free_port: Callable[[], int],
    other_service: str,
    sink: Sink,
    scratch: Path,
) -> Iterator[Doors]:
    """A hub with policyd, and the configuration of a policyd that does not run."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    folder = scratch / "doors"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, "utf-8")
    shutil.copy(certificates["ca"].pem, folder)
    dead = write_configuration(scratch / "doors-dead", [services["dead"]], certificates)
    words = {
        "DIR": str(folder),
        "OTHER": other_service,
        "CONTOSO": certificates["contoso"].fingerprint(),
        "FOREIGN": str(certificates["foreign-ca"].pem),
        "INTERMEDIATE": str(certificates["intermediate-ca"].pem),
        "SERVER": str(certificates["server"].pem),
        "OTHERKEY": str(certificates["contoso"].key),
    }
    ports = {name: free_port() for name in ("smtp", "2525", "628")}
    with Postfix({"smtp": Listener(ports["smtp"])}, relay_settings(sink.port, certificates)) as postfix:
        hub = Hub(postfix, sink, certificates)
        yield Doors(hub, ports, {"enforcing": policyd.config, "dead": dead}, services, words)


def version() -> tuple[int, int]:
    """Of the Postfix that is installed."""
    told = subprocess.run(["postconf", "-h", "mail_version"], capture_output=True, text=True, timeout=60, check=True)
    major, minor, *_ = map(int, re.findall(r"\d+", told.stdout))
    return major, minor


def doors_of(release: tuple[int, int]) -> list[Door]:
    """Those that there are in this Postfix."""
    return [door for door in (*OPEN, *REFUSES) if door.needs <= release <= door.until]


@pytest.mark.parametrize("door", doors_of(version()) if shutil.which("postconf") else [*OPEN, *REFUSES], ids=str)
def test_door(door: Door, doors: Doors, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It stands open, or shut for connectors; it is found; and the remedy ends both."""
    harmless = door in REFUSES  # the message is one that must arrive
    doors.wire(door, door.fault, door.services)
    found = doors.found(door, tmp_path / "fault", capsys)
    assert doors.arrives(door) != harmless, doors.hub.postfix.log()[-3000:]
    assert found.get(door.finding, set()) & {door.severity, "error"}, found

    doors.wire(door, door.remedy, door.services if door.remedied_services is None else door.remedied_services)
    found = doors.found(door, tmp_path / "remedy", capsys)
    assert doors.arrives(door) == harmless, doors.hub.postfix.log()[-3000:]
    assert door.finding not in found, found
    assert not any("error" in severities for severities in found.values()), found
