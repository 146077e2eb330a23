"""The protocol class in memory: whole conversations on a string transport, and on a real one whose socket is narrow."""

from __future__ import annotations

import gc
import select
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from twisted.internet.testing import StringTransport

from policyd.service import answers, short_way
from policyd.service.server import PolicyProtocol
from tests.helpers.conversation import actions, question
from tests.helpers.in_memory import Connection, InMemory, NarrowSocket, connected

MAIL = {"client_address": "203.0.113.5", "sender": "kate@contoso.com"}
OURS = question(**MAIL)
STRANGERS = question(instance="a.b")
REFUSAL = (
    "REJECT 5.7.1 Relaying denied for this server: "
    "its address is not registered and it showed no registered client certificate (ref a.b)"
)
DATA = question(protocol_state="DATA")

# What a peer sends, the answers it gets, and whether the server closes the connection.
CONVERSATIONS: dict[str, tuple[bytes, list[str], bool]] = {
    "nothing": (b"", [], False),
    "one request": (OURS, ["OK"], False),
    "three kinds": (OURS + STRANGERS + DATA, ["OK", REFUSAL, "DUNNO"], False),
    "half a request": (OURS[:200], [], False),
    "one and a half": (OURS + STRANGERS[:-1], ["OK"], False),
    "an empty line": (b"\n", [], True),
    "an empty line behind a request": (OURS + b"\n", ["OK"], True),
    "nonsense": (b"nonsense\n", [], True),
    "nonsense without an end": (b"nonsense", [], False),
    "answers before the nonsense": (OURS + STRANGERS + b"nonsense\n" + OURS, ["OK", REFUSAL], True),
    "CRLF": (OURS.replace(b"\n", b"\r\n"), [], True),
    "a NUL": (OURS + OURS.replace(b"kate", b"k\0te"), ["OK"], True),
    "another kind of request": (OURS.replace(b"smtpd_access_policy", b"other"), [], True),
}


def string_conversation(memory: InMemory) -> tuple[Any, StringTransport]:
    protocol = memory.factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)  # type: ignore[union-attr]
    return protocol, transport


@pytest.mark.parametrize("piece", [1 << 20, 100, 1])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation(name: str, piece: int) -> None:
    sent, answers, closed = CONVERSATIONS[name]
    memory = InMemory()
    protocol, transport = string_conversation(memory)
    for start in range(0, len(sent), piece):
        protocol.dataReceived(sent[start : start + piece])
    assert actions(transport.value()) == answers
    assert transport.disconnecting == closed
    assert memory.counters.protocol_errors == closed
    assert memory.logged().count("protocol error") == closed
    assert sum(memory.counters.answers.values()) == len(answers)


@pytest.mark.parametrize("kind", [socket.socket, NarrowSocket])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation_on_a_real_transport(name: str, kind: type[socket.socket]) -> None:
    """A socket that takes ten bytes at a time changes nothing: the same answers, then closed or not."""
    sent, answers, closed = CONVERSATIONS[name]
    memory = InMemory()
    with connected(memory.factory, kind) as connection:
        connection.peer.sendall(sent)
        assert actions(connection.received(200)) == answers
        assert bool(memory.factory.open) != closed


# --- a peer that is slow to take its answers ------------------------------------------------------------------------


def test_nothing_is_read_while_answers_wait() -> None:
    memory = InMemory()
    with connected(memory.factory, NarrowSocket) as connection:
        connection.peer.sendall(STRANGERS)
        connection.turn()
        connection.peer.sendall(OURS)
        assert memory.factory.rounds.readable == {}
        assert sum(memory.counters.answers.values()) == 1
        for _ in range(5):  # it writes, ten bytes at a time
            connection.turn()
            assert sum(memory.counters.answers.values()) == 1
        assert actions(connection.received(200)) == [REFUSAL, "OK"]
        assert list(memory.factory.rounds.readable) == [connection.socket.fileno()]
        connection.peer.sendall(OURS * 3)  # and again, after the backlog is gone
        assert actions(connection.received(200)) == ["OK"] * 3


