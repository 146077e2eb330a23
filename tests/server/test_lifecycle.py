"""A real server from its start to its end: exit codes, sockets, signals, reloads, the log file, systemd (SPEC 7, 8)."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.conversation import Peer, actions, question, write_configuration
from tests.helpers.log_lines import decisions
from tests.helpers.policyd_server import PolicydServer
from tests.helpers.waiting import PATIENCE
from tests.places import PROJECT

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]
"""
OURS = question(client_address="203.0.113.5", sender="kate@contoso.com")  # OK
STRANGERS = question()  # REJECT


@pytest.fixture
def config(tmp_path: Path, free_port: Callable[[], int]) -> Path:
    """A configuration file with the rules above."""
    path = tmp_path / "policyd.toml"
    write_configuration(path, free_port(), RULES)
    return path


@pytest.fixture
def start(config: Path, policyd_server: Callable[..., PolicydServer]) -> Callable[..., PolicydServer]:
    """A function (old text, new text) that changes the configuration file and gives a server for it."""

    def make(old: str = "", new: str = "") -> PolicydServer:
        change(config, old, new)
        return policyd_server(config)

    return make


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new) if old else text, "utf-8")


def run_to_the_end(command: list[str], config: Path) -> subprocess.CompletedProcess[str]:
    """`policyd serve` where it must end by itself."""
    return subprocess.run(
        [*command, "serve", "-c", str(config)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def listen_on(path: Path, *addresses: str) -> None:
    """Replaces what the configuration listens on."""
    lines = path.read_text("utf-8").splitlines()
    where = ", ".join(f'"{address}"' for address in addresses)
    path.write_text("\n".join(f"listen = [{where}]" if line.startswith("listen") else line for line in lines), "utf-8")


# --- where it cannot start ------------------------------------------------------------------------------------------


def test_a_port_in_use_is_71(config: Path, policyd_command: list[str], free_port: Callable[[], int]) -> None:
    """Also when another address of the list would have been free; and nothing is left of that."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        unix = config.parent / "p.sock"
        listen_on(config, f"inet:127.0.0.1:{free_port()}", f"unix:{unix}", f"inet:127.0.0.1:{port}")
        ended = run_to_the_end(policyd_command, config)
    assert ended.returncode == 71
    assert f"cannot listen on inet:127.0.0.1:{port}: Address already in use" in ended.stderr
    assert "listening on" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not unix.exists()


@pytest.mark.parametrize("kind", ["no folder", "no socket", "a folder", "a live server", "a file in between"])
def test_an_unusable_unix_path_is_71(kind: str, config: Path, policyd_command: list[str]) -> None:
    path = config.parent / "p.sock"
    live = None
    if kind == "no folder":
        path = config.parent / "missing" / "p.sock"
    elif kind == "no socket":
        path.write_text("precious")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a file in between":
        path.write_text("precious")
        path = path / "p.sock"
    else:
        live = socket.socket(socket.AF_UNIX)
        live.bind(str(path))
        live.listen()
    listen_on(config, f"unix:{path}")
    ended = run_to_the_end(policyd_command, config)
    assert ended.returncode == 71
    assert f"cannot listen on unix:{path}: " in ended.stderr
    assert "Traceback" not in ended.stderr
    if kind == "no socket":
        assert path.read_text() == "precious"
    if live is not None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))  # it is still that server's
        live.close()


def test_a_socket_that_systemd_did_not_pass_is_71(config: Path, policyd_command: list[str]) -> None:
    listen_on(config, "systemd:policyd")
    ended = run_to_the_end(policyd_command, config)
    assert ended.returncode == 71
    assert "systemd:policyd" in ended.stderr


def test_a_bad_configuration_is_78_with_file_and_line(config: Path, policyd_command: list[str]) -> None:
    change(config, "accepted_domains", "accepted_domain")
    change(config, '"203.0.113.0/28"', '"203.0.113.0/99"')
    ended = run_to_the_end(policyd_command, config)
    assert ended.returncode == 78
    line_of = {
        text: number
        for number, line in enumerate(config.read_text("utf-8").splitlines(), 1)
        for text in ("accepted_domain", "203.0.113.0/99")
        if text in line
    }
    assert f'{config}:{line_of["accepted_domain"]}: organization "contoso": ' in ended.stderr
    assert f'{config}:{line_of["203.0.113.0/99"]}: organization "contoso", connector "branch": ' in ended.stderr
    assert ended.stdout == ""


def test_no_configuration_is_78(tmp_path: Path, policyd_command: list[str]) -> None:
    ended = run_to_the_end(policyd_command, tmp_path / "none.toml")
    assert ended.returncode == 78
    assert str(tmp_path / "none.toml") in ended.stderr


def test_a_log_that_cannot_be_written_is_78(config: Path, policyd_command: list[str]) -> None:
    config.write_text(config.read_text("utf-8") + '\n[log]\nfile = "missing/policyd.log"\n', "utf-8")
    ended = run_to_the_end(policyd_command, config)
    assert ended.returncode == 78
    assert "missing/policyd.log" in ended.stderr
    assert "Traceback" not in ended.stderr


# --- sockets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["0660", "0600", "0666"])
def test_unix_socket_and_its_mode(mode: str, config: Path, start: Callable[..., PolicydServer]) -> None:
    path = config.parent / "p.sock"
    listen_on(config, f"unix:{path}")
    with start("[service]", f'[service]\nunix_mode = "{mode}"') as server:
        assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
        with Peer(f"unix:{path}") as peer:
            assert peer.ask(OURS) == "OK"
            peer.send(b"nonsense\n")
            assert peer.rest() == b""
    assert "protocol error from a unix socket: " in server.log()
    assert not path.exists()


@pytest.mark.parametrize("taken", [False, True], ids=["serves", "cannot listen"])
def test_workers_leave_no_unix_socket_behind(
    taken: bool,
    config: Path,
    start: Callable[..., PolicydServer],
    policyd_command: list[str],
) -> None:
    path = config.parent / "p.sock"
    text = config.read_text("utf-8")
    config.write_text(text.replace("[service]", "[service]\nworkers = 2", 1), "utf-8")
    if taken:
        with socket.create_server(("127.0.0.1", 0)) as other:
            listen_on(config, f"unix:{path}", f"inet:127.0.0.1:{other.getsockname()[1]}")
            assert run_to_the_end(policyd_command, config).returncode == 71
    else:
        listen_on(config, f"unix:{path}")
        with start(), Peer(f"unix:{path}") as peer:
            assert peer.ask(OURS) == "OK"
    assert not path.exists()


def test_a_stale_unix_socket_is_replaced(config: Path, start: Callable[..., PolicydServer]) -> None:
    path = config.parent / "p.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    listen_on(config, f"unix:{path}")
    server = start()
    with server:
        with Peer(f"unix:{path}") as peer:
            assert peer.ask(OURS) == "OK"
        server.kill()  # leaves its own socket behind
        assert path.exists()
        server.start()
        with Peer(f"unix:{path}") as peer:
            assert peer.ask(OURS) == "OK"


def test_several_listeners(config: Path, start: Callable[..., PolicydServer], free_port: Callable[[], int]) -> None:
    path = config.parent / "p.sock"
    addresses = [f"inet:127.0.0.1:{free_port()}", f"inet:127.0.0.1:{free_port()}", f"unix:{path}"]
    listen_on(config, *addresses)
    with start():
        for address in addresses:
            with Peer(address) as peer:
                assert peer.ask(OURS) == "OK"


# What systemd does before it starts a service: the socket as descriptor 3, and the service's own pid in LISTEN_PID.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="policyd")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("kind", ["unix", "inet"])
def test_sockets_that_systemd_passes_stay_systemds(kind: str, config: Path, policyd_command: list[str]) -> None:
    """Neither its mode nor its file is touched, and the next start finds it listening as before."""
    path = config.parent / "passed.sock"
    if kind == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o640)
        address = f"unix:{path}"
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        address = f"inet:127.0.0.1:{listener.getsockname()[1]}"
    listener.listen(50)
    listen_on(config, "systemd:policyd")
    command = [sys.executable, "-c", AS_SYSTEMD, str(listener.fileno()), *policyd_command, "serve", "-c", str(config)]
    with listener:
        for _ in range(2):
            with subprocess.Popen(
                command, cwd=PROJECT, pass_fds=[listener.fileno()], stderr=subprocess.PIPE, text=True
            ) as process:
                try:
                    with Peer(address) as peer:
                        assert peer.ask(OURS) == "OK"
                    process.send_signal(signal.SIGTERM)
                    _, errors = process.communicate(timeout=PATIENCE)
                finally:
                    process.kill()
            assert process.returncode == 0, errors
            assert "Traceback" not in errors
        if kind == "unix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
        with Peer(address) as waiting:  # nobody serves, but systemd's socket takes the connection
            assert waiting.is_open()


# --- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whole_requests_that_have_arrived_are_answered(number: int, start: Callable[..., PolicydServer]) -> None:
    """The server is stopped while they arrive, so it has seen none of them when the signal comes."""
    with start() as server:
        process, address = server.process, server.addresses[0]
        assert process is not None
        known = []
        for _ in range(5):  # one after the other: the server must not expect a crowd
            known.append(Peer(address))
            assert known[-1].ask(OURS) == "OK"
        process.send_signal(signal.SIGSTOP)
        for peer in known:
            peer.send(OURS * 30 + OURS[:100])
        new = [Peer(address) for _ in range(80)]
        for peer in new:
            peer.send(OURS * 2)
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        assert [actions(peer.rest()) for peer in known] == [["OK"] * 30] * 5
        assert [actions(peer.rest()) for peer in new] == [["OK"] * 2] * 80
        assert process.wait(PATIENCE) == 0
    assert len(decisions(server.log())) == 5 + 5 * 30 + 80 * 2, "each of them is in the log"


def test_sigterm_under_load(start: Callable[..., PolicydServer]) -> None:
    """Peers that never stop asking: they get whole answers until the connection ends, and the server does end."""
    with start() as server:
        process, address = server.process, server.addresses[0]
        assert process is not None
        enough = threading.Barrier(5)
        streams: list[bytes] = []

        def ask_without_end() -> None:
            with Peer(address) as peer:
                received, asked = b"", 0
                try:
                    while True:
                        peer.send(OURS * 10)
                        asked += 1
                        received += peer.socket.recv(65536) or b"!"
                        if asked == 20:
                            enough.wait(PATIENCE)
                        if received.endswith(b"!"):
                            break
                except OSError:
                    pass
                streams.append(received.removesuffix(b"!"))

        askers = [threading.Thread(target=ask_without_end) for _ in range(4)]
        for asker in askers:
            asker.start()
        enough.wait(PATIENCE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        for asker in askers:
            asker.join(PATIENCE)
    assert len(streams) == 4
    for stream in streams:
        assert len(actions(stream)) >= 20
        assert set(actions(stream)) == {"OK"}


def test_a_deaf_peer_does_not_hinder_the_end(start: Callable[..., PolicydServer]) -> None:
    """Its answers find no room; after a few seconds it is cut off."""
    with start() as server, Peer(server.addresses[0], receive_buffer=4096) as deaf:
        deaf.socket.setblocking(False)
        quiet_until = time.monotonic() + 0.3
        while time.monotonic() < quiet_until:
            try:
                deaf.socket.send(STRANGERS * 50)
                quiet_until = time.monotonic() + 0.3
            except BlockingIOError:
                pass
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0


def test_idle_and_silent_peers_do_not_hinder_the_end(start: Callable[..., PolicydServer]) -> None:
    with start() as server:
        peers = [Peer(server.addresses[0]) for _ in range(20)]
        peers[0].send(OURS[:50])
        assert peers[-1].ask(OURS) == "OK"
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert [peer.rest() for peer in peers] == [b""] * 20
        assert server.process.wait(PATIENCE) == 0


# --- reloads --------------------------------------------------------------------------------------------------------


def wait_for(server: PolicydServer, text: str, since: int) -> str:
    log = server.wait_for_log(lambda log: text in log and log.endswith("\n"), since=since)
    assert text in log
    return log


def test_a_reload_changes_the_answers_on_open_connections(config: Path, start: Callable[..., PolicydServer]) -> None:
    with start() as server, Peer(server.addresses[0]) as peer:
        assert peer.ask(OURS) == "OK"
        seen = len(server.log())
        change(config, "203.0.113.0/28", "203.0.113.16/28")
        change(config, '["contoso.com"]', '["contoso.com", "contoso.net"]')
        server.reload()
        log = wait_for(server, 'changed: organization "contoso": connector "branch" changed (addresses)', seen)
        assert "reloaded; generation 2" in log
        assert 'changed: organization "contoso": accepted_domains +contoso.net' in log
        assert peer.ask(OURS).startswith("REJECT")
        assert peer.ask(question(client_address="203.0.113.17", sender="kate@contoso.com")) == "OK"
    assert [line["generation"] for line in decisions(server.log())] == [b"1", b"2", b"2"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("accepted_domains", "accepted_domain", "accepted_domain"),
        (RULES.strip(), "", "no organization at all"),
        ("[service]", "[service", ""),
    ],
    ids=["a misspelt key", "no organization left", "not TOML"],
)
def test_a_bad_reload_keeps_the_rules(
    old: str, new: str, told: str, config: Path, start: Callable[..., PolicydServer]
) -> None:
    with start() as server, Peer(server.addresses[0]) as peer:
        before = config.read_text("utf-8")
        seen = len(server.log())
        change(config, old, new)
        server.reload()
        log = wait_for(server, "not reloaded: ", seen)
        assert told in log
        assert "generation 1 stays in force" in log
        assert peer.ask(OURS) == "OK"
        seen = len(server.log())
        config.write_text(before.replace("203.0.113.0/28", "203.0.113.16/28"), "utf-8")
        server.reload()
        wait_for(server, "reloaded; generation 2", seen)
        assert peer.ask(OURS).startswith("REJECT")


def test_a_reload_takes_over_mode_and_log_settings(config: Path, start: Callable[..., PolicydServer]) -> None:
    with start() as server, Peer(server.addresses[0]) as peer:
        seen = len(server.log())
        change(config, "[service]", '[service]\nmode = "monitor"')
        change(config, RULES, RULES + '\n[log]\naddresses = "domain"\n')
        server.reload()
        wait_for(server, "changed: service.mode: enforce -> monitor", seen)
        assert peer.ask(OURS) == "DUNNO"
    (line,) = decisions(server.log())
    assert (line["sender"], line["mode"]) == (b"<*@contoso.com>", b"monitor")


def test_what_needs_a_restart_is_told(
    config: Path, start: Callable[..., PolicydServer], free_port: Callable[[], int]
) -> None:
    with start() as server, Peer(server.addresses[0]) as peer:
        seen = len(server.log())
        text = config.read_text("utf-8")
        listen_on(config, f"inet:127.0.0.1:{free_port()}")
        server.reload()
        log = wait_for(server, "restart policyd", seen)
        assert "service.listen changed: restart policyd for it to take effect" in log
        assert peer.ask(OURS) == "OK"
        seen = len(server.log())
        config.write_text(text, "utf-8")
        server.reload()
        wait_for(server, "reloaded; ", seen)
    assert "restart policyd" not in server.log()[seen:]  # the file says again what is running


def test_many_hangups_at_once(config: Path, start: Callable[..., PolicydServer]) -> None:
    """Wishes that come while one is carried out become one more; the last text of the file counts."""
    with start() as server, Peer(server.addresses[0]) as peer:
        for last in range(8):
            text = config.read_text("utf-8")
            address = next(part for part in text.split('"') if part.startswith("203.0.113."))
            config.write_text(text.replace(address, f"203.0.113.{16 * (last % 2)}/28"), "utf-8")
            server.reload()
        wanted = "REJECT" if last % 2 else "OK"
        deadline = time.monotonic() + PATIENCE
        while not peer.ask(OURS).startswith(wanted):
            assert time.monotonic() < deadline
        assert "Traceback" not in server.log()


# --- the log file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["good", "bad"])
def test_logrotate(rules: str, config: Path, start: Callable[..., PolicydServer]) -> None:
    """The file is moved away, then SIGHUP: what came before is in the old file, the rest in a new one."""
    log, old = config.parent / "policyd.log", config.parent / "policyd.log.1"
    with start(RULES, RULES + '\n[log]\nfile = "policyd.log"\n') as server, Peer(server.addresses[0]) as peer:
        peer.ask(question(instance="before"))
        wait_for_text(log, "instance=before")
        log.rename(old)
        peer.ask(question(instance="between"))
        if rules == "bad":
            change(config, "accepted_domains", "accepted_domain")
        server.reload()
        wait_for_text(log, "reloaded")
        peer.ask(question(instance="after"))
        peer.end()
    assert [line["instance"] for line in decisions(old.read_text())] == [b"before", b"between"]
    assert [line["instance"] for line in decisions(log.read_text())] == [b"after"]
    assert "<6>" not in log.read_text() + old.read_text(), "priorities are for journald"
    assert not decisions(server.log()), "decisions go to the file only"
    assert log.read_text().endswith("stopped\n")


def wait_for_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_disk_delays_no_answer(config: Path, start: Callable[..., PolicydServer]) -> None:
    with start(RULES, RULES + '\n[log]\nfile = "/dev/full"\n') as server, Peer(server.addresses[0]) as peer:
        assert [peer.ask(OURS) for _ in range(200)] == ["OK"] * 200


# --- systemd --------------------------------------------------------------------------------------------------------


@pytest.fixture
def notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end of sd_notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield manager


def told(manager: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in manager.recv(65536).decode().split("\n"))


def test_what_systemd_is_told(config: Path, start: Callable[..., PolicydServer], notifications: socket.socket) -> None:
    with start() as server:
        ready = told(notifications)
        assert ready["READY"] == "1"
        assert "1 organization, 1 connector" in ready["STATUS"]
        server.reload()
        reloading = told(notifications)
        assert reloading["RELOADING"] == "1"
        assert 0 < int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert told(notifications)["STATUS"].startswith("generation 2, ")
        change(config, "accepted_domains", "accepted_domain")
        server.reload()
        assert told(notifications)["RELOADING"] == "1"
        failed = told(notifications)
        assert failed["READY"] == "1"
        assert failed["STATUS"].startswith("reload failed (1 error in the configuration); generation 2, ")
    assert told(notifications)["STOPPING"] == "1"


def test_ready_means_listening(start: Callable[..., PolicydServer], notifications: socket.socket) -> None:
    """No probing, no waiting: the moment READY=1 is sent, connections are taken."""
    server = start()
    process = subprocess.Popen(server._command, cwd=PROJECT, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        assert told(notifications)["READY"] == "1"
        with Peer(server.addresses[0]) as peer:
            assert peer.ask(OURS) == "OK"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_ready_is_not_said_when_it_cannot_listen(
    config: Path, policyd_command: list[str], notifications: socket.socket
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen_on(config, f"inet:127.0.0.1:{taken.getsockname()[1]}")
        assert run_to_the_end(policyd_command, config).returncode == 71
    notifications.setblocking(False)
    with pytest.raises(BlockingIOError):
        notifications.recv(100)


def test_watchdog(
    start: Callable[..., PolicydServer], notifications: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    with start():
        assert told(notifications)["READY"] == "1"
        assert [told(notifications) for _ in range(3)] == [{"WATCHDOG": "1"}] * 3
