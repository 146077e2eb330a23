"""The soak itself: traffic, a reload every few seconds, samples of memory and descriptors, and the verdict on all.

Every answer is compared with its log line and with what the slow reference says under the rules of the line's
generation; every line belongs to an answer. Growth is judged over the second half, when caches are full.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from policyd.protocol.request import Request
from tests.e2e.certificates import make_certificates
from tests.e2e.hub import Hub, recommended_wiring, relay_settings
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Sink
from tests.fuzz.made import pools_of
from tests.helpers.log_lines import read_decision, without_front
from tests.helpers.programs import why_no_postfix
from tests.soak.running import Soaked, Usage
from tests.soak.traffic import Kept, start_all

RELOAD_SECONDS = 5.0
GROWTH = 3 * 1024  # KiB of all processes from the third quarter to the last that are still no growth


@dataclass(slots=True)
class Report:
    """What happened. `faults` empty: all was well."""

    seconds: float = 0
    requests: int = 0
    mails: int = 0
    abuses: int = 0
    reloads: int = 0
    lines: int = 0
    samples: list[Usage] = field(default_factory=list)
    before: Usage = field(default_factory=lambda: Usage(0, 0, 0))
    after: Usage = field(default_factory=lambda: Usage(0, 0, 0))
    p50: float = 0
    p99: float = 0
    worst: float = 0
    postfix: str = ""
    faults: list[str] = field(default_factory=list)

    def quarter(self, number: int) -> float:
        """The median memory, in KiB, of a quarter of the run (0 to 3)."""
        first = len(self.samples) * number // 4
        last = max(first + 1, len(self.samples) * (number + 1) // 4)
        return statistics.median(sample.memory for sample in self.samples[first:last])

    def __str__(self) -> str:
        memory = " ".join(f"{self.quarter(number) / 1024:.1f}" for number in range(4))
        most = max(sample.descriptors for sample in self.samples)
        return "\n".join(
            (
                f"{self.seconds:.0f} s: {self.requests} requests, {self.mails} mails ({self.postfix})",
                f"{self.abuses} abuses, {self.reloads} reloads, {self.lines} log lines compared with answers",
                f"memory (MiB, median of each quarter): {memory}; at the end {self.after.memory / 1024:.1f}",
                f"descriptors: {self.before.descriptors} before, {most} at the most, {self.after.descriptors} after",
                f"threads: {self.before.threads} before, {self.after.threads} after",
                f"answers: p50 {self.p50 * 1e3:.2f} ms, p99 {self.p99 * 1e3:.2f} ms, worst {self.worst * 1e3:.1f} ms",
                f"faults: {len(self.faults)}",
                *self.faults[:10],
            )
        )


def soak(seconds: float, workers: int = 1, quick: float = 0.01) -> Report:
    """Run it. Postfix takes part where it can run (root, installed)."""
    folder = Path(tempfile.mkdtemp(prefix="policyd-soak-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        return _soak(folder, seconds, workers, quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _soak(folder: Path, seconds: float, workers: int, quick: float) -> Report:
    certificates = make_certificates(folder / "certificates")
    policyd = Soaked(folder, _free_port(), certificates, workers)
    report, kept = Report(postfix=why_no_postfix() or "through Postfix"), Kept()
    with contextlib.ExitStack() as stack:
        stack.callback(policyd.kill)
        policyd.start()
        hub = None
        if not why_no_postfix():
            sink = stack.enter_context(Sink(_free_port()))
            listener = Listener(_free_port(), recommended_wiring(f"inet:127.0.0.1:{policyd.port}"))
            postfix = Postfix({"inet": listener}, relay_settings(sink.port, certificates))
            stack.enter_context(postfix)
            hub = Hub(postfix, sink, certificates)
        report.before = policyd.usage()
        prints = [pin for one in certificates.values() for pin in (one.key_fingerprint(), one.fingerprint())]
        began = time.monotonic()
        threads = start_all(policyd.port, policyd.raw, pools_of(policyd.raw, prints), kept, hub, quick)
        lines = _Lines(policyd, kept, report)
        piece: Path | None = None
        while time.monotonic() < began + seconds:
            due = time.monotonic() + RELOAD_SECONDS
            report.samples.append(policyd.usage())
            previous, piece = piece, policyd.reload()
            if previous is not None:  # workers write to the old file a little longer
                lines.check(previous)
            time.sleep(max(0.0, due - time.monotonic()))
        kept.stop.set()
        for thread in threads:
            thread.join(120)
        report.seconds = time.monotonic() - began
        if hub is not None:
            hub.postfix.stop()  # its smtpd processes keep connections for minutes
        report.after = _settled(policyd, report.before)
        last = policyd.stop()
        for path in (piece, last):
            if path is not None:
                lines.check(path)
    report.requests, report.mails, report.abuses = kept.requests, kept.mails, kept.abuses
    report.reloads = policyd.reloads
    latencies = sorted(kept.latencies)
    report.p50, report.p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
    report.worst = latencies[-1]
    report.faults += kept.faults
    _judge(report, kept)
    return report


def _judge(report: Report, kept: Kept) -> None:
    if kept.pending:
        unlogged = [asked for asked, _ in kept.pending.values() if asked.protocol_state == "RCPT"]
        if unlogged:
            report.faults.append(f"{len(unlogged)} decisions were never logged, for one {unlogged[0]!r}")
    if report.after.descriptors > report.before.descriptors:
        report.faults.append("descriptors were lost")
    if report.after.threads > report.before.threads + 10:  # Twisted's pool has ten at the most
        report.faults.append("threads were lost")
    growth = report.quarter(3) - report.quarter(2)
    if report.seconds > 300 and growth > GROWTH:
        report.faults.append(f"memory grew by {growth:.0f} KiB in the last quarter")


class _Lines:
    """Compares log lines with answers and with the reference."""

    def __init__(self, policyd: Soaked, kept: Kept, report: Report) -> None:
        self._policyd, self._kept, self._report = policyd, kept, report

    def check(self, path: Path) -> None:
        """One log file that is complete; it is removed."""
        for line in map(without_front, path.read_text("ascii").splitlines()):
            if line.startswith("policyd: "):
                if "internal error" in line or "Traceback" in line:
                    self._report.faults.append(line)
                continue
            try:
                self._compare(read_decision(line))
            except (ValueError, AssertionError) as error:
                self._report.faults.append(f"{error}\n  {line}")
        path.unlink()

    def _compare(self, logged: dict[str, bytes]) -> None:
        instance = logged["instance"].decode("ascii")
        asked, answer = self._answer_to(instance)
        if asked is None:
            return  # Postfix asked, or somebody who did not wait for the answer
        self._report.lines += 1
        verdict = self._policyd.reference(int(logged["generation"])).decide(asked._asdict())
        said = tuple(logged[name].decode("ascii") for name in ("action", "reason", "organization", "connector"))
        expected = (verdict.action, verdict.reason, verdict.organization, verdict.connector)
        assert said == expected, f"logged {said}, the reference says {expected}"
        told = answer.removeprefix("action=").split(" ")[0]
        assert told == verdict.action, f"answered {answer}, the reference says {verdict.action}"

    def _answer_to(self, instance: str) -> tuple[Request, str] | tuple[None, str]:
        deadline = time.monotonic() + 60
        while True:
            with self._kept.lock:
                found = self._kept.pending.pop(instance, None)
            if found is not None or "." not in instance or instance.count(".") > 1:
                return found if found is not None else (None, "")
            if time.monotonic() > deadline:
                return None, ""
            time.sleep(0.01)  # logged, and its answer not read yet


def _settled(policyd: Soaked, before: Usage) -> Usage:
    """The usage when all connections are gone, or after a minute whatever it is."""
    deadline = time.monotonic() + 60
    while (now := policyd.usage()).descriptors > before.descriptors and time.monotonic() < deadline:
        time.sleep(0.1)
    return now


_HELD: list[socket.socket] = []


def _free_port() -> int:
    """A port that the kernel gives to nobody else: a socket that never listens holds it to the end of the process."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _HELD.append(holder)
    return int(holder.getsockname()[1])
