"""One request: which attributes count, and xtext (SPEC 5 and 3.1, RFC 3461)."""

from __future__ import annotations

import pytest

from policyd.protocol.request import (
    ProtocolError,
    Request,
    decode_xtext,
    parse_attributes,
    parse_in_any_order,
    parse_request,
)
from tests.helpers.conversation import question


def test_all_attributes_that_count_in_postfix_order() -> None:
    values = {name: f"value of {name}" for name in Request._fields}
    assert parse_request(question(**values)) == Request(**values)


def test_all_attributes_that_count_in_any_order() -> None:
    values = {name: f"value of {name}" for name in Request._fields}
    lines = [f"{name}={value}" for name, value in values.items()]
    text = "\n".join([*reversed(lines), "request=smtpd_access_policy", "sender=another"]) + "\n\n"
    assert parse_in_any_order(text) == Request(**values)
    assert parse_request(text.encode()) == Request(**values)


def test_missing_attributes_are_empty() -> None:
    assert parse_request(b"request=smtpd_access_policy\n\n") == Request()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"protocol_state=RCPT\n\n", "no request attribute"),
        (b"request=x\n\n", "not smtpd_access_policy"),
        (b"request=smtpd_access_policy\nx\n\n", "no name=value"),
        (b"request=smtpd_access_policy\n\nx=y\n\n", "no name=value"),
    ],
)
def test_what_is_no_request(data: bytes, told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        parse_request(data)


@pytest.mark.parametrize(
    ("typed", "sender"),
    [
        ("", ""),
        ("sender=a", "a"),
        ("sender=a\n", "a"),
        ("\n\nsender=a\n\n", "a"),
        ("request=smtpd_access_policy\nsender=a", "a"),
        ("sender=a=b", "a=b"),
    ],
)
def test_attributes_as_people_type_them(typed: str, sender: str) -> None:
    assert parse_attributes(typed).sender == sender


@pytest.mark.parametrize("typed", ["sender", "sender=a\nb", "request=other", "sender=\0"])
def test_typed_nonsense(typed: str) -> None:
    with pytest.raises(ProtocolError):
        parse_attributes(typed)


XTEXT = [
    ("", ""),
    ("mail.contoso.com", "mail.contoso.com"),
    ("*.contoso.com", "*.contoso.com"),
    ("mail+2Econtoso.com", "mail.contoso.com"),
    ("mail+2econtoso.com", "mail.contoso.com"),
    ("S+C3+B6hne+20+2B+20M+C3+BCller+20=+20Post+20<relay>", "Söhne + Müller = Post <relay>"),
    ("a=b", "a=b"),
    ("~!", "~!"),
    ("+0A", "\n"),
    ("+00", "\0"),
    ("a+2B2E", "a+2E"),  # decoded once, not twice
    ("mail+2Gcontoso.com", None),
    ("a+", None),
    ("a+2", None),
    ("+-1", None),
    ("+ 1", None),
    ("+٢٢", None),  # digits, but not ours
    ("a b", None),
    ("a\tb", None),
    ("ü", None),
    ("\x7f", None),
    ("\udcff", None),
    ("+FF", None),  # not UTF-8
    ("+C3", None),
    ("+C0+AF", None),  # an overlong /
    ("+ED+A0+80", None),  # a surrogate
]


@pytest.mark.parametrize(("text", "decoded"), XTEXT)
def test_xtext(text: str, decoded: str | None) -> None:
    assert decode_xtext(text) == decoded
    assert Request(ccert_subject=text).certificate_subject == decoded
