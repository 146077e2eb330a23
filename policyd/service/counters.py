"""Plain integers about one serving process, or several together; `metrics` shows them (SPEC 8).

No locks: only the reactor's thread counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, fields
from typing import Any


def _counting() -> defaultdict[Any, int]:
    return defaultdict(int)  # twice as fast as a Counter


@dataclass(slots=True)
class Counters:
    """What happened since the start. The sum of two is what both processes counted together.

    `connections`, what the log counts (`internal_errors` with it) and `unknown_instances` are kept elsewhere, and added
    when all are asked for.
    """

    answers: defaultdict[tuple[str, str], int] = field(default_factory=_counting)  # by action and reason
    # Answers by the time they took, in buckets that double: how many bits its microseconds have.
    latency: defaultdict[int, int] = field(default_factory=_counting)
    latency_ns: int = 0  # the sum
    connections: int = 0  # open now
    connections_accepted: int = 0
    connections_refused: int = 0  # over max_connections, or no descriptor was left
    protocol_errors: int = 0
    internal_errors: int = 0
    log_failures: int = 0
    log_lines_lost: int = 0
    unknown_instances: int = 0
    workers_ended: int = 0  # the parent's to count, as the next
    workers_not_started: int = 0

    def timed(self, nanoseconds: int, answers: int) -> None:
        """Counts so many answers that were on their way after so long."""
        self.latency_ns += nanoseconds * answers
        self.latency[(nanoseconds // 1000).bit_length()] += answers

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(_sum(getattr(self, item.name), getattr(other, item.name)) for item in fields(self)))


def _sum(left: Any, right: Any) -> Any:
    return left + right if isinstance(left, int) else defaultdict(int, Counter(left) + Counter(right))
