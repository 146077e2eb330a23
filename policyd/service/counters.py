"""Plain integers about the running server; `metrics` shows them. No locks: only the reactor's thread counts."""

from __future__ import annotations

from collections import defaultdict

# Answers are timed in buckets that double: up to 1, 2, 4, ... microseconds, and one for all that took longer.
LATENCY_BUCKETS = 21
_BUCKETS_OF_ALL_TIMES = 64


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
