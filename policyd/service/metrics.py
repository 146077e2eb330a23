"""Metrics for Prometheus (SPEC 8; the extra `metrics`).

Made of the plain integers of `counters`, and of what proc(5) says of the processes, when they are asked for: nothing
here is called for a request. The labels are the program's own, so their number is bounded.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from policyd import __version__
from policyd.service.counters import Counters
from policyd.service.database_watch import DatabaseStatus
from policyd.service.processes import Processes
from policyd.service.reloads import Reloads

_BUCKETS = 21  # up to 1, 2, 4, ... microseconds; one more for all that took longer

# The fields of Counters that are metrics of their own, under the same name.
_COUNTED = {
    "connections_accepted": "Connections from Postfix accepted.",
    "connections_refused": "Connections closed at once, over max_connections.",
    "protocol_errors": "Connections closed for breaking the policy protocol.",
    "internal_errors": (
        "Errors of policyd itself; a request that met one was deferred, decided another way, or cut off."
    ),
    "log_failures": "Log writes that failed or were dropped.",
    "log_lines_lost": "Lines that are not in the log because of that.",
    "unknown_instances": "DATA requests for messages not remembered.",
    "workers_ended": "Workers that ended; each is started again.",
    "workers_not_started": "Tries to start a worker again that failed; the next one comes later each time.",
}


@dataclass(slots=True, eq=False)  # the registry looks it up by identity
class Exposition:
    """All that the metrics show, at one moment: a collector for prometheus_client."""

    counted: Counters
    processes: Processes
    reloads: Reloads

    def text(self) -> bytes:
        """What Prometheus reads."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """In the order of the page."""
        yield from self._requests()
        for name, text in _COUNTED.items():
            yield CounterMetricFamily(f"policyd_{name}", text, value=getattr(self.counted, name))
        reloaded, database = self.reloads.reloaded, self.reloads.database.status()
        yield _by_result("policyd_reloads", "Reloads of the configuration.", reloaded.reloads, reloaded.failures)
        yield from self._levels()
        mode = GaugeMetricFamily("policyd_mode", "1 for what policyd does, 0 for what it does not.", labels=["mode"])
        for name in ("enforce", "monitor"):
            mode.add_metric([name], int(self.reloads.configuration.service.mode == name))
        yield mode
        if database is not None:
            yield from _of_database(database)
        expiry = self.reloads.rules.next_expiry()
        if expiry is not None:
            text = "When the next certificate file expires."
            yield GaugeMetricFamily("policyd_certificate_expiry_timestamp_seconds", text, value=expiry)
            text, days = "Days until the next certificate file expires.", (expiry - time.time()) / 86400
            yield GaugeMetricFamily("policyd_certificate_expiry_days", text, value=days)
        yield from _of_processes(self.processes.worker_pids)
        build = GaugeMetricFamily("policyd_build_info", "The version, as a label.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build

    def _requests(self) -> Iterator[Metric]:
        answers = CounterMetricFamily("policyd_requests", "Requests answered.", labels=["action", "reason"])
        for (action, reason), count in sorted(self.counted.answers.items()):
            answers.add_metric([action, reason], count)
        yield answers
        latency = self.counted.latency
        buckets, below = [], 0
        for exponent in range(_BUCKETS):
            below += latency[exponent]
            buckets.append((str((1 << exponent) / 1e6), below))
        yield HistogramMetricFamily(
            "policyd_request_seconds",
            "Time from the arrival of a request to its answer; those answered together all have the time of the last.",
            buckets=[*buckets, ("+Inf", sum(latency.values()))],
            sum_value=self.counted.latency_ns / 1e9,
        )

    def _levels(self) -> Iterator[Metric]:
        rules, reloaded = self.reloads.rules, self.reloads.reloaded
        for name, text, level in (
            ("connections", "Connections from Postfix that are open.", self.counted.connections),
            ("generation", "Generation of the rules in force; 1 at the start.", rules.generation),
            ("organizations", "Organizations in the rules in force.", rules.organization_count),
            ("connectors", "Enabled connectors in the rules in force.", rules.connector_count),
            ("last_reload_timestamp_seconds", "When the configuration was last read.", reloaded.last),
            ("last_reload_success", "Whether the last reload put new rules in force.", int(reloaded.succeeded)),
            ("workers", "Processes that are to serve.", self.processes.size),
            ("workers_running", "Processes that serve.", self.processes.running),
        ):
            yield GaugeMetricFamily(f"policyd_{name}", text, value=level)


def _of_database(database: DatabaseStatus) -> Iterator[Metric]:
    for name, text, level in (
        ("up", "Whether the database could be read when it was last tried.", int(database.up)),
        ("read_timestamp_seconds", "When the database was last seen to hold the rows in force.", database.read_at),
        ("organizations", "Organizations in the database.", database.organizations),
        ("left_out", "Organizations of the database whose latest rows are not in force.", database.left_out),
    ):
        yield GaugeMetricFamily(f"policyd_database_{name}", text, value=level)
    yield _by_result("policyd_database_reads", "Reads of the database.", database.reads, database.failures)


class _Usage(NamedTuple):
    """What a process uses."""

    cpu_seconds: float  # with its children that ended
    virtual: int  # octets
    resident: int  # octets
    descriptors: int
    threads: int
    started: float  # seconds since the machine was


def _usage(pid: int) -> _Usage | None:
    """None where it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    # proc(5): from the third on; the second is the program's name, which may hold anything.
    values = ["", "", "", *text.rpartition(")")[2].split()]
    ticks = os.sysconf("SC_CLK_TCK")
    return _Usage(
        cpu_seconds=sum(map(int, values[14:18])) / ticks,
        virtual=int(values[23]),
        resident=int(values[24]) * resource.getpagesize(),
        descriptors=descriptors,
        threads=int(values[20]),
        started=int(values[22]) / ticks,
    )


