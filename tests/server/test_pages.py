"""What the pages of a real server say: that it lives, whether it would answer Postfix, and what it counts (SPEC 8)."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from policyd.service.readiness import unanswered
from tests.helpers.certificates import make
from tests.helpers.conversation import TIMEOUT, Peer, question
from tests.helpers.policyd_server import PolicydServer
from tests.helpers.waiting import until

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com"]
[organizations.contoso.connectors.branch]
certificate_files = ["a.pem"]
"""


class Running(NamedTuple):
    """A server with pages."""

    server: PolicydServer
    pages: int  # the port

    def page(self, name: str) -> tuple[int, str]:
        """The status, and the text."""
        with socket.create_connection(("127.0.0.1", self.pages), TIMEOUT) as connection:
            connection.sendall(f"GET /{name} HTTP/1.0\r\n\r\n".encode())
            found = b""
            while piece := connection.recv(65536):
                found += piece
        head, _, body = found.decode().partition("\r\n\r\n")
        return int(head.split(" ")[1]), body

    def metrics(self) -> dict[str, float]:
        """By name with labels."""
        lines = [line for line in self.page("metrics")[1].splitlines() if line[:1] != "#"]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    @property
    def pid(self) -> int:
        assert self.server.process is not None
        return self.server.process.pid


@pytest.fixture
def run(
    policyd_server: Callable[..., PolicydServer], free_port: Callable[[], int], tmp_path: Path
) -> Iterator[Callable[..., Running]]:
    """A function (what stands in [service], where to listen) that starts a server with pages."""
    started: list[PolicydServer] = []

    def start(service: str = "", *listen: str) -> Running:
        pages = free_port()
        make("mail.contoso.com").write(tmp_path, "a")
        places = ", ".join(f'"{place}"' for place in (f"inet:127.0.0.1:{free_port()}", *listen))
        (tmp_path / "policyd.toml").write_text(
            f'[service]\nlisten = [{places}]\n{service}\n[metrics]\nlisten = "inet:127.0.0.1:{pages}"\n{RULES}'
        )
        server = policyd_server(tmp_path / "policyd.toml")
        server.start()
        started.append(server)
        server.wait_for_log(lambda log: "listening on" in log)
        return Running(server, pages)

    yield start
    for server in started:
        try:
            server.stop()
        finally:
            server.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_well(workers: int, run: Callable[..., Running], tmp_path: Path) -> None:
    running = run(f"workers = {workers}", f"unix:{tmp_path}/p.sock")
    assert running.page("readyz") == (200, "ready\n")
    status, text = running.page("healthz")
    assert status == 200
    assert text == "ok: generation 1, 1 organization, 1 connector, enforcing\n"
    before = running.metrics()['policyd_requests_total{action="DUNNO",reason=""}']
    running.page("readyz")
    after = running.metrics()['policyd_requests_total{action="DUNNO",reason=""}']
    assert after - before == 2, "one request over each socket"
    running.server.mark()
    assert "readyz" not in running.server.log()


def test_nobody_is_ready_when_postfix_finds_no_room(run: Callable[..., Running]) -> None:
    """All connections that there may be are open: Postfix would be sent away. It lives all the same."""
    running = run("max_connections = 2")
    address = running.server.addresses[0]
    until(lambda: running.metrics()["policyd_connections"] == 0, "whoever looked for the port is gone")
    with Peer(address) as one, Peer(address) as other:
        for peer in (one, other):
            assert peer.ask(question()).startswith("REJECT")
        status, why = running.page("readyz")
        assert status == 503
        # The kernel's word, where the question came before the end.
        assert re.fullmatch(
            f"no answer on {address}: (the connection was closed|Connection reset by peer|Broken pipe)\n", why
        )
        assert running.page("healthz")[0] == 200
    until(lambda: running.page("readyz")[0] == 200, "there is room again")


