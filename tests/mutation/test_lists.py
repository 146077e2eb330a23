"""What `python -m tests.mutation` changes and runs is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mutation.__main__ import MODULES, ROOMS
from tests.places import PROJECT


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_its_modules(room: str) -> None:
    found = {Path(module).stem for module in MODULES if str(Path(module).parent) == room}
    assert found >= set(ROOMS[room].modules)
    assert found


@pytest.mark.parametrize("tests", [tests for room in ROOMS.values() for tests in room.stages])
def test_every_test_is_there(tests: Sequence[str]) -> None:
    assert [test for test in tests if not (PROJECT / test).exists()] == []


def test_the_survivors_are_of_modules_that_are_there() -> None:
    """A row of a module that has gone is stale."""
    text = (PROJECT / "tests/mutation/survivors.md").read_text("utf-8")
    facts, explaining = text.split("## The explaining modules")
    named = [f"policyd/{name}" for name in re.findall(r"`(\w+/\w+\.py)`", facts)]
    named += [f"policyd/explain/{name}" for name in re.findall(r"`(\w+\.py)`", explaining)]
    assert len(named) > 20
    assert set(named) <= set(MODULES)
