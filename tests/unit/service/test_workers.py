"""The parent's side of workers, without a process: tries to start one, and what all have counted together (SPEC 8)."""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock

from policyd.config.settings import Configuration
from policyd.service.counters import Counters
from policyd.service.generation import shared_generation
from policyd.service.turns import Turns, shared_counts
from policyd.service.workers import RESTART_SECONDS, WorkerFailed, Workers, _Worker
from policyd.store.file import Store

LONGEST = 64 * RESTART_SECONDS


class Reactor(Clock):
    """Starts as many processes as `room` says, then there is no memory for one."""

    def __init__(self, room: int = 0) -> None:
        super().__init__()
        self.room = room
        self.tried: list[float] = []
        self.lines: list[Any] = []

    def spawnProcess(self, *_: object, **__: object) -> Any:
        self.tried.append(self.seconds())
        if self.room <= 0:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        self.room -= 1
        return Process()

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> Any:
        self.lines.append(Line(factory.buildProtocol(None)))
        return self.lines[-1]


class Process:
    pid = 4711

    def signalProcess(self, name: str) -> None:
        """It does not end at once."""


class Line:
    """The transport of a control line."""

    def __init__(self, protocol: Any) -> None:
        self.protocol, self.closed = protocol, False
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def abortConnection(self) -> None:
        self.closed = True
        self.protocol.connectionLost()


class Parent:
    """Workers with one worker, which is not started yet, beside another that has one connection."""

    def __init__(self, room: int = 0) -> None:
        self.reactor = Reactor(room)
        self.workers = Workers(self.reactor, Configuration(), Store())
        self.workers.size = 2
        self.counts = shared_counts(2)
        Turns(self.counts, 0).leave()
        self.other = Turns(self.counts, 1)
        self.other.have(1)
        self.worker = _Worker(self.reactor, 1, (self.counts, shared_generation()), (), self.workers._ended)
        self.workers._workers = [self.worker]

    def counted(self) -> Counters:
        found: list[Counters] = []
        ensureDeferred(self.workers.counted()).addCallback(found.append)
        return found[0]


def test_a_worker_that_cannot_be_forked_is_tried_again_ever_less_often() -> None:
    parent = Parent()
    parent.workers._restart(parent.worker)
    for _ in range(2000):
        parent.reactor.advance(1)
    tried = parent.reactor.tried
    pauses = [after - before for before, after in pairwise(tried)]
    assert pauses[:7] == [2, 4, 8, 16, 32, 64, 64]
    assert set(pauses[6:]) == {LONGEST}
    assert parent.counted().workers_not_started == len(tried)
    assert parent.workers.running == 0
    assert all(line.closed for line in parent.reactor.lines)


def test_tries_without_end_come_to_no_end() -> None:
    """Not even after a year of them."""
    parent = Parent()
    parent.worker.starts = 500_000
    parent.workers._restart(parent.worker)
    parent.reactor.advance(LONGEST)
    assert len(parent.reactor.tried) == 2


def test_nobody_leaves_connections_to_a_worker_that_cannot_be_forked() -> None:
    parent = Parent()
    parent.workers._restart(parent.worker)
    assert parent.other.mine(), "at once, not after the patience for another worker"


def test_a_worker_that_can_be_forked_again_serves_and_begins_anew() -> None:
    parent = Parent(room=1)
    parent.worker.starts = 5
    parent.workers._restart(parent.worker)
    line = parent.reactor.lines[0].protocol
    line._received((1, True, None))
    assert parent.workers.running == 1
    assert parent.worker.starts == 0


def test_a_worker_that_ends_while_it_starts_is_tried_again_once() -> None:
    parent = Parent(room=9)
    parent.workers._restart(parent.worker)
    parent.worker.processEnded(None)  # type: ignore[arg-type]
    parent.reactor.lines[0].protocol.connectionLost()
    parent.reactor.advance(LONGEST)
    assert len(parent.reactor.tried) == 2


class Told:
    """Stands for a worker that says what it has counted, when it is told to."""

    number, ready, starts = 1, True, 0

    def __init__(self) -> None:
        self.process: object = object()
        self.counted: Deferred[Counters] = Deferred()

    def ask(self, seconds: float, *message: Any) -> Deferred[Counters]:
        self.counted = Deferred()
        return self.counted


@pytest.mark.parametrize("order", ["its answer first", "its end first"])
def test_no_counter_goes_down_when_a_worker_ends_while_it_is_asked(order: str) -> None:
    parent, worker = Parent(), Told()
    parent.workers._workers = [worker]  # type: ignore[list-item]

    def sum_of(answer: Counters | None) -> int:
        found: list[Counters] = []
        ensureDeferred(parent.workers.counted()).addCallback(found.append)
        if answer is None:
            worker.counted.errback(WorkerFailed("it ended"))
        else:
            worker.counted.callback(answer)
        return found[0].connections_accepted

    assert sum_of(Counters(connections_accepted=10, connections=3)) == 10
    seen = [10]
    asked: list[Counters] = []
    ensureDeferred(parent.workers.counted()).addCallback(asked.append)
    end = [
        lambda: worker.counted.callback(Counters(connections_accepted=12)),
        lambda: (setattr(worker, "process", None), parent.workers._ended(worker)),  # type: ignore[arg-type]
    ]
    for step in end if order == "its answer first" else end[::-1]:
        step()
    seen.append(asked[0].connections_accepted)
    worker.process = object()  # it is started again, and counts from 0
    for count in (0, 1, 5):
        seen.append(sum_of(Counters(connections_accepted=count)))
    seen.append(sum_of(None))
    assert seen == sorted(seen)
    assert seen[-1] in (15, 17)


def test_what_the_parent_counts_is_in_the_sum() -> None:
    parent = Parent()
    parent.workers._workers = []
    parent.workers.log.internal_error("internal error", ValueError())
    counted = parent.counted()
    assert (counted.internal_errors, counted.log_lines_lost) == (1, 0)
