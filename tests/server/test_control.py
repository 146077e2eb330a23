"""What administrators ask the running service: `reload`, `explain --running`, `show --running` (SPEC 7 and 8)."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from policyd.cli.main import main
from policyd.protocol.control import encode
from policyd.service.control import MOST_CONNECTIONS
from tests.helpers.conversation import Peer, question, write_configuration
from tests.helpers.policyd_server import PolicydServer
from tests.helpers.waiting import PATIENCE

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]

[organizations.fabrikam]
accepted_domains = ["fabrikam.com"]
pending_domains = ["fabrikam.example"]

[organizations.fabrikam.connectors.mail]
certificate_names = ["mail.fabrikam.com"]
"""
STRANGERS = ("client_address=203.0.113.77", "sender=kate@contoso.com", "recipient=bob@example.org")
NONSENSE = (b"\n", b"\x1b[2J\n", b"GET / HTTP/1.1\r\n\r\n", b"[" * 300_000 + b"\n", b"\0" * 70_000 + b"\n")
OURS = ("client_address=203.0.113.7", *STRANGERS[1:])


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


class Hub:
    """A server with a control socket, and the commands that ask there."""

    def __init__(self, config: Path, server: PolicydServer, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self.server = server
        self.path = path
        self._capfd = capfd

    def run(self, *arguments: str) -> Done:
        """A command, to its end."""
        self._capfd.readouterr()
        code = main(arguments)
        told = self._capfd.readouterr()
        return Done(code, told.out, told.err)

    def ask(self, command: str, *arguments: str) -> Done:
        """One that asks the service."""
        running = [] if command == "reload" else ["--running"]
        return self.run(command, *running, "--socket", str(self.path), *arguments)

    def read(self, command: str, *arguments: str) -> Done:
        """One that reads the files."""
        return self.run(command, "-c", str(self.config), *arguments)

    def change(self, old: str, new: str) -> None:
        """Changes the configuration file."""
        text = self.config.read_text("utf-8")
        assert old in text
        self.config.write_text(text.replace(old, new), "utf-8")

    def say(self, question: bytes) -> bytes:
        """What a peer is answered who writes for himself."""
        with Peer(f"unix:{self.path}") as peer:
            peer.send(question)
            return peer.rest()

    def answers(self, request: bytes) -> str:
        """What Postfix is answered on a new connection."""
        with Peer(self.server.addresses[0]) as peer:
            return peer.ask(request)


@pytest.fixture
def hub(
    tmp_path: Path,
    free_port: Callable[[], int],
    policyd_server: Callable[..., PolicydServer],
    capfd: pytest.CaptureFixture[str],
) -> Hub:
    """One that does not run yet."""
    config, path = tmp_path / "policyd.toml", tmp_path / "control.sock"
    write_configuration(config, free_port(), RULES)
    text = config.read_text("utf-8").replace("[service]\n", f'[service]\ncontrol = "unix:{path}"\n', 1)
    config.write_text(text, "utf-8")
    return Hub(config, policyd_server(config), path, capfd)


def after_start(hub: Hub) -> None:
    """The control socket is there a moment after Postfix's."""
    hub.server.wait_for_log(lambda log: "listening on" in log)


def test_reload(hub: Hub) -> None:
    """It is in force when the command ends. A bad file fails, in the words of `policyd check`, and changes nothing."""
    with hub.server:
        after_start(hub)
        hub.change("203.0.113.0/28", "203.0.113.64/28")
        done = hub.ask("reload")
        assert (done.code, done.out) == (0, "")
        assert "policyd reload: reloaded; generation 2, 2 organizations, 2 connectors, enforcing\n" in done.err
        assert hub.answers(question(client_address="203.0.113.77", sender="k@contoso.com")) == "OK"
        hub.change("pending_domains", "pending_domain")
        done, checked = hub.ask("reload"), hub.read("check")
        assert done.code == 78
        *problems, last = done.err.splitlines()
        assert problems == [line for line in checked.out.splitlines() if ": note: " not in line]
        assert any('unknown key "pending_domain"' in problem for problem in problems)
        assert last == "policyd reload: not reloaded: 1 error in the configuration; generation 2 stays in force"
        hub.change("pending_domain", "pending_domains")
        assert hub.ask("reload").code == 0


def test_reload_says_what_needs_a_restart(hub: Hub) -> None:
    with hub.server:
        after_start(hub)
        hub.change(f"unix:{hub.path}", f"unix:{hub.path}.new")
        done = hub.ask("reload")
    assert done.code == 0
    assert "policyd reload: service.control changed: restart policyd for it to take effect\n" in done.err


def test_reload_reopens_the_log(hub: Hub, tmp_path: Path) -> None:
    log = tmp_path / "policyd.log"
    with hub.config.open("a", encoding="utf-8") as config:
        config.write(f'\n[log]\nfile = "{log}"\n')
    with hub.server:
        after_start(hub)
        log.rename(tmp_path / "policyd.log.1")
        hub.change("pending_domains", "pending_domain")  # also where the rules are bad
        assert hub.ask("reload").code == 78
        assert log.exists()


def test_what_is_in_force_is_told(hub: Hub) -> None:
    """The same as of the files, to the octet; and still so when the files say something else, or are bad."""
    with hub.server:
        after_start(hub)
        ways = [("show",), ("show", "--json"), ("show", "contoso"), ("show", "--json", "fabrikam", "contoso")]
        ways += [("explain", *more, *request) for request in (STRANGERS, OURS) for more in ((), ("--json",))]
        before = [hub.read(*way) for way in ways]
        assert {done.code for done in before} == {0, 1}
        hub.config.write_text("nonsense", "utf-8")
        for way, read in zip(ways, before, strict=True):
            asked = hub.ask(*way)
            assert (asked.code, asked.out, asked.err) == (read.code, read.out, read.err), way


def test_octets_that_are_no_text(hub: Hub) -> None:
    """What a request may hold comes back as it would without the socket, and nothing of it steers the terminal."""
    odd = ("client_address=203.0.113.77", "sender=k\x1b[2J\udcff\u202e@contoso.com", "recipient=bob@example.org")
    with hub.server:
        after_start(hub)
        asked, read = hub.ask("explain", *odd), hub.read("explain", *odd)
    assert (asked.code, asked.out) == (read.code, read.out)
    assert asked.code == 1
    assert "\x1b" not in hub.server.log()


def test_with_workers(hub: Hub) -> None:
    """Only the parent has the socket, and all take the new rules before the command ends."""
    hub.change("[service]\n", "[service]\nworkers = 2\n")
    with hub.server:
        after_start(hub)
        hub.change("203.0.113.0/28", "203.0.113.64/28")
        assert hub.ask("reload").code == 0
        assert hub.ask("explain", *STRANGERS).code == 0
        ours = question(client_address="203.0.113.77", sender="k@contoso.com")
        for _ in range(8):  # whichever worker takes the connection
            assert hub.answers(ours) == "OK"


def test_an_organization_that_is_not_there(hub: Hub) -> None:
    names = ["nobody", "contoso.", "", "x" * 2000, "\x1b[2J", "é", "\udcff"]
    with hub.server:
        after_start(hub)
        for name in names:
            asked, read = hub.ask("show", "contoso", name), hub.read("show", "contoso", name)
            assert (asked.code, asked.out, asked.err) == (65, "", read.err), name
            assert read.code == 65
        assert "\x1b" not in hub.server.log()
        assert "internal error" not in hub.server.log()


def test_its_file(hub: Hub) -> None:
    """Nobody but user and group may connect, whatever the mode of Postfix's sockets; the end takes it away."""
    hub.change("[service]\n", '[service]\nunix_mode = "0666"\n')
    with hub.server:
        after_start(hub)
        status = hub.path.stat()
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
    assert not hub.path.exists()


def test_where_it_is(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder that systemd gives, unless the configuration has another place or none."""
    hub.change(f'control = "unix:{hub.path}"\n', "")
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/nowhere")
    with hub.server:
        after_start(hub)
        assert hub.path.exists()
        assert hub.run("reload").code == 0  # as ExecReload has it, in the same environment
        assert "control" not in json.loads(hub.run("show", "--running", "--json").out)["service"]
    hub.change("[service]\n", '[service]\ncontrol = ""\n')
    with hub.server:
        hub.server.wait_for_log(lambda log: log.count("listening on") == 2)
        assert not hub.path.exists()
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    hub.change('control = ""\n', "")
    with hub.server:
        hub.server.wait_for_log(lambda log: log.count("listening on") == 3)
        assert [name for name in os.listdir(tmp_path) if name.endswith(".sock")] == []


def test_a_place_where_none_can_be(hub: Hub, policyd_command: list[str]) -> None:
    hub.path.mkdir()
    done = subprocess.run(
        [*policyd_command, "serve", "-c", str(hub.config)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 71
    assert f"policyd: cannot listen on unix:{hub.path}: " in done.stderr


def test_peers_that_make_no_sense(hub: Hub) -> None:
    """Each is answered or closed, nothing of it is logged, and the next one and Postfix are served."""
    with hub.server:
        after_start(hub)
        mark = hub.server.mark()
        for nonsense in NONSENSE:
            assert json.loads(hub.say(nonsense).split(b"\n")[0])["error"]
        idle = [socket.socket(socket.AF_UNIX) for _ in range(MOST_CONNECTIONS)]
        for peer in idle:
            peer.connect(str(hub.path))
        assert hub.answers(question()).startswith("REJECT")
        for peer in idle:
            peer.close()
        while not hub.say(encode({"policyd": 1, "command": "show"})).endswith(b"\n\n"):
            pass  # until the service has seen that they are gone
        assert "policyd: " not in hub.server.decided_since(mark)
