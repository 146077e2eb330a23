"""`policyd query`: what it sends, what it makes of answers, exit codes (SPEC 7). The server here is a few lines."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.cli.main import main


class Server:
    """Takes one connection and one request, and answers with the given bytes."""

    def __init__(self, listener: socket.socket, answer: bytes) -> None:
        self.request = b""
        self._listener, self._answer = listener, answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        self._listener.settimeout(60)
        with contextlib.suppress(OSError), self._listener.accept()[0] as connection:
            connection.settimeout(60)
            while not self.request.endswith(b"\n\n"):
                piece = connection.recv(4096)
                if not piece:
                    return  # the test sees it: the request is not whole
                self.request += piece
            for start in range(0, len(self._answer), 5):
                connection.sendall(self._answer[start : start + 5])

    def join(self) -> None:
        self._thread.join(20)


@contextlib.contextmanager
def serving(answer: bytes, path: Path | None = None) -> Iterator[tuple[str, Server]]:
    with socket.socket(socket.AF_INET if path is None else socket.AF_UNIX) as listener:
        listener.bind(("127.0.0.1", 0) if path is None else str(path))
        listener.listen()
        address = f"inet:127.0.0.1:{listener.getsockname()[1]}" if path is None else f"unix:{path}"
        server = Server(listener, answer)
        yield address, server
        server.join()


@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("OK", 0),
        ("DUNNO", 0),
        ("PREPEND X: y", 0),
        ("REJECT 5.7.1 text", 1),
        ("reject", 1),
        ("DEFER 4.3.0 text", 1),
        ("DEFER_IF_PERMIT 4.3.0 text", 1),
        ("451 4.3.5 text", 1),
        ("550 text", 1),
    ],
)
def test_answers(action: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(f"action={action}\n\n".encode()) as (address, _):
        assert main(["query", "--to", address, "sender=a@x"]) == status
    assert capsys.readouterr().out == f"{action}\n"


def test_an_answer_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with serving("action=REJECT \x1b[2J\rFORGED\x9b31m\u202e \u00fc\n\n".encode()) as (address, _):
        assert main(["query", "--to", address, "sender=a@x"]) == 1
    assert capsys.readouterr().out == "REJECT \\x1b[2J\\rFORGED\\x9b31m\\u202e \u00fc\n"


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(b"action=OK\n\n") as (address, _):
        main(["query", "--to", address, "--json", "sender=a@x"])
    assert json.loads(capsys.readouterr().out) == {"action": "OK"}


def test_what_is_sent(tmp_path: Path) -> None:
    with serving(b"action=OK\n\n", tmp_path / "s") as (address, server):
        main(["query", "--to", address, "sender=k\u00e4te@x=y", "recipient=\udcff@x"])
    lines = server.request.split(b"\n")
    assert lines[0] == b"request=smtpd_access_policy"
    assert set(lines[1:-2]) == {b"protocol_state=RCPT", b"sender=k\xc3\xa4te@x=y", b"recipient=\xff@x"}
    assert lines[-2:] == [b"", b""]


def test_a_state_of_ones_own() -> None:
    with serving(b"action=DUNNO\n\n") as (address, server):
        main(["query", "--to", address, "request=smtpd_access_policy", "protocol_state=DATA"])
    assert server.request == b"request=smtpd_access_policy\nprotocol_state=DATA\n\n"


@pytest.mark.parametrize("answer", [b"", b"action=OK\n", b"nonsense\n\n"])
def test_no_answer_is_69(answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answer) as (address, _):
        assert main(["query", "--to", address, "sender=a@x"]) == 69
    told = capsys.readouterr()
    assert told.out == ""
    assert address in told.err


def test_nobody_there_is_69(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--to", f"unix:{tmp_path}/none", "sender=a@x"]) == 69
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert main(["query", "--to", f"inet:127.0.0.1:{closed.getsockname()[1]}", "sender=a@x"]) == 69
    assert "is the server running?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "where", ["", "x", "inet:", "inet:x", "inet:127.0.0.1:", "inet:127.0.0.1:99999", "unix:", "tcp:1:2"]
)
def test_no_server_is_64(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--to", where, "sender=a@x"]) == 64
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["sender"], ["sender=a\nb"], ["sender=\0"]])
def test_no_request_is_65(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--to", "inet:127.0.0.1:1", *words]) == 65
    assert capsys.readouterr().out == ""
