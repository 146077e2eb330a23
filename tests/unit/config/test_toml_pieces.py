"""A long file read in pieces says what the whole says, and a bad one is told of as before (SPEC 4)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.config.files import _read_organizations as read_organizations
from policyd.config.problems import KeyPath, Problem, Report
from policyd.config.toml import file, pieces
from policyd.config.toml.file import TomlFile, parse_toml, read_toml
from policyd.config.toml.lines import Lines
from policyd.loading.load import load
from tests.places import TESTS

CONFIGURATIONS = sorted(path.parent for path in TESTS.glob("*_configs/*/policyd.toml"))

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
    "quoted, one by one": (ONE + '[organizations."b.example"]\nconnectors_only = true\n' + TWO, True),
    "a blank before": (HEAD + ONE + '[organizations.e]\n x = "y"\n\n[ organizations.f ]\n' + TWO, True),
    "quoted": ('[organizations."a b"]\n' + TWO, None),
    "a header in a string": (f'text = """\n{ONE}"""\n' + TWO, None),
    "a header in a literal": (f"text = '''\n{ONE}'''\n" + TWO, None),
}
DAMAGED = {
    "twice": ONE + TWO + ONE,
    "twice, once quoted": ONE + TWO + '[organizations."a"]\n',
    "twice, first quoted": '[organizations."a"]\n' + TWO + ONE + THREE,
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
    monkeypatch.setattr(pieces, "LONG", 0)
    monkeypatch.setattr(pieces, "PIECE", 1)


@pytest.mark.parametrize("name", SOUND)
def test_the_same_data(name: str) -> None:
    text, whole = SOUND[name]
    expected = tomllib.loads(text)
    assert parse_toml(text)[0] == expected
    assert list(parse_toml(text)[0].get("organizations", ())) == list(expected.get("organizations", ())), "in order"
    if whole is not None:
        split = pieces.pieces(text)
        assert split is not None
        parts = file._parse_pieces(split)
        assert (parts is not None and parts[0] == expected) == whole


def test_each_organization_begins_a_piece() -> None:
    texts = [HEAD, ONE, TWO, THREE[:31], THREE[31:], '[organizations."b.example"]\nconnectors_only = true\n', TWO]
    assert list(pieces.pieces("".join(texts)) or ()) == [HEAD, ONE, TWO + THREE[:31], *texts[4:]]


def paths(data: object, above: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key and element, and of each table a key that is not there."""
    if isinstance(data, dict):
        yield (*above, "no such key")
    found = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in found:
        yield (*above, key)
        yield from paths(value, (*above, key))


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("characters", [1, 80, 1000])
def test_the_same_lines(name: str, characters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", characters)
    text = SOUND[name][0]
    whole, lines = Lines(text), parse_toml(text)[1]
    for path in [(), ("organizations",), ("organizations", "nobody", "addresses"), *paths(tomllib.loads(text))]:
        assert lines.line(path) == whole.line(path), path


@pytest.mark.parametrize("folder", CONFIGURATIONS, ids=lambda path: path.name)
def test_the_same_problems(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every configuration that is bad or odd: the same errors and warnings, at the same lines, and the same rules."""
    monkeypatch.chdir(folder)
    in_pieces = load("policyd.toml", 1_800_000_000.0)
    monkeypatch.setattr(pieces, "LONG", 1 << 30)
    whole = load("policyd.toml", 1_800_000_000.0)
    assert in_pieces.problems == whole.problems
    assert in_pieces.configuration == whole.configuration


@pytest.mark.parametrize("name", [name for name, (_, whole) in SOUND.items() if whole])
def test_the_tables_are_let_go_of_and_read_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 80)
    path = tmp_path / "policyd.toml"
    path.write_text(SOUND[name][0], "utf-8")
    source = read_toml(str(path))
    assert isinstance(source, TomlFile)
    expected = tomllib.loads(SOUND[name][0]).get("organizations", {})
    all_parsed = read_organizations([source], Report(source, 0.0), [], 0.0)
    assert not source.data.get("organizations")
    assert [parsed.organization.name for parsed in all_parsed] == list(expected)
    assert not any(isinstance(parsed.raw, dict) for parsed in all_parsed)
    assert [dict(parsed.raw) for parsed in all_parsed] == list(expected.values())


def test_only_what_is_asked_about_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one warning about a hundred thousand organizations costs as much memory as half of their rules."""
    monkeypatch.setattr(pieces, "PIECE", 1000)
    gone_through: list[str] = []

    class Told(Lines):
        def __init__(self, text: str) -> None:
            gone_through.append(text)
            super().__init__(text)

    monkeypatch.setattr(pieces, "Lines", Told)
    text = HEAD + "".join(f"[organizations.o{number}]\nconnectors_only = true\n" for number in range(1000))
    lines = parse_toml(text)[1]
    for number in (0, 500, 501, 999):
        assert lines.line(("organizations", f"o{number}", "connectors_only")) == 5 + 2 * number
    assert lines.line(("service", "listen")) == 2
    assert sum(map(len, gone_through)) < len(text) / 5


@pytest.mark.parametrize("name", DAMAGED)
def test_the_same_complaint(name: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/policyd.toml"
    with open(path, "w", encoding="utf-8") as out:
        out.write(DAMAGED[name])
    in_pieces = read_toml(path)
    monkeypatch.setattr(pieces, "LONG", 1 << 30)
    whole = read_toml(path)
    assert isinstance(whole, Problem)
    assert in_pieces == whole


def test_a_long_text_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a hundred thousand organizations need twice the memory."""
    monkeypatch.setattr(pieces, "PIECE", 1 << 16)
    longest = 0

    def loads(text: str) -> dict[str, object]:
        nonlocal longest
        longest = max(longest, len(text))
        return {"organizations": {f"{len(text)}{text[:40]}": {}}} if text else {}

    monkeypatch.setattr(tomllib, "loads", loads)
    parse_toml("".join(f"[organizations.o{number}]\nx = 1\n" for number in range(20_000)))
    assert 0 < longest < 100_000
