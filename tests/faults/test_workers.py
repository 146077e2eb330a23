"""Workers that die, start and hang while rules change: no worker is left with other rules than the parent says."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.peers import OK, OURS, REJECT, answer, answers, ask, children, configuration, connect, request
from tests.helpers.log_lines import read_decision
from tests.helpers.waiting import until
from tests.places import PROJECT

NEW = "203.0.113.8"
ASKED = 40  # connections: enough to meet each of two workers for sure


def first_words(port: int) -> set[bytes]:
    """The first words of the answers on many connections, which the workers share."""
    return {ask(port, OURS).split()[0] + b" " for _ in range(ASKED)}


def revoke(target: Any) -> None:
    """Take the connector's address out of the file."""
    configuration(target.folder, target.port, service="workers = 2", address=NEW)


def wait_for(target: Any, text: str, since: int = 0, seconds: float = 60) -> str:
    log = target.server.wait_for_log(lambda log: text in log, since=since, seconds=seconds)
    assert text in log, log
    return str(log)


@pytest.mark.parametrize("delay", [0.0, 1.02, 1.2, 1.6])
def test_worker_that_starts_during_a_reload_has_the_new_rules(delay: float, attacked: Callable[..., Any]) -> None:
    """A killed worker is started again after a second; the reload comes before, within and after its start."""
    target = attacked(service="workers = 2")
    until(lambda: len(children(target.pid)) == 2, "two workers")
    wait_for(target, "listening on")
    os.kill(children(target.pid)[0], signal.SIGKILL)
    wait_for(target, "ended")
    time.sleep(delay)
    revoke(target)
    since = len(target.server.log())
    target.server.reload()
    while "not reloaded" in target.server.wait_for_log(lambda log: "reloaded" in log, since=since):
        since = len(target.server.log())  # allowed, when it says so: then none has them
        target.server.reload()
    wait_for(target, "policyd: reloaded", since)
    until(lambda: len(children(target.pid)) == 2, "two workers again")
    until(lambda: first_words(target.port) == {REJECT}, "all workers refuse")
    assert first_words(target.port) == {REJECT}


def starting(server: Any) -> Any:
    """The server as soon as it listens, which is before its workers serve; tried again where we came too late."""
    for _ in range(20):
        since = len(server.log())
        server.start()
        if "listening on" not in server.log()[since:]:
            return server
        server.stop()
    raise AssertionError("the workers were always there before us")


def test_reload_during_the_first_start_counts(
    policyd_server: Callable[..., Any], free_port: Callable[[], int], tmp_path: Any
) -> None:
    port = free_port()
    server = starting(policyd_server(configuration(tmp_path, port, service="workers = 2")))
    configuration(tmp_path, port, service="workers = 2", address=NEW)
    server.reload()
    until(lambda: "reloaded; generation 2" in server.log(), "it reloads")
    until(lambda: server.log().rfind("listening on") > server.log().rfind("stopped"), "all workers serve")
    assert first_words(port) == {REJECT}
    server.stop()


def test_sigterm_during_the_first_start(
    policyd_server: Callable[..., Any], free_port: Callable[[], int], tmp_path: Any
) -> None:
    server = starting(policyd_server(configuration(tmp_path, free_port(), service="workers = 2")))
    server.stop()
    assert "internal error" not in server.log()


def test_killed_worker_is_replaced_and_others_go_on(attacked: Callable[..., Any]) -> None:
    target = attacked(service="workers = 2")
    wait_for(target, "listening on")
    first, second = children(target.pid)
    with connect(target.port) as one, connect(target.port) as other:
        for connection in (one, other):
            connection.sendall(OURS)
            assert answer(connection) == OK
        os.kill(first, signal.SIGKILL)
        until(lambda: len(children(target.pid)) == 2 and first not in children(target.pid), "it is replaced")
        assert second in children(target.pid)
    assert first_words(target.port) == {b"action=OK "}  # what came meanwhile waits in the socket, and is answered


def test_hanging_worker_is_ended(attacked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGSTOP: it is missed at the next looks, and killed. A watchdog makes them come soon."""
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    target = attacked(service="workers = 2")
    wait_for(target, "listening on")
    hanging = children(target.pid)[0]
    os.kill(hanging, signal.SIGSTOP)
    until(lambda: hanging not in children(target.pid), "it is ended", 120)
    until(lambda: len(children(target.pid)) == 2, "two workers again")
    assert first_words(target.port) == {b"action=OK "}


def test_killed_parent_leaves_nobody(attacked: Callable[..., Any]) -> None:
    """No orphan goes on answering by old rules, and the next start finds the port free."""
    target = attacked(service="workers = 2")
    wait_for(target, "listening on")
    orphans = children(target.pid)
    with connect(target.port) as connection:
        connection.sendall(OURS[:50])
        target.server.kill()
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in orphans), "the workers are gone")
    target.server.start()
    assert ask(target.port) == OK


def test_signals_to_the_whole_group(attacked: Callable[..., Any]) -> None:
    """systemd sends SIGHUP and SIGTERM to every process of the unit where it is told to: no worker dies of a SIGHUP."""
    target = attacked(service="workers = 2")
    wait_for(target, "listening on")
    workers = children(target.pid)
    for pid in (*workers, target.pid):
        os.kill(pid, signal.SIGHUP)
    wait_for(target, "reloaded; generation 2")
    assert children(target.pid) == workers
    with connect(target.port) as connection:
        connection.sendall(OURS * 20)
        for pid in (*workers, target.pid):
            os.kill(pid, signal.SIGTERM)
        for _ in range(20):
            assert answer(connection) == OK
    assert target.server.process.wait(60) == 0
    target.server.process = None


def test_health_page_kills_no_worker(attacked: Callable[..., Any], free_port: Callable[[], int]) -> None:
    """Who may look at the health must not decide who lives: a worker that is busy is left to the parent's own timer."""
    metrics = free_port()
    target = attacked(service="workers = 2", more=f'[metrics]\nlisten = "inet:127.0.0.1:{metrics}"')
    wait_for(target, "listening on")
    workers = children(target.pid)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    with connect(metrics) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        connection.settimeout(60)
        page = b""
        while piece := connection.recv(4096):
            page += piece
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert b" 503 " in page.split(b"\r\n")[0] + b" "
    if time.monotonic() - began < 8:  # else the timer has looked, too
        assert children(target.pid) == workers


def test_lines_of_workers_do_not_run_into_each_other(
    policyd_command: list[str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """All write to one standard error: where that is a small pipe with a slow reader, every line is whole as well."""
    port = free_port()
    config = configuration(tmp_path, port, service="workers = 2")
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([*policyd_command, "serve", "-c", str(config)], stderr=writing, cwd=PROJECT)
    os.close(writing)
    try:
        said = b""
        while b"listening on" not in said:
            said += os.read(reading, 1000)
        questions = b"".join(request(instance=f"{n:x}.1", sender="x" * (n % 200)) for n in range(1000))
        crowd = [connect(port) for _ in range(8)]
        for connection in crowd:
            connection.sendall(questions)
        for connection in crowd:
            answers(connection, 1000)
            connection.close()
        process.terminate()
        while piece := os.read(reading, 1000):
            said += piece
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reading)
    lines = [line for line in said.decode("ascii").splitlines() if "policyd: " not in line and " warning: " not in line]
    assert len(lines) > 1000
    for line in lines:
        assert read_decision(line[3:]), line
