"""The soak in short. The long one: `python -m tests.soak --seconds 1800`."""

from __future__ import annotations

import pytest

from tests.soak.soak import soak


@pytest.mark.parametrize(("seconds", "workers"), [(40, 1), (20, 2)])
def test_soak(seconds: float, workers: int) -> None:
    """Nothing wrong, nothing lost, nothing left open; a minute is too short to judge memory by."""
    report = soak(seconds, workers)
    assert not report.faults, str(report)
    assert report.requests > 0
    assert report.lines > report.requests / 2
    assert report.reloads >= 2
