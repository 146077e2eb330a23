"""Reloads, one at a time (SPEC 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of the reloads so far."""

    reloads: int  # that put new rules in force
    failures: int
    last: float  # Unix time
    succeeded: bool


class Reloads:
    """Runs one reload at a time; a wish that comes meanwhile is carried out once more afterwards."""

    def __init__(self, run: Callable[[Callable[[], None]], None]) -> None:
        self._run = run  # starts a reload and calls its argument when that is over
        self._running = False
        self._again = False

    def ask(self) -> None:
        """A reload is wished for, starting from now."""
        if self._running:
            self._again = True
            return
        self._running = True
        self._run(self._over)

    def _over(self) -> None:
        self._running = False
        if self._again:
            self._again = False
            self.ask()
