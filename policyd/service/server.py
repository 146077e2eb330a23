"""The policy server: all connections of one process, and the short way through a round of events (SPEC 5)."""

from __future__ import annotations

import time
from collections.abc import Callable
from select import EPOLLIN
from typing import Protocol as Shape

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Server

from policyd.service.answers import Answers
from policyd.service.connection import PolicyProtocol
from policyd.service.counters import Counters
from policyd.service.decision_log import DecisionLog
from policyd.service.rounds import READ_SIZE
from policyd.service.short_way import Usual
from policyd.service.turns import Crowding


class Recorder(Shape):
    """Takes the bytes of each whole request (serve --record)."""

    def record(self, data: bytes) -> None: ...
    def close(self) -> None: ...


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
        self.recorder = recorder
        self.open: set[PolicyProtocol] = set()
        self.crowding: Crowding | None = None
        self._log = log
        self._max_connections = max_connections
        self._all_closed: Deferred[None] | None = None
        # By descriptor, how to read from the connections that wait for a request, none of it read yet.
        self.readable: dict[int, tuple[Callable[[int], bytes], PolicyProtocol]] = {}

    def buildProtocol(self, addr: IAddress | None) -> PolicyProtocol | None:
        """A protocol for a new connection; None, and Twisted closes it, when there are too many."""
        self.counters.connections_total += 1
        if len(self.open) >= self._max_connections:
            self.counters.connections_refused += 1
            self._log.event(f"more than {self._max_connections} connections: closed one from {_peer(addr)}", "<4>")
            return None
        return PolicyProtocol(self)

    def work_off(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Reads and answers the requests of one round of events; returns the events that are something else.

        First all are read and decided, then all answers go out, so that a peer that waits for several is woken once.
        Then they are logged.
        """
        readable, answer = self.readable, self.answers.usual.answer
        others: list[tuple[int, int]] = []
        protocols: list[PolicyProtocol] = []
        answered: list[Usual] = []
        taken: list[bytes] = []
        failed: Exception | None = None  # on the short way
        began = time.perf_counter_ns()
        try:
            for event in events:
                descriptor, kind = event
                connection = readable.get(descriptor)
                if connection is None or kind != EPOLLIN:
                    others.append(event)
                    continue
                receive, protocol = connection
                try:
                    data = receive(READ_SIZE)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    others.append(event)  # it is at its end, and Twisted will find it so
                    continue
                try:
                    usual = answer(data)
                except Exception as error:  # noqa: BLE001 - the long way knows what to do, and may meet it again
                    usual, failed = None, error
                if usual is None:
                    self._go_the_long_way(protocol, data, failed)
                    failed = None  # else it would refer to itself, by its traceback
                    continue
                protocols.append(protocol)
                answered.append(usual)
                if self.recorder is not None:
                    taken.append(data)
        finally:  # a request that was read gets its answer: the next one on its connection would take it for its own
            if answered:
                self._finish_round(protocols, answered, began)
                self.keep(taken)
        return others

    def _finish_round(self, protocols: list[PolicyProtocol], answered: list[Usual], began: int) -> None:
        broken: list[Exception] = []
        for protocol, usual in zip(protocols, answered, strict=True):
            try:
                protocol.send(usual[0])
            except Exception as error:  # noqa: BLE001 - a bug about one connection must not cost the others
                protocol.close()
                broken.append(error)
        self.counters.timed(time.perf_counter_ns() - began, len(answered))
        self.answers.record_usual(answered)
        while broken:
            self._bug("internal error: an answer was not sent", broken.pop(0))

    def _go_the_long_way(self, protocol: PolicyProtocol, data: bytes, error: Exception | None) -> None:
        """`error`: why the short one failed. Where this one does not, nobody else would tell of it."""
        known = self.counters.internal_errors
        try:
            protocol.dataReceived(data)
        except Exception as another:  # noqa: BLE001 - as Twisted: a bug is logged and ends the connection
            protocol.abort()
            self._bug("internal error: the connection is closed", another)
        if error is not None and self.counters.internal_errors == known:
            self.answers.short_way_failed(error)

    def _bug(self, text: str, error: Exception) -> None:
        self.counters.internal_errors += 1
        self._log.internal_error(text, error)

    def keep(self, taken: list[bytes]) -> None:
        """Records the requests that were taken, and empties the list."""
        if self.recorder is not None:
            for data in taken:
                self.recorder.record(data)
        taken.clear()

    def broken(self, server: Server, how: str) -> None:
        """A peer broke the protocol: one line; its connection is being closed."""
        self.counters.protocol_errors += 1
        self._log.event(f"protocol error from {_peer(server.getPeer())}: {how}; closed the connection", "<4>")

    def opened(self, protocol: PolicyProtocol) -> None:
        """A new connection."""
        self.open.add(protocol)
        self.crowd()

    def crowd(self) -> None:
        """Tells the other workers, where there are any, how many connections are open here."""
        if self.crowding is not None:
            self.crowding.have(len(self.open))

    def closed(self, protocol: PolicyProtocol) -> None:
        """A connection is gone."""
        self.open.discard(protocol)
        self.crowd()
        if not self.open and self._all_closed is not None:
            self._all_closed.callback(None)
            self._all_closed = None

    def finish(self) -> Deferred[None]:
        """Answers what has arrived on every connection, and closes them; fires when all are closed."""
        done: Deferred[None] = Deferred()
        if not self.open:
            done.callback(None)
            return done
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