def test_an_idle_connection_is_never_closed() -> None:
    """Closing it would cost Postfix one of its two tries: there is no timer that could."""
    memory = InMemory()
    with connected(memory.factory) as connection:
        connection.peer.sendall(OURS + STRANGERS[:100])
        assert actions(connection.received(20)) == ["OK"]
        assert connection.reactor.getDelayedCalls() == []
        memory.clock.advance(2000)
        assert memory.factory.open


def test_answers_stay_in_order_on_a_narrow_socket() -> None:
    memory = InMemory()
    with connected(memory.factory, NarrowSocket) as connection:
        asked = [question(instance=f"1.{number}") for number in range(40)]
        connection.peer.sendall(b"".join(asked))
        replies = actions(connection.received())
    assert [reply.rpartition(" (ref ")[2] for reply in replies] == [f"1.{number})" for number in range(40)]


def test_it_closes_after_the_last_answer_not_before() -> None:
    memory = InMemory()
    with connected(memory.factory, NarrowSocket) as connection:
        connection.peer.sendall(STRANGERS + b"nonsense\n")
        connection.turn(2)
        assert memory.factory.open, "answers are still to be written"
        assert actions(connection.received()) == [REFUSAL]
        assert not memory.factory.open


def test_half_close_with_answers_waiting() -> None:
    memory = InMemory()
    with connected(memory.factory, NarrowSocket) as connection:
        connection.peer.sendall(STRANGERS * 2)
        connection.peer.shutdown(socket.SHUT_WR)
        assert actions(connection.received()) == [REFUSAL] * 2
        assert not memory.factory.open


@pytest.mark.parametrize("error", [ConnectionResetError, BrokenPipeError, TimeoutError])
def test_a_peer_that_is_gone(error: type[OSError]) -> None:
    class GoneSocket(socket.socket):
        def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
            raise error(1, "gone")

    memory = InMemory()
    with connected(memory.factory, GoneSocket) as connection:
        connection.peer.sendall(OURS + STRANGERS)
        connection.turn(3)
        assert not memory.factory.open
    assert memory.counters.internal_errors == 0
    assert "Traceback" not in memory.logged()


# --- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [socket.socket, NarrowSocket])
def test_finish_answers_what_has_arrived(kind: type[socket.socket]) -> None:
    """Whole requests that the reactor has not read yet are read, answered, and then it closes."""
    memory = InMemory()
    with connected(memory.factory, kind) as connection:
        connection.peer.sendall(STRANGERS * 20 + OURS[:300])
        finished: list[None] = []
        memory.factory.finish().addCallback(finished.append)
        replies = actions(connection.received())
        assert replies == [REFUSAL] * 20
        assert finished == [None]
        assert not memory.factory.open


def test_finish_while_answers_wait() -> None:
    memory = InMemory()
    with connected(memory.factory, NarrowSocket) as connection:
        connection.peer.sendall(STRANGERS)
        connection.turn()
        connection.peer.sendall(OURS)
        memory.factory.finish()
        assert actions(connection.received()) == [REFUSAL, "OK"]
        assert not memory.factory.open


def test_finish_after_an_error_of_the_peer() -> None:
    memory = InMemory()
    with connected(memory.factory, NarrowSocket) as connection:
        connection.peer.sendall(STRANGERS + b"nonsense\n" + OURS)
        connection.turn()
        finished: list[None] = []
        memory.factory.finish().addCallback(finished.append)
        assert actions(connection.received()) == [REFUSAL]
        assert finished == [None]
    assert memory.counters.protocol_errors == 1


def test_finish_is_over_when_the_last_connection_is() -> None:
    memory = InMemory()
    first, second = string_conversation(memory)[0], string_conversation(memory)[0]
    finished: list[None] = []
    memory.factory.finish().addCallback(finished.append)
    first.connectionLost()
    assert finished == []
    second.connectionLost()
    assert finished == [None]


