"""What the policy service costs inside a real Postfix: messages a second with policyd, and with the C echo.

One private Postfix, one smtpd for each policy server, asked in turn (tests/bench/pairs.py); smtp-source sends, the
discard transport takes the mail. Needs root and Postfix. Measures; asserts nothing about time.

What made runs of the same thing differ, and is kept out: waiting for the disk (the queue lies in memory where it can),
new processes (none ends between the runs), the way Python waits for a process with a time limit (in steps of up to
50 ms), mail that is still being delivered when the next run begins, and runs too far apart for the same speed of the
machine. How much of the mail is delivered before the last message is accepted differs from run to run too, so beside
the rate of acceptance stands that of all the work: until the queue is empty. And beside both stand the messages for a
second of CPU, of all processes of Postfix and the policy server: what the rate of a hub comes to that has no CPU left.
Other work on the machine disturbs that least.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import which
from statistics import median

from tests.bench.pairs import HEADS, Spread, control, in_turn, ratios, spread
from tests.bench.report import columns
from tests.bench.servers import SERVERS, Place, Server, free_port
from tests.e2e.hub import recommended_wiring
from tests.e2e.postfix import Listener, Postfix
from tests.helpers.programs import why_no_postfix

SESSIONS = 10  # smtp-source's, at a time
RECIPIENTS = (1, 10)
MESSAGES = 200  # in one run: some tenths of a second
_DOMAIN = "org0.example"  # accepted by the configuration of `requests`
_SERVERS = ("echo", "policyd")
_MEMORY = Path("/dev/shm")
_SETTINGS = {
    "relay_domains": _DOMAIN,
    "relay_transport": "discard:",
    "smtpd_tls_security_level": "none",
    "max_use": "1000000",  # a process of Postfix ends after 100 uses otherwise,
    "max_idle": "1000s",  # or when it had nothing to do for 100 s
}


@dataclass(frozen=True, slots=True)
class Sent:
    """One run: messages a second until the last was accepted, and until the last was delivered.

    `of_cpu`: messages for each second of CPU that Postfix and the policy server used, until the last was delivered.
    `cpu_microseconds`: of the policy server, for each recipient.
    """

    accepted: float
    delivered: float
    of_cpu: float
    cpu_microseconds: float


@dataclass(frozen=True, slots=True)
class MailRow:
    """Medians of one server at one number of recipients a message.

    The ratios are to the C echo's runs before and after; those of the C echo itself are the control.
    """

    server: str
    recipients: int
    accepted: float
    accepted_ratio: Spread
    delivered: float
    delivered_ratio: Spread
    of_cpu: float
    of_cpu_ratio: Spread
    cpu_microseconds: float


def why_not() -> str:
    """Why this cannot be measured here; empty when it can."""
    return why_no_postfix() or ("" if which("smtp-source") else "there is no smtp-source")


def measure_mail(place: Place, pairs: int, messages: int, say: Callable[[str], None]) -> list[MailRow]:
    """Two rows for each number of recipients. `messages`: in one run; `place` holds the organizations already."""
    rows: list[MailRow] = []
    with ExitStack() as stack:
        servers = [SERVERS[name](place) for name in _SERVERS]
        for server in servers:
            stack.callback(server.stop)
        ports = {server.name: free_port() for server in servers}
        listeners = {  # the name becomes a word of smtpd's command line
            name: Listener(ports[server.name], recommended_wiring(server.target))
            for name, server in zip(_SERVERS, servers, strict=True)
        }
        postfix = Postfix(listeners, _SETTINGS)
        if _MEMORY.is_dir():
            postfix.queue = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="policyd-bench-", dir=_MEMORY)))
            postfix.queue.chmod(0o755)  # Postfix runs under its own user
        stack.enter_context(postfix)

        def run(server: Server, recipients: int) -> Sent:
            say(f"Postfix: {recipients} recipients, {server.name}")
            hub = Server("Postfix", int((postfix.queue / "pid/master.pid").read_text()), "")
            before, hub_before, started = server.usage()[0], hub.usage()[0], time.monotonic()
            _send(ports[server.name], messages, recipients)
            accepted = time.monotonic() - started
            postfix.wait_until_idle()
            delivered, cpu, hub_cpu = (
                time.monotonic() - started,
                server.usage()[0] - before,
                hub.usage()[0] - hub_before,
            )
            each = 1e6 * cpu / messages / recipients
            return Sent(messages / accepted, messages / delivered, messages / (cpu + hub_cpu), each)

        echo, policyd = servers
        for recipients in RECIPIENTS:
            with_echo, with_policyd = partial(run, echo, recipients), partial(run, policyd, recipients)
            with_echo(), with_policyd()  # to warm up
            echo_runs, policyd_runs = in_turn(with_echo, with_policyd, pairs)
            rows.append(_row(echo.name, recipients, echo_runs, None))
            rows.append(_row(policyd.name, recipients, policyd_runs, echo_runs))
    return rows


def _send(port: int, messages: int, recipients: int) -> None:
    count = ["-s", str(SESSIONS), "-m", str(messages), "-r", str(recipients), "-l", "1000"]
    who = ["-f", "info@company1.example", "-t", f"kate@{_DOMAIN}"]
    # not subprocess's own time limit: it looks every 50 ms whether the process has ended
    subprocess.run(["timeout", "300", "smtp-source", *count, *who, f"inet:127.0.0.1:{port}"], check=True)


def _row(server: str, recipients: int, runs: Sequence[Sent], yardsticks: Sequence[Sent] | None) -> MailRow:
    """Without yardsticks the runs are the yardsticks: compared with each other."""

    def compared(rate: Callable[[Sent], float]) -> Spread:
        rates = list(map(rate, runs))
        return spread(control(rates) if yardsticks is None else ratios(rates, list(map(rate, yardsticks))))

    return MailRow(
        server=server,
        recipients=recipients,
        accepted=median(run.accepted for run in runs),
        accepted_ratio=compared(lambda run: run.accepted),
        delivered=median(run.delivered for run in runs),
        delivered_ratio=compared(lambda run: run.delivered),
        of_cpu=median(run.of_cpu for run in runs),
        of_cpu_ratio=compared(lambda run: run.of_cpu),
        cpu_microseconds=median(run.cpu_microseconds for run in runs),
    )


def mail_table(rows: Iterable[MailRow]) -> str:
    """The rows for people, fixed width."""
    lines = [("recipients", "server", "until", "messages/s", *HEADS, "CPU us/recipient")]
    for row in rows:
        rates = (
            ("accepted", row.accepted, row.accepted_ratio),
            ("delivered", row.delivered, row.delivered_ratio),
            ("of CPU", row.of_cpu, row.of_cpu_ratio),
        )
        for until, rate, ratio in rates:
            cpu = f"{row.cpu_microseconds:,.0f}"
            lines.append((str(row.recipients), row.server, until, f"{rate:,.0f}", *ratio.cells(), cpu))
    return columns(lines, left=1)
