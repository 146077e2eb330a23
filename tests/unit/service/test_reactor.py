"""The reactor: requests go the short way, and everything else is Twisted's. No process, no waiting."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Server
from twisted.python import log
from twisted.python.failure import Failure

from policyd.service.reactor import Events, QuickReactor


class Heard(Protocol):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.lost: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        if data == b"fail":
            raise KeyError("of ours")

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.append(getattr(reason, "type", None))


class Pair:
    """A connection of the reactor's, and the other end of it."""

    def __init__(self, reactor: QuickReactor) -> None:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.protocol = Heard()
        self.server = Server(ours, self.protocol, ("", 0), None, 1, reactor)
        self.protocol.makeConnection(self.server)


@pytest.fixture
def reactor() -> Any:
    made = QuickReactor()
    yield made
    for reader in made.removeAll():
        reader.connectionLost(Failure(error.ConnectionLost()))


@pytest.fixture
def failures() -> Any:
    seen: list[str] = []

    def observe(event: Any) -> None:
        if event["isError"]:
            seen.append(event["failure"].type.__name__)

    log.addObserver(observe)
    yield seen
    log.removeObserver(observe)


class Way:
    """A short way that takes what arrives at some descriptors."""

    def __init__(self, *descriptors: int) -> None:
        self.descriptors = descriptors
        self.taken: list[int] = []

    def work_off(self, events: Events) -> Events:
        self.taken += [descriptor for descriptor, _ in events if descriptor in self.descriptors]
        return [event for event in events if event[0] not in self.descriptors]


def test_what_a_short_way_takes_twisted_never_sees(reactor: QuickReactor, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [Pair(reactor) for _ in range(5)]
    way = Way(*(pair.server.fileno() for pair in pairs))
    reactor.handlers.append(way)
    monkeypatch.setattr(EPollReactor, "_doReadOrWrite", lambda *_: pytest.fail("the long way"))
    for pair in pairs:
        pair.peer.send(b"x")
    reactor.iterate(0)
    assert sorted(way.taken) == sorted(way.descriptors)


def test_what_it_leaves_is_read_by_twisted(reactor: QuickReactor) -> None:
    taken, left = Pair(reactor), Pair(reactor)
    reactor.handlers.append(Way(taken.server.fileno()))
    for pair in (taken, left):
        pair.peer.send(b"x")
    reactor.iterate(0)
    assert taken.protocol.pieces == []
    assert left.protocol.pieces == [b"x"]


def test_a_connection_that_ends(reactor: QuickReactor) -> None:
    pair, other = Pair(reactor), Pair(reactor)
    pair.peer.send(b"last")
    pair.peer.close()
    for _ in range(3):
        reactor.iterate(0)
    assert pair.protocol.pieces == [b"last"]
    assert pair.protocol.lost == [error.ConnectionDone]
    assert other.protocol.lost == []
    assert pair.server not in reactor.getReaders()


def test_a_bug_is_logged_and_ends_that_connection_only(reactor: QuickReactor, failures: list[str]) -> None:
    pair, other = Pair(reactor), Pair(reactor)
    pair.peer.send(b"fail")
    other.peer.send(b"hello")
    reactor.iterate(0)
    assert failures == ["KeyError"]
    assert len(pair.protocol.lost) == 1
    assert other.protocol.pieces == [b"hello"]
    assert other.protocol.lost == []


def test_what_another_event_closed_is_passed_over(reactor: QuickReactor, failures: list[str]) -> None:
    first, second = Pair(reactor), Pair(reactor)
    for pair, other in ((first, second), (second, first)):
        pair.server.doRead = lambda other=other: other.server.connectionLost(Failure(error.ConnectionLost()))  # type: ignore
        pair.peer.send(b"x")
    reactor.iterate(0)
    assert len(first.protocol.lost) + len(second.protocol.lost) == 1
    assert failures == []


def test_answers_that_wait_are_written_the_long_way(reactor: QuickReactor) -> None:
    pair = Pair(reactor)
    pair.server.write(b"y" * 10)
    for _ in range(3):
        reactor.iterate(0)
    assert pair.peer.recv(100) == b"y" * 10


class Polled:
    """In place of the kernel: what each wait gives, and how long it was to be."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.timeouts: list[float] = []

    def poll(self, timeout: float, most: int) -> Any:
        assert most > 0
        self.timeouts.append(timeout)
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.fixture
def busy(reactor: QuickReactor, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A reactor with one connection, whose clock stands still, and its events to come."""
    monkeypatch.setattr(reactor, "seconds", lambda: 100.0)
    pair = Pair(reactor)
    reactor.handlers.append(Way(pair.server.fileno()))
    request = [(pair.server.fileno(), select.EPOLLIN)]

    def with_events(*answers: Any) -> Polled:
        polled = Polled(*answers)
        monkeypatch.setattr(reactor, "_poller", polled)
        return polled

    yield reactor, request, with_events
    monkeypatch.undo()


def test_it_stays_while_only_requests_arrive(busy: Any) -> None:
    reactor, request, with_events = busy
    polled = with_events(request, request, [])
    reactor.doPoll(None)
    assert polled.timeouts == [-1, -1, -1]


def test_it_waits_no_longer_than_a_timer_that_a_request_started(busy: Any) -> None:
    reactor, request, with_events = busy
    polled = with_events(request, [])
    reactor.callLater(0.25, lambda: None)
    reactor.doPoll(None)
    assert polled.timeouts == [-1, 0.25]


def test_it_waits_no_longer_than_it_was_told(busy: Any) -> None:
    reactor, request, with_events = busy
    polled = with_events(request, [])
    reactor.doPoll(3)
    assert polled.timeouts == [3, 3]
    polled = with_events(request)
    reactor.doPoll(0)
    assert polled.timeouts == [0]


def test_another_event_leads_back_to_the_main_loop(busy: Any) -> None:
    """The one that wakes it for a signal or another thread, for instance."""
    reactor, request, with_events = busy
    waker = reactor.waker.fileno()
    polled = with_events([*request, (waker, select.EPOLLIN)])
    reactor.doPoll(None)
    assert polled.timeouts == [-1]


def test_an_interrupted_wait_is_no_error(busy: Any) -> None:
    reactor, _, with_events = busy
    with_events(OSError(errno.EINTR, "interrupted"))
    reactor.doPoll(None)
    with_events(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    with pytest.raises(OSError, match="Bad file"):
        reactor.doPoll(None)
