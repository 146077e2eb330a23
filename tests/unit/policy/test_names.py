"""Names by table: the canonical form, plain spelling, patterns, the way up (SPEC 2, 3.1, 3.3)."""

from __future__ import annotations

import pytest

from policyd.policy.names import (
    Pattern,
    canonical,
    domain_text,
    is_below,
    is_plain,
    parse_pattern,
    unicode_form,
    upwards,
    without_local_part,
)

L63, L64 = "l" * 63, "l" * 64
N253 = ".".join(["l" * 63] * 3 + ["l" * 61])

CANONICAL = [
    ("contoso.com", "contoso.com"),
    ("CONTOSO.Com", "contoso.com"),
    ("contoso.com.", "contoso.com"),
    ("contoso.com..", None),
    (".", None),
    ("", None),
    (".contoso.com", None),
    ("a..b", None),
    ("lan", "lan"),
    ("under_score.example", "under_score.example"),
    ("-a-.example", "-a-.example"),
    ("_.-", "_.-"),
    ("a.b_", "a.b_"),
    ("_x.bücher.example", "_x.xn--bcher-kva.example"),
    ("a--.bücher.example", "a--.xn--bcher-kva.example"),
    ("bü_cher.example", None),
    ("1.2.3.4", "1.2.3.4"),
    ("[1.2.3.4]", None),
    ("[IPv6:::1]", None),
    ("a b.example", None),
    (" a.example", None),
    ("a.example ", None),
    ("a.example\n", None),
    ("a\0.example", None),
    ("*.a.example", None),
    ("a@b.example", None),
    ("a:25", None),
    ("a/b", None),
    ("a+b", None),
    (f"{L63}.example", f"{L63}.example"),
    (f"{L64}.example", None),
    (N253, N253),
    (N253 + ".", N253),
    (N253[1:] + ".ll", None),
    ("l" + N253, None),
    # other scripts
    ("bücher.example", "xn--bcher-kva.example"),
    ("BÜCHER.EXAMPLE", "xn--bcher-kva.example"),
    ("bu\u0308cher.example", "xn--bcher-kva.example"),
    ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
    ("faß.example", "xn--fa-hia.example"),  # non-transitional: not fass
    ("fass.example", "fass.example"),
    ("ｃontoso.com", "contoso.com"),
    ("contoso。com", "contoso.com"),
    ("contoso.com。", None),  # only an ASCII dot is dropped
    ("con\u00adtoso.com", "contoso.com"),
    ("contоso.com", "xn--contso-zqf.com"),  # Cyrillic о
    ("a\u200db.example", None),
    ("\u200d.example", None),
    ("ⅷ.example", "viii.example"),
    # symbols that IDNA 2008 refuses, by Punycode; its other rules hold for such labels, too
    ("☃.example", "xn--n3h.example"),
    ("i❤.ws", "xn--i-7iq.ws"),
    ("☃é.example", "xn--9ca901q.example"),
    ("☃e\u0301.example", "xn--9ca901q.example"),  # composed by UTS 46
    ("-☃.example", None),
    ("a☃-.example", None),
    ("ab--☃.example", None),
    ("\u0301☃.example", None),
    ("☃!.example", None),  # what ASCII has no name with
    ("☃_.example", None),
    ("☃\u200d.example", None),  # a joiner out of its context
    ("☃·.example", None),
    ("a☃א.example", None),  # direction
    ("a\u202eb.example", None),  # UTS 46 forbids it
    # a label that begins with xn-- is a name like any other
    ("xn--.example", "xn--.example"),
    ("xn--zz--9.example", "xn--zz--9.example"),
    ("xn--bcher-kv.example", "xn--bcher-kv.example"),
    ("xn--BCHER-KVA-.example", "xn--bcher-kva-.example"),
    ("a.xn--n3h.example", "a.xn--n3h.example"),
    ("xn--contoso-.com", "xn--contoso-.com"),
    ("ｘn--n3h.example", "xn--n3h.example"),
    ("ab--cd.example", "ab--cd.example"),
    ("bücher.\udcff", None),
    ("contoso.com\udcff", None),
    ("\udcc3\udcbc.example", None),
    ("ü" * 60 + ".example", None),
    # how long a text may be
    ("\u00ad" * 989 + "contoso.com", "contoso.com"),
    ("\u00ad" * 989 + "contoso.com.", "contoso.com"),
    ("\u00ad" * 990 + "contoso.com", None),
]


