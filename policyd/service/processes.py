"""Who answers: this process alone, or workers of it. The daemon treats both alike (SPEC 8)."""

from __future__ import annotations

from typing import Protocol

from policyd.service.counters import Counters
from policyd.service.decision_log import DecisionLog


class Processes(Protocol):
    """All processes that serve."""

    log: DecisionLog
    size: int

    async def start(self, passed: list[tuple[int, str]]) -> None:
        """Listens on everything. Raises CannotListen."""

    def apply(self) -> None:
        """There are new rules in the store: all decide their next request by them."""

    def reopen_logs(self) -> None:
        """Opens the log files anew."""

    async def check(self, mend: bool = False) -> bool:
        """Whether requests get answers. `mend`: a process that gives none may be ended for it."""

    async def counted(self) -> Counters:
        """What all have counted together."""

    async def finish(self) -> None:
        """Answers what has arrived, then stops serving."""

    def close(self) -> None:
        """Writes out the log."""
