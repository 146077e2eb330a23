"""What `python -m tests.mutation` changes and runs is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mutation.__main__ import MODULES, QUICK, THOROUGH
from tests.places import PROJECT


@pytest.mark.parametrize("room", THOROUGH)
def test_every_room_has_modules(room: str) -> None:
    assert room in {str(Path(module).parent) for module in MODULES}


@pytest.mark.parametrize("tests", [QUICK, *THOROUGH.values()])
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
