"""Plain integers about the running server; `metrics` shows them (SPEC 8). Only the reactor's thread counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypedDict

# Answers are timed in buckets that double: up to 1, 2, 4, ... microseconds, and one for all that took longer.
LATENCY_BUCKETS = 21
_BUCKETS_OF_ALL_TIMES = 64

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


class Counters:
    """What happened since the start."""

    def __init__(self) -> None:
        self.answers: defaultdict[tuple[str, str], int] = defaultdict(int)  # by action and reason
        self._latency = [0] * _BUCKETS_OF_ALL_TIMES
        self.latency_ns = 0  # the sum
        self.connections_total = 0
        self.connections_refused = 0  # over max_connections
        self.protocol_errors = 0
        self.internal_errors = 0

    def timed(self, nanoseconds: int, answers: int) -> None:
        """Counts so many answers that were on their way after so long."""
        self.latency_ns += nanoseconds * answers
        self._latency[(nanoseconds // 1000).bit_length()] += answers

    @property
    def latency(self) -> list[int]:
        """How many answers took so long, by bucket; the last is for all that took longer."""
        return [*self._latency[:LATENCY_BUCKETS], sum(self._latency[LATENCY_BUCKETS:])]


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
