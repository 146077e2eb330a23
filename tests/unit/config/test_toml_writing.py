"""What is written as TOML reads back as what was meant, or is not written (SPEC 4)."""

from __future__ import annotations

import enum
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.config.toml import writing
from policyd.config.toml.writing import CannotWriteTomlError, dumps

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.sampled_from("\\\"'x0u41 .\n\t\x00\x7f\x1b\x85\u2028\u202e=#[]{}é")),
)
SCALARS = st.one_of(TEXTS, st.booleans(), st.integers(-(2**63), 2**63 - 1))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=6), max_leaves=12)
TABLES = st.recursive(
    st.dictionaries(TEXTS, VALUES, max_size=4),
    lambda inner: st.dictionaries(TEXTS, st.one_of(VALUES, inner), max_size=4),
    max_leaves=12,
)


@given(TABLES)
def test_what_is_written_reads_back(data: dict) -> None:
    assert tomllib.loads(dumps(data)) == data


@given(TABLES)
def test_nothing_invisible_is_written(data: dict) -> None:
    assert all(character.isprintable() or character == "\n" for character in dumps(data))


class Word(str, enum.Enum):  # noqa: UP042 - a StrEnum has no other text
    """A text of which `str()` is another text."""

    OK = "really OK"


class Texts(list):
    """A list that toml does not know."""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, ""),
        ({"a": True, "b": 1}, "a = true\nb = 1\n"),
        ({"t": {"v": 1}, "a": "x"}, 'a = "x"\n\n[t]\nv = 1\n'),
        ({"a": {"b": {"c": {}}}}, "[a.b.c]\n"),
        ({"a": {"b": {"v": 1}, "w": 2}}, "[a]\nw = 2\n\n[a.b]\nv = 1\n"),
        ({"a": {"x.y": {"v": 1}}}, '[a."x.y"]\nv = 1\n'),
        ({'"': {"": {"]": 1}}}, '["\\"".""]\n"]" = 1\n'),
        ({"a": ("x", ("y",))}, 'a = ["x", ["y"]]\n'),
        ({"a": "\\x41 \x00\x1b\x7f\u202e\U000e0041"}, 'a = "\\\\x41 \\u0000\\u001B\\u007F\\u202E\\U000E0041"\n'),
        ({"a": "bücher"}, 'a = "bücher"\n'),
        ({"a": Word.OK, "b": Texts(["x"])}, 'a = "really OK"\nb = ["x"]\n'),
        ({"a": ["x" * 60, "y" * 60]}, f'a = [\n  "{"x" * 60}",\n  "{"y" * 60}",\n]\n'),
    ],
)
def test_written(data: dict, text: str) -> None:
    assert dumps(data) == text


def test_one_table_in_several_places_is_no_circle() -> None:
    shared: dict = {}
    data = {"a": shared, "b": {"c": shared}}
    assert tomllib.loads(dumps(data)) == data


@pytest.mark.parametrize(
    "value",
    [
        None,
        1.5,
        float("nan"),
        b"x",
        bytearray(b"x"),
        "\ud800",
        {"\udcff": 1},
        {1: 2},
        [{}],
        [None],
        {"a"},
        2**63,
        object(),
    ],
)
def test_refused(value: object) -> None:
    with pytest.raises(CannotWriteTomlError):
        dumps({"key": value})


@pytest.mark.parametrize("written", ["a = 1\n", 'a = "x"\nb = 1\n', "", "a = [\n", 'a = "y"\n'])
def test_a_difference_is_never_printed(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_values", lambda values: written)
    with pytest.raises(CannotWriteTomlError):
        dumps({"a": "x"})


def test_true_is_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_values", lambda values: "a = 1\n")
    with pytest.raises(CannotWriteTomlError):
        dumps({"a": True})