@cache
def _start_time(started: float) -> float:
    """Unix time; worked out once, so that a clock that is set looks like no restart."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + started


def _of_processes(workers: Mapping[int, int]) -> Iterator[Metric]:
    """Of this process under the usual names, and of each worker. No child is reaped in between: none counts twice."""
    own = _usage(os.getpid())
    if own is None:
        return
    of_workers = {number: usage for number, pid in workers.items() if (usage := _usage(pid)) is not None}
    cpu_seconds = own.cpu_seconds + sum(usage.cpu_seconds for usage in of_workers.values())
    yield CounterMetricFamily("process_cpu_seconds", "CPU time, of workers as well.", value=cpu_seconds)
    for name, text, level in (
        ("virtual_memory_bytes", "Virtual memory; with workers, of their parent.", own.virtual),
        ("resident_memory_bytes", "Resident memory; with workers, of their parent.", own.resident),
        ("open_fds", "Open descriptors; with workers, of their parent.", own.descriptors),
        ("max_fds", "Descriptors that may be open.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        ("threads", "Threads; with workers, of their parent.", own.threads),
        ("start_time_seconds", "When it was started.", _start_time(own.started)),
    ):
        yield GaugeMetricFamily(f"process_{name}", text, value=level)
    for name, text, position in (
        ("resident_memory_bytes", "Resident memory of a worker.", "resident"),
        ("open_fds", "Open descriptors of a worker.", "descriptors"),
        ("threads", "Threads of a worker.", "threads"),
    ):
        family = GaugeMetricFamily(f"policyd_worker_{name}", text, labels=["worker"])
        for number, usage in of_workers.items():
            family.add_metric([str(number)], getattr(usage, position))
        yield family


def _by_result(name: str, text: str, successes: int, failures: int) -> Metric:
    family = CounterMetricFamily(name, text, labels=["result"])
    family.add_metric(["success"], successes)
    family.add_metric(["failure"], failures)
    return family
