"""Listening where `[service] listen` says: Postfix notation to Twisted's endpoints (SPEC 4 and 8)."""

from __future__ import annotations

import os
import socket
import stat

from twisted.internet.interfaces import IListeningPort, IReactorCore
from twisted.internet.protocol import Factory

from policyd.config.settings import Endpoint

BACKLOG = 4096  # the kernel's own limit, somaxconn, applies


class CannotListen(Exception):
    """No listener there; the text says where and why."""


async def listen(
    reactor: IReactorCore, endpoint: Endpoint, factory: Factory, unix_mode: int, passed: list[tuple[int, str]]
) -> list[IListeningPort]:
    """All listening ports for one entry of `listen`. Raises CannotListen."""
    try:
        if endpoint.kind == "inet":
            return [await _inet(reactor, family, host, endpoint.port, factory) for family, host in _resolved(endpoint)]
        if endpoint.kind == "unix":
            return [await _unix(reactor, endpoint.path, factory, unix_mode)]
        return await _passed(reactor, endpoint.path, factory, passed)
    except CannotListen:
        raise
    except Exception as error:  # Twisted and the resolver raise various kinds; all mean the same here
        raise CannotListen(f"cannot listen on {endpoint}: {error}") from error


def _resolved(endpoint: Endpoint) -> list[tuple[int, str]]:
    found = socket.getaddrinfo(endpoint.host or None, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return sorted({(int(family), str(address[0])) for family, _, _, _, address in found})


async def _inet(reactor: IReactorCore, family: int, host: str, port: int, factory: Factory) -> IListeningPort:
    from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint

    kind = TCP6ServerEndpoint if family == socket.AF_INET6 else TCP4ServerEndpoint
    listening: IListeningPort = await kind(reactor, port, BACKLOG, host).listen(factory)  # type: ignore[no-untyped-call]
    return listening


async def _unix(reactor: IReactorCore, path: str, factory: Factory, mode: int) -> IListeningPort:
    from twisted.internet.endpoints import UNIXServerEndpoint

    _remove_stale(path)
    before = os.umask(0o177)  # the socket must not be open to others until its mode is set
    try:
        listening: IListeningPort = await UNIXServerEndpoint(reactor, path, BACKLOG, mode).listen(factory)
        return listening
    finally:
        os.umask(before)


def _remove_stale(path: str) -> None:
    """Removes a socket file that nobody listens on; leaves anything else for bind() to complain about."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise CannotListen(f"cannot listen on unix:{path}: there is a file that is no socket; remove it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


async def _passed(
    reactor: IReactorCore, name: str, factory: Factory, passed: list[tuple[int, str]]
) -> list[IListeningPort]:
    from twisted.internet.endpoints import AdoptedStreamServerEndpoint

    ports = []
    for descriptor, its_name in passed:
        if its_name == name:
            with socket.socket(fileno=os.dup(descriptor)) as known:
                family = known.family
                known.setblocking(False)
            ports.append(await AdoptedStreamServerEndpoint(reactor, descriptor, family).listen(factory))
    if not ports:
        names = ", ".join(sorted({its_name for _, its_name in passed})) or "none at all"
        raise CannotListen(
            f"cannot listen on systemd:{name}: no such socket was passed on (passed: {names}); "
            f"set FileDescriptorName={name} in the socket unit"
        )
    return ports
