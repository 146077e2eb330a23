"""Requests from the past, whichever way they were kept: a transcript or a decision log (SPEC 7).

Which of the two a stream is shows in its first line. A stream is read once, in pieces, and never kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from policyd.protocol.request import Request
from policyd.records.decision_line import LoggedDecision, parse_log_line
from policyd.records.transcript import READ_SIZE, Damage, Readable, read_requests

_ATTRIBUTE = re.compile(rb"\s*[A-Za-z_]+=")


class Recorded(NamedTuple):
    """One request, and the line of the log that told of it; None where it was recorded itself."""

    request: Request
    logged: LoggedDecision | None


def read_recorded(stream: Readable) -> Iterator[Recorded | Damage]:
    """All requests of a stream, in order; lines of a log that are no decisions are passed over."""
    first = b""
    while b"\n" not in first.lstrip() and len(first) < READ_SIZE and (piece := stream.read1(READ_SIZE)):
        first += piece
    whole = _Resumed(first, stream)
    if _ATTRIBUTE.match(first):
        for found in read_requests(whole):
            yield found if isinstance(found, Damage) else Recorded(found, None)
    else:
        for logged in read_decisions(whole):
            yield Recorded(logged.request(), logged)


def read_decisions(stream: Readable) -> Iterator[LoggedDecision]:
    """The decisions of a log."""
    waiting = b""
    while piece := stream.read1(READ_SIZE):
        *lines, waiting = (waiting + piece).split(b"\n")
        yield from _decisions(lines)
        if len(waiting) > READ_SIZE:
            waiting = b""  # no log of ours has such lines
    yield from _decisions([waiting])


def _decisions(lines: list[bytes]) -> Iterator[LoggedDecision]:
    for line in lines:
        if b": action=" in line:
            logged = parse_log_line(line.decode("utf-8", "surrogateescape"))
            if logged is not None:
                yield logged


class _Resumed:
    """A stream whose first piece was already taken."""

    def __init__(self, first: bytes, stream: Readable) -> None:
        self._first = first
        self._stream = stream

    def read1(self, size: int, /) -> bytes:
        """The first piece, then what follows."""
        first, self._first = self._first, b""
        return first or self._stream.read1(size)
