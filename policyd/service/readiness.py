"""Whether Postfix would get an answer: a request of our own over each socket that policyd listens on (SPEC 8, /readyz).

Knows nothing of rules: a request outside RCPT has no decision, so it is in no log and no digest.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from policyd.protocol.wire import encode_request

ANSWER_SECONDS = 5.0  # for each step

_QUESTION = encode_request([("protocol_state", "CONNECT"), ("instance", "readyz")])
_LONGEST = 1024  # octets of a reply that is none

Address = tuple[int, Any]  # family, and the address as getsockname(2) gives it


def unanswered(addresses: Iterable[Address]) -> str:
    """Where a request gets no answer, and why, in one line; empty: nowhere. Blocks: to be called in a thread."""
    for family, address in addresses:
        try:
            reply = _reply(family, address)
        except OSError as error:
            return f"no answer on {_shown(family, address)}: {error.strerror or error}"
        if not reply.startswith(b"action=DUNNO\n"):
            return f"no answer on {_shown(family, address)}: {'an error' if reply else 'the connection was closed'}"
    return ""


def _reply(family: int, address: Any) -> bytes:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(address)
        connection.sendall(_QUESTION)
        reply = b""
        while b"\n\n" not in reply and len(reply) < _LONGEST:
            piece = connection.recv(_LONGEST)
            if not piece:
                return b""
            reply += piece
        return reply


def _shown(family: int, address: Any) -> str:
    """As `[service] listen` writes it."""
    if family == socket.AF_UNIX:
        return f"unix:{address if isinstance(address, str) else '@' + address[1:].decode('ascii', 'backslashreplace')}"
    host, port = address[:2]
    return f"inet:[{host}]:{port}" if family == socket.AF_INET6 else f"inet:{host}:{port}"
