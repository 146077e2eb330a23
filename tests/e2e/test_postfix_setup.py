"""`policyd-postfix-setup` on a running Postfix: each stage and the way back, seen from an SMTP client.

The hub is an old one: both lists refuse relaying, a greylisting service stands behind the refusal of one of them, and
smtpd_data_restrictions asks policyd for its header. The other service says OK to all, so that an OK of it that relayed
would be seen.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.hub import BRANCH, STRANGER, Hub, Mail, relay_settings, write_configuration
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Sink
from tests.helpers.certificates import CertificateFiles
from tests.helpers.programs import why_no_postfix
from tests.places import PROJECT

if TYPE_CHECKING:
    from tests.conftest import PolicydServer

CONNECTOR_OUT = Mail("kate@contoso.com", ("x@other.example",), address=BRANCH)
STRANGER_IN = Mail("john@elsewhere.example", ("kate@contoso.com",), address=STRANGER)
STRANGER_OUT = Mail("john@elsewhere.example", ("x@other.example",), address=STRANGER)
SECRET = "X-Internal-5d1e-Attribution"


@dataclass(frozen=True)
class Wired:
    """A hub, the policyd that it asks, and the script."""

    hub: Hub
    policyd: PolicydServer
    address: str
    judge: Path

    def apply(self, stage: str, *options: str) -> str:
        """Run the script; its standard output, when the stage counts."""
        config = self.hub.postfix.folder / "etc"
        command = [str(PROJECT / "contrib/postfix/policyd-postfix-setup"), "--config", str(config), "--apply"]
        command += ["--policyd", str(self.judge), "--policyd-config", str(self.policyd.config)]
        told: list[str] = []

        def run() -> None:
            arguments = [*command, "--service", self.address, *options, stage]
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            told.append(done.stdout)

        self.hub.postfix.reloaded_by(run)
        return told[0]

    def set_mode(self, mode: str) -> None:
        """What policyd.toml says; the server is not told."""
        text = self.policyd.config.read_text("utf-8")
        self.policyd.config.write_text(re.sub('mode = "[a-z]+"', f'mode = "{mode}"', text), "utf-8")

    def arrives(self, mail: Mail) -> bool:
        return bool(self.hub.deliver("port", mail).relayed)


@pytest.fixture
def wired(
    policyd_server: Callable[..., PolicydServer],
    free_port: Callable[[], int],
    other_service: str,
    sink: Sink,
    certificates: Mapping[str, CertificateFiles],
    tmp_path: Path,
) -> Iterator[Wired]:
    if reason := why_no_postfix():
        pytest.skip(reason)
    address = f"inet:127.0.0.1:{free_port()}"
    config = write_configuration(tmp_path / "policyd", [address], certificates, attribution_header=SECRET)
    port = free_port()
    # the judge shall look at a port that is open to everybody, as if that of this test were
    judge = tmp_path / "judge"
    judge.write_text(
        "#!/bin/sh\n"
        f"for each; do [ ! -f $each/master.cf ] || sed -i 's/^127.0.0.1:{port} /smtp /' $each/master.cf; done\n"
        f'exec {sys.executable} -m policyd "$@"\n',
        "utf-8",
    )
    judge.chmod(0o755)
    main_cf = {
        **relay_settings(sink.port, certificates),
        "inet_interfaces": "all",
        "smtpd_relay_restrictions": "permit_mynetworks permit_sasl_authenticated reject_unauth_destination",
        "smtpd_recipient_restrictions": (
            "permit_mynetworks permit_sasl_authenticated reject_unauth_destination "
            f"check_policy_service {other_service}"
        ),
        "smtpd_data_restrictions": f"check_policy_service {{ {address}, timeout=10s }}",
        "nested_header_checks": "",
        "notify_classes": "",
        "smtpd_policy_service_try_limit": "1",
    }
    with policyd_server(config) as policyd, Postfix({"port": Listener(port)}, main_cf) as postfix:
        checks = postfix.folder / "header_checks"
        checks.write_text(
            f"/^{SECRET}:\\s*(.*)$/ REPLACE X-Org-Attribution: $1\n/^X-Org-Attribution:/ IGNORE\n", "utf-8"
        )
        postfix.settings["header_checks"] = f"regexp:{checks}"
        postfix.reload()
        yield Wired(Hub(postfix, sink, certificates), policyd, address, judge)


def test_stages(wired: Wired) -> None:
    """An OK of policyd counts from `warn` on, nobody else relays, and only in `enforce` mail waits for policyd."""
    everybody = (CONNECTOR_OUT, STRANGER_IN, STRANGER_OUT)
    for stage, expected in (("warn", [True, True, False]), ("enforce", [True, True, False])):
        wired.apply(stage)
        assert [wired.arrives(mail) for mail in everybody] == expected, stage
    delivery = wired.hub.deliver("port", CONNECTOR_OUT)
    assert "X-Org-Attribution: organization=contoso" in delivery.relayed[0].content

    wired.policyd.stop()
    assert [wired.arrives(mail) for mail in everybody] == [False, False, False]
    for stage in ("warn", "monitor", "off"):
        wired.set_mode("monitor" if stage == "monitor" else "enforce")
        wired.apply(stage, "--no-query")
        assert [wired.arrives(mail) for mail in everybody] == [False, True, False], stage
    wired.policyd.start()
