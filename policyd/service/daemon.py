"""The daemon: signals, what systemd and Prometheus are told, the order of start and stop (SPEC 8).

Start: everything is loaded, then everything listens, then READY=1. Stop: no new connections, whole
requests that have arrived are answered, then the log is written out. Who answers is the matter of the processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.python.failure import Failure

from policyd.config.settings import Endpoint
from policyd.protocol.control import usual_socket
from policyd.service import systemd
from policyd.service.control import UNIX_MODE, Commands, Control, Refused
from policyd.service.http import site
from policyd.service.listener import Listener
from policyd.service.processes import Processes
from policyd.service.reactor import in_thread
from policyd.service.readiness import unanswered
from policyd.service.reloads import Outcome, Reloads
from policyd.service.sockets import CannotListen, open_sockets, remove_socket_file, unused

WORKER_CHECK_SECONDS = 10.0  # between two looks at the workers where no watchdog asks for more


class Daemon:
    """Starts and ends what is given to it.

    `early`: signals that came before there was a reactor. `terminal`: the descriptor of the one that it was started
    from; None: of none.
    """

    def __init__(
        self,
        reactor: Any,
        processes: Processes,
        reloads: Reloads,
        early: Sequence[int] = (),
        terminal: int | None = None,
    ) -> None:
        self._reactor = reactor
        self._processes = processes
        self._reloads = reloads
        self._log = processes.log
        self._listeners: list[Listener] = []  # not of Postfix's connections
        self._socket_files: list[str] = []  # theirs, ours to remove
        self._error: BaseException | None = None
        self._started = False
        self._early = early
        self._hung_up = False  # SIGHUP came before everything was started
        self._terminal = terminal
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
        assert failure.value is not None
        self._log.internal_error("internal error", failure.value)

    async def _start(self) -> None:
        self._on_signals()
        configuration = self._reloads.configuration
        service, metrics = configuration.service, configuration.metrics_listen
        try:
            passed = systemd.passed_sockets()
            if metrics is not None:
                named = {"metrics": self._metrics_page, "healthz": self._health_page, "readyz": self._readiness_page}
                pages = site(named, self._bug)
                for (opened,) in open_sockets(metrics, service.unix_mode, passed):
                    self._listeners.append(Listener(self._reactor, opened, pages))
                if metrics.kind == "unix":
                    self._socket_files.append(metrics.path)
            await self._processes.start(passed)
            self._open_control()
        except CannotListen as error:
            if not self._stopping:  # else SIGTERM came first, and _stop ends everything
                self._error = error
                await self._processes.finish()
                self._reactor.stop()
            return
        self._started = True
        self._reloads.database.rested()
        status = self._reloads.status()
        self._log.event(f"listening on {', '.join(map(str, service.listen))}; {status}")
        for name in unused([*service.listen, *([] if metrics is None else [metrics])], passed):
            self._log.event(f"nobody answers on the socket that systemd passes on as {name}: no listen has it", "<4>")
        systemd.notify("READY=1", f"STATUS={status}")
        interval = systemd.watchdog_seconds() or (WORKER_CHECK_SECONDS if self._processes.size > 1 else None)
        if interval is not None:
            self._go(self._watch(interval))
        if self._hung_up:
            self._hang_up()

    def _open_control(self) -> None:
        """Raises CannotListen."""
        set_to = self._reloads.configuration.service.control
        path = usual_socket() if set_to is None else set_to
        if path and not self._stopping:
            control = Control(self._reactor, Commands(self._reactor, self._reload, self._reloads).table(), self._log)
            ((opened,),) = open_sockets(Endpoint("unix", path=path), UNIX_MODE, [])
            self._socket_files.append(path)
            self._listeners.append(Listener(self._reactor, opened, control))

    def _on_signals(self) -> None:
        acts = {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR1: self._processes.reopen_logs,
        }
        for number, act in acts.items():
            # Twisted has installed its own by now, of which SIGCHLD stays. Python runs a handler between two
            # steps of the reactor's thread, and callFromThread wakes the reactor.
            signal.signal(number, lambda *_, act=act: self._reactor.callFromThread(act))
        for came in self._early:
            acts[signal.Signals(came)]()

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
            for listener in self._listeners:
                listener.stop()
            for path in self._socket_files:
                remove_socket_file(path)
            await self._processes.finish()
            self._reloads.database.stop()
            self._log.event("stopped")
        finally:
            if self._reactor.running:
                self._reactor.stop()

    def _hang_up(self) -> None:
        if self._stopping:
            return
        if not self._started:
            self._hung_up = True
            return
        if self._terminal is not None and not os.isatty(self._terminal):  # it was closed, and nobody sees us any more
            self.stop()
            return
        self._reload()

    def _reload(self) -> Deferred[Outcome]:
        """Raises Refused."""
        if self._stopping:
            raise Refused("the service is stopping", os.EX_UNAVAILABLE)
        self._processes.reopen_logs()
        return self._reloads.reload()

    # ------------------------------------------------------------------------------------------- the pages

    def _metrics_page(self) -> Deferred[tuple[int, bytes]]:
        async def page() -> tuple[int, bytes]:
            from policyd.service.metrics import Exposition  # needs an extra

            counted = await self._processes.counted()
            return 200, Exposition(counted, self._processes, self._reloads).text()

        return Deferred.fromCoroutine(page())

    def _health_page(self) -> Deferred[tuple[int, bytes]]:
        """That we answer here at all, and how things stand."""
        return succeed((200, f"ok: {self._reloads.status()}\n".encode()))

    def _readiness_page(self) -> Deferred[tuple[int, bytes]]:
        async def page() -> tuple[int, bytes]:
            why = await self._why_not_ready()
            return (503, f"{why}\n".encode()) if why else (200, b"ready\n")

        return Deferred.fromCoroutine(page())

    async def _why_not_ready(self) -> str:
        """Why Postfix would get no answer, or a restart would have other rules; empty: it would, and would not."""
        if self._stopping:
            return "it is stopping"
        if not self._started:
            return "it is starting"
        if not await self._processes.check():
            return "requests get no answer"
        if why := await in_thread(self._reactor, unanswered, self._processes.addresses):
            return why
        return "" if self._reloads.database.is_kept else "the rows of the database could not be kept on disk"
