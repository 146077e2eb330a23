"""One worker: serves, and does what its parent says. Started by `workers`, never by hand (SPEC 8)."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from policyd.config.settings import Configuration
from policyd.service.generation import Generation
from policyd.service.one_process import Serving
from policyd.service.reactor import install, use_monotonic_clock
from policyd.service.turns import Turns
from policyd.service.worker_messages import CONTROL_DESCRIPTOR, Control
from policyd.store.file import Store


class Worker:
    """`sockets` are the open sockets that this worker takes connections of."""

    def __init__(self, reactor: Any, turns: Turns, generation: Generation, sockets: list[socket.socket]) -> None:
        self._turns = turns
        self._generation = generation
        self._reactor = reactor
        self._sockets = sockets
        self._serving: Serving | None = None
        self._finishing = False
        self._control = Control(self._do, self._finish)  # without its parent, nobody would reload or restart it

    def run(self) -> None:
        """Serves until told to finish, or until the parent is gone."""
        factory = Factory.forProtocol(lambda: self._control)
        factory.noisy = False
        self._reactor.callWhenRunning(self._on_signals)
        self._reactor.adoptStreamConnection(CONTROL_DESCRIPTOR, socket.AF_UNIX, factory)
        os.close(CONTROL_DESCRIPTOR)  # adopting made a copy
        self._reactor.run()
        if self._serving is not None:
            self._serving.close()

    def _on_signals(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says when to finish
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self._reactor.callFromThread(self._finish))

    def _do(self, message: tuple[Any, ...]) -> None:
        number, what, *rest = message
        if number:
            ensureDeferred(self._answer(what, *rest)).addCallbacks(
                lambda result: self._control.say(number, True, result),
                lambda failure: self._control.say(number, False, _told(failure)),
            )
        elif what == "finish":
            self._finish()
        elif self._serving is not None and what == "reopen":
            self._serving.reopen_logs()

    async def _answer(self, what: str, *rest: Any) -> Any:
        if what == "serve":
            return self._serve(*rest)
        assert self._serving is not None  # only a worker that serves is asked the rest
        if what == "take":
            return self._take()
        return await (self._serving.check() if what == "check" else self._serving.counted())

    def _serve(self, configuration: Configuration, path: str) -> None:
        """Takes connections. Raises OSError when the log file cannot be opened."""
        serving = Serving(self._reactor, configuration, Store(path, readonly=True))
        serving.share(self._turns)
        serving.before_each_round(self._take)
        for opened in self._sockets:
            serving.listen_on(opened)
        self._serving = serving
        if self._finishing:
            self._stop(None)

    def _take(self) -> None:
        """Takes the rules that all are to serve by, where they are others."""
        assert self._serving is not None
        if self._serving.generation != self._generation.number:
            self._serving.take_snapshot()

    def _finish(self) -> None:
        if self._finishing:
            return
        self._finishing = True
        if self._serving is None:
            self._stop(None)
        else:
            ensureDeferred(self._serving.finish()).addBoth(self._stop)

    def _stop(self, _: object) -> None:
        if self._reactor.running:
            self._reactor.stop()


def _told(failure: Failure) -> str:
    return f"{failure.type.__name__ if failure.type else ''}: {failure.getErrorMessage()}"


def main(arguments: list[str]) -> None:
    """`arguments`: the worker's number, the descriptors of the shared counts and generation, those to listen on."""
    install()
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    number, counts, generation, *descriptors = map(int, arguments)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    Worker(reactor, Turns(counts, number - 1), Generation(generation), sockets).run()


if __name__ == "__main__":
    main(sys.argv[1:])
