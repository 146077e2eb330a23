"""Records by key: what a look-up reads, and what a change of some organizations makes of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from typing import Protocol

from policyd.policy.lookups import Exchange
from policyd.store import lines


class Records(Protocol):
    """Records by key."""

    def lines(self, key: bytes) -> Sequence[str]:
        """The lines of a record; none where there is no record."""

    def keys(self, first: bytes, last: bytes) -> Iterator[bytes]:
        """The keys from `first` to `last`, both included, in order."""


class Overlay:
    """The records of `base` with some exchanged; nothing is written."""

    def __init__(self, base: Records, exchanged: Mapping[bytes, Sequence[str]]) -> None:
        self._base = base
        self._exchanged = exchanged
        self._keys = sorted(exchanged)

    def lines(self, key: bytes) -> Sequence[str]:
        """The lines of a record."""
        exchanged = self._exchanged.get(key)
        return self._base.lines(key) if exchanged is None else exchanged

    def keys(self, first: bytes, last: bytes) -> Iterator[bytes]:
        """The keys from `first` to `last`."""
        mine = self._keys[bisect_left(self._keys, first) : bisect_right(self._keys, last)]
        others = (key for key in self._base.keys(first, last) if key not in self._exchanged)
        return merge((key for key in mine if self._exchanged[key]), others)


def exchanged(records: Records, exchanges: Iterable[Exchange]) -> Iterator[tuple[bytes, Sequence[str]]]:
    """The records that are others when organizations, as they are in `records`, become what they are afterwards."""
    gone: dict[bytes, list[str]] = {}
    come: dict[bytes, list[str]] = {}
    for before, after in exchanges:
        old = set() if before is None else lines.lines_of(before)
        new = set() if after is None else lines.lines_of(after)
        for changed, only in ((gone, old - new), (come, new - old)):
            for key, line in only:
                changed.setdefault(key, []).append(line)
    for key in sorted(come.keys() | gone.keys()):
        record = records.lines(key)
        added = come.get(key, ())
        if record or len(added) > 1:
            yield key, sorted({*record, *added}.difference(gone.get(key, ())))
        else:
            yield key, added
