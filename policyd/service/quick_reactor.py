"""Twisted's epoll reactor with a shorter way from the kernel to a connection that has something to read.

Twisted wraps each event in a log context, checks its descriptor anew, and goes around its main loop after each
wait: 2.5 microseconds, a quarter of what it costs to read and answer. Only that way is shortened here. Who is
registered, what is due at what time, how a connection ends, and every other kind of event are Twisted's own.
"""

from __future__ import annotations

import errno
import select
import sys
from typing import Any, Protocol

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.internet.tcp import Server
from twisted.python import log

# How long a thread that compiles rules may keep the interpreter when a request has arrived. Python's own 5 ms would be
# added to each answer during a reload.
SWITCH_SECONDS = 0.0005


# Events of one round at the most. More would let the first of them wait for all the others' work.
ROUND = 16


class Rounds(Protocol):
    """What wants to know when a round of events begins and ends: answers that go out together wake a peer once."""

    def begin(self) -> None: ...
    def end(self) -> None: ...


class QuickReactor(EPollReactor):
    """An EPollReactor that serves connections (`Server`, of TCP and of unix sockets) the short way."""

    def __init__(self) -> None:
        self.rounds: list[Rounds] = []
        super().__init__()  # type: ignore[no-untyped-call]

    # Set by EPollReactor.
    _poller: select.epoll
    _selectables: dict[int, Any]

    def doPoll(self, timeout: float | None) -> None:
        """Waits for events, up to `timeout` seconds (None: without end), and lets each descriptor do its work.

        Stays as long as only requests arrive and nothing else is due: all that could give the main loop work, a timer
        or another descriptor's event (the one that wakes it for threads and signals among them), leads back to it.
        """
        until = None if timeout is None else self.seconds() + timeout
        while True:
            try:
                events = self._poller.poll(-1 if timeout is None else timeout, ROUND)
            except OSError as error:
                if error.errno == errno.EINTR:
                    return
                raise
            if not self._worked_off(events):
                return
            timeout = self.timeout()  # None: nothing is due, ever
            if until is not None:
                left = until - self.seconds()
                timeout = left if timeout is None else min(timeout, left)
            if timeout is not None and timeout <= 0:
                return

    doIteration = doPoll  # what the main loop calls

    def _worked_off(self, events: list[tuple[int, int]]) -> bool:
        """As `_only_requests`, and whoever wants to knows of it."""
        for one in self.rounds:
            one.begin()
        try:
            return self._only_requests(events)
        finally:
            for one in self.rounds:
                one.end()

    def _only_requests(self, events: list[tuple[int, int]]) -> bool:
        """Works all events off; whether they were requests that arrived, and nothing else."""
        only = bool(events)
        for descriptor, event in events:
            selectable = self._selectables.get(descriptor)
            if selectable is None:
                continue  # it was closed by the work for another one
            if event == select.EPOLLIN and isinstance(selectable, Server):
                why: Exception | None
                try:
                    why = selectable.doRead()
                except Exception as error:  # noqa: BLE001 - as Twisted: a bug is logged and ends the connection
                    why = error
                    log.err()
                if why is None:
                    continue
                self._disconnectSelectable(selectable, why, True)  # type: ignore[no-untyped-call]
            else:
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, descriptor, event)
            only = False
        return only


def install() -> None:
    """Makes it the process's reactor; to be called before anything imports `twisted.internet.reactor`."""
    sys.setswitchinterval(SWITCH_SECONDS)
    installReactor(QuickReactor())
