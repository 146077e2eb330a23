"""Metrics for Prometheus and a health check, over HTTP (SPEC 8; the extra `metrics`).

A collector over the plain integers of `counters`: nothing here is called for a request. The labels are
the actions and reasons of the program, so their number is bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from policyd import __version__
from policyd.policy.ruleset import RuleSet
from policyd.service.counters import LATENCY_BUCKETS, Counters


class Snapshot(TypedDict):
    """What one serving process has counted; sums of them are one as well."""

    answers: dict[tuple[str, str], int]
    latency: list[int]
    latency_ns: int
    connections: int
    connections_total: int
    connections_refused: int
    protocol_errors: int
    internal_errors: int
    log_failures: int
    unknown_instances: int


def snapshot(counters: Counters, log_failures: int, unknown_instances: int, connections: int) -> Snapshot:
    """A copy of the counters as they stand."""
    return Snapshot(
        answers=dict(counters.answers),
        latency=counters.latency,
        latency_ns=counters.latency_ns,
        connections=connections,
        connections_total=counters.connections_total,
        connections_refused=counters.connections_refused,
        protocol_errors=counters.protocol_errors,
        internal_errors=counters.internal_errors,
        log_failures=log_failures,
        unknown_instances=unknown_instances,
    )


_SUMMED = (
    "latency_ns",
    "connections",
    "connections_total",
    "connections_refused",
    "protocol_errors",
    "internal_errors",
    "log_failures",
    "unknown_instances",
)


def total(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of what several processes counted."""
    result: Any = snapshot(Counters(), 0, 0, 0)
    one: Any
    for one in snapshots:
        for key, count in one["answers"].items():
            result["answers"][key] = result["answers"].get(key, 0) + count
        result["latency"] = [a + b for a, b in zip(result["latency"], one["latency"], strict=True)]
        for name in _SUMMED:
            result[name] += one[name]
    summed: Snapshot = result
    return summed


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


class _Text(Resource):
    """A page whose text comes later."""

    isLeaf = True

    def __init__(self, kind: str, text: Callable[[], Deferred[tuple[int, bytes]]]) -> None:
        Resource.__init__(self)
        self._kind = kind
        self._text = text

    def render_GET(self, request: Request) -> int:
        """Answers with the text, or 500."""
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(status: int, body: bytes) -> None:
            if not gone:
                request.setResponseCode(status)
                request.setHeader("content-type", self._kind)
                request.write(body)
                request.finish()

        text = self._text()
        text.addCallbacks(lambda found: answer(*found), lambda _: answer(500, b"internal error\n"))
        return NOT_DONE_YET


_HTTP_CONNECTIONS = 16  # at a time; they share the descriptors with Postfix's


class _Request(Request):
    """One request a connection, and none with a body: what is not asked for must cost nothing."""

    def gotLength(self, length: int | None) -> None:
        """Called when the headers are complete."""
        self.channel.persistent = False
        super().gotLength(0)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        """Drops a body, and the connection with it."""
        self.channel.loseConnection()


class _Site(Site):
    """Closes connections over the limit at once."""

    def __init__(self, root: Resource) -> None:
        super().__init__(root, requestFactory=_Request, timeout=30)  # type: ignore[no-untyped-call]
        self._open = 0

    def buildProtocol(self, addr: Any) -> Any:
        """A channel for a new connection; None when there are too many."""
        if self._open >= _HTTP_CONNECTIONS:
            return None
        self._open += 1
        channel = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        lost = channel.connectionLost

        def closed(*arguments: Any) -> Any:
            self._open -= 1
            return lost(*arguments)

        channel.connectionLost = closed
        return channel


def site(metrics: Callable[[], Deferred[tuple[int, bytes]]], health: Callable[[], Deferred[tuple[int, bytes]]]) -> Site:
    """The HTTP site: /metrics and /healthz."""
    root = Resource()
    root.putChild(b"metrics", _Text("text/plain; version=0.0.4; charset=utf-8", metrics))
    root.putChild(b"healthz", _Text("text/plain; charset=utf-8", health))
    return _Site(root)
