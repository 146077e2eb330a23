"""Peers that cost as much as they can: others get their answers meanwhile, and what was taken is given back.

Memory and descriptors are looked at from outside. How long others wait is no matter for a test on a shared machine; the
benchmark reports it.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.peers import OK, OURS, REJECT, THEIRS, answer, answers, ask, connect, no_growth_without_end
from tests.helpers.conversation import Peer, ask_until_stuck
from tests.helpers.processes import descriptors, memory
from tests.helpers.waiting import until

ALLOWED = 80 * 1024  # KiB that the abuse may cost while it lasts


def idle(port: int, count: int = 10_000) -> Iterator[socket.socket]:
    """Thousands of connections that say nothing."""
    for _ in range(count):
        yield connect(port)


def half_requests(port: int) -> Iterator[socket.socket]:
    """Requests whose empty line never comes."""
    for connection in idle(port, 2000):
        connection.sendall(OURS[:-1])
        yield connection


def one_octet_at_a_time(port: int) -> Iterator[socket.socket]:
    """Every octet in a segment of its own."""
    slow = list(idle(port, 200))
    for at in range(len(OURS) - 1):
        for connection in slow:
            connection.sendall(OURS[at : at + 1])
    yield from slow


def deaf(port: int) -> Iterator[socket.socket]:
    """Requests until the server reads no more of them, and never a look at the answers."""
    address = f"inet:127.0.0.1:{port}"
    with Peer(address) as other:
        for _ in range(8):
            peer = Peer(address, receive_buffer=4096)
            ask_until_stuck(peer, THEIRS, other)
            yield peer.socket


def largest_halves(port: int) -> Iterator[socket.socket]:
    """Attributes of almost 64 KiB without an end: what the limit of a request allows to be kept."""
    for connection in idle(port, 300):
        connection.sendall(b"request=smtpd_access_policy\nsender=" + b"x" * 65_000)
        yield connection


def too_long(port: int) -> Iterator[socket.socket]:
    """More than 64 KiB in one attribute."""
    for connection in idle(port, 200):
        with contextlib.suppress(OSError):
            connection.sendall(b"request=smtpd_access_policy\nsender=" + b"x" * 200_000)
        yield connection


def many_attributes(port: int) -> Iterator[socket.socket]:
    """100,000 attributes in a request."""
    for connection in idle(port, 50):
        with contextlib.suppress(OSError):
            connection.sendall(b"request=smtpd_access_policy\n" + b"".join(b"%x=\n" % n for n in range(100_000)))
        yield connection


def most_attributes(port: int) -> Iterator[socket.socket]:
    """As many attributes as fit, in whole requests."""
    for connection in idle(port, 20):
        connection.sendall(b"request=smtpd_access_policy\n" + b"=\n" * 32_000 + b"\n")
        assert answer(connection) == b"action=DUNNO\n\n"
        yield connection


def resets(port: int) -> Iterator[socket.socket]:
    """Connections that are reset before, within and behind a request."""
    for number in range(3000):
        connection = connect(port)
        connection.sendall((b"", OURS[:40], OURS, OURS * 50)[number % 4])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    yield connect(port)


def rubbish(port: int) -> Iterator[socket.socket]:
    """Other protocols."""
    for hello in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"EHLO x\r\n",
        b"\x16\x03\x01\x02\x00" * 50,
        b"\0" * 9000,
        b"\n" * 500,
    ) * 100:
        connection = connect(port)
        with contextlib.suppress(OSError):
            connection.sendall(hello)
        yield connection


def ever_new(port: int) -> Iterator[socket.socket]:
    """Requests that have nothing in common: what is remembered of one serves no other."""
    connection = connect(port)
    for number in range(100):
        texts = (f"{number:x}.{n:x}" for n in range(100))
        connection.sendall(
            b"".join(
                b"request=smtpd_access_policy\nprotocol_state=RCPT\n"
                + f"client_address=2001:db8::{text.replace('.', ':')}\nsender=a@{text}.{'s' * 60}.example\n"
                f"recipient=b@{text}.{'r' * 60}.example\nccert_subject={text}.{'c' * 300}\nccert_issuer=x\n"
                f"ccert_fingerprint={text}{'f' * 200}\nccert_pubkey_fingerprint={'k' * 200}\n\n".encode()
                for text in texts
            )
        )
        replies = answers(connection, 100)
        assert all(reply.startswith(REJECT) for reply in replies)
    yield connection


ABUSES = (
    ever_new,
    idle,
    half_requests,
    one_octet_at_a_time,
    deaf,
    largest_halves,
    too_long,
    many_attributes,
    most_attributes,
    resets,
    rubbish,
)
MORE = {largest_halves: 300 * 68, idle: 20 * 1024}  # KiB that the size itself explains


@pytest.fixture(autouse=True)
def _descriptors_for_all() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 10_500:
        pytest.skip("fewer than 10,500 descriptors allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 10_500), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("abuse", ABUSES, ids=lambda abuse: abuse.__name__)
def test_abuse(abuse: Callable[[int], Iterator[socket.socket]], attacked: Callable[..., Any]) -> None:
    target = attacked(service="max_connections = 10100", more='[log]\ndecisions = "none"')
    with connect(target.port) as steady:

        def fine() -> None:
            for question, expected in ((OURS, OK), (THEIRS, REJECT)):
                steady.sendall(question)
                assert answer(steady).startswith(expected)

        fine()
        open_before, first = descriptors(target.pid), memory(target.pid)

        def burden() -> None:
            taken = []
            for number, connection in enumerate(abuse(target.port)):
                taken.append(connection)
                if number % 100 == 0:
                    fine()
            fine()
            assert ask(target.port) == OK
            assert memory(target.pid) - first < ALLOWED + MORE.get(abuse, 0)
            for connection in taken:
                connection.close()
            until(lambda: descriptors(target.pid) <= open_before, "all descriptors are given back")
            fine()

        no_growth_without_end(target.pid, burden)
    assert "internal error" not in target.server.log()
