"""Connections of one open socket: how many at a time, and what happens where they cannot be taken. No waiting."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from policyd.service.listener import AT_ONCE, PAUSE_SECONDS, Listener
from policyd.service.sockets import remove_socket_file


class Reactor(Clock):
    """Its clock, what it looks at, and the duplicates of the connections that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.connections: list[socket.socket] = []
        self.errors: list[Exception] = []  # to raise, one for each connection

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Factory) -> None:
        if self.errors:
            raise self.errors.pop(0)
        assert not os.get_blocking(descriptor)
        self.connections.append(socket.fromfd(descriptor, family, socket.SOCK_STREAM))


class Port:
    """A listener on a unix socket, and who connects to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened = socket.socket(socket.AF_UNIX)
        self.opened.bind(str(path))
        self.opened.listen(100)
        self.opened.setblocking(False)
        self.reactor = Reactor()
        self.clients: list[socket.socket] = []
        self.refused = 0
        factory = Factory()
        factory.noisy = False
        self.listener = Listener(self.reactor, self.opened, factory, none_left=self.refuse)  # type: ignore[arg-type]

    def refuse(self) -> None:
        self.refused += 1

    def connect(self, count: int) -> None:
        for _ in range(count):
            self.clients.append(socket.socket(socket.AF_UNIX))
            self.clients[-1].connect(str(self.path))

    def ended(self) -> list[bool]:
        """Of each client, whether its connection was closed."""
        return [_ended(client) for client in self.clients]


def _ended(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    made = Port(tmp_path / "socket")
    yield made
    made.listener.stop()
    for connection in (*made.clients, *made.reactor.connections):
        connection.close()


def test_some_at_a_time(port: Port) -> None:
    """Between them, requests that have arrived have their turn."""
    port.connect(AT_ONCE + 3)
    port.listener.doRead()
    assert len(port.reactor.connections) == AT_ONCE
    port.listener.doRead()
    assert len(port.reactor.connections) == AT_ONCE + 3
    port.listener.doRead()
    assert len(port.reactor.connections) == AT_ONCE + 3


def test_the_reactor_has_the_only_descriptor(port: Port) -> None:
    port.connect(1)
    port.listener.doRead()
    assert port.ended() == [False]
    port.reactor.connections[0].close()
    assert port.ended() == [True]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_pause_where_nothing_is_left(port: Port, number: int) -> None:
    port.reactor.errors = [OSError(number, "none left")]
    port.connect(3)
    port.listener.doRead()
    assert (port.reactor.readers, port.refused) == ([], 1)
    assert port.ended() == [True, False, False], "the others wait"
    port.reactor.advance(PAUSE_SECONDS)
    assert port.reactor.readers == [port.listener]
    port.listener.doRead()
    assert (len(port.reactor.connections), port.refused) == (2, 1)


def test_a_peer_that_is_gone_already_keeps_nobody_waiting(port: Port) -> None:
    port.reactor.errors = [OSError(errno.ENOTCONN, "not connected")]
    port.connect(3)
    port.listener.doRead()
    assert (len(port.reactor.connections), port.refused) == (2, 0)
    assert port.reactor.readers == [port.listener]


def test_a_bug_costs_one_connection(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr("twisted.python.log.err", lambda: told.append(True))
    port.reactor.errors = [KeyError("a bug")]
    port.connect(2)
    port.listener.doRead()
    assert port.ended() == [True, False]
    assert told == [True]


def test_an_error_that_nobody_knows_is_told_and_does_not_spin(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr("twisted.python.log.err", lambda: told.append(True))
    port.reactor.errors = [OSError(errno.EIO, "?")]
    port.connect(1)
    port.listener.doRead()
    assert (port.reactor.readers, port.refused, told) == ([], 0, [True])


def test_the_end_while_it_pauses(port: Port) -> None:
    port.reactor.errors = [OSError(errno.EMFILE, "none left")]
    port.connect(1)
    port.listener.doRead()
    port.listener.stop()
    port.reactor.advance(PAUSE_SECONDS)
    assert port.reactor.readers == []


def test_a_socket_that_others_have_lives_on(port: Port) -> None:
    """It is neither shut down nor is its file changed or removed; whoever made the file does that."""
    mode = port.path.stat().st_mode
    with port.opened.dup() as others:
        port.listener.stop()
        port.connect(1)
        others.accept()[0].close()
        remove_socket_file(str(port.path))
        assert port.path.stat().st_mode == mode, "somebody listens there"
    remove_socket_file(str(port.path))
    assert not port.path.exists()
