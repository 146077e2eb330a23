"""What the parent and its workers say to each other, over a socket pair of their own (SPEC 8, workers).

Messages are pickled tuples behind their length. Both ends are the same program of the same user, and
nobody else holds the descriptors.

    parent to worker   (number, "serve", settings, path of the store), (number, "take"), (number, "check"),
                       (number, "count"), and without an answer (0, "reopen" | "finish")
    worker to parent   (number, True, result) or (number, False, text)

The rules do not come this way: all read the same store.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

CONTROL_DESCRIPTOR = 3
_LENGTH = struct.Struct("!Q")


class Control(Protocol):
    """One end of the line."""

    def __init__(self, received: Callable[[tuple[Any, ...]], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost
        self._buffer = bytearray()

    def say(self, *message: Any) -> None:
        """Sends one message."""
        data = pickle.dumps(message)
        transport: Any = self.transport
        transport.write(_LENGTH.pack(len(data)) + data)

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
