"""Every command of the how-to pages runs, and prints what the page says.

A page finds a hub of its own: `/etc/policyd`, `/etc/postfix` and a decision log, in folders of the test. Certificates
lie in the working folder. No server runs: `systemctl reload policyd` does what the server would, which is to check.
That a reload takes effect is shown elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from policyd.policy.attribution import decide
from policyd.protocol.request import Request
from policyd.records.decision_line import decision_line
from tests.helpers.certificates import CONTOSO_NEXT_KEY, self_signed
from tests.helpers.compiled import compiled
from tests.places import PROJECT
from tests.system.documents import matches, read_blocks

HOWTO = PROJECT / "docs" / "howto"
FINGERPRINT = "F0:99:F0:45:3F:4A:9B:1C:2D:3E:4F:50:61:72:83:94:A5:B6:C7:D8:E9:FA:0B:1C:2D:3E:4F:50:61:72:83:94"
NEIGHBOUR = '[organizations.fabrikam]\naccepted_domains = ["fabrikam.com"]\n'
CONNECTED = f'{NEIGHBOUR}\n[organizations.fabrikam.connectors.mail]\ncertificate_names = ["mail.fabrikam.com"]\n'
CONTOSO = '[organizations.contoso]\naccepted_domains = ["contoso.com"]\n'
REFERENCE = "1f3.65e2a.4c1.0"


@dataclass(frozen=True, slots=True)
class Stage:
    """What a page finds. `log`: requests that were decided by these rules, and those that the page adds (`since`)."""

    contoso: str = ""
    others: str = NEIGHBOUR
    log: tuple[dict[str, str], ...] = ()
    since: str = ""
    certificates: dict[str, bytes] = field(default_factory=dict)
    exports: bool = False
    needs: tuple[str, ...] = ()  # commands


def mail(client: str, sender: str, recipient: str, **more: str) -> dict[str, str]:
    return {"client_address": client, "sender": sender, "recipient": recipient, "instance": "1f3.65e2a.4b0.0"} | more


def connector(name: str, evidence: str) -> str:
    return f"\n[organizations.contoso.connectors.{name}]\n{evidence}\n"


VERIFIED = {"ccert_issuer": "CA", "encryption_protocol": "TLSv1.3"}
OUTSIDE = "bob@example.org"
FILTER = (
    '\n[organizations.contoso.connectors.filter]\ndescription = "the filtering provider that the MX records name"\n'
)
BANK = """
[organizations.contoso.partners.bank]
sender_domains = ["bank.example"]
certificate_names = ["mail.bank.example"]
"""

STAGES: dict[str, Stage] = {
    "exchange-online.md": Stage(exports=True),
    "permit-tls-clientcerts.md": Stage(needs=("postconf",)),
    "a-tenants-new-server.md": Stage(
        others=CONNECTED.replace("fabrikam", "hub"), certificates={"mail.pem": self_signed("mail.contoso.com")}
    ),
    "certificates-without-clientauth.md": Stage(
        CONTOSO + connector("mail", 'certificate_names = ["mail.contoso.com"]'),
        CONNECTED,
        certificates={"mail.pem": self_signed("mail.contoso.com", usage=ExtendedKeyUsageOID.SERVER_AUTH)},
    ),
    "renewal.md": Stage(
        CONTOSO + connector("mail", 'certificate_files = ["../certs/contoso-mail.pem"]'),
        CONNECTED,
        certificates={
            "/etc/policyd/certs/contoso-mail.pem": self_signed("mail.contoso.com"),
            "renewed.pem": self_signed("mail.contoso.com"),
            "next.pem": self_signed("mail.contoso.com", key=CONTOSO_NEXT_KEY),
        },
    ),
    "an-isp-changes-an-address.md": Stage(
        CONTOSO + connector("branch", 'addresses = ["203.0.113.8/29"]'),
        CONNECTED,
        (
            mail("203.0.113.9", "kate@contoso.com", OUTSIDE),
            mail("203.0.113.45", "kate@contoso.com", OUTSIDE, instance=REFERENCE),
            mail("203.0.113.45", "tom@contoso.com", OUTSIDE),
        ),
    ),
    "behind-a-proxy.md": Stage(
        CONTOSO + connector("branch", 'addresses = ["203.0.113.8/29"]'),
        CONNECTED,
        (
            mail("172.17.0.1", "kate@contoso.com", OUTSIDE),
            mail("172.17.0.1", "eve@elsewhere.example", OUTSIDE),
            mail("172.17.0.1", "tom@contoso.com", OUTSIDE),
        ),
        needs=("postconf",),
    ),
    "a-customer-in-the-cloud.md": Stage(
        CONTOSO,
        CONNECTED,
        certificates={
            "shared.pem": self_signed("mail.protection.outlook.com", key=CONTOSO_NEXT_KEY),
            "mail.pem": self_signed("mail.contoso.com"),
        },
    ),
    "locking-down.md": Stage(
        CONTOSO
        + connector("mail", 'certificate_names = ["mail.contoso.com"]')
        + FILTER
        + 'addresses = ["192.0.2.64/28"]\n',
        CONNECTED,
        (
            mail("198.51.100.20", "kate@contoso.com", OUTSIDE, ccert_subject="mail.contoso.com", **VERIFIED),
            mail("192.0.2.65", "ann@example.com", "kate@contoso.com"),
            mail("198.51.100.7", "ann@example.com", "kate@contoso.com"),
            mail("198.51.100.99", "ceo@contoso.com", "sam@fabrikam.com"),
            mail("192.0.2.200", "billing@saas.example", "kate@contoso.com"),
        ),
    ),
    "partners.md": Stage(
        CONTOSO + connector("mail", 'certificate_names = ["mail.contoso.com"]'),
        CONNECTED,
        (
            mail(
                "192.0.2.9", "t@bank.example", "kate@contoso.com", instance=REFERENCE, ccert_subject="mx2.bank.example"
            )
            | VERIFIED,
        ),
        BANK,
        {"bank.pem": self_signed("mail.bank.example")},
    ),
}

COMMANDS = {
    "policyd": """\
