"""What the policy service costs inside a real Postfix: messages a second with policyd, and with the C echo.

One private Postfix, one smtpd for each policy server, in alternating rounds; smtp-source sends, the discard transport
takes the mail. Needs root and Postfix. Measures; asserts nothing about time.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from tests.bench.report import columns
from tests.bench.servers import SERVERS, Place, free_port
from tests.e2e.hub import recommended_wiring
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.postfix import why_not as why_no_postfix

SESSIONS = 10  # smtp-source's, at a time
RECIPIENTS = (1, 10)
_DOMAIN = "org0.example"  # accepted by the configuration of `requests`
_SERVERS = ("echo", "policyd")


@dataclass(frozen=True, slots=True)
class MailRow:
    """Medians of one server at one number of recipients a message; ratios are to the C echo, round by round."""

    server: str
    recipients: int
    messages_per_second: float
    ratio: float
    ratio_lowest: float
    ratio_highest: float
    cpu_microseconds: float  # of the policy server, for each recipient


def why_not() -> str:
    """Why this cannot be measured here; empty when it can."""
    return why_no_postfix() or ("" if shutil.which("smtp-source") else "there is no smtp-source")


def measure_mail(place: Place, rounds: int, messages: int, say: Callable[[str], None]) -> list[MailRow]:
    """Every server in turn. `messages`: in one run; `place` holds the organizations already."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        servers = [SERVERS[name](place) for name in _SERVERS]
        for server in servers:
            stack.callback(server.stop)
        ports = {server.name: free_port() for server in servers}
        listeners = {  # the name becomes a word of smtpd's command line
            name: Listener(ports[server.name], recommended_wiring(server.target))
            for name, server in zip(_SERVERS, servers, strict=True)
        }
        settings = {"relay_domains": _DOMAIN, "relay_transport": "discard:", "smtpd_tls_security_level": "none"}
        postfix = stack.enter_context(Postfix(listeners, settings))
        for number in range(-1, rounds):  # the first is to warm up
            for recipients in RECIPIENTS:
                turn = number % len(servers)
                for server in servers[turn:] + servers[:turn]:
                    say(f"Postfix: round {number + 1} of {rounds}, {recipients} recipients, {server.name}")
                    before, started = server.usage()[0], time.monotonic()
                    _send(ports[server.name], messages, recipients)
                    took, cpu = time.monotonic() - started, server.usage()[0] - before
                    postfix.wait_until_idle()
                    if number >= 0:
                        found.setdefault((server.name, recipients), []).append(
                            (messages / took, 1e6 * cpu / messages / recipients)
                        )
    return [_row(server.name, recipients, found, servers[0].name) for recipients in RECIPIENTS for server in servers]


def _send(port: int, messages: int, recipients: int) -> None:
    count = ["-s", str(SESSIONS), "-m", str(messages), "-r", str(recipients), "-l", "1000"]
    who = ["-f", "info@company1.example", "-t", f"kate@{_DOMAIN}"]
    subprocess.run(["smtp-source", *count, *who, f"inet:127.0.0.1:{port}"], check=True, timeout=300)


def _row(
    server: str, recipients: int, found: dict[tuple[str, int], list[tuple[float, float]]], yardstick: str
) -> MailRow:
    runs = found[server, recipients]
    ratios = [run[0] / base[0] for run, base in zip(runs, found[yardstick, recipients], strict=True)]
    rates, cpu = (median(values) for values in zip(*runs, strict=True))
    return MailRow(server, recipients, rates, median(ratios), min(ratios), max(ratios), cpu)


def mail_table(rows: Iterable[MailRow]) -> str:
    """The rows for people, fixed width."""
    lines = [("recipients", "server", "messages/s", "ratio", "(rounds)", "CPU us/recipient")]
    lines += [
        (
            str(row.recipients),
            row.server,
            f"{row.messages_per_second:,.0f}",
            f"{row.ratio:.2f}",
            f"({row.ratio_lowest:.2f}-{row.ratio_highest:.2f})",
            f"{row.cpu_microseconds:,.0f}",
        )
        for row in rows
    ]
    return columns(lines, left=1)
