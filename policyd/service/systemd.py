"""What systemd is told and tells: sd_notify(3), the watchdog, and sockets passed on (SPEC 8; sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

_FIRST_PASSED = 3  # SD_LISTEN_FDS_START


def notify(*assignments: str) -> None:
    """Sends `NAME=VALUE` assignments to the service manager; nothing where there is none. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    # A manager that is gone or busy is no reason to stop serving.
    with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as to_manager:
        to_manager.sendto("\n".join(assignments).encode("utf-8"), address)


def reloading() -> None:
    """Says that a reload began; Type=notify-reload demands the clock with it, older systemd ignores it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_seconds(environment: Mapping[str, str] = os.environ) -> float | None:
    """How often WATCHDOG=1 is due: half of what the unit allows; None where nobody waits for it."""
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isdigit() or int(text) == 0 or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(text) / 2_000_000


def passed_sockets(environment: Mapping[str, str] = os.environ) -> list[tuple[int, str]]:
    """(descriptor, name) of the sockets that a socket unit passed on."""
    if environment.get("LISTEN_PID") != str(os.getpid()) or not environment.get("LISTEN_FDS", "").isdigit():
        return []
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    count = int(environment["LISTEN_FDS"])
    return [(_FIRST_PASSED + n, names[n] if n < len(names) else "") for n in range(count)]
