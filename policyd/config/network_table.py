"""Networks by which others are looked up: does a network overlap one of them? Pure; costs a bisection."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from policyd.policy.networks import Network

Entry = tuple[Network, str]  # a network, and what to say of it


class NetworkTable:
    """Immutable."""

    __slots__ = ("_furthest", "_starts")

    def __init__(self, entries: Iterable[Entry]) -> None:
        ordered = sorted(entries, key=lambda entry: (entry[0].family, entry[0].first))
        self._starts = [(network.family, network.first) for network, _ in ordered]
        self._furthest: list[Entry] = []  # up to each: the one of its family that reaches furthest
        for entry in ordered:
            before = self._furthest[-1] if self._furthest else entry
            further = before[0].family != entry[0].family or entry[0].last >= before[0].last
            self._furthest.append(entry if further else before)

    def overlapping(self, network: Network) -> Entry | None:
        """An entry that shares an address with `network`."""
        at = bisect_right(self._starts, (network.family, network.last)) - 1
        if at < 0:
            return None
        entry = self._furthest[at]
        return entry if entry[0].overlaps(network) else None
