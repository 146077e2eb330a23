"""Who answers: this process alone, or workers of it. The daemon treats both alike."""

from __future__ import annotations

from typing import Any, Protocol

from policyd.config.settings import Configuration
from policyd.policy.model import Delta
from policyd.policy.ruleset import RuleSet
from policyd.service.counters import Counters
from policyd.service.decision_log import DecisionLog
from policyd.service.one_process import Serving
from policyd.service.rounds import Recorder


class Crew(Protocol):
    """All processes that serve."""

    log: DecisionLog
    size: int

    async def start(self, passed: list[tuple[int, str]]) -> None:
        """Listens on everything. Raises CannotListen."""

    async def apply(self, configuration: Configuration, rules: RuleSet, delta: Delta | None = None) -> str:
        """Puts new rules in force everywhere, or nowhere: then the text says why. `delta` made them of the old."""

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


class Alone:
    """This process serves by itself."""

    size = 1

    def __init__(
        self, reactor: Any, configuration: Configuration, rules: RuleSet, recorder: Recorder | None = None
    ) -> None:
        self._serving = Serving(reactor, configuration, rules, recorder)
        self.log = self._serving.log

    async def start(self, passed: list[tuple[int, str]]) -> None:
        """Listens on everything. Raises CannotListen."""
        self._serving.listen(passed)

    async def apply(self, configuration: Configuration, rules: RuleSet, delta: Delta | None = None) -> str:
        """Swaps the rules; cannot fail."""
        self._serving.apply(configuration, rules)
        return ""

    def reopen_logs(self) -> None:
        """Opens the log file anew."""
        self.log.reopen()

    async def check(self, mend: bool = False) -> bool:
        """Whether a request still gets an answer."""
        return self._serving.check()

    async def counted(self) -> Counters:
        """The counters as they stand."""
        return self._serving.counted()

    async def finish(self) -> None:
        """Answers what has arrived, then stops serving."""
        await self._serving.finish()

    def close(self) -> None:
        """Writes out the log."""
        self._serving.close()
