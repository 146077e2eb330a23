"""Framing: the bytes of one connection in, whole requests out; an action to the bytes of a reply.

Sans-IO: knows no socket, no reactor and no rule. However the bytes are cut into pieces, the same
requests come out, and the cost is linear in the bytes received (SPEC 5). What Postfix would misread is no reply
(SPEC 3.6).
"""

from __future__ import annotations

import re

from policyd.protocol.request import NO_ATTRIBUTE, ProtocolError, Request
from policyd.protocol.usual import read_request

# The largest request, its empty line included. Postfix's own have some 800 bytes; an attribute of
# hers is at most a few KiB (line_length_limit 2048, and xtext triples a certificate's name).
REQUEST_LIMIT = 65536

_WHOLE_LINES = re.compile(rb"(?:[^\n\0=]*+=[^\n\0]*+\n)*+")


class RequestReader:
    """Requests of one connection.

    After `receive`, `error` says whether the peer broke the protocol behind the requests that were
    returned. Those are to be answered, then the connection is to be closed without a further reply.
    """

    __slots__ = ("_buffer", "_checked", "_searched", "error", "taken")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no empty line ends before this offset
        self._checked = 0  # all lines before this offset are whole and sound
        self.error: ProtocolError | None = None
        self.taken: list[bytes] | None = None  # a list: the bytes of each request are kept in it

    @property
    def empty(self) -> bool:
        """Whether nothing is half read, so that the next bytes begin a request."""
        return not self._buffer and self.error is None

    def receive(self, data: bytes) -> list[Request]:
        """The requests that `data` completes, in order."""
        if self.error is not None:
            return []
        self._buffer += data
        return self._split()

    def _take(self, data: bytes, requests: list[Request]) -> list[Request]:
        """Parses one whole request onto the list."""
        try:
            if len(data) > REQUEST_LIMIT:
                raise ProtocolError(f"a request of more than {REQUEST_LIMIT} bytes")
            requests.append(read_request(data))
            if self.taken is not None:
                self.taken.append(data)
        except ProtocolError as error:
            self.error = error
        return requests

    def _split(self) -> list[Request]:
        buffer = self._buffer
        requests: list[Request] = []
        start = 0
        while self.error is None and start < len(buffer):
            if buffer[start] == 0x0A:
                self.error = ProtocolError("an empty request")
                break
            end = buffer.find(b"\n\n", max(start, self._searched - 1))
            if end < 0:
                self._checked = max(start, self._checked)
                self._check_rest(start)
                break
            self._take(bytes(buffer[start : end + 2]), requests)
            start = end + 2
        if self.error is not None:
            buffer.clear()
            return requests
        del buffer[:start]
        self._searched = len(buffer)
        self._checked = max(0, self._checked - start)
        return requests

    def _check_rest(self, start: int) -> None:
        """Refuses a request as soon as it cannot become a sound one, so that nobody waits for an answer in vain."""
        buffer = self._buffer
        if len(buffer) - start >= REQUEST_LIMIT:
            self.error = ProtocolError(f"a request of more than {REQUEST_LIMIT} bytes")
            return
        end = buffer.rfind(b"\n", max(self._checked, self._searched)) + 1
        if end > self._checked:
            if _WHOLE_LINES.fullmatch(buffer, self._checked, end) is None:
                self.error = ProtocolError(NO_ATTRIBUTE)
            self._checked = end


def encode_reply(action: str) -> bytes:
    """The bytes that answer a request with an access(5) action.

    Raises ValueError for what Postfix would misread: an empty text, anything but printable ASCII,
    and a bare number, which Postfix takes for OK.
    """
    if not (action and action.isascii() and action.isprintable()):
        raise ValueError(f"an action must be one line of printable ASCII: {action!r}")
    word = action.strip(" ")
    if not word or word.isdigit():
        raise ValueError(f"Postfix takes a bare number for OK and an empty action for nothing: {action!r}")
    return f"action={action}\n\n".encode("ascii")


def encode_request(attributes: list[tuple[str, str]]) -> bytes:
    """The bytes of a request, for those who ask. Raises ValueError for a value that holds a newline or NUL."""
    lines = [("request", "smtpd_access_policy"), *attributes]
    if any(c in text for pair in lines for text in pair for c in "\n\0"):
        raise ValueError("an attribute cannot hold a line end or NUL")
    return ("".join(f"{name}={value}\n" for name, value in lines) + "\n").encode("utf-8", "surrogateescape")
