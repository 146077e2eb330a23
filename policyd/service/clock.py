"""Twisted's timers by a clock that never steps.

Twisted takes the time of day for its timers. A step of that clock (NTP at boot, a resumed virtual
machine) would stop the watchdog's pings and hold back log lines for as long as the step was.
"""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_clock(reactor: Any) -> None:
    """To be called before anything is scheduled."""
    reactor.seconds = time.monotonic
