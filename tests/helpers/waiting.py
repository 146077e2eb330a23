"""Waiting for what must come: never for a time, always for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds until a test gives up on what must come: far over anything expected, on the slowest machine too."""


def until(holds: Callable[[], bool], what: str | Callable[[], str] = "", seconds: float = PATIENCE) -> float:
    """Return when it holds, with the seconds that it took; fail with `what` when it does not in time."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + seconds, (
            f"not within {seconds} s: {what if isinstance(what, str) else what()}"
        )
        time.sleep(0.01)
    return time.monotonic() - began
