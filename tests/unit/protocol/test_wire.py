"""Framing and encoding, by table: each stream whole and octet by octet (SPEC 5, 3.6)."""

from __future__ import annotations

import pytest

from policyd.policy.decision import INTERNAL_ERROR
from policyd.protocol.wire import REQUEST_LIMIT, RequestReader, encode_reply, encode_request

SMALLEST = b"request=smtpd_access_policy\n\n"

# Bytes; the senders of the requests that come out; what is wrong behind them (None: nothing, more may come).
STREAMS = [
    (b"", [], None),
    (SMALLEST, [""], None),
    (SMALLEST * 3, ["", "", ""], None),
    (b"sender=a@x\n" + SMALLEST, ["a@x"], None),
    (b"sender=a=b@x\n" + SMALLEST, ["a=b@x"], None),
    (b"sender=\n" + SMALLEST, [""], None),
    (b"sender=a\nsender=b\n" + SMALLEST, ["a"], None),
    (b"=\n" + SMALLEST, [""], None),
    (b"unknown=1\n" + SMALLEST, [""], None),
    (b"sender=\xff\n" + SMALLEST, ["\udcff"], None),
    (b"sender=\xc3\xbc\n" + SMALLEST, ["ü"], None),
    (b"sender=a\rb\x0b\x0c\x1c\x85\n" + SMALLEST, ["a\rb\x0b\x0c\x1c\udc85"], None),
    (b"sender=\xe2\x80\xa8\n" + SMALLEST, ["\u2028"], None),
    (SMALLEST[:-1], [], None),
    (SMALLEST + b"sender=", [""], None),
    (b"no end of it", [], None),
    (b"\n", [], "an empty request"),
    (b"\n\n", [], "an empty request"),
    (b"\nsender=a\n\n", [], "an empty request"),
    (SMALLEST + b"\n", [""], "an empty request"),
    (SMALLEST + b"\n\n" + SMALLEST, [""], "an empty request"),
    (b"sender\n", [], "a line that is no name=value, or a NUL byte"),
    (SMALLEST + b"sender\n\n", [""], "a line that is no name=value, or a NUL byte"),
    (b"GET / HTTP/1.0\r\n\r\n", [], "a line that is no name=value, or a NUL byte"),
    (b"request=smtpd_access_policy\r\n\r\n", [], "a line that is no name=value, or a NUL byte"),
    (b"request=smtpd_access_policy\r\n\n", [], "a request that is not smtpd_access_policy"),
    (b"request=smtpd_access_policy\nrequest=x\n\n", [""], None),
    (b"request=x\nrequest=smtpd_access_policy\n\n", [], "a request that is not smtpd_access_policy"),
    (b"request= smtpd_access_policy\n\n", [], "a request that is not smtpd_access_policy"),
    (b"request=\n\n", [], "a request that is not smtpd_access_policy"),
    (b"Request=smtpd_access_policy\n\n", [], "no request attribute"),
    (b"sender=a\n\n", [], "no request attribute"),
]


@pytest.mark.parametrize("piece", [1 << 20, 1])
@pytest.mark.parametrize(("stream", "senders", "wrong"), STREAMS)
def test_stream(stream: bytes, senders: list[str], wrong: str | None, piece: int) -> None:
    reader = RequestReader()
    found = [
        request.sender
        for start in range(0, len(stream), piece)
        for request in reader.receive(stream[start : start + piece])
    ]
    assert found == senders
    assert (None if reader.error is None else str(reader.error)) == wrong


@pytest.mark.parametrize("piece", [1 << 20, 1])
@pytest.mark.parametrize("stream", [b"sender=a\0b\n" + SMALLEST, b"\0=\n" + SMALLEST, SMALLEST + b"a=\0\n\n"])
def test_nul_is_refused(stream: bytes, piece: int) -> None:
    reader = RequestReader()
    found = [
        request for start in range(0, len(stream), piece) for request in reader.receive(stream[start : start + piece])
    ]
    assert len(found) == stream.startswith(SMALLEST)
    assert reader.error is not None


def test_nothing_comes_out_behind_an_error() -> None:
    reader = RequestReader()
    assert reader.receive(b"nonsense\n" + SMALLEST) == []
    assert reader.receive(SMALLEST) == []


def test_an_endless_request_is_given_up_at_the_limit() -> None:
    """Without waiting for its end, and without keeping more than the limit and one piece."""
    reader = RequestReader()
    reader.receive(b"request=smtpd_access_policy\npadding=")
    taken = 0
    while reader.error is None:
        assert len(reader._buffer) < REQUEST_LIMIT
        reader.receive(b"x" * 1000)
        taken += 1000
        assert taken <= REQUEST_LIMIT + 1000
    assert len(reader._buffer) == 0, "nothing is kept of it"


def test_a_line_that_cannot_be_sound_is_refused_at_its_end() -> None:
    """Nobody waits for an answer in vain: a peer of another protocol is sent away at its first line."""
    reader = RequestReader()
    reader.receive(b"EHLO client.exampl")
    assert reader.error is None
    reader.receive(b"e\r\n")
    assert reader.error is not None


def test_each_request_may_have_the_whole_limit() -> None:
    """The limit is of one request, not of what has arrived at once."""
    padded = b"padding=" + b"x" * (REQUEST_LIMIT - len(SMALLEST) - 9) + b"\n" + SMALLEST
    assert len(padded) == REQUEST_LIMIT
    assert len(RequestReader().receive(padded * 3)) == 3


@pytest.mark.parametrize(
    ("action", "encoded"),
    [
        ("OK", b"action=OK\n\n"),
        ("DUNNO", b"action=DUNNO\n\n"),
        ("REJECT 5.7.1 text", b"action=REJECT 5.7.1 text\n\n"),
        ("550 text", b"action=550 text\n\n"),
        (INTERNAL_ERROR, f"action={INTERNAL_ERROR}\n\n".encode()),
    ],
)
def test_reply(action: str, encoded: bytes) -> None:
    assert encode_reply(action) == encoded


@pytest.mark.parametrize(
    "action",
    [
        "",
        " ",
        "550",
        "1",
        " 550 ",
        "0",
        "OK\n",
        "OK\nx",
        "OK\n\naction=OK",
        "a\rb",
        "a\0b",
        "\tOK",
        "ä",
        "a\x7f",
        "\udcff",
    ],
)
def test_a_reply_that_postfix_would_misread_is_refused(action: str) -> None:
    with pytest.raises(ValueError, match=r"printable ASCII|bare number"):
        encode_reply(action)


def test_internal_error_is_a_plain_deferral() -> None:
    """Not DEFER_IF_PERMIT: a later reject_unauth_destination would make it permanent."""
    assert INTERNAL_ERROR.startswith("DEFER 4.3.0 ")


def test_encoded_requests_come_back() -> None:
    encoded = encode_request([("protocol_state", "RCPT"), ("sender", "käte@x=y"), ("recipient", "\udcff@x")])
    (request,) = RequestReader().receive(encoded)
    assert (request.protocol_state, request.sender, request.recipient) == ("RCPT", "käte@x=y", "\udcff@x")


@pytest.mark.parametrize("pair", [("sender", "a\nb"), ("sender", "\0"), ("a\nb", ""), ("\0", "")])
def test_a_request_that_would_be_another_is_not_encoded(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="line end or NUL"):
        encode_request([pair])
