"""However the bytes of a connection are cut into pieces, the same requests come out, at a cost linear in the bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.protocol import wire
from policyd.protocol.request import Request
from policyd.protocol.wire import REQUEST_LIMIT, RequestReader
from tests.helpers.conversation import question

many = settings(max_examples=300, deadline=None)

good = st.sampled_from(
    [
        b"request=smtpd_access_policy\n\n",
        b"sender=a@x\nrequest=smtpd_access_policy\n\n",
        question(sender="kate@contoso.com"),
        question(sender="\udcff", ccert_subject="a=b=c"),
    ]
)
bad = st.sampled_from(
    [
        b"\n",
        b"\n\n",
        b"request=other\n\n",
        b"sender=a\n\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"request=smtpd_access_policy\r\nsender=\r\n\r\n",
        b"request=smtpd_access_policy\nx\n\n",
        b"request=smtpd_access_policy\nsender=a\0b\n\n",
        b"\0",
        b"request=smtpd_access_policy\nsender=unfinis",
        b"QUIT\n",
        b"\xff\xfe\n",
    ]
)
streams = st.one_of(
    st.tuples(st.lists(good, max_size=5), st.lists(bad, max_size=2), st.lists(good, max_size=2)).map(
        lambda parts: b"".join(piece for part in parts for piece in part)
    ),
    st.lists(st.sampled_from([b"a", b"=", b"\n", b"\n", b"\0", b"request=smtpd_access_policy\n"]), max_size=30).map(
        b"".join
    ),
)


def pieces(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        yield data[start:end]


def received(parts: Iterable[bytes]) -> tuple[list[Request], str | None]:
    reader = RequestReader()
    requests = [request for part in parts for request in reader.receive(part)]
    return requests, None if reader.error is None else str(reader.error)


def by_hand(data: bytes) -> tuple[list[Request], bool]:
    """SPEC 5, on the whole stream: the requests before the first thing that is wrong, and whether there is one."""
    requests = []
    while data:
        text, end, rest = data.partition(b"\n\n")
        if data.startswith(b"\n"):
            return requests, True
        lines = (text if end else text[: text.rfind(b"\n") + 1].removesuffix(b"\n")).split(b"\n")
        complete = [line for line in lines if line or end]
        if any(b"=" not in line or b"\0" in line for line in complete):
            return requests, True
        if not end:
            return requests, len(data) >= REQUEST_LIMIT
        if len(text) + 2 > REQUEST_LIMIT:
            return requests, True
        first: dict[str, str] = {}
        for line in lines:
            name, _, value = line.decode("utf-8", "surrogateescape").partition("=")
            first.setdefault(name, value)
        if first.get("request") != "smtpd_access_policy":
            return requests, True
        requests.append(Request(**{name: first.get(name, "") for name in Request._fields}))
        data = rest
    return requests, False


@many
@given(streams, st.lists(st.integers(0, 2500), max_size=12))
def test_any_chunking_gives_the_same_requests(data: bytes, cuts: list[int]) -> None:
    whole, octets, cut = received([data]), received(pieces(data, range(len(data)))), received(pieces(data, cuts))
    expected, wrong = by_hand(data)
    for requests, error in (whole, octets, cut):
        assert requests == expected
        assert (error is not None) == wrong


@many
@given(streams, st.lists(st.integers(0, 2500), max_size=12))
def test_any_chunking_gives_the_same_complaint(data: bytes, cuts: list[int]) -> None:
    """The log must not depend on the network."""
    complaint = received(pieces(data, range(len(data))))[1]
    assert received([data])[1] == complaint
    assert received(pieces(data, cuts))[1] == complaint


@pytest.mark.parametrize("size", [REQUEST_LIMIT - 1, REQUEST_LIMIT, REQUEST_LIMIT + 1, REQUEST_LIMIT + 2])
@pytest.mark.parametrize("piece", [REQUEST_LIMIT * 2, 8192, 4093, 1])
@pytest.mark.parametrize("before", [0, 1])
def test_the_limit_is_the_same_in_any_chunking(size: int, piece: int, before: int) -> None:
    data = question() * before + sized(size)
    requests, error = received(data[start : start + piece] for start in range(0, len(data), piece))
    assert len(requests) == before + (size <= REQUEST_LIMIT)
    assert (error is None) == (size <= REQUEST_LIMIT)


def sized(size: int) -> bytes:
    """A sound request of so many bytes, its empty line included."""
    start = b"request=smtpd_access_policy\npadding="
    return start + b"x" * (size - len(start) - 2) + b"\n\n"


# --- cost: counted, not timed ---------------------------------------------------------------------------------------


class Meter:
    """How many bytes were looked at."""

    def __init__(self) -> None:
        self.bytes = 0


class CountingBuffer(bytearray):
    """The reader's buffer; each search and copy adds the bytes that it had to look at."""

    meter: Meter

    def find(self, what: Any, start: int = 0, *rest: Any) -> int:
        found = super().find(what, start, *rest)
        self.meter.bytes += (len(self) if found < 0 else found + len(what)) - min(start, len(self))
        return found

    def rfind(self, what: Any, start: int = 0, *rest: Any) -> int:
        found = super().rfind(what, start, *rest)
        self.meter.bytes += len(self) - (min(start, len(self)) if found < 0 else found)
        return found

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.meter.bytes += len(found) if isinstance(place, slice) else 1
        return found


class CountingExpression:
    """A compiled expression; adds the bytes that it is given."""

    def __init__(self, expression: re.Pattern[bytes], meter: Meter) -> None:
        self._expression, self._meter = expression, meter

    def fullmatch(self, data: Any, start: int = 0, end: int | None = None) -> Any:
        end = len(data) if end is None else end
        self._meter.bytes += end - start
        return self._expression.fullmatch(data, start, end)


STREAMS = {
    "requests as Postfix sends them": question() * 60,
    "the smallest requests": b"request=smtpd_access_policy\n\n" * 1500,
    "one long line that does not end": b"request=smtpd_access_policy\nx=" + b"y" * 65000,
    "one long line without =": b"y" * 65535,
    "many short lines": b"request=smtpd_access_policy\n" + b"a=\n" * 21000,
    "the largest request": sized(REQUEST_LIMIT),
}


@pytest.mark.parametrize("piece", [1, 2, 7, 1000, 8192, 1 << 20])
@pytest.mark.parametrize("name", STREAMS)
def test_cost_is_linear(name: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte is looked at a few times, whatever the pieces."""
    data, meter = STREAMS[name], Meter()
    monkeypatch.setattr(wire, "_WHOLE_LINES", CountingExpression(wire._WHOLE_LINES, meter))
    parse = wire.read_request

    def counting_parse(request: bytes) -> Request:
        meter.bytes += len(request)
        return parse(request)

    monkeypatch.setattr(wire, "read_request", counting_parse)
    reader = RequestReader()
    buffer = CountingBuffer()
    buffer.meter = meter
    reader._buffer = buffer
    for start in range(0, len(data), piece):
        reader.receive(data[start : start + piece])
        assert reader._buffer is buffer, "the count would miss a new buffer"
    assert len(data) <= meter.bytes <= 8 * len(data)
