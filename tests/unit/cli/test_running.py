"""The commands that ask the running service, where it does not answer as it should (SPEC 7 and 8)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policyd.cli.main import main
from policyd.protocol.control import LONGEST_REQUEST

COMMANDS = [["reload"], ["show", "--running"], ["explain", "--running", "sender=", "recipient=x@contoso.com"]]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
    """A function that makes a service with this one answer, for one question, and gives its socket's name."""
    path = str(tmp_path / "control.sock")
    listener = socket.socket(socket.AF_UNIX)
    threads: list[threading.Thread] = []

    def make(answer: bytes) -> str:
        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                question = b""
                while not question.endswith(b"\n"):
                    question += connection.recv(65536)
                connection.sendall(answer)

        listener.bind(path)
        listener.listen()
        threads.append(threading.Thread(target=serve))
        threads[0].start()
        return path

    yield make
    for thread in threads:
        thread.join()
    listener.close()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_nobody_there(command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for name in ("nothing", "file", ".", "x" * 200):
        path = f"{tmp_path}/{name}"
        assert main([*command, "--socket", path]) == 69
        told = capfd.readouterr()
        assert told.out == ""
        assert told.err.startswith(f"policyd {command[0]}: no service is reachable at {path}: ")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"\n\n",
        b'{"policyd": 1}\n{"in_force": true, "said": []}\n',  # whole but for its mark
        b'{"policyd": 2}\n{}\n\n',
        b"HTTP/1.1 400 Bad Request\n\n",
    ],
)
def test_answers_that_are_none(
    command: list[str], answer: bytes, service: Callable[[bytes], str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing of what came is printed."""
    assert main([*command, "--socket", service(answer)]) == 69
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"policyd {command[0]}: ")


def test_a_refusal_is_told_without_what_steers_a_terminal(
    service: Callable[[bytes], str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = service(b'{"policyd": 1, "error": "no \\u001b[2J", "code": 70}\n\n')
    assert main(["reload", "--socket", path]) == 70
    assert capfd.readouterr().err == "policyd reload: no \\x1b[2J\n"


def test_more_than_can_be_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is not even tried."""
    command = ["explain", "--running", "--socket", str(tmp_path / "nothing"), f"sender={'x' * LONGEST_REQUEST}"]
    assert main(command) == 65
    assert capfd.readouterr().err == "policyd explain: this is more than the service takes at once\n"


@pytest.mark.parametrize("command", ["show", "explain"])
def test_options_that_do_not_go_together(command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="64"):
        main([command, "--running", "-c", str(tmp_path / "policyd.toml")])
    assert "argument -c/--config: not allowed with argument --running" in capfd.readouterr().err
    assert main([command, "--socket", str(tmp_path / "nothing"), *["sender="][: command == "explain"]]) == 64
    assert capfd.readouterr().err == f"policyd {command}: --socket goes with --running\n"
