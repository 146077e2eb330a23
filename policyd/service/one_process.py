"""What one serving process is made of: rules, answers, log, counters, listeners (SPEC 8).

The process that stands alone has one of these, and so has each worker. It knows neither signals nor files of the
configuration; it serves by what is in the store.
"""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.logger import ILogObserver, LogLevel, globalLogPublisher

from policyd.config.settings import Configuration
from policyd.policy.ruleset import RuleSet
from policyd.service.answers import Answers
from policyd.service.counters import Counters
from policyd.service.decision_log import open_log
from policyd.service.listener import Listener
from policyd.service.reactor import QuickReactor
from policyd.service.rounds import Recorder
from policyd.service.server import PolicyFactory
from policyd.service.sockets import open_sockets, remove_socket_file
from policyd.service.turns import Turns
from policyd.store.file import Store

# How long answers may take to get out at the end; systemd's own patience (TimeoutStopSec) is 90 s.
STOP_SECONDS = 5.0
_SPARE_DESCRIPTORS = 64


class Serving:
    """Answers requests by the rules in `store`. Raises OSError when there can be no log."""

    size = 1

    def __init__(
        self, reactor: Any, configuration: Configuration, store: Store, recorder: Recorder | None = None
    ) -> None:
        self._reactor = reactor
        self._service = configuration.service
        self._store = store
        self._recorder = recorder
        self._counters = Counters()
        self.log = open_log(configuration.log.file, reactor)
        self._answers = Answers(RuleSet(store.snapshot()), self.log, self._counters)
        self._factory = PolicyFactory(self._answers, self.log, self._counters, self._service.max_connections, recorder)
        if isinstance(reactor, QuickReactor):
            reactor.handlers.append(self._factory.rounds)
        self._listeners: list[Listener] = []
        self._socket_files: list[str] = []  # ours to remove
        self._silent_until = 0.0  # by the reactor's clock, for what would be said too often
        self._finishing = False
        self.take_snapshot()
        globalLogPublisher.addObserver(cast(ILogObserver, self._from_twisted))
        self._raise_descriptor_limit()

    async def start(self, passed: list[tuple[int, str]]) -> None:
        """Listens on everything that the configuration names. Raises CannotListen."""
        for endpoint in self._service.listen:
            for (opened,) in open_sockets(endpoint, self._service.unix_mode, passed):
                self.listen_on(opened)
            if endpoint.kind == "unix":
                self._socket_files.append(endpoint.path)

    def listen_on(self, opened: socket.socket) -> None:
        """Takes connections of one open socket, which is closed at the end."""
        turns, none_left = self._factory.turns, self._no_descriptor_left
        self._listeners.append(Listener(self._reactor, opened, self._factory, turns, none_left))

    def share(self, turns: Turns) -> None:
        """From now on others listen on the same sockets."""
        self._factory.share(turns)

    def apply(self) -> None:
        """There are new rules in the store."""
        self.take_snapshot()

    def take_snapshot(self) -> None:
        """The next request is decided by the rules that are in the store now, and by the settings beside them."""
        rules = RuleSet(self._store.snapshot())
        settings = rules.lookups.settings
        monitor = settings.get("mode") == "monitor"
        self.log.monitor = monitor
        self.log.decisions = settings.get("decisions", "all")
        self.log.domain_only = settings.get("addresses") == "domain"
        self._answers.put_in_force(rules, monitor, settings.get("attribution_header", ""))

    @property
    def generation(self) -> int:
        """Of the rules that requests are decided by."""
        return self._answers.rules.generation

    def before_each_round(self, look: Callable[[], None]) -> None:
        """What is done before a round of events is decided."""
        self._factory.rounds.before = look

    def reopen_logs(self) -> None:
        """Opens the log file anew."""
        self.log.reopen()

    async def check(self, mend: bool = False) -> bool:
        """Whether a request still gets an answer."""
        return self._answers.check()

    async def counted(self) -> Counters:
        """The counters as they stand."""
        return self._counters + Counters(
            connections=len(self._factory.open),
            log_failures=self.log.failures,
            unknown_instances=self._answers.attributions.unknown,
        )

    async def finish(self) -> None:
        """Takes no more connections, answers the requests that have arrived, closes all."""
        if self._finishing:
            await self._factory.finish()
            return
        self._finishing = True
        for listener in self._listeners:
            listener.take_waiting()
            listener.stop()
        for path in self._socket_files:
            remove_socket_file(path)
        patience = self._reactor.callLater(STOP_SECONDS, self._factory.abort)
        await self._factory.finish()
        if patience.active():
            patience.cancel()

    def close(self) -> None:
        """Writes out the log; the last thing."""
        if self._recorder is not None:
            self._recorder.close()
        self.log.close()

    def _raise_descriptor_limit(self) -> None:
        wanted = self._service.max_connections + _SPARE_DESCRIPTORS
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            if allowed < wanted:
                self.log.event(
                    f"only {allowed} open files allowed, {wanted} needed for service.max_connections: "
                    "raise LimitNOFILE in the unit",
                    "<4>",
                )

    def _no_descriptor_left(self) -> None:
        """A connection waits and cannot be taken: counted, and told once a minute."""
        self._counters.connections_refused += 1
        if self._reactor.seconds() >= self._silent_until:
            self._silent_until = self._reactor.seconds() + 60
            self.log.event("cannot accept connections: out of file descriptors; raise LimitNOFILE", "<4>")

    def _from_twisted(self, event: Any) -> None:
        """Twisted's own complaints: an exception that nobody caught is a bug of ours."""
        if event.get("log_level") not in (LogLevel.error, LogLevel.critical):
            return
        failure = event.get("log_failure")
        if failure is not None and isinstance(failure.value, Exception):
            self._counters.internal_errors += 1
            self.log.internal_error("internal error", failure.value)
        else:
            self.log.event(str(event.get("log_format") or "an error in Twisted"), "<4>")
