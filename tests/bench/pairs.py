"""Two things measured in turn on a machine whose speed drifts: many short runs, A B A B A, each B beside its A's.

A run of B is compared with the mean of the A before it and the A after it, so a drift that is slower than three runs
falls out, and the median over the runs bears the ones that something else disturbed. The runs of A, compared with
their neighbours among the A's in the same way, are the control: how far equal things come out apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb, sqrt
from statistics import median, quantiles
from typing import TypeVar

HEADS = ("ratio", "half of runs", "95 % sure")

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some ratios, their quartiles, and where the median of endlessly many would lie (95 %)."""

    median: float
    lower_quartile: float
    upper_quartile: float
    least: float
    most: float
    count: int

    def cells(self) -> tuple[str, str, str]:
        """For a table, below `HEADS`."""
        half = f"{self.lower_quartile:.2f}-{self.upper_quartile:.2f}"
        return f"{self.median:.3f}", half, f"{self.least:.2f}-{self.most:.2f}"


def in_turn(yardstick: Callable[[], A], other: Callable[[], B], pairs: int) -> tuple[list[A], list[B]]:
    """What `pairs` runs of `other` returned, and `pairs` + 1 runs of the yardstick around them."""
    yardsticks, others = [yardstick()], []
    for _ in range(pairs):
        others.append(other())
        yardsticks.append(yardstick())
    return yardsticks, others


def ratios(others: Sequence[float], yardsticks: Sequence[float]) -> list[float]:
    """Each rate of `others` as a part of the (geometric) mean of the two yardsticks beside it."""
    beside = zip(others, pairwise(yardsticks), strict=True)
    return [rate / sqrt(before * after) for rate, (before, after) in beside]


def control(yardsticks: Sequence[float]) -> list[float]:
    """The same for each yardstick that has one before it and one after it."""
    return [here / sqrt(yardsticks[i] * yardsticks[i + 2]) for i, here in enumerate(yardsticks[1:-1])]


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value. Fewer than six cannot give 95 %: least and most are then those of the values."""
    ordered, count = sorted(values), len(values)
    low, _, high = quantiles(ordered, n=4, method="inclusive") if count > 1 else ordered * 3
    rank = _rank(count)
    return Spread(median(ordered), low, high, ordered[rank], ordered[count - 1 - rank], count)


def _rank(count: int) -> int:
    """How many of the least values of so many lie below the true median with 97.5 % certainty (a fair coin's tails)."""
    rank, below = 0, 1.0
    while below <= 0.025 * 2**count:
        rank += 1
        below += comb(count, rank)
    return max(0, rank - 1)
