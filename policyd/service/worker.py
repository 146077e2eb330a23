"""One worker: serves, and does what its parent says. Started by `workers`, never by hand."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.protocol import Factory

from policyd.config.settings import Configuration
from policyd.policy.ruleset import RuleSet
from policyd.service.control import CONTROL_DESCRIPTOR, Control
from policyd.service.serving import Serving


class Worker:
    """`listeners` are the open sockets that this worker takes connections of."""

    def __init__(self, reactor: Any, listeners: list[socket.socket]) -> None:
        self._reactor = reactor
        self._listeners = listeners
        self._serving: Serving | None = None
        self._prepared: tuple[Configuration, RuleSet] | None = None
        self._control = Control(self._do, self._orphaned)

    def run(self) -> None:
        """Serves until told to finish, or until the parent is gone."""
        factory = Factory.forProtocol(lambda: self._control)
        factory.noisy = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent tells when to finish
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self._reactor.callFromThread(self._finish))
        self._reactor.adoptStreamConnection(CONTROL_DESCRIPTOR, socket.AF_UNIX, factory)
        os.close(CONTROL_DESCRIPTOR)  # adopting made a copy
        self._reactor.run(installSignalHandlers=False)
        if self._serving is not None:
            self._serving.close()

    def _do(self, message: tuple[Any, ...]) -> None:
        what = message[0]
        if what == "serve":
            self._serve(message[1], message[2])
        elif what == "prepare":
            try:
                self._prepared = (message[1], RuleSet(message[1].rules, message[2]))
            except Exception as error:  # noqa: BLE001 - no memory, or a bug: the parent keeps the old rules
                self._control.say("failed", f"{type(error).__name__}: {error}")
            else:
                self._control.say("prepared")
        elif what == "commit":
            if self._serving is not None and self._prepared is not None:
                self._serving.apply(*self._prepared)
            self._prepared = None
        elif what == "abort":
            self._prepared = None
        elif what == "check":
            self._control.say("checked", self._serving is not None and self._serving.check())
        elif what == "count":
            self._control.say("counted", None if self._serving is None else self._serving.counted())
        elif what == "reopen" and self._serving is not None:
            self._serving.log.reopen()
        elif what == "finish":
            self._finish()

    def _serve(self, configuration: Configuration, generation: int) -> None:
        try:
            serving = Serving(self._reactor, configuration, RuleSet(configuration.rules, generation))
            for listener in self._listeners:
                serving.listen_on(listener)
                listener.close()
        except OSError as error:  # the log file
            self._control.say("failed", str(error))
            return
        self._serving = serving
        self._control.say("listening")

    def _orphaned(self) -> None:
        """The parent is gone: nobody would restart or reload us."""
        self._finish()

    def _finish(self) -> None:
        if self._serving is None:
            self._stop(None)
            return
        ensureDeferred(self._serving.finish()).addBoth(self._stop)

    def _stop(self, _: object) -> None:
        if self._reactor.running:
            self._reactor.stop()


def main(arguments: list[str]) -> None:
    """`arguments`: the descriptors to listen on."""
    from twisted.internet import reactor

    Worker(reactor, [socket.socket(fileno=int(descriptor)) for descriptor in arguments]).run()


if __name__ == "__main__":
    main(sys.argv[1:])
