"""Bugs of our own, put in on purpose: the answer is a temporary refusal, never OK, and others are not concerned."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.peers import DEFER, OK, OURS, REJECT, THEIRS, answer, configuration, connect, request, unusual
from tests.helpers.waiting import until
from tests.places import PROJECT

RUN = "import sys\nfrom policyd.cli.main import main\nsys.exit(main(['serve', '-c', sys.argv[1]]))\n"

BOOM = request(client_address="203.0.113.7", sender="kate@contoso.com", recipient="boom@boom.example")
BOOM_REFUSED = request(client_address="198.51.100.9", sender="boom@boom.example", recipient="bob@other.example")
BOOM_UNUSUAL = unusual(client_address="203.0.113.7", sender="kate@contoso.com", recipient="boom@boom.example")

RAISES = {
    # what is broken: the place, and what it does instead for mail that has to do with boom.example
    "decide": """
import policyd.service.answers as broken
sound = broken.decide
def decide(rules, request):
    if request.recipient.endswith("boom.example"):
        raise {error}
    return sound(rules, request)
broken.decide = decide
""",
    "reply": """
import policyd.service.answers as broken
sound = broken.refusal
def refusal(reason, sender, instance):
    if sender.endswith("boom.example"):
        raise {error}
    return sound(reason, sender, instance)
broken.refusal = refusal
""",
}


@pytest.fixture
def broken(free_port: Callable[[], int], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that starts policyd with some Python run before: (port, process, path of its standard error)."""
    started: list[subprocess.Popen[bytes]] = []

    def start(before: str, **more: str) -> tuple[int, subprocess.Popen[bytes], Path]:
        port, said = free_port(), tmp_path / "stderr"
        path = configuration(tmp_path, port, **more)
        with said.open("ab") as stderr:
            process = subprocess.Popen([sys.executable, "-c", before + RUN, str(path)], stderr=stderr, cwd=PROJECT)
        started.append(process)
        until(lambda: "listening on" in said.read_text() or process.poll() is not None, "it listens")
        assert process.poll() is None, said.read_text()
        return port, process, said

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("error", ["KeyError('x')", "MemoryError()", "RecursionError()", "AssertionError()"])
@pytest.mark.parametrize(("place", "boom"), [("decide", BOOM), ("decide", BOOM_UNUSUAL), ("reply", BOOM_REFUSED)])
def test_decision_that_raises(place: str, boom: bytes, error: str, broken: Callable[..., Any]) -> None:
    port, process, said = broken(RAISES[place].format(error=error))  # only refusals have a text of their own
    with connect(port) as connection:
        for data, expected in ((OURS, OK), (boom, DEFER), (THEIRS, REJECT), (boom, DEFER), (OURS, OK)):
            connection.sendall(data)
            assert answer(connection).startswith(expected)
        connection.sendall(OURS + boom + THEIRS)
        assert [answer(connection)[:10] for _ in range(3)] == [b"action=OK\n", b"action=DEF", b"action=REJ"]
    process.terminate()
    assert process.wait(60) == 0
    log = said.read_text("ascii")
    assert log.count("Traceback") == 1, "each place is told once"
    assert "boom.example" not in "".join(line for line in log.splitlines() if "action=OK" in line)


def test_local_parts_stay_out_of_error_reports(broken: Callable[..., Any]) -> None:
    port, process, said = broken(RAISES["decide"].format(error="KeyError('x')"), more='[log]\naddresses = "domain"')
    with connect(port) as connection:
        connection.sendall(BOOM)
        assert answer(connection).startswith(DEFER)
    process.terminate()
    assert process.wait(60) == 0
    log = said.read_text("ascii")
    assert "Traceback" in log
    assert "*@boom.example" in log
    assert "boom@" not in log
    assert "kate@" not in log


def test_monitor_mode_does_not_hide_an_error_as_an_answer(broken: Callable[..., Any]) -> None:
    """In monitor mode too a bug is no OK; what else may be said there is for the rules of SPEC 3.6."""
    port, _, _ = broken(RAISES["decide"].format(error="KeyError('x')"), service='mode = "monitor"')
    with connect(port) as connection:
        connection.sendall(BOOM)
        assert not answer(connection).startswith(b"action=OK")
        connection.sendall(OURS)
        assert answer(connection) == b"action=DUNNO\n\n"


def test_log_line_that_raises(broken: Callable[..., Any]) -> None:
    """The answer is out before the line is written: a bug there costs the line, not the answer or the connection."""
    port, process, _ = broken(
        "import policyd.service.decision_log as broken\n"
        "sound = broken.decision_line\n"
        "def line(request, *rest):\n"
        "    if request.recipient.startswith('boom'): raise KeyError('x')\n"
        "    return sound(request, *rest)\n"
        "broken.decision_line = line\n"
    )
    with connect(port) as connection:
        connection.sendall(BOOM_UNUSUAL)
        assert answer(connection) == OK
        with contextlib.suppress(OSError):  # Twisted ends the connection, now or after the next answer
            connection.sendall(OURS)
            assert answer(connection) in (OK, b"")
    with connect(port) as connection:
        connection.sendall(OURS)
        assert answer(connection) == OK
    process.terminate()
    assert process.wait(60) == 0


CLOCK = """
import time, signal
real, shift = time.time, [0.0]
time.time = lambda: real() + shift[0]
def jump(number, frame):
    shift[0] += {seconds}
signal.signal(signal.SIGUSR1, jump)
"""


@pytest.mark.parametrize("seconds", [-7200, 7200])
def test_clock_that_jumps(
    seconds: int, broken: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog goes on being told, lines go on being written, SIGTERM ends it: no timer goes by the calendar."""

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(str(tmp_path / "notify"))
        notifications.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        port, process, said = broken(CLOCK.format(seconds=seconds))

        def told() -> bool:
            try:
                return b"WATCHDOG=1" in notifications.recv(4096)
            except BlockingIOError:
                return False

        until(told, "the watchdog is told")
        with connect(port) as connection:
            connection.sendall(request(instance="before.1"))
            assert answer(connection)
            process.send_signal(signal.SIGUSR1)
            connection.sendall(request(instance="after.1"))
            assert answer(connection)
            until(lambda: "instance=before.1" in said.read_text(), "what was decided before is logged")
            until(lambda: "instance=after.1" in said.read_text(), "what was decided after is logged")
        for _ in range(10):
            told()
        for _ in range(3):
            until(told, "the watchdog is told after the jump")
        process.terminate()
        assert process.wait(60) == 0
