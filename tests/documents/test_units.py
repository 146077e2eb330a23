"""systemd/: that systemd understands every file, and that they fit each other and the program.

What the units do on a running machine is tested in tests/system/; this needs no container.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from policyd.cli.common import DEFAULT_CONFIGURATION, Exit
from policyd.cli.running import DEFAULT_SOCKET
from policyd.config.settings import Endpoint, ServiceSettings
from tests.places import PROJECT

SYSTEMD = PROJECT / "systemd"
PROGRAM = "/opt/policyd/bin/policyd"


def read(name: str) -> dict[str, list[str]]:
    """The values of each directive, in order; sections do not matter, no name stands in two of them here."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in (SYSTEMD / name).read_text("ascii").splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found[match[1]].append(match[2])
    return found


def table(name: str) -> list[list[str]]:
    """The lines of a sysusers.d or tmpfiles.d file."""
    lines = (SYSTEMD / name).read_text("ascii").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


SERVICE, SOCKET = read("policyd.service"), read("policyd.socket")


@pytest.fixture
def installed(tmp_path: Path) -> list[str]:
    """Both units as systemd would find them, with a program that exists here."""
    for name in ("policyd.service", "policyd.socket"):
        text = (SYSTEMD / name).read_text("ascii").replace(PROGRAM, "/usr/bin/env")
        (tmp_path / name).write_text(text, "ascii")
    return [str(tmp_path / "policyd.service"), str(tmp_path / "policyd.socket")]


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_units_are_understood(installed: list[str]) -> None:
    done = systemd_analyze("verify", "--recursive-errors=no", *installed)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_verify_would_say_so(installed: list[str]) -> None:
    """The test above can fail."""
    service = Path(installed[0])
    service.write_text(service.read_text("ascii").replace("NoNewPrivileges", "NoNewPrivilege"), "ascii")
    assert "NoNewPrivilege" in systemd_analyze("verify", "--recursive-errors=no", *installed).stderr


def test_exposure(installed: list[str]) -> None:
    """At most 1.0 of 10 (the threshold counts tenths)."""
    done = systemd_analyze("security", "--offline=true", "--threshold=10", installed[0])
    assert done.returncode == 0, done.stdout


def test_commands() -> None:
    """The server reads the default file, and is asked at the default socket to read it again."""
    assert SERVICE["ExecStart"] == [f"{PROGRAM} serve -c {DEFAULT_CONFIGURATION}"]
    assert SERVICE["ExecReload"] == [f"{PROGRAM} reload"]
    assert [str(Path(DEFAULT_SOCKET).parent)] == [f"/run/{folder}" for folder in SERVICE["RuntimeDirectory"]]


def test_what_no_restart_mends_is_not_restarted() -> None:
    (codes,) = SERVICE["RestartPreventExitStatus"]
    assert set(codes.split()) == {str(Exit.CONFIG), str(Exit.USAGE)}
    assert SERVICE["Restart"] == ["on-failure"]


def test_postfix_starts_later() -> None:
    """Debian's postfix.service only stands for the instances: the first one is named too."""
    for unit in (SERVICE, SOCKET):
        assert unit["Before"] == ["postfix.service postfix@-.service"]


def test_enough_descriptors() -> None:
    (limit,) = SERVICE["LimitNOFILE"]
    assert int(limit) >= ServiceSettings().max_connections + 1000


def test_both_ways_to_listen_have_the_same_addresses() -> None:
    """TCP: the default of `listen`. Unix: in the folder that tmpfiles.d makes and the service may write."""
    (default,) = ServiceSettings().listen
    tcp, unix = SOCKET["ListenStream"]
    assert tcp == f"{default.host}:{default.port}"
    folder = str(Path(unix).parent)
    assert SERVICE["ReadWritePaths"] == [f"-{folder}"]
    assert ["d", folder, "2750", "policyd", "postfix", "-"] in table("tmpfiles.d/policyd.conf")
    assert (SOCKET["SocketUser"], SOCKET["SocketGroup"], SOCKET["SocketMode"]) == (["policyd"], ["postfix"], ["0660"])
    assert ServiceSettings().unix_mode == 0o660


def test_descriptor_name_is_the_documented_one() -> None:
    text = (SYSTEMD / "policyd.socket").read_text("ascii")
    (name,) = SOCKET["FileDescriptorName"]
    assert f'listen = ["{Endpoint("systemd", path=name)}"]' in text


def test_one_user() -> None:
    ((kind, user, *_),) = table("sysusers.d/policyd.conf")
    assert (kind, [user]) == ("u", SERVICE["User"])
    assert SERVICE["Group"] == [user]


def test_folders_of_root_cannot_be_written_by_policyd() -> None:
    for _, path, mode, user, group, _ in table("tmpfiles.d/policyd.conf"):
        if path.startswith("/etc/"):
            assert (mode, user, group) == ("0750", "root", "policyd"), path


@pytest.mark.skipif(os.geteuid() != 0, reason="users and folders of a root of its own need root")
def test_user_and_folders_are_made(tmp_path: Path) -> None:
    """systemd-sysusers and systemd-tmpfiles themselves, in an empty root that knows Postfix's group only."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\npostfix:x:4711:\n")
    for program, file in (
        (["systemd-sysusers"], "sysusers.d/policyd.conf"),
        (["systemd-tmpfiles", "--create"], "tmpfiles.d/policyd.conf"),
    ):
        if shutil.which(program[0]) is None:
            pytest.skip(f"{program[0]} is not installed")
        command = [*program, f"--root={tmp_path}", str(SYSTEMD / file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    fields = (tmp_path / "etc/passwd").read_text().splitlines()[-1].split(":")
    name, _, uid, gid, _, home, shell = fields
    assert (name, home, shell) == ("policyd", "/var/lib/policyd", "/usr/sbin/nologin")
    for line in table("tmpfiles.d/policyd.conf"):
        made = (tmp_path / line[1].lstrip("/")).stat()
        owner = int(uid) if line[3] == "policyd" else 0
        group = {"policyd": int(gid), "postfix": 4711}[line[4]]
        assert (made.st_mode & 0o7777, made.st_uid, made.st_gid) == (int(line[2], 8), owner, group), line
