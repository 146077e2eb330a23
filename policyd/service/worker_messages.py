"""What the parent and its workers say to each other, over a socket pair of their own (SPEC 8, workers).

Messages are pickled tuples behind their length. Both ends are the same program of the same user, and
nobody else holds the descriptors.

    parent to worker   (number, "serve" | "prepare", parcel, generation), (number, "patch", delta, generation),
                       (number, "check"), (number, "count"), and without an answer
                       (0, "commit" | "abort", generation), (0, "reopen" | "finish")
    worker to parent   (number, True, result) or (number, False, text)

A configuration travels as a parcel: in pieces, since a pickle of a million objects is made and opened in
one step of the interpreter, and nothing else runs meanwhile. What has changed in the database since it was packed lies
beside the pieces; a worker that serves already gets that change alone.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from policyd.config.settings import Configuration

CONTROL_DESCRIPTOR = 3
_LENGTH = struct.Struct("!Q")
_PIECE = 200  # organizations

Parcel = tuple[bytes, list[bytes], tuple[bytes, ...]]  # the settings, the organizations, what changed since


def packed(configuration: Configuration) -> Parcel:
    """A configuration in pieces."""
    organizations = configuration.rules.organizations
    rest = replace(configuration, rules=replace(configuration.rules, organizations=()))
    pieces = [pickle.dumps(organizations[n : n + _PIECE]) for n in range(0, len(organizations), _PIECE)]
    return pickle.dumps(rest), pieces, ()


def with_delta(parcel: Parcel, delta: bytes) -> Parcel:
    """The parcel and one more change."""
    rest, pieces, deltas = parcel
    return rest, pieces, (*deltas, delta)


def unpacked(parcel: Parcel) -> Configuration:
    """The configuration again."""
    rest, pieces, deltas = parcel
    configuration: Configuration = pickle.loads(rest)
    organizations = {organization.name: organization for piece in pieces for organization in pickle.loads(piece)}
    for delta in deltas:
        gone, put = pickle.loads(delta)
        for name in gone:
            organizations.pop(name, None)
        organizations.update((organization.name, organization) for organization in put)
    rules = replace(configuration.rules, organizations=tuple(organizations.values()))
    return replace(configuration, rules=rules)


class Control(Protocol):
    """One end of the line. The buffer grows in place: a parcel has tens of megabytes, and comes in small pieces."""

    def __init__(self, received: Callable[[tuple[Any, ...]], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost
        self._buffer = bytearray()

    def say(self, *message: Any) -> None:
        """Sends one message."""
        data = pickle.dumps(message)
        transport: Any = self.transport
        transport.write(_LENGTH.pack(len(data)) + data)

    def close(self) -> None:
        """Ends the line, at once."""
        transport: Any = self.transport
        transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Hands whole messages on."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < end:
                return
            message = bytes(memoryview(buffer)[_LENGTH.size : end])
            del buffer[:end]
            self._received(pickle.loads(message))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other end is gone."""
        self._lost()
