"""What the fault tests share: a small configuration, and requests with known answers.

Knows nothing of Postfix. `OURS` is answered OK, `THEIRS` is refused, under `configuration()`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from tests.helpers.processes import memory

TIMEOUT = 60.0  # seconds for anything that must come at all


# What Postfix sends, in her order: the server has a short way for requests that look so.
_USUAL = dict.fromkeys(
    "protocol_state protocol_name client_address client_name client_port reverse_client_name server_address "
    "server_port helo_name sender recipient recipient_count queue_id instance size etrn_domain stress sasl_method "
    "sasl_username sasl_sender ccert_subject ccert_issuer ccert_fingerprint ccert_pubkey_fingerprint "
    "encryption_protocol encryption_cipher encryption_keysize policy_context".split(),
    "",
) | {"protocol_state": "RCPT", "recipient_count": "0", "instance": "1f3.65.0", "size": "0"}


def request(**attributes: str) -> bytes:
    """The bytes of a request in state RCPT, as Postfix sends it."""
    return unusual(**(_USUAL | attributes))


def unusual(**attributes: str) -> bytes:
    """The bytes of a request that has these attributes only, which is sound, and none that Postfix would send."""
    lines = "".join(f"{name}={value}\n" for name, value in {"protocol_state": "RCPT", **attributes}.items())
    return f"request=smtpd_access_policy\n{lines}\n".encode("utf-8", "surrogateescape")


ROUNDS = 40  # how often a burden is tried at the most
FLAT = 5  # rounds in a row that together may add NOTHING
NOTHING = 256  # KiB

OURS = request(client_address="203.0.113.7", sender="kate@contoso.com", recipient="bob@other.example")
THEIRS = request(client_address="198.51.100.9", sender="kate@contoso.com", recipient="bob@other.example")
OK, REJECT, DEFER = b"action=OK\n\n", b"action=REJECT ", b"action=DEFER "


def configuration(
    folder: Path, port: int, *, service: str = "", more: str = "", address: str = "203.0.113.7", name: str = "p.toml"
) -> Path:
    """A configuration with one organization whose connector is the address; `service` goes into [service]."""
    path = folder / name
    new = folder / f"{name}.new"
    new.write_text(
        f'[service]\nlisten = ["inet:127.0.0.1:{port}"]\n{service}\n{more}\n'
        '[organizations.contoso]\naccepted_domains = ["contoso.com"]\n'
        f'[organizations.contoso.connectors.office]\naddresses = ["{address}"]\n',
        "utf-8",
    )
    new.rename(path)
    return path


def connect(port: int) -> socket.socket:
    """A connection that sends at once and waits long enough."""
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def answer(connection: socket.socket) -> bytes:
    """One reply, whole; what came until the end where the peer closes."""
    reply = b""
    while not reply.endswith(b"\n\n"):
        piece = connection.recv(1)
        if not piece:
            return reply
        reply += piece
    return reply


def read_until(descriptor: int, text: bytes) -> bytes:
    """What comes from a pipe up to this text, and what came with it; fails at the end of it."""
    said = b""
    while text not in said:
        piece = os.read(descriptor, 4096)
        assert piece, f"the end comes before {text!r}: {said!r}"
        said += piece
    return said


def answers(connection: socket.socket, count: int) -> list[bytes]:
    """So many replies, and nothing behind them."""
    replies, ends = b"", 0
    while ends < count:
        piece = connection.recv(65536)
        assert piece, f"closed before reply {count}: {replies[-100:]!r}"
        replies += piece
        ends = replies.count(b"\n\n")
    found = [reply + b"\n\n" for reply in replies.split(b"\n\n")]
    assert found.pop() == b"\n\n"
    assert len(found) == count
    return found


def ask(port: int, data: bytes = OURS) -> bytes:
    """The answer to a request on a connection of its own."""
    with connect(port) as connection:
        connection.sendall(data)
        return answer(connection)


def no_growth_without_end(pid: int, burden: Callable[[], None]) -> None:
    """Repeat a burden until some rounds together add no memory.

    The allocator takes some rounds to have all that it needs, more of them on some machines; a leak adds in each, and
    one of 52 KiB a round is found.
    """
    after = [memory(pid)]
    while len(after) <= FLAT or after[-1] - after[-1 - FLAT] > NOTHING:
        assert len(after) <= ROUNDS, f"it grows without end (KiB after each round): {after}"
        burden()
        after.append(memory(pid))
