"""The daemon: signals, reloads, what systemd and Prometheus are told, the order of start and stop (SPEC 8).

Start: everything is loaded, then everything listens, then READY=1. Stop: no new connections, whole
requests that have arrived are answered, then the log is written out. Who answers is the matter of the processes.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet import threads
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from policyd.config.settings import Configuration
from policyd.database.reader import Reader
from policyd.loading.changes import load_changes
from policyd.loading.compiled import NewRules, load_rules_anew, release
from policyd.loading.differences import settings_differences
from policyd.loading.load import FromDatabase
from policyd.policy.model import Rules
from policyd.policy.ruleset import RuleSet
from policyd.service import systemd
from policyd.service.database_watch import DatabaseWatch
from policyd.service.http import site
from policyd.service.processes import Processes
from policyd.service.reloads import Reloaded, Reloads
from policyd.service.sockets import CannotListen, adopt, as_deferred, open_sockets, remove_unix_socket

_DIFFERENCES_SHOWN = 100
WORKER_CHECK_SECONDS = 10.0  # between two looks at the workers where no watchdog asks for more


class Daemon:
    """`path` is the configuration file; `configuration` and `rules` are what it said at the start."""

    def __init__(
        self,
        reactor: Any,
        path: str,
        configuration: Configuration,
        rules: RuleSet,
        processes: Processes,
        hung_up: bool = False,
        reader: Reader | None = None,
        from_database: FromDatabase | None = None,
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._configuration = configuration
        self._started_with = replace(configuration, rules=Rules())  # the settings that no reload changes
        self._rules = rules
        self._processes = processes
        self._log = processes.log
        self._reloads = Reloads(self._reload)
        self._reader = reader or Reader()
        self._database = DatabaseWatch(reactor, self._reader, processes.log, self._reloads.ask)
        self._database.in_force(configuration.database, from_database)
        self._files_changed = False  # SIGHUP: the next reload reads the files too
        self._reads_files = False  # the reload under way, or the last one
        self._failure = ""  # why the last reload failed; that of the files counts until they are read again
        self._failure_in_files = False
        self._reloaded = Reloaded(reloads=0, failures=0, last=time.time(), succeeded=True)
        self._metrics: list[IListeningPort] = []
        self._metrics_socket: socket.socket | None = None  # its file is ours to remove
        self._error: BaseException | None = None
        self._started = False
        self._hung_up = hung_up  # SIGHUP came before everything was started
        self._stopping = False

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT. Raises CannotListen."""
        self._reactor.callWhenRunning(lambda: ensureDeferred(self._start()).addErrback(self._cannot_start))
        self._reactor.run()
        self._processes.close()
        if self._error is not None:
            raise self._error

    def _cannot_start(self, failure: Failure) -> None:
        """A bug, before we are up: better no server than one that nobody can reach."""
        self._error = failure.value
        self._reactor.stop()

    def _go(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """Runs work to its end; an error in it is a bug, and never ends the daemon."""
        ensureDeferred(work).addErrback(self._bug)

    def _bug(self, failure: Failure) -> None:
        error = failure.value if isinstance(failure.value, Exception) else RuntimeError(str(failure.value))
        self._log.internal_error("internal error", error)

    async def _start(self) -> None:
        self._on_signals()
        service = self._configuration.service
        try:
            passed = systemd.passed_sockets()
            if self._configuration.metrics_listen is not None:
                http: Any = site(self._metrics_page, self._health_page)
                for (listener,) in open_sockets(self._configuration.metrics_listen, service.unix_mode, passed):
                    self._metrics.append(adopt(self._reactor, listener, http))
                    if self._configuration.metrics_listen.kind == "unix":
                        self._metrics_socket = listener
                    else:
                        listener.close()
            await self._processes.start(passed)
        except CannotListen as error:
            if not self._stopping:  # else SIGTERM came first, and _stop ends everything
                self._error = error
                await self._processes.finish()
                self._reactor.stop()
            return
        self._started = True
        self._database.rested()
        status = self._status()
        self._log.event(f"listening on {', '.join(map(str, service.listen))}; {status}")
        systemd.notify("READY=1", f"STATUS={status}")
        interval = systemd.watchdog_seconds() or (WORKER_CHECK_SECONDS if self._processes.size > 1 else None)
        if interval is not None:
            self._go(self._watch(interval))
        if self._hung_up:
            self._hang_up()

    def _on_signals(self) -> None:
        for number, act in ((signal.SIGTERM, self.stop), (signal.SIGINT, self.stop), (signal.SIGHUP, self._hang_up)):
            # Twisted has installed its own by now, of which SIGCHLD stays. Python runs a handler between two
            # steps of the reactor's thread, and callFromThread wakes the reactor.
            signal.signal(number, lambda *_, act=act: self._reactor.callFromThread(act))

    async def _watch(self, interval: float) -> None:
        """Tells the watchdog that we are well, as long as requests get answers."""
        if await self._processes.check(mend=True):
            systemd.notify("WATCHDOG=1")
        if not self._stopping:
            self._reactor.callLater(interval, lambda: self._go(self._watch(interval)))

    # ------------------------------------------------------------------------------------------- the end

    def stop(self) -> None:
        """Answers what has arrived, then ends the reactor."""
        if not self._stopping:
            self._stopping = True
            systemd.notify("STOPPING=1", "STATUS=answering what has arrived")
            self._go(self._stop())

    async def _stop(self) -> None:
        try:
            for port in self._metrics:
                await as_deferred(port.stopListening())
            if self._metrics_socket is not None:
                remove_unix_socket(self._metrics_socket)
            await self._processes.finish()
            self._database.stop()
            self._log.event("stopped")
        finally:
            if self._reactor.running:
                self._reactor.stop()

    # ------------------------------------------------------------------------------------------- reloading

    def _hang_up(self) -> None:
        if self._stopping:
            return
        if not self._started:
            self._hung_up = True
            return
        self._processes.reopen_logs()
        self._files_changed = True
        self._reloads.ask()

    def _reload(self, over: Callable[[], None]) -> None:
        from_database = self._database.from_database
        self._reads_files, self._files_changed = self._files_changed or from_database is None, False
        self._database.busy()
        reading: Deferred[NewRules | None]
        if self._reads_files or from_database is None:
            systemd.reloading()
            reading = threads.deferToThread(load_rules_anew, self._path, self._rules, self._reader)
        else:
            reading = threads.deferToThread(
                load_changes, self._reader, from_database, self._configuration, self._rules, self._database.complete
            )
        reading.addCallback(lambda loaded: None if loaded is None else ensureDeferred(self._take_over(loaded)))
        reading.addErrback(self._reload_broke)
        reading.addBoth(lambda _: self._reload_over(over))

    def _reload_over(self, over: Callable[[], None]) -> None:
        self._database.rested()
        if self._database.from_database is not None:
            systemd.notify(f"STATUS={self._status()}")
        over()

    async def _take_over(self, loaded: NewRules) -> None:
        for problem in loaded.problems:
            self._log.event(str(problem), "<4>")
        configuration, rules = loaded.configuration, loaded.rules
        if configuration is None or rules is None:
            errors = sum(problem.severity == "error" for problem in loaded.problems)
            self._not_reloaded(f"{_number(errors, 'error')} in the configuration")
            return
        if self._rules.rules.organizations and not rules.rules.organizations:
            self._not_reloaded("the new configuration has no organization at all")
            return
        changes = loaded.changes or ()
        trouble = await self._processes.apply(configuration, rules, loaded.delta)
        if trouble:
            self._not_reloaded(trouble)
            return
        retired = [self._rules]
        before, self._configuration, self._rules = self._configuration, configuration, rules
        self._database.in_force(configuration.database, loaded.database)
        if self._reads_files or not self._failure_in_files:
            self._failure = ""
        self._reloaded = Reloaded(self._reloaded.reloads + 1, self._reloaded.failures, time.time(), not self._failure)
        status = self._status()
        self._log.event(f"reloaded; {status}")
        for key in _needs_restart(before, configuration):
            if key in _needs_restart(self._started_with, configuration):  # else it is as it was at the start again
                self._log.event(f"{key} changed: restart policyd for it to take effect", "<4>")
        for change in settings_differences(before, configuration):
            self._log.event(f"changed: {change}")
        del before
        threads.deferToThread(release, retired)
        for change in changes[:_DIFFERENCES_SHOWN]:
            self._log.event(f"changed: {change}")
        if len(changes) > _DIFFERENCES_SHOWN:
            self._log.event(f"changed: {len(changes) - _DIFFERENCES_SHOWN} more")
        systemd.notify("READY=1", f"STATUS={status}")

    def _reload_broke(self, failure: Failure) -> None:
        """A bug, or no memory: the old rules stay."""
        self._bug(failure)
        self._not_reloaded("internal error")

    def _not_reloaded(self, why: str) -> None:
        self._reloaded = Reloaded(self._reloaded.reloads, self._reloaded.failures + 1, time.time(), False)
        self._failure, self._failure_in_files = why, self._reads_files
        self._log.event(f"not reloaded: {why}; generation {self._rules.generation} stays in force", "<4>")
        systemd.notify("READY=1", f"STATUS={self._status()}")

    def _status(self) -> str:
        failed = f"reload failed ({self._failure}); " if self._failure else ""
        return f"{failed}{_status(self._configuration, self._rules)}{self._database.text()}"

    # ------------------------------------------------------------------------------------------- the pages

    def _metrics_page(self) -> Deferred[tuple[int, bytes]]:
        from policyd.service.metrics import Exposition  # needs an extra

        async def page() -> tuple[int, bytes]:
            counted = await self._processes.counted()
            shown = Exposition(counted, self._rules, self._reloaded, self._processes.size, self._database.status())
            return 200, shown.text()

        return Deferred.fromCoroutine(page())

    def _health_page(self) -> Deferred[tuple[int, bytes]]:
        async def page() -> tuple[int, bytes]:
            healthy = await self._processes.check() and not self._stopping
            status = self._status()
            return (200, f"ok: {status}\n".encode()) if healthy else (503, b"requests get no answer\n")

        return Deferred.fromCoroutine(page())


def _needs_restart(before: Configuration, after: Configuration) -> list[str]:
    """The settings that a reload changed in the file, but cannot change in the running service."""
    pairs = {
        "service.listen": (before.service.listen, after.service.listen),
        "service.unix_mode": (before.service.unix_mode, after.service.unix_mode),
        "service.workers": (before.service.workers, after.service.workers),
        "service.max_connections": (before.service.max_connections, after.service.max_connections),
        "log.file": (before.log.file, after.log.file),
        "metrics.listen": (before.metrics_listen, after.metrics_listen),
    }
    return [key for key, (old, new) in pairs.items() if old != new]


def _status(configuration: Configuration, rules: RuleSet) -> str:
    counts = f"{_number(len(rules.rules.organizations), 'organization')}, {_number(rules.connector_count, 'connector')}"
    doing = "only watching (monitor)" if configuration.service.mode == "monitor" else "enforcing"
    return f"generation {rules.generation}, {counts}, {doing}"


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
