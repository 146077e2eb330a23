"""The generation of the rules that all workers are to serve by, in memory that they share (SPEC 8, workers).

The parent writes it when a change is in the store; a worker looks at it before each round of events, so that none
answers by older rules than another one has answered by.
"""

from __future__ import annotations

import mmap
import os


def shared_generation() -> int:
    """A descriptor of the memory."""
    descriptor = os.memfd_create("policyd-generation")
    os.truncate(descriptor, 8)
    return descriptor


class Generation:
    """The number, seen by one process."""

    def __init__(self, descriptor: int) -> None:
        self._memory = memoryview(mmap.mmap(descriptor, 0)).cast("q")

    @property
    def number(self) -> int:
        """As it is now."""
        return self._memory[0]

    @number.setter
    def number(self, number: int) -> None:
        self._memory[0] = number
