"""The policy server in Twisted's terms: one connection, and all connections of one process (SPEC 5).

Replies go straight to the socket: Twisted's own `write` queues them and arms epoll twice for each.
What the socket does not take is left to Twisted, and nothing more is read from that peer until it
has taken its answers, so that a peer that never reads costs a bounded amount of memory.
"""

from __future__ import annotations

import socket
import time
from typing import cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IPullProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Server
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd.protocol.wire import RequestReader
from policyd.service.answers import Answers
from policyd.service.counters import Counters
from policyd.service.decision_log import DecisionLog
from policyd.service.rounds import READ_SIZE, Recorder, Rounds
from policyd.service.turns import Turns

# How often a connection is read at the end, for requests that have arrived but were not read yet.
_LAST_READS = 64


@implementer(IPullProducer)
class PolicyProtocol(Protocol):
    """One connection. It lives as long as the peer likes: closing an idle one costs Postfix one of its two tries."""

    def __init__(self, connections: PolicyFactory) -> None:
        self._connections = connections

    def connectionMade(self) -> None:
        """Prepares the socket."""
        self._reader = RequestReader()
        self._backlogged = False  # Twisted still has answers to write
        self._closing = False
        self._finishing = False
        self._server: Server = cast(Server, self.transport)
        handle = getattr(self._server, "getHandle", lambda: None)()
        self._socket = handle if isinstance(handle, socket.socket) else None
        if self._socket is not None:
            self._descriptor = self._socket.fileno()
            self._server.bufferSize = READ_SIZE
            if self._socket.family != socket.AF_UNIX:
                self._server.setTcpNoDelay(True)
                self._server.setTcpKeepAlive(True)
        if self._connections.rounds.recorder is not None:
            self._reader.taken = []
        self._connections.opened(self)
        self._settle()

    def _settle(self) -> None:
        """Lets the factory read here, while a request can begin and its answer would go out."""
        if self._socket is None:
            return
        if self._reader.empty and not (self._backlogged or self._closing or self._finishing):
            self._connections.rounds.readable[self._descriptor] = self._socket.recv, self
        else:
            self._connections.rounds.readable.pop(self._descriptor, None)

    def dataReceived(self, data: bytes) -> None:
        """Answers the requests that `data` completes, and closes where the peer breaks the protocol."""
        began = time.perf_counter_ns()
        reader, answers = self._reader, self._connections.answers
        pairs = [answers.answer(request) for request in reader.receive(data)]
        if pairs:
            self.send(b"".join([reply for reply, _ in pairs]))
            self._connections.counters.timed(time.perf_counter_ns() - began, len(pairs))
            for _, answered in pairs:
                answers.record(answered)
            if reader.taken:
                self._connections.rounds.keep(reader.taken)
        if reader.error is not None and not self._closing:
            self._connections.broken(self._server, str(reader.error))
            self.close()
        self._settle()

    def send(self, data: bytes) -> None:
        """Sends answers, or as much of them as the socket takes now and the rest later."""
        if self._socket is not None:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._server.abortConnection()  # the peer is gone
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._server.pauseProducing()
            self._server.registerProducer(self, False)
            self._backlogged = True
            self._settle()
        self._server.write(data)

    def resumeProducing(self) -> None:
        """Twisted has written all it had (it also calls this once at registering: then there is nothing yet)."""
        if not self._backlogged:
            return
        self._backlogged = False
        self._server.unregisterProducer()
        if self._closing:
            self._server.loseConnection()
        elif self._finishing:
            self.finish()
        else:
            self._server.resumeProducing()
            self._settle()

    def stopProducing(self) -> None:
        """The connection is lost."""

    def close(self) -> None:
        """Closes the connection when all answers are written."""
        self._closing = True
        self._settle()
        if not self._backlogged:
            self._server.loseConnection()

    def finish(self) -> None:
        """At the end: answers the whole requests that have arrived, then closes."""
        self._finishing = True
        self._settle()
        for _ in range(_LAST_READS):
            if self._backlogged:
                return  # resumeProducing comes back here
            if self._closing or self._socket is None:
                break
            try:
                data = self._socket.recv(READ_SIZE)
            except OSError:
                break
            if not data:
                break
            self.dataReceived(data)
        self.close()

    def abort(self) -> None:
        """Closes the connection at once."""
        self._server.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The peer went away, or was sent away."""
        # The table leads back to the connection. Left there, one that was open at a reload, when all there is gets
        # frozen, would never be freed.
        if self._socket is not None:
            self._connections.rounds.readable.pop(self._descriptor, None)
        self._connections.closed(self)


class PolicyFactory(Factory):
    """All connections of one process."""

    noisy = False

    def __init__(
        self,
        answers: Answers,
        log: DecisionLog,
        counters: Counters,
        max_connections: int,
        recorder: Recorder | None = None,
    ) -> None:
        self.answers = answers
        self.counters = counters
        self.rounds = Rounds(answers, log, counters, recorder)
        self.open: set[PolicyProtocol] = set()
        self.turns: Turns | None = None
        self._log = log
        self._max_connections = max_connections
        self._all_closed: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> PolicyProtocol | None:
        """A protocol for a new connection; None, and Twisted closes it, when there are too many."""
        self.counters.connections_accepted += 1
        if len(self.open) >= self._max_connections:
            self.counters.connections_refused += 1
            self._log.event(f"more than {self._max_connections} connections: closed one from {_peer(addr)}", "<4>")
            return None
        return PolicyProtocol(self)

    def broken(self, server: Server, how: str) -> None:
        """A peer broke the protocol: one line; its connection is being closed."""
        self.counters.protocol_errors += 1
        self._log.event(f"protocol error from {_peer(server.getPeer())}: {how}; closed the connection", "<4>")

    def opened(self, protocol: PolicyProtocol) -> None:
        """A new connection."""
        self.open.add(protocol)
        self._count_open()

    def share(self, turns: Turns) -> None:
        """From now on other workers take connections of the same sockets, and are told how many are open here."""
        self.turns = turns
        self._count_open()

    def _count_open(self) -> None:
        if self.turns is not None:
            self.turns.have(len(self.open))

    def closed(self, protocol: PolicyProtocol) -> None:
        """A connection is gone."""
        self.open.discard(protocol)
        self._count_open()
        if not self.open and self._all_closed is not None:
            self._all_closed.callback(None)
            self._all_closed = None

    def finish(self) -> Deferred[None]:
        """Answers what has arrived on every connection, and closes them; fires when all are closed."""
        if not self.open:
            return succeed(None)
        done: Deferred[None] = Deferred()
        if self._all_closed is not None:
            self._all_closed.addCallback(done.callback)
            return done
        self._all_closed = done
        for protocol in list(self.open):
            protocol.finish()
        return done

    def abort(self) -> None:
        """Closes what is still open, whatever is left to write."""
        for protocol in list(self.open):
            protocol.abort()


def _peer(address: object) -> str:
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    return f"[{host}]:{port}" if host is not None else "a unix socket"
