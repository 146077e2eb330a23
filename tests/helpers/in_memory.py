"""A server without a process: the real protocol and the real Twisted transport, turned by hand.

The reactor is one of Twisted's own that nobody runs; `turn` lets it do what is due. Nothing here waits.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.internet.tcp import Server

from policyd.policy.ruleset import RuleSet
from policyd.service.answers import Answers
from policyd.service.counters import Counters
from policyd.service.decision_log import DecisionLog
from policyd.service.reactor import QuickReactor
from policyd.service.rounds import Recorder
from policyd.service.server import PolicyFactory, PolicyProtocol
from tests.helpers.compiled import compiled

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]
"""


class ListOutput:
    """Takes the place of LogWriter: keeps the lines."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.failures = 0
        self.written: list[bytes] = []
        self.reopened = 0

    def write(self, lines: bytes) -> None:
        self.written.append(lines)

    def reopen(self) -> None:
        self.reopened += 1

    def text(self) -> str:
        return b"".join(self.written).decode("ascii")


class InMemory:
    """What a serving process is made of, with a clock that stands still and a log in memory."""

    def __init__(
        self, rules: RuleSet | None = None, max_connections: int = 100, recorder: Recorder | None = None
    ) -> None:
        self.output = ListOutput()
        self.clock = Clock()
        self.counters = Counters()
        self.log = DecisionLog(self.output, self.clock)  # type: ignore[arg-type]
        self.answers = Answers(rules or compiled(RULES), self.log, self.counters)
        self.factory = PolicyFactory(self.answers, self.log, self.counters, max_connections, recorder)

    def logged(self) -> str:
        """The log, what is still collected included."""
        self.log.flush()
        return self.output.text()


class NarrowSocket(socket.socket):
    """Takes ten bytes at a time, and every second time none."""

    tries = 0

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        self.tries += 1
        if self.tries % 2 == 0:
            raise BlockingIOError(errno.EAGAIN, "not now")
        return super().send(bytes(data)[:10], flags)


class Connection:
    """Both ends of one connection: `peer` is a plain socket, `protocol` the server's."""

    def __init__(self, factory: PolicyFactory, reactor: EPollReactor, kind: type[socket.socket]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.peer = socket.create_connection(listener.getsockname())
            accepted, address = listener.accept()
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is sent is there at the next turn
        self.socket = kind(fileno=accepted.detach())
        self.socket.setblocking(False)
        self.peer.setblocking(False)
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        self.protocol: PolicyProtocol = protocol
        self.reactor = reactor
        self.transport = Server(self.socket, protocol, address, None, 1, reactor)
        protocol.makeConnection(self.transport)

    def turn(self, times: int = 1) -> None:
        """Lets the reactor do what is due, so many times."""
        for _ in range(times):
            self.reactor.iterate(0)

    def received(self, turns: int = 2000) -> bytes:
        """What the peer gets while the reactor turns; ends early when the connection is closed."""
        found = b""
        for _ in range(turns):
            self.turn()
            try:
                piece = self.peer.recv(65536)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                break
            if not piece:
                break
            found += piece
        return found


@contextmanager
def connected(factory: PolicyFactory, kind: type[socket.socket] = socket.socket) -> Iterator[Connection]:
    """A connection on a reactor of its own, of the kind that serves."""
    reactor = QuickReactor()
    reactor.handlers.append(factory.rounds)
    connection = Connection(factory, reactor, kind)
    try:
        yield connection
    finally:
        connection.peer.close()
        connection.transport.abortConnection()
        connection.turn(3)
        for reader in reactor.removeAll():
            reader.connectionLost(None)