@pytest.mark.parametrize(("text", "name"), CANONICAL, ids=range(len(CANONICAL)))
def test_canonical(text: str, name: str | None) -> None:
    assert canonical(text) == name


@pytest.mark.parametrize(("text", "name"), CANONICAL, ids=range(len(CANONICAL)))
def test_a_canonical_name_is_its_own_canonical_form(text: str, name: str | None) -> None:
    if name is not None:
        assert canonical(name) == name
        assert canonical(unicode_form(name)) == name
        assert is_plain(name, name)
        assert is_plain(unicode_form(name), name)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("contoso.com", True),
        ("CONTOSO.com.", True),
        ("contoso.com..", False),
        ("ｃontoso.com", False),
        ("contoso。com", False),
        ("con\u00adtoso.com", False),
    ],
)
def test_plain_ascii(text: str, plain: bool) -> None:
    assert is_plain(text, "contoso.com") == plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("xn--bcher-kva.example", True),
        ("XN--Bcher-KVA.Example.", True),
        ("bücher.example", True),
        ("bücher.EXAMPLE.", True),
        ("Bücher.example", True),  # ASCII letter case
        ("bÜcher.example", True),  # any: Postfix folds by Unicode
        ("bu\u0308cher.example", False),
        ("bücher。example", False),
        ("ｂücher.example", False),
    ],
)
def test_plain_idn(text: str, plain: bool) -> None:
    assert canonical(text) in ("xn--bcher-kva.example", None)
    assert is_plain(text, "xn--bcher-kva.example") == plain


def test_half_encoded_is_not_plain() -> None:
    name = "xn--bcher-kva.xn--bcher-kva.example"
    assert canonical("bücher.xn--bcher-kva.example") == name
    assert not is_plain("bücher.xn--bcher-kva.example", name)
    assert is_plain("bücher.bücher.example", name)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("a@b", "b"),
        ("a@b@c", "c"),
        ("@b", "b"),
        ("a@", ""),
        ("a", None),
        ("", None),
        ("a b@c d", "c d"),
    ],
)
def test_the_last_at_counts(address: str, text: str | None) -> None:
    assert domain_text(address) == text


def test_upwards() -> None:
    assert list(upwards("a.b.c")) == ["a.b.c", "b.c", "c"]
    assert list(upwards("lan")) == ["lan"]


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("a.contoso.com", True),
        ("a.b.contoso.com", True),
        ("contoso.com", False),
        ("evilcontoso.com", False),
        ("com", False),
        ("contoso.com.evil.example", False),
        ("a.contoso.net", False),
    ],
)
def test_is_below(name: str, below: bool) -> None:
    assert is_below(name, "contoso.com") == below
    assert Pattern("contoso.com", wildcard=True).covers(name) == (below or name == "contoso.com")
    assert Pattern("contoso.com").covers(name) == (name == "contoso.com")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Contoso.com", Pattern("contoso.com")),
        ("*.contoso.com.", Pattern("contoso.com", wildcard=True)),
        ("*.bücher.example", Pattern("xn--bcher-kva.example", wildcard=True)),
        ("*", None),
        ("*.", None),
        ("*.*.a", None),
        ("mail.*.contoso.com", None),
        ("*contoso.com", None),
        ("", None),
    ],
)
def test_patterns(text: str, pattern: Pattern | None) -> None:
    assert parse_pattern(text) == pattern
    if pattern is not None:
        assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("kate@contoso.com", "*@contoso.com"),
        ("", ""),
        ("bob", "*"),
        ("@contoso.com", "@contoso.com"),
        ("a%b@c", "*%@c"),
        ("a@b@c", "*@@c"),
        ("a!b%c@d@e", "*@%!@e"),
        ("a@", "*@"),
        ("@", "@"),
    ],
)
def test_without_local_part(address: str, shown: str) -> None:
    assert without_local_part(address) == shown
