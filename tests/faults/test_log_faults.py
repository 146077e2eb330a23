"""Logs that cannot be written: no answer waits for one, no line is spoilt, and the log goes on when it can."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.peers import OK, OURS, answer, answers, ask, configuration, connect, read_until, request
from tests.helpers.log_lines import read_decision, without_front
from tests.helpers.waiting import until
from tests.places import PROJECT

MANY = 40_000  # decisions: some 8 MB of lines, far over any pipe


@pytest.fixture
def piped(policyd_command: list[str], free_port: Callable[[], int], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that starts policyd with its standard error in a pipe: (port, process, the pipe's reading end)."""
    started: list[subprocess.Popen[bytes]] = []

    def start(more: str = "", name: str = "p.toml") -> tuple[int, subprocess.Popen[bytes], int]:
        port = free_port()
        path = configuration(tmp_path, port, more=more, name=name)
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [*policyd_command, "serve", "-c", str(path)], stdin=subprocess.DEVNULL, stderr=writing, cwd=PROJECT
        )
        os.close(writing)
        started.append(process)
        read_until(reading, b"listening on")
        return port, process, reading

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_pipe_that_nobody_reads(piped: Callable[..., Any]) -> None:
    port, process, reading = piped()
    with connect(port) as connection:
        for _ in range(MANY // 100):
            connection.sendall(OURS * 100)
            assert answers(connection, 100) == [OK] * 100
    process.terminate()
    assert process.wait(60) == 0  # nor does the end wait for it
    os.close(reading)


def test_pipe_whose_reader_is_gone(piped: Callable[..., Any]) -> None:
    port, process, reading = piped()
    os.close(reading)
    for _ in range(20):
        assert ask(port) == OK
    process.send_signal(1)
    for _ in range(20):
        assert ask(port) == OK
    process.terminate()
    assert process.wait(60) == 0


def test_log_goes_on_after_it_could_not_be_reopened_nor_that_be_told(piped: Callable[..., Any], tmp_path: Path) -> None:
    """The folder of the log is away at SIGHUP, and nobody reads standard error."""
    folder = tmp_path / "log"
    folder.mkdir()
    file = folder / "policyd.log"
    port, process, reading = piped(more=f'[log]\nfile = "{file}"')
    assert ask(port) == OK
    until(lambda: "instance=" in file.read_text(), "the first line")
    os.close(reading)
    folder.rename(tmp_path / "away")
    process.send_signal(1)
    until(lambda: "reloaded" in (tmp_path / "away" / "policyd.log").read_text(), "it reloads")
    assert ask(port) == OK
    (tmp_path / "away").rename(folder)
    file.rename(folder / "old")
    process.send_signal(1)
    until(file.exists, "the file is made anew")

    def logged() -> bool:
        assert ask(port, request(instance="again.1")) != b""
        return "instance=again.1" in file.read_text()

    until(logged, "lines are written again")
    process.terminate()
    assert process.wait(60) == 0


def test_log_that_is_a_pipe_without_a_reader_does_not_hang_the_start(
    policyd_command: list[str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    path = configuration(tmp_path, free_port(), more=f'[log]\nfile = "{fifo}"')
    process = subprocess.Popen([*policyd_command, "serve", "-c", str(path)], stderr=subprocess.PIPE, cwd=PROJECT)
    try:
        _, said = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail("it waits for a reader")
    assert process.returncode == 78
    assert b"fifo" in said


def test_full_disk_and_room_again(small_disk: Path, attacked: Callable[..., Any]) -> None:
    """Every answer comes while the disk is full, and every line behind that is whole."""
    file = small_disk / "policyd.log"
    target = attacked(more=f'[log]\nfile = "{file}"')
    with connect(target.port) as connection:
        for number in range(2000):
            connection.sendall(request(instance=f"first.{number:x}", sender="x" * 200))
            assert answer(connection)
        until(lambda: file.stat().st_size > 60_000, "the disk is full")

        def logged() -> bool:
            if file.stat().st_size > 60_000:
                os.truncate(file, 1000)  # room again, also for what has waited; policyd appends
            connection.sendall(request(instance="after.1"))
            assert answer(connection)
            return " instance=after.1 " in file.read_text("ascii")

        until(logged, "it logs again")
    target.server.stop()
    for line in map(without_front, file.read_text("ascii").splitlines()):
        if "instance=after." in line:
            assert read_decision(line)["instance"] == b"after.1", line


def test_lines_that_could_not_be_written_are_counted(
    small_disk: Path, attacked: Callable[..., Any], free_port: Callable[[], int]
) -> None:
    metrics = free_port()
    log = f'[log]\nfile = "{small_disk}/policyd.log"\n[metrics]\nlisten = "inet:127.0.0.1:{metrics}"'
    target = attacked(more=log)

    assert metric(metrics, "log_failures") == 0
    (small_disk / "filler").write_bytes(b"x" * 60 * 1024)
    with connect(target.port) as connection:
        for _ in range(500):
            connection.sendall(OURS)
            assert answer(connection) == OK
    until(lambda: metric(metrics, "log_failures") > 0, "the lost lines are counted")


@pytest.mark.parametrize("workers", [1, 2])
def test_each_lost_line_is_accounted_for(
    workers: int, small_disk: Path, attacked: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """In the log as soon as there is room, in the metrics, and on standard error that there are any: once."""
    file, pages = small_disk / "policyd.log", free_port()
    more = f'[log]\nfile = "{file}"\n[metrics]\nlisten = "inet:127.0.0.1:{pages}"'
    target = attacked(more=more, service=f"workers = {workers}")
    target.server.wait_for_log(lambda log: "listening on" in log)
    asked, before = 0, file.read_text().count("\n")
    with connect(target.port) as connection:

        def ask_until(holds: Callable[[], bool]) -> None:
            nonlocal asked
            while not holds():
                asked += 1
                connection.sendall(request(instance=f"{asked:x}", sender="x" * 200))
                assert answer(connection)

        ask_until(lambda: metric(pages, "log_lines_lost") > 20)
        rotated = tmp_path / "rotated"
        rotated.write_bytes(file.read_bytes())
        file.unlink()  # what logrotate does, and somebody made room
        target.server.process.send_signal(signal.SIGUSR1)
        ask_until(lambda: file.exists() and " instance=" in file.read_text())
    lost = metric(pages, "log_lines_lost")
    target.server.stop()
    text = rotated.read_text("ascii", "replace") + file.read_text()
    told = sum(map(int, re.findall(r"policyd: (\d+) lines? lost$", text, re.MULTILINE)))
    whole = len(re.findall(r"^\S+Z NOQUEUE: .* generation=1$", text, re.MULTILINE))
    assert (told, whole) == (lost, asked - lost)
    assert before
    complaints = [line for line in target.server.log().splitlines() if "cannot write the log" in line]
    assert len(complaints) == 1
    assert complaints[0].startswith(f"<4>policyd: cannot write the log {file}: No space left on device; ")


def metric(port: int, name: str) -> int:
    """The value of policyd_NAME_total."""
    with connect(port) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = b""
        while piece := connection.recv(65536):
            page += piece
    return int(float(re.findall(rf"^policyd_{name}_total (\S+)$", page.decode(), re.MULTILINE)[0]))
