"""Workers that take connections of the same sockets: who has the fewest takes the next one (SPEC 8, workers).

Connections of Postfix live for long, so one that lands badly stays there. All workers wake for each new connection; one
that has more open connections than another leaves it to that one, and takes it after all when nobody did for a while.
Each worker writes how many it has into memory that all share; it knows nothing of sockets or of Twisted.
"""

from __future__ import annotations

import mmap
import os
import time

PATIENCE = 20_000_000  # nanoseconds for another worker to take a connection; meanwhile this one looks again
_PAUSE = 100_000_000  # nanoseconds without a look: somebody took the connection, and this is another one
_AWAY = 2**62  # what a worker has that is not running


def shared_counts(workers: int) -> int:
    """A descriptor of memory for so many workers, all of them without connections: they are about to run."""
    descriptor = os.memfd_create("policyd-workers")
    os.truncate(descriptor, 8 * workers)
    return descriptor


class Turns:
    """The open connections of all workers, seen by one of them (by its number, from 0)."""

    def __init__(self, descriptor: int, number: int) -> None:
        self._counts = memoryview(mmap.mmap(descriptor, 0)).cast("q")
        self._number = number
        self._since = 0  # when it first left the connection that waits now to others
        self._looked = 0  # when it last did so; 0: none waits
        self._total = 0  # of all workers' connections then: when it changes, somebody took the one that waited

    def have(self, connections: int) -> None:
        """This worker has so many."""
        self._counts[self._number] = connections

    def leave(self) -> None:
        """This worker does not run."""
        self._counts[self._number] = _AWAY

    @property
    def waited(self) -> int:
        """Nanoseconds for which this worker has left a connection to others."""
        return self._looked - self._since

    def mine(self) -> bool:
        """Whether this worker is to take the connection that waits."""
        if self._counts[self._number] > min(self._counts):
            now = time.monotonic_ns()
            total = sum(self._counts)
            if total != self._total or now - self._looked > _PAUSE:
                self._since, self._total = now, total
            self._looked = now
            if now - self._since < PATIENCE:
                return False
        self._looked = 0
        return True
