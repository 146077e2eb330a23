"""What goes to the service manager and what comes from it, by the letter of sd_notify(3) and sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.service.systemd import notify, passed_sockets, reloading, watchdog_seconds

PID = str(os.getpid())


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@policyd-test-{PID}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listener


def test_notify(manager: socket.socket) -> None:
    notify("READY=1", "STATUS=gëneration 1")
    assert manager.recv(1000).decode() == "READY=1\nSTATUS=gëneration 1"


def test_reloading_comes_with_the_clock(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    reloading()
    first, second = manager.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_manager_that_does_not_listen_is_never_waited_for(manager: socket.socket) -> None:
    for _ in range(5000):
        notify("WATCHDOG=1")


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/notify", "@nobody-listens-here", "vsock:2:1"])
def test_no_manager(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": PID}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
    ],
)
def test_watchdog(environment: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environment) == seconds


@pytest.mark.parametrize(
    ("environment", "sockets"),
    [
        ({}, []),
        ({"LISTEN_PID": PID, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "policyd"}, [(3, "policyd")]),
        ({"LISTEN_PID": PID, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "policyd:metrics"}, [(3, "policyd"), (4, "metrics")]),
        ({"LISTEN_PID": PID, "LISTEN_FDS": "2"}, [(3, ""), (4, "")]),
        ({"LISTEN_PID": PID, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "policyd"}, [(3, "policyd"), (4, "")]),
        ({"LISTEN_PID": PID, "LISTEN_FDS": "0"}, []),
        ({"LISTEN_PID": PID, "LISTEN_FDS": "x"}, []),
        ({"LISTEN_PID": PID}, []),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "policyd"}, []),  # meant for another process
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "policyd"}, []),
    ],
)
def test_passed_sockets(environment: dict[str, str], sockets: list[tuple[int, str]]) -> None:
    assert passed_sockets(environment) == sockets
