"""One round of events: what has arrived on all connections is read and decided, sent, then logged (SPEC 5).

Knows connections by what it does with them, and nothing of sockets, reactors or who opened them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from select import EPOLLIN
from typing import Protocol

from policyd.service.answers import Answers
from policyd.service.counters import Counters
from policyd.service.decision_log import DecisionLog
from policyd.service.short_way import UsualAnswer

# The most octets read at once. It bounds the answers that may pile up for a peer that does not read them.
READ_SIZE = 8192


class Connection(Protocol):
    """What a round does with a connection."""

    def send(self, data: bytes) -> None: ...
    def dataReceived(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Recorder(Protocol):
    """Takes the bytes of each whole request (serve --record)."""

    def record(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class Rounds:
    """The rounds of one process. The reactor shows it all events first."""

    def __init__(self, answers: Answers, log: DecisionLog, counters: Counters, recorder: Recorder | None) -> None:
        self.recorder = recorder
        self.before: Callable[[], None] | None = None  # done before each round
        # By descriptor, how to read from the connections that wait for a request, none of it read yet.
        self.readable: dict[int, tuple[Callable[[int], bytes], Connection]] = {}
        self._answers = answers
        self._log = log
        self._counters = counters

    def work_off(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Reads and answers the requests of one round of events; returns the events that are something else.

        First all are read and decided, then all answers go out, so that a peer that waits for several is woken once.
        Then they are logged.
        """
        if self.before is not None:
            self.before()
        readable, answer = self.readable, self._answers.usual.answer
        others: list[tuple[int, int]] = []
        connections: list[Connection] = []
        answered: list[UsualAnswer] = []
        taken: list[bytes] = []
        failed: Exception | None = None  # on the short way
        began = time.perf_counter_ns()
        try:
            for event in events:
                descriptor, kind = event
                waiting = readable.get(descriptor)
                if waiting is None or kind != EPOLLIN:
                    others.append(event)
                    continue
                receive, connection = waiting
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
                    self._go_the_long_way(connection, data, failed)
                    failed = None  # else it would refer to itself, by its traceback
                    continue
                connections.append(connection)
                answered.append(usual)
                if self.recorder is not None:
                    taken.append(data)
        finally:  # a request that was read gets its answer: the next one on its connection would take it for its own
            if answered:
                self._finish_round(connections, answered, began)
                self.keep(taken)
        return others

    def _finish_round(self, connections: list[Connection], answered: list[UsualAnswer], began: int) -> None:
        broken: list[Exception] = []
        for connection, usual in zip(connections, answered, strict=True):
            try:
                connection.send(usual[0])
            except Exception as error:  # noqa: BLE001 - a bug about one connection must not cost the others
                connection.close()
                broken.append(error)
        self._counters.timed(time.perf_counter_ns() - began, len(answered))
        self._answers.record_usual(answered)
        while broken:
            self._bug("internal error: an answer was not sent", broken.pop(0))

    def _go_the_long_way(self, connection: Connection, data: bytes, error: Exception | None) -> None:
        """`error`: why the short one failed. Where this one does not, nobody else would tell of it."""
        known = self._counters.internal_errors
        try:
            connection.dataReceived(data)
        except Exception as another:  # noqa: BLE001 - as Twisted: a bug is logged and ends the connection
            connection.abort()
            self._bug("internal error: the connection is closed", another)
        if error is not None and self._counters.internal_errors == known:
            self._answers.short_way_failed(error)

    def _bug(self, text: str, error: Exception) -> None:
        self._counters.internal_errors += 1
        self._log.internal_error(text, error)

    def keep(self, taken: list[bytes]) -> None:
        """Records the requests that were taken, and empties the list."""
        if self.recorder is not None:
            for data in taken:
                self.recorder.record(data)
        taken.clear()