def test_finish_without_connections() -> None:
    finished: list[None] = []
    InMemory().factory.finish().addCallback(finished.append)
    assert finished == [None]


def test_abort_closes_at_once() -> None:
    memory = InMemory()
    with connected(memory.factory, NarrowSocket) as connection:
        connection.peer.sendall(STRANGERS)
        connection.turn()
        memory.factory.abort()
        connection.turn(2)
        assert not memory.factory.open


# --- the factory ----------------------------------------------------------------------------------------------------


def test_too_many_connections() -> None:
    memory = InMemory(max_connections=2)
    first = string_conversation(memory)
    string_conversation(memory)
    assert memory.factory.buildProtocol(None) is None
    assert memory.logged().count("more than 2 connections") == 1
    assert memory.counters.connections_refused == 1
    first[0].connectionLost()
    assert memory.factory.buildProtocol(None) is not None
    assert memory.counters.connections_accepted == 4


class ListRecorder:
    def __init__(self) -> None:
        self.requests: list[bytes] = []

    def record(self, data: bytes) -> None:
        self.requests.append(data)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("piece", [1 << 20, 333, 1])
def test_the_recorder_gets_each_whole_request_as_it_was(piece: int) -> None:
    recorder = ListRecorder()
    protocol, _ = string_conversation(InMemory(recorder=recorder))
    sent = OURS + STRANGERS + DATA + b"nonsense\n"
    for start in range(0, len(sent), piece):
        protocol.dataReceived(sent[start : start + piece])
    assert recorder.requests == [OURS, STRANGERS, DATA]


def test_one_log_line_for_each_decision_and_none_for_other_states() -> None:
    memory = InMemory()
    protocol, _ = string_conversation(memory)
    protocol.dataReceived(OURS + DATA + STRANGERS)
    assert memory.output.text() == "", "lines are written in batches, after the replies"
    memory.clock.advance(1)
    assert [line.split(" ")[1] for line in memory.output.text().splitlines()] == ["action=OK", "action=REJECT"]


def test_the_real_transport_reads_in_small_pieces() -> None:
    """What is read at once bounds the answers that can pile up for one peer."""
    memory = InMemory()
    with connected(memory.factory) as connection:
        assert isinstance(connection, Connection)
        assert connection.transport.bufferSize <= 8192


@contextmanager
def round_of(memory: InMemory, count: int) -> Iterator[list[Connection]]:
    """Connections on one reactor, each with a request that has arrived."""
    with connected(memory.factory) as first:
        others = [Connection(memory.factory, first.reactor, socket.socket) for _ in range(count - 1)]
        for connection in (first, *others):
            connection.peer.sendall(OURS)
        yield [first, *others]
        for connection in others:
            connection.peer.close()
            connection.transport.abortConnection()