def test_nobody_is_ready_whose_socket_is_gone(run: Callable[..., Running], tmp_path: Path) -> None:
    """As a clean-up of a temporary folder would do: policyd is well, and Postfix finds nothing."""
    running = run("", f"unix:{tmp_path}/p.sock")
    (tmp_path / "p.sock").unlink()
    assert running.page("readyz") == (503, f"no answer on unix:{tmp_path}/p.sock: No such file or directory\n")
    assert running.page("healthz")[0] == 200


def test_nobody_is_ready_whose_workers_hang(run: Callable[..., Running]) -> None:
    running = run("workers = 2")
    workers = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    for pid in workers:
        os.kill(int(pid), signal.SIGSTOP)
    try:
        assert running.page("readyz") == (503, "requests get no answer\n")
        assert running.page("healthz")[0] == 200
    finally:
        for pid in workers:
            os.kill(int(pid), signal.SIGCONT)


@pytest.mark.parametrize(
    "answer", [b"action=DEFER_IF_PERMIT 4.3.0\n\n", b"", b"x" * 100_000], ids=["DEFER", "none", "long"]
)
def test_an_answer_that_is_none(answer: bytes, tmp_path: Path) -> None:
    path = str(tmp_path / "p.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        assert unanswered([(socket.AF_UNIX, path)]).startswith(f"no answer on unix:{path}: ")
        server.join(TIMEOUT)


def test_addresses_are_shown_as_in_the_configuration() -> None:
    """Nobody listens at any of them."""
    with (
        socket.create_server(("127.0.0.1", 0)) as closed,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        four_port, six_port = closed.getsockname()[1], six.getsockname()[1]
    refused = "Connection refused"
    assert (
        unanswered([(socket.AF_INET, ("127.0.0.1", four_port))])
        == f"no answer on inet:127.0.0.1:{four_port}: {refused}"
    )
    assert unanswered([(socket.AF_INET6, ("::1", six_port, 0, 0))]) == f"no answer on inet:[::1]:{six_port}: {refused}"
    assert unanswered([(socket.AF_UNIX, b"\0policyd-nobody")]) == f"no answer on unix:@policyd-nobody: {refused}"
    assert unanswered([]) == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_of_the_process(workers: int, run: Callable[..., Running]) -> None:
    running = run(f"workers = {workers}")
    seen = running.metrics()
    pid = running.pid
    assert seen["process_open_fds"] == pytest.approx(len(os.listdir(f"/proc/{pid}/fd")), abs=3)
    resident = int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) * 1024
    assert seen["process_resident_memory_bytes"] == pytest.approx(resident, rel=0.3)
    assert seen["process_virtual_memory_bytes"] > seen["process_resident_memory_bytes"]
    assert 1 < seen["process_open_fds"] < seen["process_max_fds"]
    assert 0 < seen["process_threads"] < 50
    assert 0 < seen["process_cpu_seconds_total"] < 1000
    assert abs(seen["process_start_time_seconds"] - time.time()) < 600
    of_workers = {name for name in seen if name.startswith("policyd_worker_")}
    kinds = ("resident_memory_bytes", "open_fds", "threads")
    numbers = range(1, workers + 1) if workers > 1 else ()
    assert of_workers == {f'policyd_worker_{kind}{{worker="{number}"}}' for kind in kinds for number in numbers}
    assert all(seen[name] > 1 for name in of_workers)
    assert running.metrics()["process_start_time_seconds"] == seen["process_start_time_seconds"]


def test_mode_expiry_and_workers(run: Callable[..., Running]) -> None:
    running = run('mode = "monitor"')
    seen = running.metrics()
    assert (seen['policyd_mode{mode="monitor"}'], seen['policyd_mode{mode="enforce"}']) == (1, 0)
    days = (seen["policyd_certificate_expiry_timestamp_seconds"] - time.time()) / 86400
    assert days == pytest.approx(seen["policyd_certificate_expiry_days"], abs=0.1)
    assert 80 < days < 100
    assert (seen["policyd_workers"], seen["policyd_workers_running"]) == (1, 1)
