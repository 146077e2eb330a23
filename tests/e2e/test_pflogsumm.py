"""pflogsumm groups refusals by reason: the phrase before the first colon is the same for all mail of one reason.

Once with log lines of every reason, once with what a real Postfix logs of refused mail. Needs pflogsumm (SPEC 3.6).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from policyd.policy.decision import Reason, refusal
from tests.e2e.hub import BRANCH, NO_CERTIFICATE, STRANGER, TLS_BRANCH, Hub, Mail

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

pytestmark = pytest.mark.skipif(shutil.which("pflogsumm") is None, reason="pflogsumm is not installed")

REFUSALS = [
    reason
    for reason in Reason
    if reason
    not in (
        Reason.NOT_ASKED,
        Reason.CERTIFICATE_DOMAIN,
        Reason.SENDER_DOMAIN,
        Reason.RECIPIENT_DOMAIN,
        Reason.INCOMING,
    )
]


def phrase(reason: Reason) -> str:
    """What stands before the first colon, without the codes."""
    return refusal(reason, "", "").split(" ", 2)[2].split(":")[0]


def summed_up(log: Path) -> Mapping[str, int]:
    """The refusals at RCPT of pflogsumm's report, by what it takes for the reason."""
    done = subprocess.run(["pflogsumm", str(log)], capture_output=True, text=True, timeout=60, check=True)
    detail = done.stdout.split("message reject detail")[1].split("\n\n")[0]
    found: Counter[str] = Counter()
    for reason, count in re.findall(r"^    (\S.*) \(total: (\d+)\)$", detail, re.MULTILINE):
        found[reason] += int(count)
    return found


def test_every_reason_is_one_group(tmp_path: Path) -> None:
    """Three refusals of each reason, of different mail."""
    lines = []
    for reason in REFUSALS:
        for number, sender in enumerate(("", "kate@contoso.com", "a,b;c@contoso.com")):
            action, status, text = refusal(reason, sender, f"1f3.{number}.0").split(" ", 2)
            code = 450 if action == "DEFER" else 554
            lines.append(
                f"Nov 23 09:16:0{number} hub postfix/smtpd[71]: NOQUEUE: reject: RCPT from unknown[192.0.2.{number}]: "
                f"{code} {status} <r{number}@example.org>: Recipient address rejected: {text}; from=<{sender}> "
                f"to=<r{number}@example.org> proto=ESMTP helo=<client.example>\n"
            )
    log = tmp_path / "mail.log"
    log.write_text("".join(lines))
    assert summed_up(log) == {f"Recipient address rejected: {phrase(reason)}": 3 for reason in REFUSALS}


# Two refusals of each reason that the test hub has, different in whatever may differ.
MAILS: list[tuple[Reason, Mail]] = [
    (Reason.NO_CONNECTOR, Mail("kate@contoso.com", ("x@other.example", "y@other.example"))),
    (Reason.TLS_REQUIRED, Mail("kate@contoso.com", ("x@other.example", "y@other.example"), address=TLS_BRANCH)),
    (Reason.NOT_YOUR_DOMAIN, Mail("a@elsewhere.example", ("x@other.example",), address=BRANCH)),
    (Reason.NOT_YOUR_DOMAIN, Mail("", ("x@other.example",), address=BRANCH)),
    (Reason.PENDING_DOMAIN, Mail("kate@contoso-new.com", ("x@other.example", "y@other.example"), address=BRANCH)),
    (Reason.CERTIFICATE_UNTRUSTED, Mail("kate@contoso.com", ("x@other.example",), certificate="expired")),
    (Reason.CERTIFICATE_UNTRUSTED, Mail("", ("x@other.example",), certificate="self-signed")),
    (Reason.CERTIFICATE_UNKNOWN, Mail("a@elsewhere.example", ("x@other.example",), certificate="unknown")),
    (Reason.CERTIFICATE_UNKNOWN, Mail("kate@contoso.com", ("x@other.example",), certificate="odd")),
    (Reason.ROUTED_RECIPIENT, Mail("a@elsewhere.example", ("x%other.example@contoso.com", "y!x@contoso.com"))),
    (Reason.RECIPIENT_WITHOUT_DOMAIN, Mail("a@elsewhere.example", ("x@[192.0.2.1]", "y@[192.0.2.1]"))),
    (Reason.PARTNER_TLS, Mail("t@contosobank.example", ("bob@tailspintoys.com",))),
    (Reason.PARTNER_CERTIFICATE, Mail("t@contosobank.example", ("bob@tailspintoys.com",), certificate=NO_CERTIFICATE)),
    (Reason.PARTNER_ADDRESS, Mail("c@courier.example", ("bob@tailspintoys.com",), address=STRANGER)),
    (Reason.CONNECTORS_ONLY, Mail("a@elsewhere.example", ("bob@tailspintoys.com",))),
    (Reason.SENDER_PROTECTED, Mail("toy@tailspintoys.com", ("sam@fabrikam.com",))),
]


def test_what_postfix_logs(hub: Hub, policyd: PolicydServer, tmp_path: Path) -> None:
    before = len(hub.postfix.log())
    expected: Counter[str] = Counter()
    for reason, mail in MAILS:
        delivery = hub.deliver("inet", mail, policyd)
        assert [decision["reason"] for decision in delivery.decisions] == [reason] * len(mail.recipients), delivery
        expected[f"Recipient address rejected: {phrase(reason)}"] += len(mail.recipients)
    log = tmp_path / "mail.log"
    # a listener of the test has a syslog_name of its own; by default it is the program's
    log.write_text(hub.postfix.log()[before:].replace("postfix/inet/", "postfix/"))
    assert summed_up(log) == expected
