"""Twisted's epoll reactor with a shorter way from the kernel to a connection that has something to read, and threads
that the end does not wait for (SPEC 8).

Twisted wraps each event in a log context, checks its descriptor anew, and goes around its main loop after each
wait: 2.5 microseconds, a quarter of what it costs to read and answer. Only that way is shortened here. Who is
registered, what is due at what time, how a connection ends, and every other kind of event are Twisted's own.
"""

from __future__ import annotations

import errno
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log
from twisted.python.failure import Failure

# How long a thread that compiles rules may keep the interpreter when a request has arrived. Python's own 5 ms would be
# added to each answer during a reload.
SWITCH_SECONDS = 0.0005

# Events of one round at the most. More would let the first of them wait for all the others' work.
ROUND = 16

P = ParamSpec("P")
T = TypeVar("T")
Events = list[tuple[int, int]]  # descriptor and kind, as epoll gives them


class EventHandler(Protocol):
    """Does the work of those events that it knows, and returns the others. It starts timers, if any, at the reactor."""

    def work_off(self, events: Events) -> Events: ...


class QuickReactor(EPollReactor):
    """An EPollReactor whose events are shown to the handlers first."""

    def __init__(self) -> None:
        self.handlers: list[EventHandler] = []
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
            arrived = bool(events)
            for handler in self.handlers:
                events = handler.work_off(events)
            for descriptor, event in events:
                selectable = self._selectables.get(descriptor)
                if selectable is not None:  # else it was closed by the work for another one
                    log.callWithLogger(selectable, self._doReadOrWrite, selectable, descriptor, event)
            if events or not arrived:
                return
            timeout = self.timeout()  # None: nothing is due, ever
            if until is not None:
                left = until - self.seconds()
                timeout = left if timeout is None else min(timeout, left)
            if timeout is not None and timeout <= 0:
                return

    doIteration = doPoll  # what the main loop calls


def install() -> None:
    """Makes it the process's reactor; to be called before anything imports `twisted.internet.reactor`."""
    sys.setswitchinterval(SWITCH_SECONDS)
    installReactor(QuickReactor())


def use_monotonic_clock(reactor: Any) -> None:
    """To be called before anything is scheduled."""
    reactor.seconds = time.monotonic


def in_thread(reactor: Any, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> Deferred[T]:
    """What `work` gives, which runs in a thread of its own. Raises RuntimeError when there can be no thread.

    In place of deferToThread: the end of the process waits for Twisted's threads, and some work never ends (a database
    that hangs, a file on a dead server). Twisted also leaves a cycle of objects for each piece of work, and where that
    freezes what there is, the cycle stays for ever.
    """
    done: Deferred[T] = Deferred()

    def run() -> None:
        try:
            result = work(*args, **named)
        except BaseException:  # noqa: BLE001 - whoever waits for it is told
            reactor.callFromThread(done.errback, Failure())
        else:
            reactor.callFromThread(done.callback, result)

    threading.Thread(target=run, name="work", daemon=True).start()
    return done
