"""Which of several workers takes a connection. No clock but a false one, no waiting."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from policyd.service import listener as module
from policyd.service import turns
from policyd.service.listener import Listener
from policyd.service.reactor import QuickReactor
from policyd.service.turns import PATIENCE, Turns, shared_counts
from tests.helpers.in_memory import InMemory


@pytest.fixture
def workers() -> Iterator[list[Turns]]:
    descriptor = shared_counts(3)
    yield [Turns(descriptor, number) for number in range(3)]
    os.close(descriptor)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    now = [1_000_000_000]
    monkeypatch.setattr(turns.time, "monotonic_ns", lambda: now[0])
    return now


def test_who_has_fewest_takes_the_next(workers: list[Turns]) -> None:
    for worker, connections in zip(workers, (3, 2, 2), strict=True):
        worker.have(connections)
    assert [worker.mine() for worker in workers] == [False, True, True]


def test_a_worker_that_does_not_run_is_not_waited_for(workers: list[Turns]) -> None:
    workers[0].have(7)
    workers[2].leave()
    assert not workers[0].mine(), "the other one is about to run"
    workers[1].leave()
    assert workers[0].mine()


def test_patience_ends_and_begins_anew(workers: list[Turns], clock: list[int]) -> None:
    workers[0].have(1)
    workers[1].have(0)
    for _ in range(2):
        assert not workers[0].mine()
        clock[0] += PATIENCE - 1
        assert not workers[0].mine()
        clock[0] += 1
        assert workers[0].mine()


def test_a_connection_that_somebody_took_is_no_excuse_for_the_next(workers: list[Turns], clock: list[int]) -> None:
    workers[0].have(1)
    workers[1].have(0)
    assert not workers[0].mine()
    clock[0] += 60_000_000_000
    assert not workers[0].mine()
    clock[0] += PATIENCE - 1
    assert not workers[0].mine()
    workers[2].have(2)
    clock[0] += PATIENCE - 1
    assert not workers[0].mine(), "the third one took it"
    clock[0] += PATIENCE
    assert workers[0].mine()


# --- with sockets, turned by hand -----------------------------------------------------------------------------------


class Two:
    """Two servers on one listening socket, each with a reactor of its own that turns when it is told to."""

    def __init__(self, listener: socket.socket, descriptor: int) -> None:
        self.address = listener.getsockname()
        self.clients: list[socket.socket] = []
        self.listeners: list[Listener] = []
        self.reactors = [QuickReactor(), QuickReactor()]
        self.factories = [InMemory().factory, InMemory().factory]
        for number, (reactor, factory) in enumerate(zip(self.reactors, self.factories, strict=True)):
            factory.share(Turns(descriptor, number))
            self.listeners.append(Listener(reactor, listener.dup(), factory, factory.turns))

    def connect(self, count: int) -> None:
        self.clients += [socket.create_connection(self.address) for _ in range(count)]

    def turn(self, *numbers: int) -> tuple[int, int]:
        """Lets these do what is due, in turn; how many connections each has."""
        for _ in range(30):
            for number in numbers:
                self.reactors[number].iterate(0)
        return len(self.factories[0].open), len(self.factories[1].open)


@pytest.fixture(params=["awake", "asleep"])
def two(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    if request.param == "asleep":
        monkeypatch.setattr(module, "AWAKE", -1)
    descriptor = shared_counts(2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        made = Two(listener, descriptor)
        yield made
    for client in made.clients:
        client.close()
    made.turn(0, 1)
    for reactor in made.reactors:
        for reader in reactor.removeAll():
            reader.connectionLost(Failure(ConnectionLost()))
    os.close(descriptor)


def test_connections_are_spread(two: Two, clock: list[int]) -> None:
    two.connect(10)
    assert two.turn(0, 1) == (5, 5)
    two.connect(1)
    assert two.turn(0) == (6, 5)
    two.connect(1)
    assert two.turn(0) == (6, 5), "the other one's turn"
    assert two.turn(1) == (6, 6)


def test_who_lost_connections_gets_the_next(two: Two, clock: list[int]) -> None:
    two.connect(6)
    two.turn(0, 1)
    two.factories[1].abort()
    assert two.turn(1) == (3, 0)
    two.connect(5)
    assert two.turn(0, 1) == (4, 4)


def test_nobody_waits_for_long_for_one_that_hangs(two: Two, clock: list[int]) -> None:
    two.connect(3)
    assert two.turn(0) == (1, 0)
    clock[0] += PATIENCE
    assert two.turn(0) == (2, 0)
    clock[0] += PATIENCE
    assert two.turn(0) == (3, 0)


def test_a_port_that_is_closed_meanwhile_is_left_alone(two: Two, clock: list[int]) -> None:
    two.connect(2)
    assert two.turn(0) == (1, 0)
    two.listeners[0].stop()
    assert two.turn(0, 1) == (1, 1)


def test_at_the_end_all_that_wait_are_taken(two: Two, clock: list[int]) -> None:
    two.connect(5)
    assert two.turn(0) == (1, 0)
    two.listeners[0].take_waiting()
    assert two.turn(0) == (5, 0)
