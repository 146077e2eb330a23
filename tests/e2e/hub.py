"""The mail hub of the end-to-end tests: its organizations, its Postfix wired as recommended, and what a message did.

`CONFIGURATION` is policyd's, `relay_settings()` Postfix's own half (both lists of domains must agree), `deliver()`
plays one client with one message and returns the replies, what reached the next hop and what policyd logged.
Nothing here knows a rule of policyd: expectations stand in the tests' tables. Wiring: the recommended one of
docs/guide (policyd directly before reject_unauth_destination in smtpd_recipient_restrictions).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.postfix import Postfix
from tests.e2e.smtp import Message, Reply, Sink, SmtpClient
from tests.helpers.certificates import CertificateFiles

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

STRANGER = "198.51.100.9"
TRUSTED_NETWORK = "10.255.255.255"  # the only address of mynetworks
BRANCH = "203.0.113.5"
BRANCH_IPV6 = "2001:db8:c::25"
TLS_BRANCH = "203.0.113.66"
SCANNER = "203.0.113.81"
FABRIKAM_OFFICE = "192.0.2.10"
COURIER = "198.51.100.200"

NO_CERTIFICATE = "-"
"""As a client's certificate: STARTTLS without one. None means no TLS at all."""

CONFIGURATION = """\
include = ["organizations.d/*.toml"]

[service]
listen = [{listen}]
unix_mode = "0660"
mode = "{mode}"

[policy]
incoming = "OK"
attribution_header = "{header}"
provider_networks = ["198.18.0.0/15"]
"""

ORGANIZATIONS = {
    "hub": """\
[organizations.hub]
accepted_domains = ["hub.example"]
""",
    "contoso": """\
[organizations.contoso]
accepted_domains = ["contoso.com", "*.contoso.net", "bücher.example"]
delegated_domains = ["lab.contoso.net"]
pending_domains = ["contoso-new.com"]

[organizations.contoso.connectors.head-office]
certificate_names = ["*.contoso.com"]

[organizations.contoso.connectors.net]
certificate_names = ["*.contoso.net"]

[organizations.contoso.connectors.idn]
certificate_names = ["*.bücher.example"]

[organizations.contoso.connectors.signatures]
certificate_names = ["relay.signatures.example"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28", "2001:db8:c::/64"]

[organizations.contoso.connectors.tls-branch]
addresses = ["203.0.113.64/29"]
require_tls = true

[organizations.contoso.connectors.scanner]
certificate_names = ["scanner.devices.example"]
addresses = ["203.0.113.80/29"]

[organizations.contoso.connectors.gateway]
certificate_files = ["{certificates}/pinned-san-only.pem"]

[organizations.contoso.connectors.printer]
public_key_fingerprints = ["{key:pinned-self-signed}"]

[organizations.contoso.connectors.old]
certificate_files = ["{certificates}/pinned-expired.pem"]

[organizations.contoso.connectors.early]
public_key_fingerprints = ["{key:pinned-future}"]

[organizations.contoso.connectors.public-ca]
certificate_files = ["{certificates}/pinned-server-auth.pem"]

[organizations.contoso.connectors.own-ca]
public_key_fingerprints = ["{key:pinned-foreign}"]

[organizations.contoso.connectors.half-chain]
certificate_fingerprints = ["{certificate:pinned-missing-intermediate}"]

[organizations.contoso.connectors.odd]
public_key_fingerprints = ["{key:pinned-odd}"]
""",
    "fabrikam": """\
[organizations.fabrikam]
accepted_domains = ["fabrikam.com", "lab.contoso.net"]

[organizations.fabrikam.connectors.cert]
certificate_names = ["mail.fabrikam.com"]

[organizations.fabrikam.connectors.eu]
certificate_names = ["mail.eu.fabrikam.com"]

[organizations.fabrikam.connectors.signatures]
certificate_names = ["relay.signatures.example"]

[organizations.fabrikam.connectors.office]
addresses = ["192.0.2.10"]
""",
    "tailspin": """\
[organizations.tailspin]
accepted_domains = ["tailspintoys.com"]
protect_sender_domains = true
connectors_only = true

[organizations.tailspin.connectors.cert]
certificate_names = ["tailspintoys.com"]

[organizations.tailspin.partners.bank]
sender_domains = ["contosobank.example"]
require_tls = true
certificate_names = ["mail.contosobank.example"]

[organizations.tailspin.partners.courier]
sender_domains = ["courier.example"]
addresses = ["198.51.100.200"]
""",
}

RELAY_DOMAINS = (
    "contoso.com contoso.net .contoso.net bücher.example xn--bcher-kva.example fabrikam.com lab.contoso.net "
    "tailspintoys.com"
)

RELAY_RECIPIENTS = (
    "kate@contoso.com",
    "kate@contoso.net",
    "kate@x.y.contoso.net",
    "hans@bücher.example",
    "hans@xn--bcher-kva.example",
    "sam@fabrikam.com",
    "sam@lab.contoso.net",
    "bob@tailspintoys.com",
)


