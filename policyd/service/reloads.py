"""The rules in force, and how new ones take their place: on SIGHUP, and when the database has changed (SPEC 8 and 9).

A thread reads, checks and writes into the store; then all serving processes take the new rules. Whatever goes wrong
leaves the old ones in force. One reload runs at a time; wishes that come meanwhile become one more.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred

from policyd.config.problems import PRIORITIES, Problem
from policyd.config.settings import Configuration
from policyd.database.reader import Reader
from policyd.loading.differences import settings_differences
from policyd.loading.load import FromDatabase
from policyd.loading.updates import Update, load_changes, load_rules
from policyd.policy.lookups import Lookups
from policyd.service import systemd
from policyd.service.database_watch import DatabaseWatch
from policyd.service.decision_log import Priority
from policyd.service.processes import Processes
from policyd.service.reactor import in_thread
from policyd.store.file import Store
from policyd.store.snapshot import Snapshot

_FIXED = (
    "service.listen",
    "service.unix_mode",
    "service.workers",
    "service.max_connections",
    "service.control",
    "log.file",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one reload."""

    in_force: bool  # what was read; else the old rules stay
    said: tuple[str, ...]  # in the log
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of the reloads so far."""

    reloads: int  # that put new rules in force
    failures: int
    last: float  # Unix time
    succeeded: bool


class Reloads:
    """`path` is the configuration file; `configuration`, `store` and `from_database` are what it said at the start."""

    def __init__(
        self,
        reactor: Any,
        path: str,
        configuration: Configuration,
        store: Store,
        processes: Processes,
        reader: Reader | None = None,
        from_database: FromDatabase | None = None,
    ) -> None:
        self.configuration = configuration  # in force, without the organizations
        self.rules: Lookups = store.snapshot()  # in force
        self._store = store
        self.reloaded = Reloaded(reloads=0, failures=0, last=time.time(), succeeded=True)
        self._reactor = reactor
        self._path = path
        self._processes = processes
        self._log = processes.log
        self._reader = reader or Reader()
        self.database = DatabaseWatch(reactor, self._reader, self._log, self.ask)
        self.database.in_force(configuration.database, from_database)
        self._started_with = configuration  # whose settings no reload changes
        self._running = False
        self._asked = False
        self._files_asked = False  # the next reload reads the files too
        self._reads_files = False  # the reload under way does, or the last one did
        self._failure = ""  # why the last reload failed; that of the files counts until they are read again
        self._failure_in_files = False
        self._waiting: list[Deferred[Outcome]] = []  # for the next reload

    def reload(self) -> Deferred[Outcome]:
        """What comes of a reload of the files with the database that starts from now on."""
        waiting: Deferred[Outcome] = Deferred()
        self._waiting.append(waiting)
        self.ask(files=True)
        return waiting

    def snapshot(self) -> Snapshot:
        """The rules in force, for one thread."""
        return self._store.snapshot()

    def ask(self, files: bool = False) -> None:
        """A reload is wished for, starting from now: of the files with the database, or of the database alone."""
        self._asked = True
        self._files_asked = self._files_asked or files
        if not self._running:
            self._running = True
            ensureDeferred(self._run())

    async def _run(self) -> None:
        while self._asked:
            self._asked = False
            waiting, self._waiting = self._waiting, []  # they have asked for the files, which are read now
            outcome = Outcome(True, ())
            self.database.busy()
            try:
                loaded = await self._read()
                if loaded is not None:
                    outcome = self._take_over(loaded)
            except Exception as error:  # noqa: BLE001 - a bug, or no memory: the old rules stay
                self._log.internal_error("internal error", error)
                outcome = self._not_reloaded("internal error")
            self.database.rested()
            if self.database.from_database is not None:
                systemd.notify(f"STATUS={self.status()}")
            for one in waiting:
                one.callback(outcome)
        self._running = False

    async def _read(self) -> Update | None:
        """Reads in a thread; None where the database has nothing new, or is away."""
        from_database = self.database.from_database
        self._reads_files, self._files_asked = self._files_asked or from_database is None, False
        if self._reads_files or from_database is None:
            systemd.reloading()
            return await in_thread(self._reactor, load_rules, self._path, self._store, self._reader)
        configuration, complete = self.configuration, self.database.complete
        return await in_thread(
            self._reactor, load_changes, self._reader, from_database, configuration, self._store, complete
        )

    def _take_over(self, loaded: Update) -> Outcome:
        """Puts what was written in force in all processes, or says why nothing was."""
        for problem in loaded.problems:
            if problem.severity != "note":
                self._log.event(str(problem), PRIORITIES[problem.severity])
        if loaded.configuration is not None:
            return self._taken_over(loaded.configuration, loaded)
        errors = sum(problem.severity == "error" for problem in loaded.problems)
        why = loaded.refused or f"{_number(errors, 'error')} in the configuration"
        return replace(self._not_reloaded(why), problems=loaded.problems)

    def _taken_over(self, configuration: Configuration, loaded: Update) -> Outcome:
        self._processes.apply()
        before, self.configuration, self.rules = self.configuration, configuration, self._store.snapshot()
        self.database.in_force(configuration.database, loaded.database)
        if self._reads_files or not self._failure_in_files:
            self._failure = ""
        self.reloaded = Reloaded(self.reloaded.reloads + 1, self.reloaded.failures, time.time(), not self._failure)
        status = self.status()
        said = [self._tell(f"reloaded; {status}", "<6>")]
        said += [
            self._tell(f"{key} changed: restart policyd for it to take effect", "<4>")
            for key in _needs_restart(before, configuration)
            if key in _needs_restart(self._started_with, configuration)  # else it is as it was at the start again
        ]
        for change in (*settings_differences(before, configuration), *loaded.differences.lines):
            self._log.event(f"changed: {change}")
        if loaded.differences.more:
            self._log.event(f"changed: {loaded.differences.more} more")
        systemd.notify("READY=1", f"STATUS={status}")
        return Outcome(True, tuple(said), loaded.problems)

    def _not_reloaded(self, why: str) -> Outcome:
        self.reloaded = Reloaded(self.reloaded.reloads, self.reloaded.failures + 1, time.time(), False)
        self._failure, self._failure_in_files = why, self._reads_files
        said = self._tell(f"not reloaded: {why}; generation {self.rules.generation} stays in force", "<3>")
        systemd.notify("READY=1", f"STATUS={self.status()}")
        return Outcome(False, (said,))

    def _tell(self, text: str, priority: Priority) -> str:
        """Logs what those are told as well who wait for the reload."""
        self._log.event(text, priority)
        return text

    def status(self) -> str:
        """What is in force, in one line, and what is wrong with that."""
        failed = f"reload failed ({self._failure}); " if self._failure else ""
        organizations = _number(self.rules.organization_count, "organization")
        connectors = _number(self.rules.connector_count, "connector")
        doing = "only watching (monitor)" if self.configuration.service.mode == "monitor" else "enforcing"
        counts = f"generation {self.rules.generation}, {organizations}, {connectors}, {doing}"
        return f"{failed}{counts}{self._workers()}{self.database.text()}"

    def _workers(self) -> str:
        """How many serve, where some do not."""
        running, size = self._processes.running, self._processes.size
        return "" if running >= size else f", only {running} of {size} workers"


def _needs_restart(before: Configuration, after: Configuration) -> list[str]:
    """The settings that a reload changed in the file, but cannot change in the running service."""
    changed = [key for key in _FIXED if attrgetter(key)(before) != attrgetter(key)(after)]
    return [*changed, "metrics.listen"] if before.metrics_listen != after.metrics_listen else changed


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
