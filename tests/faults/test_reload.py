"""Reloads that fail in ways no file checker foresees: the old rules answer on, and the next good file is taken."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.peers import OK, OURS, REJECT, answer, ask, configuration, connect, no_growth_without_end
from tests.helpers.processes import catches_hangups, children, descriptors
from tests.helpers.waiting import until
from tests.server.reload_story import Manager


def test_reload_that_runs_out_of_memory(attacked: Callable[..., Any]) -> None:
    """A configuration that does not fit: refused, told, and forgotten when a smaller one comes."""
    target = attacked()
    small = (target.folder / "p.toml").read_text("utf-8")
    many = "".join(
        f'[organizations.o{n}]\naccepted_domains = ["o{n}.example", "*.p{n}.example"]\n' for n in range(60_000)
    )
    (target.folder / "p.toml").write_text(small + many, "utf-8")
    size = int(Path(f"/proc/{target.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    before = resource.prlimit(target.pid, resource.RLIMIT_AS)
    resource.prlimit(target.pid, resource.RLIMIT_AS, (size + (40 << 20), before[1]))
    with connect(target.port) as connection:
        target.server.reload()
        log = ""
        for _ in range(3000):
            connection.sendall(OURS)
            assert answer(connection) == OK
            log = target.server.log()
            if "not reloaded" in log:
                break
        else:
            log = target.server.wait_for_log(lambda log: "not reloaded" in log, seconds=60)
        assert "not reloaded" in log, log
        assert "generation 1 stays in force" in log
        connection.sendall(OURS)
        assert answer(connection) == OK
    resource.prlimit(target.pid, resource.RLIMIT_AS, before)
    (target.folder / "p.toml").write_text(small, "utf-8")
    target.server.reload()
    target.server.wait_for_log(lambda log: "reloaded; generation 2" in log)
    assert ask(target.port) == OK


@pytest.mark.parametrize("workers", [1, 2])
def test_storm_of_hangups_ends_with_the_last_file(workers: int, attacked: Callable[..., Any]) -> None:
    """Requests are answered all the while, by one of the two files; in the end by the last."""
    service = f"workers = {workers}"
    target = attacked(service=service)
    target.server.wait_for_log(lambda log: "listening on" in log)
    with connect(target.port) as connection:
        for number in range(300):
            address = "203.0.113.7" if number % 2 else "203.0.113.8"
            configuration(target.folder, target.port, service=service, address=address)
            target.server.reload()
            connection.sendall(OURS)
            assert answer(connection).startswith((OK, REJECT))
        configuration(target.folder, target.port, service=service, address="203.0.113.9")
        target.server.reload()
        for _ in range(5 * workers):
            until(lambda: ask(target.port).startswith(REJECT), "the last file counts")

    def storm() -> None:
        for address, expected in (("203.0.113.9", REJECT), ("203.0.113.7", OK)):
            configuration(target.folder, target.port, service=service, address=address)
            for _ in range(60):
                target.server.reload()
            until(lambda expected=expected: ask(target.port).startswith(expected), "it reloads")

    no_growth_without_end(target.pid, storm)
    assert "internal error" not in target.server.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_of_a_reload_are_given_back(workers: int, attacked: Callable[..., Any]) -> None:
    """What is open at a reload, with all that was kept for it, is freed when it closes, also where the rules of the
    reload are set apart from the collection of garbage."""
    target = attacked(service=f"workers = {workers}")
    target.server.wait_for_log(lambda log: "listening on" in log)
    before = [descriptors(pid) for pid in (target.pid, *children(target.pid))]
    serving = (children(target.pid) or [target.pid])[0]
    generation = 1

    def reload_with_a_crowd() -> None:
        nonlocal generation
        crowd = [connect(target.port) for _ in range(60 * workers)]
        for connection in crowd:
            connection.sendall(OURS + OURS[:-1] + b"x=" + b"y" * 60_000)
        for connection in crowd:
            assert answer(connection) == OK
        generation += 1
        target.server.reload()
        target.server.wait_for_log(lambda log: f"reloaded; generation {generation}" in log)
        for connection in crowd:
            connection.close()
        until(lambda: [descriptors(pid) for pid in (target.pid, *children(target.pid))] <= before, "all are closed")
        assert ask(target.port) == OK

    no_growth_without_end(serving, reload_with_a_crowd)


def test_sigterm_in_the_middle_of_a_reload(
    attacked: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has arrived is answered, and the exit status is 0, although the new rules are half read."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    manager = Manager(tmp_path / "notify")
    target = attacked()
    assert manager.status().startswith("generation 1, ")
    with (target.folder / "p.toml").open("a") as file:
        for n in range(20_000):
            file.write(f'[organizations.o{n}]\naccepted_domains = ["o{n}.example"]\n')
    with connect(target.port) as connection:
        connection.sendall(OURS)
        assert answer(connection) == OK
        target.server.reload()
        assert manager.next().get("RELOADING") == "1"
        connection.sendall(OURS * 30)
        assert target.server.process is not None
        target.server.process.send_signal(signal.SIGTERM)
        for _ in range(30):
            assert answer(connection) == OK
        assert connection.recv(100) == b""
    target.server.stop(60)
    assert manager.next().get("STOPPING") == "1", "the reload was over before"
    manager.close()
    assert "reloaded; generation 2" not in target.server.log()


def test_configuration_that_became_a_pipe(attacked: Callable[..., Any]) -> None:
    """Nobody writes into it: the reload must not wait for ever, nor keep the service from ending."""
    target = attacked()
    path = target.folder / "p.toml"
    path.unlink()
    os.mkfifo(path)
    target.server.reload()
    target.server.wait_for_log(lambda log: "not reloaded" in log)
    assert ask(target.port) == OK
    target.server.stop()


def test_files_that_change_while_they_are_read(attacked: Callable[..., Any]) -> None:
    """Half a file is an error or a smaller configuration, never a crash: an administrator's editor is not atomic."""
    target = attacked()
    path = target.folder / "p.toml"
    text = path.read_bytes()
    stop = threading.Event()

    def write() -> None:
        cut = 0
        while not stop.is_set():
            cut = (cut + 37) % len(text)
            path.write_bytes(text[:cut])
            path.write_bytes(text)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with connect(target.port) as connection:
            for _ in range(200):
                target.server.reload()
                connection.sendall(OURS)
                assert answer(connection).startswith((OK, REJECT))
    finally:
        stop.set()
        writer.join()
    path.write_bytes(text)
    since = len(target.server.log())
    target.server.reload()
    target.server.wait_for_log(lambda log: "reloaded; generation" in log, since=since)
    until(lambda: ask(target.port) == OK, "the whole file counts")
    assert "internal error" not in target.server.log()


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.05, 0.2])
def test_killed_and_started_again(moment: float, attacked: Callable[..., Any]) -> None:
    """kill -9 under load leaves nothing behind that hinders the next start."""
    target = attacked()
    with connect(target.port) as connection:
        connection.sendall(OURS * 100)
        threading.Event().wait(moment)
        target.server.kill()
    target.server.start()
    assert ask(target.port) == OK


def test_hangup_while_it_starts(
    policyd_command: list[str], policyd_server: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """logrotate knows nothing of a configuration that is still being read."""
    path = configuration(tmp_path, free_port())
    with path.open("a") as file:
        for n in range(30_000):
            file.write(f'[organizations.o{n}]\naccepted_domains = ["o{n}.example"]\n')
    server = policyd_server(path)
    starting = threading.Thread(target=server.start)
    starting.start()
    until(lambda: server.process is not None and catches_hangups(server.process.pid), "it reads")
    assert "listening" not in server.log(), "too late for this test"
    server.reload()
    starting.join()
    assert server.process is not None, server.log()
    assert ask(int(server.addresses[0].rpartition(":")[2])) == OK
    server.stop()
