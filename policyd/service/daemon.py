"""The running server, put together: rules, log, listeners, signals, the order of start and stop (SPEC 8).

Start: everything is loaded, then everything listens, then READY=1. Stop: no new connections, whole
requests that have arrived are answered, then the log is written out.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import threads
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from policyd.config.settings import Configuration
from policyd.policy.ruleset import RuleSet
from policyd.service import systemd
from policyd.service.answers import Answers
from policyd.service.counters import Counters
from policyd.service.decision_log import DecisionLog
from policyd.service.listening import CannotListen, listen
from policyd.service.log_output import LogOutput
from policyd.service.rules import Loaded, Reloads, differences, load_rules
from policyd.service.server import PolicyFactory, Recorder

# How long answers may take to get out at the end; systemd's own patience (TimeoutStopSec) is 90 s.
STOP_SECONDS = 5.0
_SPARE_DESCRIPTORS = 64
_DIFFERENCES_SHOWN = 100


class Daemon:
    """One process that serves. `path` is the configuration file, `loaded` what it said at the start."""

    def __init__(
        self, reactor: Any, path: str, configuration: Configuration, rules: RuleSet, recorder: Recorder | None = None
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._configuration = configuration
        self._counters = Counters()
        self._output = LogOutput(configuration.log.file)
        self._stderr = LogOutput() if configuration.log.file else None
        self._log = DecisionLog(self._output, reactor, self._stderr)
        self._answers = Answers(rules, self._log, self._counters)
        self._factory = PolicyFactory(
            self._answers, self._log, self._counters, configuration.service.max_connections, recorder
        )
        self._recorder = recorder
        self._ports: list[IListeningPort] = []
        self._reloads = Reloads(self._reload)
        self._stopping = False
        self.error: CannotListen | None = None
        self._settle(configuration)

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT. Raises CannotListen."""
        globalLogPublisher.addObserver(cast(ILogObserver, self._from_twisted))
        self._raise_descriptor_limit()
        self._reactor.callWhenRunning(lambda: ensureDeferred(self._start()))
        self._reactor.run(installSignalHandlers=False)
        self._log.flush()
        if self._recorder is not None:
            close: Callable[[], None] = getattr(self._recorder, "close", lambda: None)
            close()
        for output in (self._output, self._stderr):
            if output is not None:
                output.close()
        if self.error is not None:
            raise self.error

    async def _start(self) -> None:
        passed = systemd.passed_sockets()
        service = self._configuration.service
        self._on_signals()
        try:
            for endpoint in service.listen:
                self._ports += await listen(self._reactor, endpoint, self._factory, service.unix_mode, passed)
        except CannotListen as error:
            self.error = error
            self._reactor.stop()
            return
        rules = self._answers.rules
        where = ", ".join(map(str, service.listen))
        self._log.event(f"listening on {where}; {_status(rules, self._answers.monitor)}")
        systemd.notify("READY=1", f"STATUS={_status(rules, self._answers.monitor)}")
        interval = systemd.watchdog_seconds()
        if interval is not None:
            self._watch(interval)

    def _on_signals(self) -> None:
        """Signals wake the reactor through a pipe of Twisted's; their Python handlers run in its thread."""
        for number, act in ((signal.SIGTERM, self.stop), (signal.SIGINT, self.stop), (signal.SIGHUP, self._hang_up)):
            signal.signal(number, lambda *_, act=act: self._reactor.callFromThread(act))
        signal.siginterrupt(signal.SIGHUP, False)

    # ------------------------------------------------------------------------------------------- the end

    def stop(self) -> None:
        """Answers what has arrived, then ends the reactor."""
        if self._stopping:
            return
        self._stopping = True
        systemd.notify("STOPPING=1", "STATUS=answering what has arrived")
        ensureDeferred(self._stop())

    async def _stop(self) -> None:
        for port in self._ports:
            _accept_waiting(port)
            await _maybe(port.stopListening())
        patience = self._reactor.callLater(STOP_SECONDS, self._factory.abort)
        await self._factory.finish()
        if patience.active():
            patience.cancel()
        self._log.event("stopped")
        if self._reactor.running:
            self._reactor.stop()

    # ------------------------------------------------------------------------------------------- reloading

    def _hang_up(self) -> None:
        if not self._stopping:
            self._log.reopen()
            self._reloads.ask()

    def _reload(self, over: Callable[[], None]) -> None:
        systemd.reloading()
        generation = self._answers.rules.generation + 1
        work: Deferred[Loaded] = threads.deferToThread(load_rules, self._path, generation)
        work.addCallbacks(self._reloaded, self._reload_broke)
        work.addErrback(self._reload_broke)
        work.addBoth(lambda _: over())

    def _reloaded(self, loaded: Loaded) -> None:
        for problem in loaded.problems:
            self._log.event(str(problem), "<4>")
        old = self._answers.rules
        if loaded.configuration is None or loaded.rules is None:
            errors = sum(problem.severity == "error" for problem in loaded.problems)
            self._not_reloaded(f"{errors} error{'s' if errors != 1 else ''} in the configuration")
            return
        if old.organizations and not loaded.rules.organizations:
            self._not_reloaded("the new configuration has no organization at all")
            return
        changes = differences(old.rules, loaded.rules.rules)
        self._answers.rules = loaded.rules
        self._settle(loaded.configuration)
        self._counted(succeeded=True)
        self._log.event(f"reloaded; {_status(loaded.rules, self._answers.monitor)}")
        for change in changes[:_DIFFERENCES_SHOWN]:
            self._log.event(f"changed: {change}")
        if len(changes) > _DIFFERENCES_SHOWN:
            self._log.event(f"changed: {len(changes) - _DIFFERENCES_SHOWN} more")
        systemd.notify("READY=1", f"STATUS={_status(loaded.rules, self._answers.monitor)}")

    def _reload_broke(self, failure: Failure) -> None:
        """A bug, or no memory: the old rules stay."""
        self._counters.internal_errors += 1
        error = failure.value if isinstance(failure.value, Exception) else RuntimeError(str(failure.value))
        self._log.internal_error("internal error while reloading", error)
        self._not_reloaded("internal error")

    def _not_reloaded(self, why: str) -> None:
        self._counted(succeeded=False)
        generation = self._answers.rules.generation
        self._log.event(f"not reloaded: {why}; generation {generation} stays in force", "<4>")
        status = _status(self._answers.rules, self._answers.monitor)
        systemd.notify("READY=1", f"STATUS=reload failed ({why}); {status}")

    def _counted(self, succeeded: bool) -> None:
        self._counters.last_reload = time.time()
        self._counters.last_reload_succeeded = succeeded
        if succeeded:
            self._counters.reloads += 1
        else:
            self._counters.reload_failures += 1

    def _settle(self, configuration: Configuration) -> None:
        """Takes over the settings that need no restart, and tells of those that do."""
        before, self._configuration = self._configuration, configuration
        self._answers.monitor = self._log.monitor = configuration.service.mode == "monitor"
        self._log.decisions = configuration.log.decisions
        self._log.domain_only = configuration.log.addresses == "domain"
        fixed = {
            "service.listen": (before.service.listen, configuration.service.listen),
            "service.unix_mode": (before.service.unix_mode, configuration.service.unix_mode),
            "service.workers": (before.service.workers, configuration.service.workers),
            "service.max_connections": (before.service.max_connections, configuration.service.max_connections),
            "log.file": (before.log.file, configuration.log.file),
            "metrics.listen": (before.metrics_listen, configuration.metrics_listen),
        }
        for key, (old, new) in fixed.items():
            if old != new:
                self._log.event(f"{key} changed: restart policyd for it to take effect", "<4>")

    # ------------------------------------------------------------------------------------------- the machine

    def _watch(self, interval: float) -> None:
        systemd.notify("WATCHDOG=1")
        self._reactor.callLater(interval, self._watch, interval)

    def _raise_descriptor_limit(self) -> None:
        wanted = self._configuration.service.max_connections + _SPARE_DESCRIPTORS
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            if allowed < wanted:
                self._log.event(
                    f"only {allowed} open files allowed, {wanted} needed for service.max_connections: "
                    "raise LimitNOFILE in the unit",
                    "<4>",
                )

    def _from_twisted(self, event: Any) -> None:
        """Twisted's own complaints: an exception nobody caught is a bug of ours."""
        if event.get("log_level") not in (LogLevel.error, LogLevel.critical):
            return
        failure = event.get("log_failure")
        if failure is not None and isinstance(failure.value, Exception):
            self._counters.internal_errors += 1
            self._log.internal_error("internal error", failure.value)
        else:
            self._log.event(str(event.get("log_format") or "an error in Twisted"), "<4>")


def _status(rules: RuleSet, monitor: bool) -> str:
    counts = f"{len(rules.organizations)} organizations, {len(rules.connectors)} connectors"
    return f"generation {rules.generation}, {counts}, {'only watching (monitor)' if monitor else 'enforcing'}"


def _accept_waiting(port: Any) -> None:
    """Takes the connections that the kernel has accepted already: they would be reset otherwise."""
    if getattr(port, "connected", False):
        port.doRead()


async def _maybe(result: Any) -> None:
    if isinstance(result, Deferred):
        await result


def new_reactor() -> Any:
    """Twisted's reactor for this platform (epoll on Linux)."""
    from twisted.internet import reactor

    return reactor


__all__ = ["CannotListen", "Daemon", "new_reactor"]