def test_the_answers_of_a_round_go_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are read and decided before the first is sent, and logged after the last."""
    memory = InMemory()
    done: list[str] = []

    def noted(what: str, function: Any) -> Any:
        return lambda *arguments: (done.append(what), function(*arguments))[1]

    monkeypatch.setattr(memory.answers.usual, "answer", noted("decide", memory.answers.usual.answer))
    monkeypatch.setattr(PolicyProtocol, "send", noted("send", PolicyProtocol.send))
    monkeypatch.setattr(memory.log, "add", noted("log", memory.log.add))
    with round_of(memory, 3) as connections:
        connections[0].turn()
        assert done == ["decide"] * 3 + ["send"] * 3 + ["log"]
        assert [connection.peer.recv(100) for connection in connections] == [b"action=OK\n\n"] * 3
    assert sum(memory.counters.answers.values()) == sum(memory.counters.latency.values()) == 3
    assert memory.logged().count("\n") == 3


def test_each_connection_of_a_round_gets_its_own_answer() -> None:
    memory = InMemory()
    with round_of(memory, 6) as connections:
        for connection in connections:
            assert actions(connection.received(3)) == ["OK"]
        asked = [question(instance="1.1"), OURS, DATA, question(instance="1.2"), question(instance="1.3")[:99], OURS]
        for connection, request in zip(connections, asked, strict=True):
            connection.peer.sendall(request)
        connections[0].turn()
        replies = [actions(connection.received(3)) for connection in connections]
    ended = REFUSAL.removesuffix("a.b)")
    assert replies == [[f"{ended}1.1)"], ["OK"], ["DUNNO"], [f"{ended}1.2)"], [], ["OK"]]


def test_a_connection_that_was_reset_is_ended() -> None:
    class ResetSocket(socket.socket):
        def recv(self, *arguments: Any) -> bytes:  # type: ignore[override]
            raise ConnectionResetError(104, "reset")

    memory = InMemory()
    with connected(memory.factory, ResetSocket) as connection:
        connection.peer.sendall(OURS)
        connection.turn(3)
        assert not memory.factory.open


@pytest.mark.parametrize("place", ["answer", "send"])
def test_a_bug_leaves_no_circle(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload freezes what the garbage collector would look at, and a frozen circle stays for ever."""

    class OurBugError(Exception):
        pass

    bugs: list[weakref.ref[Exception]] = []

    def made() -> Exception:
        bug = OurBugError()
        bugs.append(weakref.ref(bug))
        return bug

    def broken(*_: object) -> None:
        raise made()

    memory = InMemory()
    monkeypatch.setattr(*((memory.answers.usual, "answer") if place == "answer" else (PolicyProtocol, "send")), broken)
    gc.disable()
    try:
        with round_of(memory, 3) as connections:
            connections[0].turn()
            assert [bug() for bug in bugs] == [None] * 3
    finally:
        gc.enable()


def test_a_bug_about_one_connection_costs_the_others_of_the_round_nothing() -> None:
    memory = InMemory()

    def broken(data: bytes) -> None:
        raise RuntimeError("a bug")

    with round_of(memory, 3) as connections:
        connections[1].protocol.send = broken  # type: ignore[method-assign]
        assert [actions(connection.received(5)) for connection in connections] == [["OK"], [], ["OK"]]
        assert len(memory.factory.open) == 2
    assert "a bug" in memory.logged()
    assert memory.counters.internal_errors == 1


def test_a_bug_on_the_short_way_leads_to_the_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, and counted."""
    memory = InMemory()
    monkeypatch.setattr(memory.answers.usual, "answer", lambda data: {}["of ours"])
    with round_of(memory, 3) as connections:
        assert [actions(connection.received(5)) for connection in connections] == [["OK"]] * 3
    assert sum(memory.counters.answers.values()) == memory.logged().count("action=OK") == 3
    assert memory.counters.internal_errors == 3
    assert memory.logged().count("Traceback") == 1


def test_what_ends_a_round_costs_no_answer_of_it() -> None:
    """An answer that is lost would leave its peer waiting, or give it the answer to its next request instead."""
    memory = InMemory()

    def no_memory(size: int) -> bytes:
        raise MemoryError

    with round_of(memory, 3) as connections:
        events = [(connection.socket.fileno(), select.EPOLLIN) for connection in connections]
        memory.factory.rounds.readable[events[1][0]] = no_memory, connections[1].protocol
        with pytest.raises(MemoryError):
            memory.factory.rounds.work_off(events)
        assert connections[0].peer.recv(100) == b"action=OK\n\n"
        memory.factory.rounds.readable[events[1][0]] = connections[1].socket.recv, connections[1].protocol
        assert [actions(connection.received(5)) for connection in connections] == [[], ["OK"], ["OK"]]
    assert memory.logged().count("action=OK") == 3


def test_a_recorder_that_fails_costs_no_answer() -> None:
    class BrokenRecorder(ListRecorder):
        def record(self, data: bytes) -> None:
            raise MemoryError

    memory = InMemory(recorder=BrokenRecorder())
    with round_of(memory, 3) as connections:
        with pytest.raises(MemoryError):
            connections[0].turn()
        assert [connection.peer.recv(100) for connection in connections] == [b"action=OK\n\n"] * 3
    assert memory.logged().count("action=OK") == 3


def test_the_recorder_gets_what_goes_the_short_way() -> None:
    recorder = ListRecorder()
    memory = InMemory(recorder=recorder)
    with round_of(memory, 2) as connections:
        assert [actions(connection.received(5)) for connection in connections] == [["OK"]] * 2
        connections[0].peer.sendall(STRANGERS)
        assert actions(connections[0].received(5)) == [REFUSAL]
    assert recorder.requests == [OURS, OURS, STRANGERS]


def test_a_recipient_that_fails_on_the_short_way_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by both ways, it would stand for another one that was refused (SPEC 3.5)."""
    memory = InMemory()
    memory.log.domain_only = True
    memory.answers.put_in_force(memory.answers.rules, header_name="X-Hub-Origin")
    monkeypatch.setattr(short_way, "_hidden", lambda local_part: {}["of ours"])
    with connected(memory.factory) as connection:
        connection.peer.sendall(OURS)
        assert actions(connection.received(5)) == ["OK"]
        for count, expected in (("2", "DUNNO"), ("1", "PREPEND")):
            data = question(**MAIL, protocol_state="DATA", recipient_count=count)
            connection.peer.sendall(data)
            assert [action.split()[0] for action in actions(connection.received(5))] == [expected]


