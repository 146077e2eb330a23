"""Each explanation is word for word what tests/explained.txt has."""

from __future__ import annotations

import pytest

from tests.explained import FILE, everything


def sections(lines: list[str]) -> dict[str, list[str]]:
    """The lines below each heading."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("== "):
            heading = line
            assert heading not in found
            found[heading] = []
        else:
            found[heading].append(line)
    return found


WRITTEN, TOLD = sections(FILE.read_text("utf-8").splitlines()), sections(list(everything()))


@pytest.mark.parametrize("heading", TOLD)
def test_explanation(heading: str) -> None:
    """Another one is a change to be looked at; then `python -m tests.explained`."""
    assert TOLD[heading] == WRITTEN.get(heading)


def test_nothing_else_is_written() -> None:
    assert list(WRITTEN) == list(TOLD)
