"""What `python -m tests.mutation` changes and runs is there."""

from __future__ import annotations

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
