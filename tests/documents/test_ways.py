"""docs/ways.md: the four ways are ten steps each, and every room and function that they name is there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.places import PROJECT

PAGE = (PROJECT / "docs" / "ways.md").read_text("utf-8")
WAYS = dict(re.findall(r"^## (.*)\n\n((?:.+\n)+)", PAGE, re.MULTILINE))
ROOMS = sorted(set(re.findall(r"`((?:policyd|contrib)/[\w/]+\.\w+)`", PAGE)))
NAMED = sorted(set(re.findall(r"`(policyd/[\w/]+\.py)`,\s+`(\w+)(?:\(\))?`", PAGE)))


@pytest.mark.parametrize("way", WAYS)
def test_ten_steps(way: str) -> None:
    """Each names a room, and its number is right."""
    steps = re.split(r"^(?=\d)", WAYS[way], flags=re.MULTILINE)[1:]
    assert [step.partition(".")[0] for step in steps] == [str(number) for number in range(1, 11)]
    assert [step for step in steps if not re.search(r"`(?:policyd|contrib)/", step)] == []


def test_four_ways() -> None:
    """None is lost by its form."""
    assert len(WAYS) == PAGE.count("\n## ") == 4


@pytest.mark.parametrize("room", ROOMS)
def test_rooms(room: str) -> None:
    """They exist."""
    assert (PROJECT / room).is_file()


@pytest.mark.parametrize(("room", "name"), NAMED)
def test_functions(room: str, name: str) -> None:
    """Functions, methods and classes are defined in the room that is named with them."""
    nodes = ast.walk(ast.parse((PROJECT / room).read_bytes()))
    assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
