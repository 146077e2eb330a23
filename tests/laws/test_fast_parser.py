"""The expression for usual requests reads whatever it takes just as the plain reader does.

`read_request` tries one expression for what Postfix usually sends and else falls back to `parse_request`; which of the
two read a request must never show.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.protocol import usual as module
from policyd.protocol.request import ProtocolError, Request, parse_request
from policyd.protocol.usual import read_request
from tests.server.conversation import question
from tests.strategies import ATTRIBUTES

many = settings(max_examples=300, deadline=None)

NEW_NAMES = ("compatibility_level", "mail_version", "tls_sni", "", "x y", "ä", "Sender", "request ")
values = st.one_of(
    st.sampled_from(
        ["", "a", "kate@contoso.com", "a=b", "=", "RCPT", "smtpd_access_policy", "\r", " ", "\x85", "\u2028"]
    ),
    st.text(st.characters(exclude_characters="\n\0", codec="utf-8"), max_size=12),
    st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"").replace(b"\0", b"").decode("utf-8", "surrogateescape")),
)
names = st.sampled_from([*ATTRIBUTES, *NEW_NAMES])


def read_slowly(data: bytes) -> dict[str, str] | str:
    """SPEC 5 once more, line by line: the attributes by name, or what is wrong in a word."""
    if b"\0" in data:
        return "NUL"
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "surrogateescape")[:-2].split("\n"):
        name, equals, value = line.partition("=")
        if not equals:
            return "line"
        found.setdefault(name, value)
    return found if found.get("request") == "smtpd_access_policy" else "kind"


def agree(data: bytes) -> None:
    expected = read_slowly(data)
    try:
        request = read_request(data)
    except ProtocolError:
        assert isinstance(expected, str), data
    else:
        assert isinstance(expected, dict), data
        assert request == Request(**{name: expected.get(name, "") for name in Request._fields}), data


@st.composite
def nearly_postfix(draw: st.DrawFn) -> bytes:
    """Postfix's 29 attributes in its order, then a few changes: left out, repeated, moved, new ones."""
    lines = [(name, draw(values)) for name in ATTRIBUTES[1:]]
    lines.insert(0, ("request", draw(st.sampled_from(["smtpd_access_policy"] * 6 + ["other", ""]))))
    spoilt = draw(st.integers(0, 9)) == 9
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        change = draw(st.sampled_from(["leave out", "repeat", "move", "add", "replace"]))
        if change in ("leave out", "move", "replace"):
            taken = lines.pop(at)
            if change == "move":
                lines.insert(draw(st.integers(0, len(lines))), taken)
            elif change == "replace":
                lines.insert(at, (draw(names), draw(values)))
        elif change == "repeat":
            lines.insert(draw(st.integers(0, len(lines))), (lines[at][0], draw(values)))
        else:
            lines.insert(at, (draw(names), draw(values)))
    texts = [f"{name}={value}\n" for name, value in lines]
    if spoilt:
        texts.insert(draw(st.integers(0, len(texts))), draw(st.sampled_from(["x\n", "sender\n", "\r\n", "\n"])))
    return "".join(texts).encode("utf-8", "surrogateescape") + b"\n"


@many
@given(nearly_postfix())
def test_nearly_in_postfix_order(data: bytes) -> None:
    agree(data)


@many
@given(st.lists(st.tuples(names, values), min_size=1, max_size=12), st.booleans())
def test_in_any_order(pairs: list[tuple[str, str]], known: bool) -> None:
    lines = [*pairs, ("request", "smtpd_access_policy")] if known else pairs
    agree("".join(f"{name}={value}\n" for name, value in lines).encode("utf-8", "surrogateescape") + b"\n")


@many
@given(
    st.lists(
        st.sampled_from([b"request=smtpd_access_policy", b"=", b"a", b"sender=x", b"\0", b"\xff=\xff"]), min_size=1
    )
)
def test_arbitrary_lines(lines: list[bytes]) -> None:
    agree(b"\n".join(lines) + b"\n\n")


@many
@given(nearly_postfix())
def test_both_readers_agree(data: bytes) -> None:
    """The plain reader alone gives what the pair of them gives."""
    try:
        request: Request | None = read_request(data)
    except ProtocolError:
        request = None
    try:
        plain: Request | None = parse_request(data)
    except ProtocolError:
        plain = None
    assert request == plain


@pytest.mark.parametrize("line", [b"x\n", b"sender\n", b"\r\n"])
@pytest.mark.parametrize("place", range(len(ATTRIBUTES) + 1))
def test_a_line_without_an_equals_sign_is_refused_wherever_it_stands(place: int, line: bytes) -> None:
    lines = question()[:-1].splitlines(keepends=True)
    with pytest.raises(ProtocolError):
        read_request(b"".join([*lines[:place], line, *lines[place:], b"\n"]))


def versions_of(request: bytes) -> dict[str, bytes]:
    """A request as Postfix 3.7 sends it, as older ones would and as newer ones do."""
    missing = (b"client_port", b"server_address", b"server_port", b"policy_context", b"encryption_cipher")
    old = b"".join(line for line in request.splitlines(keepends=True) if line.partition(b"=")[0] not in missing)
    newer = request[:-1] + b"compatibility_level=3.10\nmail_version=3.10.1\ntls_sni=mx.example.net\n\n"
    return {"3.7": request, "2.9": old, "3.12": newer}


@pytest.mark.parametrize("version", ["3.7", "2.9", "3.12"])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"sender": "", "queue_id": "4XyZ1234"},
        {"client_address": "2001:db8::25", "recipient": "Info+tag@MAIL.other.example"},
        {"ccert_subject": "mail.contoso.com", "ccert_issuer": "Lab+20CA", "ccert_fingerprint": "AA:BB"},
        {"client_name": "ünknown?", "helo_name": "[192.0.2.1]", "size": "", "stress": "yes"},
    ],
)
def test_postfix_seldom_takes_the_slow_way(
    values: dict[str, str], version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = versions_of(question(**values))[version]
    expected = parse_request(data)
    monkeypatch.setattr(module, "parse_request", lambda text: None)
    assert read_request(data) == (expected if data.isascii() else None)
