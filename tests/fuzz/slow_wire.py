"""A slow second reading of the protocol (SPEC 5): no offsets, no memory of what was looked at, no regular expressions.

It shares with policyd only the tuple `Request` that both fill.
"""

from __future__ import annotations

from policyd.protocol.request import Request

LIMIT = 65536


def read(stream: bytes) -> tuple[list[Request], bool]:
    """The requests of all bytes of a connection, and whether nothing in it, as far as it goes, breaks the protocol."""
    found: list[Request] = []
    while stream:
        if stream.startswith(b"\n"):
            return found, False  # a request without any line
        block, end, rest = stream.partition(b"\n\n")
        if not end:
            return found, _may_become_a_request(stream)
        parsed = parse(block + b"\n") if len(block) + 2 <= LIMIT else None
        if parsed is None:
            return found, False
        found.append(parsed)
        stream = rest
    return found, True


def parse(lines: bytes) -> Request | None:
    """The request of whole lines (without the empty one); None where they are none."""
    first: dict[bytes, bytes] = {}
    for line in lines.split(b"\n")[:-1]:
        at = line.find(b"=")
        if at < 0 or b"\0" in line:
            return None
        if line[:at] not in first:
            first[line[:at]] = line[at + 1 :]
    if first.get(b"request") != b"smtpd_access_policy":
        return None
    kept = {name: first.get(name.encode(), b"").decode("utf-8", "surrogateescape") for name in Request._fields}
    return Request(**kept)


def _may_become_a_request(tail: bytes) -> bool:
    """Whether what has no empty line yet could still get one within the limit; its last line may be unfinished."""
    whole = tail.split(b"\n")[:-1]
    return len(tail) < LIMIT and all(b"=" in line and b"\0" not in line for line in whole)
