"""What the parent and its workers say to each other, over a socket pair of their own (SPEC 8, workers).

Messages are pickled tuples behind their length. Both ends are the same program of the same user, and
nobody else holds the descriptors.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

# Parent to worker: ("serve", configuration, generation), then for a reload ("prepare", configuration, generation)
# and ("commit",) or ("abort",); ("check",) and ("count",); ("reopen",); ("finish",).
# Worker to parent, in the same order: ("listening",) or ("failed", text); ("prepared",) or ("failed", text);
# ("checked", bool); ("counted", snapshot). To commit, abort and reopen there is no answer; finish ends the process.
CONTROL_DESCRIPTOR = 3


class Control(Int32StringReceiver):
    """One end of the line."""

    MAX_LENGTH = 1 << 31

    def __init__(self, received: Callable[[tuple[Any, ...]], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost

    def say(self, *message: Any) -> None:
        """Sends one message."""
        self.sendString(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))  # type: ignore[no-untyped-call]

    def stringReceived(self, string: bytes) -> None:
        """Hands one message on."""
        self._received(pickle.loads(string))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other end is gone."""
        self._lost()
