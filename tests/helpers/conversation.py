"""The other end of the policy protocol, for tests: what Postfix sends, and a strict reader of what it gets.

Written from SPEC 5, without a line of policyd's. A reply is `action=TEXT` and an empty line, nothing else.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Self

from tests.strategies import ATTRIBUTES, wire

TIMEOUT = 60.0  # seconds until a test gives up: no test waits so long unless it fails

DEFAULTS = {
    "request": "smtpd_access_policy",
    "protocol_state": "RCPT",
    "protocol_name": "ESMTP",
    "client_address": "198.51.100.9",
    "client_name": "unknown",
    "client_port": "40001",
    "reverse_client_name": "unknown",
    "server_address": "192.0.2.25",
    "server_port": "25",
    "helo_name": "client.example",
    "sender": "john@elsewhere.example",
    "recipient": "x@other.example",
    "recipient_count": "0",
    "instance": "1f3.65.0",
    "size": "0",
    "encryption_keysize": "0",
}


def question(**attributes: str) -> bytes:
    """A whole request as Postfix 3.7 sends it: 29 attributes, those not given as for an unknown client."""
    values = DEFAULTS | attributes
    return wire({name: values.get(name, "") for name in (*ATTRIBUTES, *(set(values) - set(ATTRIBUTES)))})


class Peer:
    """A client connection. Give its address in Postfix notation (inet:host:port, unix:/path)."""

    def __init__(self, address: str, receive_buffer: int = 0) -> None:
        kind, _, where = address.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            target: tuple[str, int] | str = where
        else:
            self.socket = socket.socket()
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            host, _, port = where.rpartition(":")
            target = (host, int(port))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(target)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes, piece: int = 0) -> None:
        """Sends all of it, in pieces of so many bytes (0: in one)."""
        for start in range(0, len(data), piece or max(len(data), 1)):
            self.socket.sendall(data[start : start + piece] if piece else data)

    def reply(self) -> str:
        """The action of the next reply. Raises AssertionError for anything that is no reply, and for the end."""
        while b"\n\n" not in self._received:
            more = self.socket.recv(65536)
            assert more, f"the connection ended within a reply: {self._received!r}"
            self._received += more
        reply, _, self._received = self._received.partition(b"\n\n")
        name, _, action = reply.decode("ascii").partition("=")
        assert name == "action", reply
        assert "\n" not in action, reply
        return action

    def replies(self, count: int) -> list[str]:
        """The actions of the next replies."""
        return [self.reply() for _ in range(count)]

    def ask(self, data: bytes) -> str:
        """The action for one whole request."""
        self.send(data)
        return self.reply()

    def rest(self) -> bytes:
        """Everything until the other end closes, replies that were not taken yet included."""
        try:
            while more := self.socket.recv(65536):
                self._received += more
        except ConnectionResetError:
            pass  # closed with some of our bytes unread
        return self._received

    def end(self) -> bytes:
        """Says that no more is sent; then as `rest`."""
        self.socket.shutdown(socket.SHUT_WR)
        return self.rest()

    def is_open(self) -> bool:
        """Whether the other end has neither closed nor sent anything."""
        self.socket.setblocking(False)
        try:
            self._received += self.socket.recv(65536)
        except BlockingIOError:
            return self._received == b""
        except OSError:
            return False
        finally:
            self.socket.settimeout(TIMEOUT)
        return False


def actions(replies: bytes) -> list[str]:
    """The actions of a whole stream of replies."""
    assert replies == b"" or replies.endswith(b"\n\n"), f"cut off: {replies[-100:]!r}"
    texts = replies.decode("ascii").split("\n\n")[:-1]
    assert all(text.startswith("action=") and "\n" not in text for text in texts), replies
    return [text.removeprefix("action=") for text in texts]


def write_configuration(path: Path, port: int, text: str, service: str = "") -> str:
    """Writes a configuration that listens on one TCP port; returns the address of that."""
    address = f"inet:127.0.0.1:{port}"
    path.write_text(f'[service]\nlisten = ["{address}"]\n{service}\n{text}', "utf-8")
    return address
