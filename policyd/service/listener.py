"""One open socket whose connections are taken, over public parts of Twisted (SPEC 8; docs/decisions/012).

It takes several at a time where nobody else listens there, else one at a time and in turn with the other workers. Where
no descriptor is left it waits a moment: what waits to be taken is ready at once, and would fail again. It neither
changes nor removes a socket's file, and never shuts the socket down, which others may have as well.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocolFactory, IReadDescriptor
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd.service.sockets import BACKLOG
from policyd.service.turns import Turns

AT_ONCE = 16  # connections; then requests that have arrived have their turn
AWAKE = 500_000  # nanoseconds to look on while another worker is to take a connection; then this one sleeps
LOOK_SECONDS = 0.001  # between two looks from then on
PAUSE_SECONDS = 0.1  # between two tries to take a connection where no descriptor is left
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_GONE = (errno.ECONNABORTED, errno.ENOTCONN, errno.EPERM)  # the peer did not wait, or a firewall does not let it


@implementer(IReadDescriptor)
class Listener:
    """Takes the connections of `opened`, which is its own from now on, for the factory.

    `turns`: others take connections of the same socket. `none_left` is called for each try without a descriptor left.
    """

    def __init__(
        self,
        reactor: Any,
        opened: socket.socket,
        factory: IProtocolFactory,
        turns: Turns | None = None,
        none_left: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self._socket = opened
        self._factory = factory
        self._turns = turns
        self._none_left = none_left
        self._open = True
        factory.doStart()
        reactor.addReader(self)

    def doRead(self) -> None:
        """A connection waits, if nobody else has taken it meanwhile."""
        if self._turns is None:
            for _ in range(AT_ONCE):
                if not self._take():
                    break
        elif self._turns.mine():
            self._take()
        elif self._turns.waited > AWAKE:  # the worker whose turn it is may wait for this processor
            self._pause(LOOK_SECONDS)

    def _take(self) -> bool:
        """Takes one connection; false where none waits or none can be taken now."""
        try:
            connection, _ = self._socket.accept()
            with connection:  # the reactor has a duplicate
                connection.setblocking(False)
                self._reactor.adoptStreamConnection(connection.fileno(), connection.family, self._factory)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _GONE:
                return True
            self._pause(PAUSE_SECONDS)
            if error.errno in _NONE_LEFT:
                self._none_left()
            else:
                log.err()
            return False
        except Exception:  # noqa: BLE001 - a bug about one connection must not cost the others
            log.err()
        return True

    def take_waiting(self) -> None:
        """At the end: takes all that the kernel has accepted already; they would be reset otherwise."""
        for _ in range(BACKLOG):
            if not self._take():
                break

    def _pause(self, seconds: float) -> None:
        self._reactor.removeReader(self)
        self._reactor.callLater(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._open:
            self._reactor.addReader(self)

    def stop(self) -> None:
        """Takes no more connections. Those that it took stay."""
        if self._open:
            self._open = False
            self._reactor.removeReader(self)
            self._socket.close()
            self._factory.doStop()

    def fileno(self) -> int:
        """The socket's."""
        return self._socket.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, or gave the descriptor up."""
        self.stop()

    def logPrefix(self) -> str:
        """For Twisted's own log."""
        return "listener"
