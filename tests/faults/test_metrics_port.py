"""The metrics page against a local user without rights, who can reach it as everybody on the machine can."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyd.service.http import site
from tests.faults.peers import OK, OURS, TIMEOUT, answer, ask, connect
from tests.helpers.processes import descriptors
from tests.helpers.waiting import until

Serve = Callable[[], tuple[Any, int]]


@pytest.fixture
def metered(attacked: Callable[..., Any], free_port: Callable[[], int]) -> Serve:
    """policyd with a metrics port: (target, port)."""

    def start() -> tuple[Any, int]:
        port = free_port()
        return attacked(more=f'[metrics]\nlisten = "inet:127.0.0.1:{port}"\n[log]\ndecisions = "none"'), port

    return start


def page(port: int, request: bytes, patience: float = TIMEOUT) -> bytes:
    """Everything that comes back, until the end or until nothing came for so many seconds."""
    with connect(port) as connection:
        connection.settimeout(patience)
        with contextlib.suppress(OSError):
            connection.sendall(request)
        found = b""
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                found += piece
        return found


def test_no_body_is_taken(metered: Serve) -> None:
    """A body of any size is neither kept in memory nor in a file."""
    target, port = metered()
    with connect(port) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
            for _ in range(50):
                connection.sendall(b"x" * 1_000_000)
        names = []
        for descriptor in os.listdir(f"/proc/{target.pid}/fd"):
            with contextlib.suppress(OSError):
                names.append(os.readlink(f"/proc/{target.pid}/fd/{descriptor}"))
        assert not [name for name in names if "(deleted)" in name], names
    assert ask(target.port) == OK


def test_its_connections_take_none_from_postfix(metered: Serve) -> None:
    """However many there are, few are kept, and Postfix's are answered."""
    target, port = metered()
    before = descriptors(target.pid)
    crowd = []
    for _ in range(500):
        with contextlib.suppress(OSError):
            crowd.append(connect(port))
    assert ask(target.port) == OK
    until(lambda: descriptors(target.pid) - before < 100, "all but a few are closed")
    for connection in crowd:
        connection.close()
    until(lambda: b" 200 " in page(port, b"GET /metrics HTTP/1.0\r\n\r\n")[:20], "the page is there again")


def test_pages_by_the_thousand_do_not_stop_answers(metered: Serve) -> None:
    """Pipelined requests for the page: policy requests in between get their answers, and no memory is kept."""
    target, port = metered()
    crowd = []
    for _ in range(100):
        with contextlib.suppress(OSError):
            connection = connect(port)
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
            crowd.append(connection)
    with connect(target.port) as connection:
        for _ in range(20):
            connection.sendall(OURS)
            assert answer(connection) == OK
    answered = 0
    for connection in crowd:
        connection.settimeout(10)
        with contextlib.suppress(OSError), connection:
            while piece := connection.recv(1 << 20):
                answered += piece.count(b"HTTP/1.1 200")
    assert answered <= 200, "one page a connection is enough for Prometheus"


RUBBISH = {
    "nothing": b"\r\n\r\n",
    "binary": bytes(range(256)) * 10,
    "long line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "many headers": b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "smuggled": b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "script": b"GET /<script>alert(1)</script> HTTP/1.0\r\n\r\n",
    "climbing": b"GET /metrics/../../etc/passwd HTTP/1.0\r\n\r\n",
    "policy request": OURS,
}


def test_rubbish(metered: Serve) -> None:
    target, port = metered()
    for name, data in RUBBISH.items():
        found = page(port, data, patience=1)  # some of it could go on: no answer comes, nor does the end
        assert b" 200 " not in found[:15] or name == "climbing"  # everything below /metrics is that page
        assert b"<script>" not in found, name
        assert b"root:" not in found, name
        assert b"Traceback" not in found, name
        assert ask(target.port) == OK
        assert b" 200 " in page(port, b"GET /metrics HTTP/1.0\r\n\r\n")[:20], name
    assert "internal error" not in target.server.log()


def test_what_could_go_on_does_not_go_on_for_ever() -> None:
    """Whoever says half of something is sent away."""
    assert 0 < site({}, print).timeOut <= 60


def test_it_tells_no_names(metered: Serve) -> None:
    """No organization, connector, domain or address is on the pages that anybody on the machine can read."""
    target, port = metered()
    ask(target.port)
    names = (b"metrics", b"healthz", b"readyz")
    found = b"".join(page(port, b"GET /%b HTTP/1.0\r\n\r\n" % name) for name in names)
    for secret in (b"contoso", b"office", b"203.0.113", b"kate", b"other.example"):
        assert secret not in found


def test_reader_that_never_reads(metered: Serve) -> None:
    """Pages lie there for ten who do not take them: another reader and Postfix are answered, and nothing is kept."""
    target, port = metered()
    before = descriptors(target.pid)
    crowd = []
    for _ in range(10):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # before it connects, else it does not count
        connection.settimeout(TIMEOUT)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        crowd.append(connection)
    for connection in crowd:
        assert connection.recv(1, socket.MSG_PEEK), "its page lies there"
    assert ask(target.port) == OK
    assert b" 200 " in page(port, b"GET /metrics HTTP/1.0\r\n\r\n")[:20]
    for connection in crowd:
        connection.close()
    until(lambda: descriptors(target.pid) <= before, "all descriptors are given back")


def test_its_unix_socket_is_removed(attacked: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    target = attacked(more=f'[metrics]\nlisten = "unix:{path}"')
    assert path.is_socket()
    target.server.stop()
    assert not path.exists()
