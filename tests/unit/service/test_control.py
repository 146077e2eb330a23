"""The control socket without a socket: what a peer can send, and how little it costs (SPEC 8)."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from policyd.protocol.control import LONGEST_REQUEST, encode
from policyd.service.control import MOST_CONNECTIONS, Asked, Command, Commands, Control, Refused
from policyd.service.decision_log import DecisionLog
from policyd.service.reloads import Outcome
from tests.helpers.in_memory import ListOutput


class Transport(StringTransport):
    """A connection that remembers how it ended."""

    ended = ""

    def abortConnection(self) -> None:
        self.ended = self.ended or "aborted"

    def loseConnection(self) -> None:
        self.ended = self.ended or "closed"

    @property
    def lines(self) -> list[Any]:
        """What was written; "end" for the mark of the end."""
        return [json.loads(line) if line else "end" for line in self.value().decode("ascii").split("\n")[:-1]]


class Service:
    """A control socket with commands of its own: `slow` answers in two pieces, each when it is let."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.output = ListOutput()
        self.log = DecisionLog(self.output, self.clock)  # type: ignore[arg-type]
        self.waiting: list[Deferred[None]] = []
        commands = {
            "slow": Command(self.slow),
            "many": Command(self.slow, at_once=2),
            "no": Command(self.no),
            "bug": Command(self.bug),
        }
        self.control = Control(self.clock, commands, self.log)

    async def slow(self, asked: Asked) -> AsyncGenerator[bytes, None]:
        for number in range(2):
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await waiting
            yield encode([number, asked.get("name")])

    async def no(self, _: Asked) -> AsyncGenerator[bytes, None]:
        raise Refused("no, not now")
        yield b""

    async def bug(self, _: Asked) -> AsyncGenerator[bytes, None]:
        raise ZeroDivisionError
        yield b""

    def let(self) -> None:
        """What waits goes on."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.callback(None)

    def connect(self) -> tuple[Any, Transport]:
        """A new connection, from our end: its protocol and transport."""
        peer: Any = self.control.buildProtocol(None)
        assert peer is not None
        transport = Transport()
        peer.makeConnection(transport)
        return peer, transport

    def ask(self, command: object, **asked: object) -> tuple[Any, Transport]:
        peer, transport = self.connect()
        peer.dataReceived(encode({"policyd": 1, "command": command, **asked}))
        return peer, transport


@pytest.fixture
def service() -> Service:
    return Service()


def test_an_answer_ends_with_its_mark(service: Service) -> None:
    _, transport = service.ask("slow", name="a")
    assert transport.lines == []
    service.let()
    assert transport.lines == [{"policyd": 1}, [0, "a"]]
    service.let()
    assert (transport.lines, transport.ended) == ([{"policyd": 1}, [0, "a"], [1, "a"], "end"], "closed")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0\xff\x1b[2J",
        b"{",
        b"[" * 100_000,
        b"1" * 5000,
        b"[]",
        b'"policyd"',
        b'{"policyd": 2, "command": "slow"}',
        b'{"command": "slow"}',
        b'{"policyd": 1}',
        b'{"policyd": 1, "command": "SLOW"}',
        b'{"policyd": 1, "command": ["slow"]}',
        b'{"policyd": 1, "command": {}}',
    ],
    ids=lambda line: repr(line[:30]),
)
def test_nonsense_is_refused_and_never_logged(service: Service, line: bytes) -> None:
    peer, transport = service.connect()
    peer.dataReceived(line + b"\nslow\n")
    refusal, end = transport.lines
    assert (refusal["policyd"], end, transport.ended) == (1, "end", "closed")
    assert refusal["error"]
    assert refusal["code"] in (os.EX_DATAERR, os.EX_UNAVAILABLE)
    assert service.output.text() == ""
    assert service.waiting == []


def test_a_question_may_come_octet_by_octet(service: Service) -> None:
    peer, _ = service.connect()
    for octet in encode({"policyd": 1, "command": "slow"}):
        peer.dataReceived(bytes([octet]))
    assert len(service.waiting) == 1


def test_a_question_without_end(service: Service) -> None:
    """It is kept up to the longest that can be asked, and no further."""
    peer, transport = service.connect()
    for _ in range(LONGEST_REQUEST // 1024):
        peer.dataReceived(b"x" * 1024)
    assert transport.ended == ""
    peer.dataReceived(b"x")
    assert (transport.ended, transport.lines[0]["error"]) == ("closed", "the question is too long")
    peer.dataReceived(b"x" * 1024)
    assert len(peer._received) == 0


def test_silence_ends_the_connection(service: Service) -> None:
    peer, transport = service.connect()
    service.clock.advance(29)
    peer.dataReceived(b"{")
    assert transport.ended == ""
    service.clock.advance(1)
    assert transport.ended == "aborted"


def test_who_takes_nothing_is_left(service: Service) -> None:
    """No command waits for a peer without end: the next one of its kind goes on."""
    peer, transport = service.ask("slow", name="a")
    _, next_one = service.ask("slow", name="b")
    peer.pauseProducing()
    service.let()
    service.clock.advance(29)
    assert transport.ended == ""
    service.clock.advance(1)
    assert transport.ended == "aborted"
    peer.connectionLost()
    service.let()
    assert next_one.lines == [{"policyd": 1}, [0, "b"]]


def test_who_takes_little_is_left_in_the_end(service: Service) -> None:
    peer, transport = service.ask("slow")
    service.let()
    for _ in range(599):
        peer.pauseProducing()
        service.clock.advance(1)
        peer.resumeProducing()
    assert transport.ended == ""
    service.clock.advance(1)
    assert transport.ended == "aborted"


def test_a_slow_peer_is_waited_for(service: Service) -> None:
    peer, transport = service.ask("slow", name="a")
    peer.pauseProducing()
    service.let()
    assert (len(service.waiting), transport.lines) == (0, [{"policyd": 1}, [0, "a"]])
    peer.resumeProducing()
    assert len(service.waiting) == 1


def test_one_of_a_kind_at_a_time(service: Service) -> None:
    service.ask("slow", name="a")
    service.ask("slow", name="b")
    service.ask("many", name="c")
    service.ask("many", name="d")
    assert len(service.waiting) == 3


def test_who_is_gone_before_his_turn_costs_nothing(service: Service) -> None:
    _, first = service.ask("slow", name="a")
    gone, _ = service.ask("slow", name="b")
    _, third = service.ask("slow", name="c")
    gone.connectionLost()
    service.let()
    service.let()
    assert first.ended == "closed"
    service.let()
    assert third.lines == [{"policyd": 1}, [0, "c"]]


def test_a_refusal_has_its_reason(service: Service) -> None:
    _, transport = service.ask("no")
    assert transport.lines == [{"policyd": 1, "error": "no, not now", "code": os.EX_DATAERR}, "end"]


def test_a_bug_costs_one_answer(service: Service) -> None:
    _, transport = service.ask("bug")
    assert transport.lines == [{"policyd": 1, "error": "internal error", "code": os.EX_SOFTWARE}, "end"]
    assert "ZeroDivisionError" in service.output.text()
    _, transport = service.ask("no")
    assert transport.ended == "closed"


def test_connections_are_bounded(service: Service) -> None:
    peers = [service.connect()[0] for _ in range(MOST_CONNECTIONS)]
    assert service.control.buildProtocol(None) is None
    peers[0].connectionLost()
    assert service.control.buildProtocol(None) is not None


async def _collected(lines: AsyncGenerator[bytes, None]) -> list[bytes]:
    return [line async for line in lines]


def refusal(ask: Callable[[Asked], AsyncGenerator[bytes, None]], asked: Asked) -> str:
    """Why a command of the service refuses what it is asked, before it looks at anything."""
    failed: list[Any] = []
    Deferred.fromCoroutine(_collected(ask(asked))).addErrback(failed.append)
    (failure,) = failed
    assert failure.check(Refused), failure
    return str(failure.value)


@pytest.mark.parametrize("request_", [None, [], "sender=", {"sender": 1}, {"sender": None}, {"recipient": ["x"]}])
def test_requests_that_are_none(request_: object) -> None:
    commands = Commands(None, lambda: Deferred[Outcome](), None)  # type: ignore[arg-type]
    assert refusal(commands.explain, {"request": request_}) == "the request is no object of texts"


@pytest.mark.parametrize("names", [None, "contoso", {"contoso": 1}, [1], [["contoso"]], [None]])
def test_names_that_are_none(names: object) -> None:
    commands = Commands(None, lambda: Deferred[Outcome](), None)  # type: ignore[arg-type]
    assert refusal(commands.show, {"organizations": names}) == "the organizations are no list of names"