def write_configuration(
    folder: Path,
    listen: Sequence[str],
    certificates: Mapping[str, CertificateFiles],
    *,
    mode: str = "enforce",
    attribution_header: str = "",
) -> Path:
    """Write policyd.toml and its organizations.d below the folder; the path of policyd.toml."""

    def fill(match: re.Match[str]) -> str:
        what, _, name = match[1].partition(":")
        if what == "certificates":
            return str(certificates["ca"].pem.parent)
        certificate = certificates[name]
        return certificate.key_fingerprint() if what == "key" else certificate.fingerprint()

    organizations = folder / "organizations.d"
    organizations.mkdir(parents=True)
    for name, text in ORGANIZATIONS.items():
        (organizations / f"{name}.toml").write_text(re.sub(r"\{([\w:-]+)\}", fill, text), "utf-8")
    config = folder / "policyd.toml"
    addresses = ", ".join(f'"{address}"' for address in listen)
    config.write_text(CONFIGURATION.format(listen=addresses, mode=mode, header=attribution_header), "utf-8")
    return config


def policy_service(address: str, default_action: str = "451 4.3.5 Connector policy unavailable") -> str:
    """The restriction that asks policyd, as the guide writes it."""
    return f"check_policy_service {{ {address}, timeout=10s, {{ default_action = {default_action} }} }}"


def recommended_wiring(address: str) -> dict[str, str]:
    """The settings of an smtpd that asks the policy service at the address where the guide says."""
    return {
        "smtpd_relay_restrictions": "",
        "smtpd_recipient_restrictions": (
            f"permit_mynetworks permit_sasl_authenticated {policy_service(address)} reject_unauth_destination"
        ),
    }


def relay_settings(next_hop: int, certificates: Mapping[str, CertificateFiles]) -> dict[str, str]:
    """main.cf: the same domains that policyd accepts, everything to the sink, TLS with the test CA."""
    transport = f"smtp:[127.0.0.1]:{next_hop}"
    return {
        "mynetworks": f"{TRUSTED_NETWORK}/32",
        "relay_domains": RELAY_DOMAINS,
        "parent_domain_matches_subdomains": "",
        "relay_recipient_maps": "inline:{ " + ", ".join(f"{address}=x" for address in RELAY_RECIPIENTS) + " }",
        "relay_transport": transport,
        "default_transport": transport,
        "local_transport": transport,
        "smtpd_tls_chain_files": f"{certificates['server'].key}, {certificates['server'].pem}",
        "smtpd_tls_CAfile": str(certificates["ca"].pem),
    }


@dataclass(frozen=True, slots=True)
class Mail:
    """A client and its message. `certificate` names one, or is None (no TLS) or NO_CERTIFICATE; `address` is faked."""

    sender: str
    recipients: tuple[str, ...]
    certificate: str | None = None
    address: str = STRANGER
    helo: str = "client.example"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a message: SMTP replies, what policyd logged meanwhile, and what the next hop got."""

    mail_reply: Reply
    replies: tuple[Reply, ...]
    data_reply: Reply
    relayed: tuple[Message, ...]
    log: str
    transcript: str = field(repr=False)

    @property
    def decisions(self) -> tuple[Mapping[str, str], ...]:
        """policyd's decisions, one for each recipient that it was asked about."""
        return read_decisions(self.log)

    @property
    def reply(self) -> str:
        """The text of the only recipient's reply."""
        (reply,) = self.replies
        return reply.text


_NUMBERS = itertools.count(1)  # of all hubs, since they may share a sink


class Hub:
    """A running Postfix, its next hop, and the certificates of its clients."""

    def __init__(self, postfix: Postfix, sink: Sink, certificates: Mapping[str, CertificateFiles]) -> None:
        self.postfix = postfix
        self.sink = sink
        self.certificates = certificates

    def client(self, listener: str, mail: Mail) -> SmtpClient:
        """A session that has got as far as the message: greeted, encrypted and disguised."""
        client = self.postfix.connect(listener)
        client.ehlo(mail.helo)
        if mail.certificate is not None:
            shown = None if mail.certificate == NO_CERTIFICATE else self.certificates[mail.certificate]
            assert client.starttls(shown).accepted, client
        assert client.xclient(mail.address).accepted, client
        return client

    def deliver(
        self, listener: str, mail: Mail, policyd: PolicydServer | None = None, headers: tuple[str, ...] = ()
    ) -> Delivery:
        """Send the message, whatever is refused on the way, and wait until Postfix has nothing left to do.

        It has the headers given, and two of its own. DATA is tried even when every recipient was refused. Where policyd
        is given, what it logged meanwhile is there as well.
        """
        token = f"token-{next(_NUMBERS):05d}"
        lines = (*headers, f"Subject: {token}", f"Message-ID: <{token}@client.example>", "", "body", "")
        message = "\r\n".join(lines).encode()
        parameters = "" if mail.sender.isascii() and all(map(str.isascii, mail.recipients)) else "SMTPUTF8"
        before = policyd.mark() if policyd else 0
        with self.client(listener, mail) as client:
            mail_reply = client.mail(mail.sender, parameters)
            replies = tuple(client.rcpt(recipient) for recipient in mail.recipients)
            data_reply = client.data(message)
            client.quit()
            transcript = str(client)
        self.postfix.wait_until_idle()
        log = policyd.decided_since(before) if policyd else ""
        return Delivery(mail_reply, replies, data_reply, tuple(self.sink.with_token(token)), log, transcript)


_DECISION = re.compile(r"(?:<\d>)?\S+: (action=.*)")
_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)(?: |$)')


def read_decisions(log: str) -> tuple[Mapping[str, str], ...]:
    """The decision lines among the whole lines of a log, as mappings; quotes around a value are left off."""
    whole = log[: log.rfind("\n") + 1]
    found: list[Mapping[str, str]] = []
    for line in whole.split("\n"):
        if match := _DECISION.fullmatch(line):
            found.append({name: value.strip('"') for name, value in _PAIR.findall(match[1])})
    return tuple(found)
