"""Metrics for Prometheus (SPEC 8; the extra `metrics`).

Made of the plain integers of `counters` when they are asked for: nothing here is called for a request. The labels are
the actions and reasons of the program, so their number is bounded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from policyd import __version__
from policyd.policy.lookups import Lookups
from policyd.service.counters import Counters
from policyd.service.database_watch import DatabaseStatus
from policyd.service.reloads import Reloaded

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
    "unknown_instances": "DATA requests for messages not remembered.",
}


@dataclass(slots=True, eq=False)  # the registry looks it up by identity
class Exposition:
    """All that the metrics show, at one moment: a collector for prometheus_client."""

    counted: Counters
    rules: Lookups
    reloaded: Reloaded
    workers: int
    database: DatabaseStatus | None = None

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
        reloads, failures = self.reloaded.reloads, self.reloaded.failures
        yield _by_result("policyd_reloads", "Reloads of the configuration.", reloads, failures)
        yield from self._levels()
        if self.database is not None:
            yield from _of_database(self.database)
        expiry = self.rules.next_expiry()
        if expiry is not None:
            text, days = "Days until the next certificate file expires.", (expiry - time.time()) / 86400
            yield GaugeMetricFamily("policyd_certificate_expiry_days", text, value=days)
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
        rules, reloaded = self.rules, self.reloaded
        for name, text, level in (
            ("connections", "Connections from Postfix that are open.", self.counted.connections),
            ("generation", "Generation of the rules in force; 1 at the start.", rules.generation),
            ("organizations", "Organizations in the rules in force.", rules.organization_count),
            ("connectors", "Enabled connectors in the rules in force.", rules.connector_count),
            ("last_reload_timestamp_seconds", "When the configuration was last read.", reloaded.last),
            ("last_reload_success", "Whether the last reload put new rules in force.", int(reloaded.succeeded)),
            ("workers", "Processes that serve.", self.workers),
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


def _by_result(name: str, text: str, successes: int, failures: int) -> Metric:
    family = CounterMetricFamily(name, text, labels=["result"])
    family.add_metric(["success"], successes)
    family.add_metric(["failure"], failures)
    return family
