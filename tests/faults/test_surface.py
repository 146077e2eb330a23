"""Who can reach the sockets and files, as which user, and what the logs and replies give away."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policyd.cli.main import main
from tests.faults.peers import OK, OURS, ask, configuration, read_until, request
from tests.helpers.waiting import until
from tests.places import PROJECT

NOBODY = "nobody"
AS_NOBODY = """
import os, pwd, socket, sys
user = pwd.getpwnam("nobody")
os.setgroups([]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="policyd-surface-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def as_nobody(code: str) -> str:
    """What a Python program of a user without rights prints."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    done = subprocess.run(["/usr/bin/python3", "-c", AS_NOBODY + code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("mode", "gets_in"), [("0660", False), ("0600", False), ("0666", True)])
def test_unix_socket_is_for_those_who_may(
    mode: str,
    gets_in: bool,
    open_folder: Path,
    policyd_server: Callable[..., Any],
    free_port: Callable[[], int],
) -> None:
    path = open_folder / "policyd.sock"
    port = free_port()
    config = configuration(open_folder, port, service=f'unix_mode = "{mode}"')
    text = config.read_text().replace("listen = [", f'listen = ["unix:{path}", ')
    config.write_text(text)
    with policyd_server(config):
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == int(mode, 8)
        assert status.st_uid == os.geteuid()
        said = as_nobody(f"socket.socket(socket.AF_UNIX).connect({str(path)!r}); print('got in')")
        assert ("got in" in said.splitlines()) == gets_in, said
        assert gets_in or "PermissionError" in said
    assert not path.exists()


def test_log_and_its_rotation_are_not_for_everybody(attacked: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "policyd.log"
    target = attacked(more=f'[log]\nfile = "{file}"')
    assert stat.S_IMODE(file.stat().st_mode) & 0o007 == 0
    file.rename(tmp_path / "old")
    target.server.reload()
    until(lambda: file.exists() and "reloaded" in file.read_text(), "it logs into a new file")
    assert stat.S_IMODE(file.stat().st_mode) & 0o007 == 0


def test_files_of_others_are_not_removed(
    policyd_command: list[str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Where the socket should be there is a file of somebody: policyd ends with 71 and leaves it."""
    path = tmp_path / "precious"
    path.write_text("data")
    config = configuration(tmp_path, free_port())
    config.write_text(config.read_text().replace("listen = [", f'listen = ["unix:{path}", '))
    done = subprocess.run([*policyd_command, "serve", "-c", str(config)], capture_output=True, cwd=PROJECT, timeout=60)
    assert done.returncode == 71, done.stderr
    assert path.read_text() == "data"


SECRET = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgSECRETSECRETSECRET\n"


def test_private_key_named_by_mistake_is_not_shown(
    policyd_command: list[str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Neither in the message of `check` nor in the log."""
    (tmp_path / "key.pem").write_text(SECRET)
    config = configuration(tmp_path, free_port())
    config.write_text(config.read_text() + 'certificate_files = ["key.pem"]\n')
    done = subprocess.run([*policyd_command, "check", "-c", str(config)], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 78
    assert "private key" in done.stdout + done.stderr
    assert "SECRET" not in done.stdout + done.stderr


ELSEWHERE = (
    "root:$6$SECRETSALT$SECRETHASH:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
    "password = SECRET\n",
    "password = SECRET-word # of the database\n",
    "password=SECRET:with:colons\n",
    "[database]\ndsn = postgresql://policyd:SECRET@db.example/policyd\n",
    "keys = [\n  SECRET,\n]\n",
    "SECRET\n",
    "= SECRET\n",
    '"SECRET\n',
    "-----BEGIN PRIVATE KEY-----\nSECRET\n",
)


@pytest.mark.parametrize("content", ELSEWHERE)
def test_configuration_that_is_something_else_is_not_shown(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`policyd check -c /etc/shadow` must not become a way to read it: no secret of the file is in the message."""
    path = tmp_path / "shadow"
    path.write_text(content)
    assert main(["check", "-c", str(path)]) == 78
    told = capsys.readouterr()
    assert "shadow:" in told.out + told.err
    assert "SECRET" not in told.out + told.err


def test_replies_tell_no_names(attacked: Callable[..., Any]) -> None:
    """A stranger's refusals are the same whether the names in his mail exist here or not."""
    target = attacked()

    def reply(sender: str, recipient: str, address: str = "198.51.100.9", cn: str = "") -> str:
        attributes = {"client_address": address, "sender": sender, "recipient": recipient, "instance": "1.2"}
        certificate = {"ccert_subject": cn, "ccert_fingerprint": "AA", "ccert_issuer": "CA"} if cn else {}
        return ask(target.port, request(**attributes, **certificate)).decode()

    for cn in ("", "mail.contoso.com", "mail.nobody.example"):
        told = {
            reply(sender, "x@other.example", cn=cn)
            for sender in ("a@contoso.com", "a@nobody.example", "a@office.contoso.com")
        }
        assert len(told) == 1, told
        for text in told:
            assert "contoso" not in text
            assert "office" not in text
            assert "nobody.example" not in text
            assert re.fullmatch(r"action=REJECT 5\.7\.\d+ [ -~]+\n\n", text)


def test_it_runs_without_rights(open_folder: Path, free_port: Callable[[], int]) -> None:
    """As nobody, in an empty environment, with a folder that it can only read: nothing else is needed."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    pwd.getpwnam(NOBODY)
    port = free_port()
    config = configuration(open_folder, port)
    os.chmod(config, 0o644)
    probe = as_nobody(f"print(*(os.access(path, os.X_OK) for path in ({str(PROJECT)!r}, {sys.executable!r})))")
    if "False" in probe or "Error" in probe:
        pytest.skip("the project lies where nobody cannot go")
    command = [sys.executable, "-m", "policyd", "serve", "-c", str(config)]
    code = f"os.chdir({str(PROJECT)!r}); os.execve({sys.executable!r}, {command!r}, {{}})"
    process = subprocess.Popen(["/usr/bin/python3", "-c", AS_NOBODY + code], stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        read_until(process.stderr.fileno(), b"listening on")
        assert ask(port, OURS) == OK
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_only_what_is_configured_listens(attacked: Callable[..., Any]) -> None:
    """No other socket of the process accepts anything."""
    target = attacked()
    listening = []
    inodes = set()
    for descriptor in os.listdir(f"/proc/{target.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            link = os.readlink(f"/proc/{target.pid}/fd/{descriptor}")
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{target.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (fields[3] == "0A" or table.startswith("udp")):
                listening.append((table, int(fields[1].rpartition(":")[2], 16), fields[1].split(":")[0]))
    assert listening == [("tcp", target.port, "0100007F")]