def test_a_bug_on_both_ways_defers(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemory()
    monkeypatch.setattr(answers, "decide", lambda rules, request: {}["of ours"])
    with round_of(memory, 3) as connections:
        replies = [actions(connection.received(5)) for connection in connections]
    assert [reply[0].split()[0] for reply in replies] == ["DEFER"] * 3
    assert dict(memory.counters.answers) == {("DEFER", "internal-error"): 3}
    assert memory.counters.internal_errors == 3


def test_a_bug_in_reading_ends_that_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemory()
    with round_of(memory, 3) as connections:
        connections[1].peer.sendall(b"and more")
        monkeypatch.setattr(connections[1].protocol, "dataReceived", lambda data: {}["of ours"])
        assert [actions(connection.received(5)) for connection in connections] == [["OK"], [], ["OK"]]
        assert len(memory.factory.open) == 2
    assert "of ours" in memory.logged()
    assert memory.counters.internal_errors == 1


@pytest.mark.parametrize("kind", [socket.socket, NarrowSocket])
def test_the_short_way_is_left_while_a_request_is_half_read(kind: type[socket.socket]) -> None:
    """What looks like a whole request may be the rest of one that has begun."""
    memory = InMemory()
    with connected(memory.factory, kind) as connection:
        for _ in range(3):
            connection.peer.sendall(OURS[:-1] + b"x=")
            connection.turn()
            assert memory.factory.rounds.readable == {}
            connection.peer.sendall(STRANGERS)
            assert actions(connection.received(50)) == ["OK"], "the first value counts"
            assert list(memory.factory.rounds.readable) == [connection.socket.fileno()]
            connection.peer.sendall(STRANGERS)
            assert actions(connection.received(50)) == [REFUSAL]


def test_a_connection_that_is_to_be_closed_is_not_read() -> None:
    memory = InMemory()
    with connected(memory.factory) as connection:
        connection.peer.sendall(OURS)
        connection.protocol.close()
        assert memory.factory.rounds.readable == {}
        assert actions(connection.received(50)) == []
    assert not memory.counters.answers


def test_nothing_of_a_connection_stays_when_it_is_gone() -> None:
    memory = InMemory()
    with connected(memory.factory) as connection:
        connection.peer.sendall(OURS)
        assert actions(connection.received(5)) == ["OK"]
        connection.peer.close()
        connection.turn(2)
        assert memory.factory.rounds.readable == {}
        assert not memory.factory.open
