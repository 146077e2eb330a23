"""Metrics for Prometheus and a health check, over HTTP (SPEC 8; the extra `metrics`).

A collector over the plain integers of `counters`: nothing here is called for a request. The labels are
the actions and reasons of the program, so their number is bounded.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

from policyd import __version__
from policyd.policy.ruleset import RuleSet
from policyd.service.counters import LATENCY_BUCKETS, Snapshot


class Reloaded(TypedDict):
    """What the process that reads the configuration knows of it."""

    reloads: int
    failures: int
    last: float
    succeeded: bool


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """How the database stands."""

    up: bool
    read_at: float  # Unix time: the database held the rows in force then
    organizations: int
    left_out: int  # organizations whose latest rows are not in force
    reads: int
    failures: int


def exposition(
    counted: Snapshot, rules: RuleSet, reloaded: Reloaded, workers: int, database: DatabaseStatus | None = None
) -> bytes:
    """The text that Prometheus reads."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    def families() -> Iterable[Any]:
        answers = CounterMetricFamily("policyd_requests", "Requests answered.", labels=["action", "reason"])
        for (action, reason), count in sorted(counted["answers"].items()):
            answers.add_metric([action, reason], count)
        yield answers
        buckets, below = [], 0
        for exponent, count in enumerate(counted["latency"]):
            below += count
            bound = "+Inf" if exponent == LATENCY_BUCKETS else str((1 << exponent) / 1e6)
            buckets.append((bound, below))
        yield HistogramMetricFamily(
            "policyd_request_seconds",
            "Time from the arrival of a request to its answer; those answered together all have the time of the last.",
            buckets=buckets,
            sum_value=counted["latency_ns"] / 1e9,
        )
        for name, text, value in (
            ("connections_accepted", "Connections from Postfix accepted.", counted["connections_total"]),
            (
                "connections_refused",
                "Connections closed at once, over max_connections.",
                counted["connections_refused"],
            ),
            ("protocol_errors", "Connections closed for breaking the policy protocol.", counted["protocol_errors"]),
            (
                "internal_errors",
                "Errors of policyd itself; a request that met one was deferred, decided another way, or cut off.",
                counted["internal_errors"],
            ),
            ("log_failures", "Log writes that failed or were dropped.", counted["log_failures"]),
            ("unknown_instances", "DATA requests for messages not remembered.", counted["unknown_instances"]),
        ):
            yield CounterMetricFamily(f"policyd_{name}", text, value=value)
        reloads = CounterMetricFamily("policyd_reloads", "Reloads of the configuration.", labels=["result"])
        reloads.add_metric(["success"], reloaded["reloads"])
        reloads.add_metric(["failure"], reloaded["failures"])
        yield reloads
        for name, text, level in (
            ("connections", "Connections from Postfix that are open.", counted["connections"]),
            ("generation", "Generation of the rules in force; 1 at the start.", rules.generation),
            ("organizations", "Organizations in the rules in force.", len(rules.rules.organizations)),
            ("connectors", "Enabled connectors in the rules in force.", rules.connector_count),
            ("last_reload_timestamp_seconds", "When the configuration was last read.", reloaded["last"]),
            ("last_reload_success", "Whether the last reload put new rules in force.", int(reloaded["succeeded"])),
            ("workers", "Processes that serve.", workers),
        ):
            yield GaugeMetricFamily(f"policyd_{name}", text, value=level)
        if database is not None:
            yield from _of_database(database)
        expiry = rules.next_expiry
        if expiry is not None:
            days = (expiry - time.time()) / 86400
            yield GaugeMetricFamily(
                "policyd_certificate_expiry_days", "Days until the next certificate file expires.", value=days
            )
        build = GaugeMetricFamily("policyd_build_info", "The version, as a label.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build

    class Collector:
        def collect(self) -> Iterable[Any]:
            return families()

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return generate_latest(registry)


def _of_database(database: DatabaseStatus) -> Iterable[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, text, level in (
        ("up", "Whether the database could be read when it was last tried.", int(database.up)),
        ("read_timestamp_seconds", "When the database was last seen to hold the rows in force.", database.read_at),
        ("organizations", "Organizations in the database.", database.organizations),
        ("left_out", "Organizations of the database whose latest rows are not in force.", database.left_out),
    ):
        yield GaugeMetricFamily(f"policyd_database_{name}", text, value=level)
    reads = CounterMetricFamily("policyd_database_reads", "Reads of the database.", labels=["result"])
    reads.add_metric(["success"], database.reads)
    reads.add_metric(["failure"], database.failures)
    yield reads
