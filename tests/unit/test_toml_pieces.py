"""A long file read in pieces says what the whole says, and a bad one is told of as before (SPEC 4)."""

from __future__ import annotations

import tomllib

import pytest

from policyd.config import toml_file, toml_pieces
from policyd.config.problem import Problem
from policyd.config.toml_file import parse_toml, read_toml

HEAD = '[service]\nlisten = ["inet:127.0.0.1:1"]\n\n'
ONE = '[organizations.a]\naccepted_domains = ["a.example"]\n[organizations.a.connectors.x]\naddresses = ["10.0.0.1"]\n'
TWO = "[organizations.b]\naccepted_domains = [\n'b.example',\n]  # [organizations.c]\n"
THREE = "[organizations.c.connectors.x]\n[organizations.d]\n"

# Texts, and whether they are read in pieces to the end.
SOUND = {
    "usual": (HEAD + ONE + TWO + THREE, True),
    "no head": (ONE + TWO, True),
    "no organizations": (HEAD, True),
    "nothing": ("", True),
    "comments": (HEAD + "# [organizations.x]\n" + ONE + "# end", True),
    "another table behind": (ONE + "[log]\ndecisions = 'all'\n", False),
    "the table itself": ("[organizations]\n" + ONE + TWO, None),
    "a dotted key before": ("organizations.z.pending_domains = []\n" + ONE, False),
    "one in two places": (ONE + TWO + "[organizations.a.connectors.y]\n[organizations.d]\n", None),
    "quoted": ('[organizations."a b"]\n' + TWO, None),
    "a header in a string": (f'text = """\n{ONE}"""\n' + TWO, None),
    "a header in a literal": (f"text = '''\n{ONE}'''\n" + TWO, None),
}
DAMAGED = {
    "twice": ONE + TWO + ONE,
    "the table itself twice": ONE + "[organizations]\n" + TWO + "[organizations]\n",
    "the table itself twice, in escapes": ONE + '["organi\\u007aations"]\n' + TWO + '[ "organi\\u007aations" ]\n',
    "twice as a list": ONE + TWO + "[[organizations.a]]\n",
    "inline before": "organizations = {}\n" + ONE,
    "a list without end": ONE + 'x = ["a",\n' + TWO,
    "a header in a list": "x = [\n" + TWO + "]\n",
    "a slip in the last": ONE + TWO + THREE + "x = yes\n",
    "a slip before": "x = yes\n" + ONE,
    "a key of an organization that is a text": "[organizations]\na = 'text'\n" + ONE,
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is long, and every organization a piece."""
    monkeypatch.setattr(toml_pieces, "LONG", 0)
    monkeypatch.setattr(toml_pieces, "PIECE", 1)


@pytest.mark.parametrize("name", SOUND)
def test_the_same_data(name: str) -> None:
    text, whole = SOUND[name]
    expected = tomllib.loads(text)
    assert parse_toml(text) == expected
    assert list(parse_toml(text).get("organizations", ())) == list(expected.get("organizations", ())), "in order"
    if whole is not None:
        pieces = toml_pieces.pieces(text)
        assert pieces is not None
        assert (toml_file._parse_pieces(pieces) == expected) == whole


@pytest.mark.parametrize("name", DAMAGED)
def test_the_same_complaint(name: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/policyd.toml"
    with open(path, "w", encoding="utf-8") as out:
        out.write(DAMAGED[name])
    in_pieces = read_toml(path)
    monkeypatch.setattr(toml_pieces, "LONG", 1 << 30)
    whole = read_toml(path)
    assert isinstance(whole, Problem)
    assert in_pieces == whole


def test_a_long_text_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a hundred thousand organizations need twice the memory."""
    monkeypatch.setattr(toml_pieces, "PIECE", 1 << 16)
    longest = 0

    def loads(text: str) -> dict[str, object]:
        nonlocal longest
        longest = max(longest, len(text))
        return {"organizations": {f"{len(text)}{text[:40]}": {}}} if text else {}

    monkeypatch.setattr(tomllib, "loads", loads)
    parse_toml("".join(f"[organizations.o{number}]\nx = 1\n" for number in range(20_000)))
    assert 0 < longest < 100_000
