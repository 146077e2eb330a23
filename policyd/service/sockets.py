"""Opens the sockets that `[service] listen` and `[metrics] listen` name, in Postfix notation (SPEC 4 and 8).

One process and several workers, and sockets that systemd passes on, go the same way. Who takes their connections is
the matter of `listener`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterable
from typing import Any

from policyd.config.settings import Endpoint

_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
BACKLOG = 4096  # the kernel's own limit, somaxconn, applies


class CannotListen(Exception):
    """No listener there; the text says where and why."""


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
    answers = socket.getaddrinfo(endpoint.host or None, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return sorted({(int(family), address) for family, _, _, _, address in answers})


def _tcp_listener(family: int, address: tuple[Any, ...]) -> socket.socket:
    try:
        listener = socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:  # without the address, which the message has already
        raise OSError(error.errno, os.strerror(error.errno or 0)) from error
    listener.setblocking(False)
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


def remove_socket_file(path: str) -> None:
    """Removes the file of a unix socket that `open_sockets` made, once it is closed, unless somebody listens there."""
    with contextlib.suppress(CannotListen, OSError):
        _remove_stale(path)


def unused(endpoints: Iterable[Endpoint], passed: list[tuple[int, str]]) -> list[str]:
    """Names of sockets that were passed on and that no endpoint has: whoever connects there waits for nobody."""
    return sorted({name for _, name in passed} - {each.path for each in endpoints if each.kind == "systemd"})


def _passed(name: str, passed: list[tuple[int, str]]) -> list[socket.socket]:
    listeners = [_listener(descriptor, name) for descriptor, its_name in passed if its_name == name]
    if not listeners:
        names = ", ".join(sorted({its_name for _, its_name in passed})) or "none at all"
        raise CannotListen(
            f"cannot listen on systemd:{name}: no such socket was passed on (passed: {names}); "
            f"set FileDescriptorName={name} in the socket unit"
        )
    for listener in listeners:
        listener.setblocking(False)
    return listeners


def _listener(descriptor: int, name: str) -> socket.socket:
    """The socket behind a passed descriptor. Raises CannotListen where connections do not come out of it."""
    copy = os.dup(descriptor)
    try:
        listener = socket.socket(fileno=copy)  # raises where it is a pipe or a file
    except OSError:
        os.close(copy)
        raise _wrong_kind(name) from None
    stream = listener.type == socket.SOCK_STREAM and listener.family in _FAMILIES
    if not stream or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise _wrong_kind(name)
    return listener


def _wrong_kind(name: str) -> CannotListen:
    return CannotListen(
        f"cannot listen on systemd:{name}: what was passed on is no stream socket that listens; "
        "use ListenStream= in the socket unit, without Accept=yes"
    )


def _shared(listener: socket.socket, copies: int) -> list[socket.socket]:
    return [listener, *(listener.dup() for _ in range(copies - 1))]