case "$1" in
explain|check|replay|report) command=$1; shift; set -- "$command" -c "$ETC/policyd/policyd.toml" "$@" ;;
esac
exec "$PYTHON" -m policyd "$@"
""",
    "systemctl": '[ "$*" = "reload policyd" ] || exit 64\npolicyd check >/dev/null 2>&1\n',
}


class Hub:
    """Runs scripts with the paths of a hub, which lie in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = os.environ | {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "PYTHON": sys.executable,
            "ETC": f"{folder}/etc",
            "MAIL_CONFIG": f"{folder}/etc/postfix",
            "LC_ALL": "C.UTF-8",
        }

    def run(self, script: str) -> tuple[int, str]:
        """Exit status and output."""
        for path in ("/etc/policyd", "/etc/postfix", "/var/log/policyd", "/var/backups"):
            script = script.replace(path, f"{self.folder}{path}")
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=self.folder / "work",
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout.replace(f"{self.folder}/", "/")


@pytest.fixture
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Hub:
    stage: Stage = request.param
    for command in stage.needs:
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    folders = "bin work etc/policyd/organizations.d etc/policyd/certs etc/postfix var/log/policyd var/backups"
    for name in folders.split():
        (tmp_path / name).mkdir(parents=True)
    for name, script in COMMANDS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "etc/policyd/policyd.toml").write_text('include = ["organizations.d/*.toml"]\n')
    rules = tmp_path / "etc/policyd/organizations.d"
    (rules / "others.toml").write_text(stage.others)
    if stage.contoso:
        (rules / "contoso.toml").write_text(stage.contoso)
    for name, content in stage.certificates.items():
        (tmp_path / name.lstrip("/") if name.startswith("/") else tmp_path / "work" / name).write_bytes(content)
    (tmp_path / "var/log/policyd/policyd.log").write_text(logged(stage))
    if stage.exports:
        for name in ("connectors.json", "domains.json"):
            shutil.copy(PROJECT / "tests" / "samples" / "exchange" / name, tmp_path / "work")
    (tmp_path / "etc/postfix/master.cf").write_text("")
    (tmp_path / "etc/postfix/main.cf").write_text(
        f"compatibility_level = 3.6\nmynetworks = 127.0.0.0/8 [::1]/128 203.0.113.16/28\n"
        f"relay_clientcerts = hash:{tmp_path}/etc/postfix/relay_clientcerts\n"
        "smtpd_relay_restrictions = permit_mynetworks, permit_tls_clientcerts, reject_unauth_destination\n"
    )
    (tmp_path / "etc/postfix/relay_clientcerts").write_text(f"# our branches\n{FINGERPRINT} mail.contoso.com\n")
    return Hub(tmp_path)


def logged(stage: Stage) -> str:
    """The decision log."""
    if not stage.log:
        return ""
    rules = compiled(stage.contoso + stage.since + stage.others)
    requests = [Request(protocol_state="RCPT", **attributes) for attributes in stage.log]
    return "".join(f"{decision_line(request, decide(rules, request), 1)}\n" for request in requests)


@pytest.mark.parametrize(("page", "hub"), STAGES.items(), ids=STAGES, indirect=["hub"])
def test_every_block_does_what_the_page_says(page: str, hub: Hub) -> None:
    blocks = read_blocks(HOWTO / page)
    assert len(blocks) >= 4
    for block in blocks:
        status, printed = hub.run(block.script)
        assert status == 0, f"{block.name}\n{block.script}\n{printed}"
        assert matches(block.expected, printed) if block.expected else not printed, (
            f"{block.name}\n{block.script}\n--- printed\n{printed}\n--- the page\n{block.expected}"
        )


def test_every_page_is_tried() -> None:
    assert {page.name for page in HOWTO.glob("*.md")} == set(STAGES)


def test_the_pages_link_to_files_that_exist() -> None:
    for page in HOWTO.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
