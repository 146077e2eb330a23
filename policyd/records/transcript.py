"""Recorded requests: the bytes that Postfix sent, one request after the other, each with its empty line.

Written by `serve --record`, read by `replay` and `explain`, as a stream of any length. Nothing here raises on damaged
files: what is no whole request is reported in its place (SPEC 7).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from policyd.protocol.request import ProtocolError, Request
from policyd.protocol.usual import read_request
from policyd.protocol.wire import REQUEST_LIMIT

READ_SIZE = 1 << 20

_SECOND_REQUEST = b"\nrequest=smtpd_access_policy\n"


class Readable(Protocol):
    """A binary file, or standard input."""

    def read1(self, size: int, /) -> bytes: ...


class Damage(NamedTuple):
    """What stood where a request should be."""

    why: str
    at_end: bool = False  # the file stops within it, as one does that is being written


def read_requests(stream: Readable) -> Iterator[Request | Damage]:
    """The requests of a transcript, in order."""
    waiting = b""
    dropping = False  # within something that is longer than any request
    while piece := stream.read1(READ_SIZE):
        *whole, waiting = (waiting + piece).split(b"\n\n")
        for data in whole:
            if dropping:
                dropping = False
            elif lines := data.strip(b"\n"):
                yield from _in(lines)
        if len(waiting) > REQUEST_LIMIT:
            if not dropping:
                yield Damage(f"more than {REQUEST_LIMIT} bytes without an empty line")
            dropping = True
            waiting = waiting[-1:]
    if waiting.strip(b"\n") and not dropping:
        yield Damage("the last request has no empty line after it: the file was cut off", at_end=True)


def _in(data: bytes) -> Iterator[Request | Damage]:
    """The request of some lines; where a write was torn, the begin of one stands before the next."""
    torn = data.rfind(_SECOND_REQUEST)
    if torn >= 0:
        yield Damage("a request that was cut off by the next one")
        data = data[torn + 1 :]
    if len(data) > REQUEST_LIMIT:
        yield Damage(f"a request of more than {REQUEST_LIMIT} bytes")
        return
    try:
        yield read_request(data + b"\n\n")
    except ProtocolError as error:
        yield Damage(str(error))
