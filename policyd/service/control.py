"""The control socket: commands of administrators to the running service (SPEC 8; its language is `protocol.control`).

The socket's mode says who may connect. Whoever does costs no answer its time: what takes long runs in a thread, one
command of a kind at a time, with a snapshot of the rules of its own, and an answer is written as fast as it is read.
What a peer says is never logged.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd.config.effective import settings_table
from policyd.config.tables import is_name
from policyd.explain.telling import Told, told
from policyd.explain.walk import explain
from policyd.policy.model import Provider
from policyd.policy.ruleset import RuleSet
from policyd.protocol.control import END, LONGEST_REQUEST, VERSION, decode, encode
from policyd.protocol.request import Request
from policyd.service.decision_log import DecisionLog
from policyd.service.reactor import in_thread
from policyd.service.reloads import Outcome, Reloads

UNIX_MODE = 0o660
MOST_CONNECTIONS = 16  # at a time; they share the descriptors with Postfix's
_PATIENCE = 30.0  # seconds for a request to arrive, or for what was written to be taken
_LONGEST_ANSWER = 600.0  # seconds, from its first octet on: so long it keeps old rules from being overwritten
_PIECE = 1 << 18  # octets that are written at a time

Asked = Mapping[str, Any]


class Refused(Exception):
    """There is no answer; the text says why, the code is what the command exits with."""

    def __init__(self, why: str, code: int = os.EX_DATAERR) -> None:
        super().__init__(why)
        self.code = code


class Command(NamedTuple):
    """`answer` gives whole lines; what it refuses it refuses before the first. `at_once`: how many of it may run."""

    answer: Callable[[Asked], AsyncGenerator[bytes, None]]
    at_once: int = 1


class Commands:
    """What can be asked for. `reload`: as for SIGHUP; it may raise Refused."""

    def __init__(self, reactor: Any, reload: Callable[[], Deferred[Outcome]], reloads: Reloads) -> None:
        self._reactor = reactor
        self._reload = reload
        self._reloads = reloads

    def table(self) -> dict[str, Command]:
        """All of them, by name."""
        return {
            "reload": Command(self.reload, at_once=MOST_CONNECTIONS),  # all that wait may wait for the same one
            "explain": Command(self.explain),
            "show": Command(self.show),
        }

    async def reload(self, _: Asked) -> AsyncGenerator[bytes, None]:
        """What came of it, then the errors and warnings."""
        outcome = await self._reload()
        yield encode({"in_force": outcome.in_force, "said": outcome.said})
        for problem in outcome.problems:
            if problem.severity != "note":
                yield encode(asdict(problem))

    async def explain(self, asked: Asked) -> AsyncGenerator[bytes, None]:
        """A line that holds what `policyd explain` tells."""
        request, provider = _request(asked), self._reloads.configuration.provider
        verifiable = bool(asked.get("verifiable", True))
        yield encode(await in_thread(self._reactor, self._told, request, provider, verifiable))

    def _told(self, request: Request, provider: Provider, verifiable: bool) -> Told:
        rules = RuleSet(self._reloads.snapshot())
        return told(explain(rules, request, provider, verifiable=verifiable), request)

    async def show(self, asked: Asked) -> AsyncGenerator[bytes, None]:
        """The settings, nothing of them where organizations are named; then an organization on each line."""
        names = asked.get("organizations", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Refused("the organizations are no list of names")
        settings = {} if names else settings_table(self._reloads.configuration)
        pieces = await in_thread(self._reactor, self._pieces, sorted(set(names)))
        yield encode(settings)
        while piece := await in_thread(self._reactor, next, pieces, b""):
            yield piece

    def _pieces(self, names: list[str]) -> Iterator[bytes]:
        """Lines of some organizations, or of all. Raises Refused for one that is not there."""
        rules = self._reloads.snapshot()
        if not names:
            return _together(rules.written())
        found = {name: rules.written_one(name) if is_name(name) else None for name in names}
        if missing := [name for name, line in found.items() if line is None]:
            raise Refused(f'there is no organization "{missing[0]}"')
        return _together(line for line in found.values() if line is not None)


def _request(asked: Asked) -> Request:
    """The request of a question. Raises Refused."""
    given = asked.get("request")
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise Refused("the request is no object of texts")
    return Request(**{name: given[name] for name in Request._fields if name in given})


def _together(lines: Iterable[str]) -> Iterator[bytes]:
    """The lines, as many at a time as are worth a turn of a thread."""
    piece = bytearray()
    for line in lines:
        piece += line.encode("ascii") + b"\n"
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


class Control(Factory):
    """The connections of the socket."""

    def __init__(self, reactor: Any, commands: Mapping[str, Command], log: DecisionLog) -> None:
        self.reactor = reactor
        self.commands = commands
        self.log = log
        self.turns = {name: DeferredSemaphore(command.at_once) for name, command in commands.items()}
        self.open = 0

    def buildProtocol(self, addr: object) -> Protocol | None:
        """None where there are too many: it is closed at once."""
        return _Peer(self) if self.open < MOST_CONNECTIONS else None


class _Gone(Exception):
    """Nobody waits for the answer any more."""


@implementer(IPushProducer)
class _Peer(Protocol):
    """One connection, one question."""

    transport: Any

    def __init__(self, control: Control) -> None:
        self._control = control
        self._received = bytearray()
        self._asked = False
        self._gone = False
        self._taken: Deferred[None] | None = None  # fires when what was written has been taken
        self._patience: Any = None  # timers that end the connection: of what is waited for,
        self._end: Any = None  # and of the whole answer

    def connectionMade(self) -> None:
        """The question is due."""
        self._control.open += 1
        self._wait(_PATIENCE)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """More of the question; what comes after its line is dropped."""
        if self._asked:
            return
        self._received += data
        if b"\n" in data or len(self._received) > LONGEST_REQUEST:
            self._asked = True
            self._wait(None)
            line, _, _ = bytes(self._received).partition(b"\n")
            self._received.clear()
            ensureDeferred(self._answer(line))

    async def _answer(self, line: bytes) -> None:
        try:
            command, asked = self._command(line)
            async with self._control.turns[command]:
                if not self._gone:
                    await self._tell(self._control.commands[command].answer(asked))
        except Refused as refused:
            self._refuse(str(refused), refused.code)
        except _Gone:
            pass
        except Exception as error:  # noqa: BLE001 - a bug, which costs this answer only
            self._control.log.internal_error("internal error", error)
            self._refuse("internal error", os.EX_SOFTWARE)

    def _command(self, line: bytes) -> tuple[str, Asked]:
        """What is asked for. Raises Refused."""
        if len(line) > LONGEST_REQUEST:
            raise Refused("the question is too long")
        try:
            asked = decode(line)
        except ValueError as error:
            raise Refused(str(error)) from None
        command = asked.get("command")
        if not isinstance(command, str) or command not in self._control.commands:
            raise Refused("this service has no such command", os.EX_UNAVAILABLE)
        return command, asked

    async def _tell(self, lines: AsyncGenerator[bytes, None]) -> None:
        before = encode({"policyd": VERSION})
        async for piece in lines:
            await self._send(before + piece)
            before = b""
        await self._send(before + END)
        self._close()

    async def _send(self, data: bytes) -> None:
        """Writes, and waits where the peer is slow. Raises _Gone."""
        if self._end is None and not self._gone:
            self._end = self._control.reactor.callLater(_LONGEST_ANSWER, self.transport.abortConnection)
        if not self._gone:
            self.transport.write(data)
        if self._taken is not None:
            self._wait(_PATIENCE)
            await self._taken
            self._wait(None)
        if self._gone:
            raise _Gone

    def _refuse(self, why: str, code: int) -> None:
        if self._gone:
            return
        if self._end is not None:  # in the midst of an answer, which stays without its end
            self.transport.abortConnection()
            return
        self.transport.write(encode({"policyd": VERSION, "error": why, "code": code}) + END)
        self._close()

    def _close(self) -> None:
        self._wait(_PATIENCE)  # for the rest to be taken
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _wait(self, seconds: float | None) -> None:
        """Something of the peer is due within so many seconds; None: nothing is."""
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        if seconds is not None:
            self._patience = self._control.reactor.callLater(seconds, self.transport.abortConnection)

    def pauseProducing(self) -> None:
        """The peer is slower than we are."""
        if self._taken is None:
            self._taken = Deferred()

    def resumeProducing(self) -> None:
        """It has taken everything."""
        taken, self._taken = self._taken, None
        if taken is not None:
            taken.callback(None)

    def stopProducing(self) -> None:
        """It is gone; connectionLost follows."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody waits any more, and what runs for him ends with its next piece."""
        self._control.open -= 1
        self._gone = True
        self._wait(None)
        if self._end is not None and self._end.active():
            self._end.cancel()
        self.resumeProducing()
