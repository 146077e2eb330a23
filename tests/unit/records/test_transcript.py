"""Recorded requests are read whole, in any pieces, and what is damaged is told instead of guessed (SPEC 7)."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import pytest

from policyd.policy.decision import Decision, Reason
from policyd.protocol.request import Request, parse_request
from policyd.protocol.wire import REQUEST_LIMIT
from policyd.records.decision_line import decision_line
from policyd.records.recorded import Recorded, read_decisions, read_recorded
from policyd.records.transcript import READ_SIZE, Damage, read_requests
from tests.places import TESTS

TRANSCRIPTS = sorted((TESTS / "transcripts").glob("*.txt"))
ONE = b"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=a@contoso.com\nrecipient=b@other.example\n\n"
TWO = ONE.replace(b"sender=a", b"sender=z")


class Slow:
    """Gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._stream = io.BytesIO(data)
        self._size = size

    def read1(self, size: int, /) -> bytes:
        return self._stream.read(min(size, self._size))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_what_postfix_sent(path: Path, size: int) -> None:
    data = path.read_bytes()
    expected = [parse_request(part + b"\n\n") for part in data.split(b"\n\n") if part]
    assert list(read_requests(Slow(data, size))) == expected
    assert list(read_recorded(Slow(data, size))) == [Recorded(request, None) for request in expected]
    assert len(expected) == data.count(b"request=smtpd_access_policy\n") > 0


def kinds(data: bytes, size: int = 1 << 20) -> list[str]:
    """The sender of each request, or what is said of the damage."""
    found = read_requests(Slow(data, size))
    return [item.why if isinstance(item, Damage) else item.sender for item in found]


TORN = "a request that was cut off by the next one"
CUT_OFF = "the last request has no empty line after it: the file was cut off"
NO_LINE = "a line that is no name=value, or a NUL byte"
DAMAGED = [
    (b"", []),
    (b"\n\n\n", []),
    (ONE + TWO, ["a@contoso.com", "z@contoso.com"]),
    (b"\n" + ONE + b"\n\n\n" + TWO, ["a@contoso.com", "z@contoso.com"]),
    (ONE + TWO[:-1], ["a@contoso.com", CUT_OFF]),
    (ONE + TWO[:40], ["a@contoso.com", CUT_OFF]),
    (ONE[:60] + b"\n" + TWO, [TORN, "z@contoso.com"]),
    (ONE[:60] + b"\n\n" + TWO, ["a@con", "z@contoso.com"]),  # cannot be told from a whole request
    (ONE.replace(b"=a@", b" a@") + TWO, [NO_LINE, "z@contoso.com"]),
    (ONE.replace(b"a@", b"a\0@") + TWO, [NO_LINE, "z@contoso.com"]),
    (
        ONE.replace(b"smtpd_access_policy", b"junk") + TWO,
        ["a request that is not smtpd_access_policy", "z@contoso.com"],
    ),
    (b"x=y\n\n" + TWO, ["no request attribute", "z@contoso.com"]),
]


@pytest.mark.parametrize(("data", "expected"), DAMAGED, ids=range(len(DAMAGED)))
@pytest.mark.parametrize("size", [1, 13, 1 << 20])
def test_damage_is_told_where_it_is(data: bytes, expected: list[str], size: int) -> None:
    assert kinds(data, size) == expected


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_what_is_too_long_is_passed_over(size: int) -> None:
    long = b"request=smtpd_access_policy\nsender=" + b"x" * (3 * REQUEST_LIMIT) + b"\n\n"
    found = kinds(ONE + long + TWO, size)
    assert found[0], found[2] == ("a@contoso.com", "z@contoso.com")
    assert "65536 bytes" in found[1]
    assert len(found) == 3


def test_the_largest_request_is_read() -> None:
    room = REQUEST_LIMIT - len(ONE)
    assert kinds(ONE.replace(b"a@", b"a" * (room + 1) + b"@")) == ["a" * (room + 1) + "@contoso.com"]


def test_memory_stays_small() -> None:
    """A file without a single empty line is not kept."""

    class Endless:
        pieces = 100

        def read1(self, size: int, /) -> bytes:
            self.pieces -= 1
            return b"x" * size if self.pieces else b""

    tracemalloc.start()
    try:
        found = list(read_requests(Endless()))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [Damage("more than 65536 bytes without an empty line")]
    assert most < 10 * READ_SIZE


# ------------------------------------------------------------------------------------------- logs

REQUEST = Request("RCPT", "203.0.113.9", "", "a@contoso.com", "x@other.example", instance="1f3.65")
LOG = "".join(
    f"Nov 23 09:16:0{n} hub policyd[71]: {line}\n"
    for n, line in enumerate(
        (
            "policyd: listening on inet:127.0.0.1:10045",
            decision_line(REQUEST, Decision("REJECT", Reason.NO_CONNECTOR), 1),
            decision_line(REQUEST._replace(sender="ü@x"), Decision("OK", Reason.INCOMING, "contoso"), 1, monitor=True),
            "policyd: stopped",
        )
    )
).encode()


@pytest.mark.parametrize("size", [1, 50, 1 << 20])
@pytest.mark.parametrize(
    "data", [LOG, LOG[:-1], LOG.replace(b"\n", b"\r\n")], ids=["whole", "no last line end", "CRLF"]
)
def test_a_log_is_told_from_a_transcript(data: bytes, size: int) -> None:
    found = list(read_recorded(Slow(data, size)) if size > 50 else map(_recorded, read_decisions(Slow(data, size))))
    assert [item.request.sender for item in found if isinstance(item, Recorded)] == ["a@contoso.com", "ü@x"]
    assert all(isinstance(item, Recorded) and item.logged is not None for item in found)


def _recorded(logged: object) -> Recorded:
    return Recorded(logged.request(), logged)  # type: ignore[attr-defined, arg-type]


def test_a_decision_in_the_first_line() -> None:
    line = decision_line(REQUEST, Decision("REJECT", Reason.NO_CONNECTOR), 1)
    (found,) = read_recorded(io.BytesIO(line.encode()))
    assert isinstance(found, Recorded)
    assert found.request == REQUEST


def test_nothing_at_all() -> None:
    assert list(read_recorded(io.BytesIO(b""))) == []
