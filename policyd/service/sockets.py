"""Listening where `[service] listen` says, in Postfix notation (SPEC 4 and 8).

All sockets are opened here and then adopted by Twisted, so that one process and several workers, and
sockets that systemd passes on, go the same way. Twisted's own unix ports would change the mode of a
socket file that is not theirs, and remove it at the end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IReactorSocket
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from policyd.config.settings import Endpoint
from policyd.service.turns import Crowding

BACKLOG = 4096  # the kernel's own limit, somaxconn, applies


class CannotListen(Exception):
    """No listener there; the text says where and why."""


AWAKE = 500_000  # nanoseconds to look on while another worker is to take a connection; then this one sleeps
LOOK_SECONDS = 0.001  # between two looks from then on


def open_sockets(
    endpoint: Endpoint, unix_mode: int, passed: list[tuple[int, str]], copies: int = 1
) -> list[list[socket.socket]]:
    """The listening sockets of one entry of `listen`: for each address, `copies` sockets that share it.

    Copies are the same socket: whoever takes a connection first has it. Raises CannotListen.
    """
    try:
        if endpoint.kind == "inet":
            return [_shared(_tcp_listener(family, address), copies) for family, address in _resolved(endpoint)]
        if endpoint.kind == "unix":
            return [_shared(_unix(endpoint.path, unix_mode), copies)]
        return [_shared(known, copies) for known in _passed(endpoint.path, passed)]
    except OSError as error:
        raise CannotListen(f"cannot listen on {endpoint}: {error.strerror or error}") from error


def _resolved(endpoint: Endpoint) -> list[tuple[int, tuple[Any, ...]]]:
    found = socket.getaddrinfo(endpoint.host or None, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return sorted({(int(family), address) for family, _, _, _, address in found})


def _tcp_listener(family: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _unix(path: str, mode: int) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody else may connect before the mode is set
    try:
        listener.bind(path)
        os.chmod(path, mode)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _remove_stale(path: str) -> None:
    """Removes a socket file that nobody listens on; leaves anything else for bind() to complain about."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise CannotListen(f"cannot listen on unix:{path}: there is a file that is no socket; remove it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a full backlog says EAGAIN: somebody listens
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return


def remove_unix_socket(listener: socket.socket) -> None:
    """Closes a unix socket that `open_sockets` made and removes its file, unless somebody else listens there now."""
    path = listener.getsockname()
    listener.close()
    with contextlib.suppress(CannotListen, OSError):
        _remove_stale(path)


def _passed(name: str, passed: list[tuple[int, str]]) -> list[socket.socket]:
    listeners = [socket.socket(fileno=os.dup(descriptor)) for descriptor, its_name in passed if its_name == name]
    if not listeners:
        names = ", ".join(sorted({its_name for _, its_name in passed})) or "none at all"
        raise CannotListen(
            f"cannot listen on systemd:{name}: no such socket was passed on (passed: {names}); "
            f"set FileDescriptorName={name} in the socket unit"
        )
    for listener in listeners:
        listener.setblocking(False)
    return listeners


def _shared(listener: socket.socket, copies: int) -> list[socket.socket]:
    return [listener, *(listener.dup() for _ in range(copies - 1))]


def take_in_turn(reactor: Any, port: Any, crowding: Crowding) -> None:
    """Lets a port take one connection at a time, and only those that are its own: others listen on the same socket.

    Before it takes another one's it sleeps a little, since the worker whose turn it is may wait for this processor.
    """
    take = port.doRead

    def take_one() -> None:
        if crowding.mine():
            port.numberAccepts = 1
            take()
        elif crowding.waited > AWAKE:
            port.stopReading()
            reactor.callLater(LOOK_SECONDS, look_again)

    def look_again() -> None:
        if port.connected:
            port.startReading()

    port.doRead = take_one


def accept_waiting(port: Any) -> None:
    """At the end: takes the connections that the kernel has accepted already; they would be reset otherwise."""
    if getattr(port, "connected", False):
        port.numberAccepts = BACKLOG
        type(port).doRead(port)  # not in turn


def adopt(reactor: IReactorSocket, listener: socket.socket, factory: Factory) -> IListeningPort:
    """A listening port of Twisted's for an open socket; the socket stays the caller's to close."""
    if listener.family == socket.AF_UNIX:
        port = _UnixPort._fromListeningDescriptor(reactor, listener.fileno(), factory)  # type: ignore[no-untyped-call]
        port.startListening()
        adopted: IListeningPort = port
    else:
        adopted = reactor.adoptStreamPort(listener.fileno(), listener.family, factory)  # type: ignore[arg-type]
    return adopted


def as_deferred(result: object) -> Deferred[object]:
    """What `stopListening` returns may be a Deferred or None."""
    return result if isinstance(result, Deferred) else succeed(result)


class _UnixPort(unix.Port):
    """A port for a unix socket that exists: its file is neither changed nor removed."""

    def startListening(self) -> None:
        """As Twisted's, without chmod."""
        known: Any = self
        known.factory.doStart()
        known.socket, known._preexistingSocket = known._preexistingSocket, None
        known._shouldShutdown = False  # shutdown(2) would close it for all who have it
        known.connected = True
        known.fileno = known.socket.fileno
        known.numberAccepts = 100
        known.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """As Twisted's, without unlink."""
        tcp.Port.connectionLost(self, reason)
