"""`policyd check --postfix` on whole configurations of Postfix, as hubs have them, and on broken ones.

tests/postfix_configurations: a folder for each, with main.cf, master.cf, and the findings that it must give: `SEVERITY
NAME FILE[:LINE]`. FOLDER in a file is the folder that it was copied to. All are judged for policyd.toml beside them.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyd.cli.main import main
from tests.finding_names import name_of
from tests.helpers.hub import write_hub
from tests.helpers.postfix_files import write_old
from tests.helpers.programs import needs_postconf, needs_root
from tests.places import PROJECT

FOLDER = PROJECT / "tests/postfix_configurations"
CONFIGURATIONS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
CONFIG = str(FOLDER / "policyd.toml")
SCRIPT = PROJECT / "contrib/postfix/policyd-postfix-setup"

GOOD = b"compatibility_level = 3.6\nmyhostname = hub.example\nrelay_domains = contoso.com\n"
SMTP = b"smtp inet n - y - - smtpd\n"
pytestmark = needs_postconf


def copied(name: str, to: Path) -> Path:
    """A configuration, in a folder of its own."""
    folder = to / name
    shutil.copytree(FOLDER / name, folder)
    write_hub(folder)
    (folder / "cas.pem").rename(folder / "connector-cas.pem")
    for file in ("main.cf", "master.cf"):
        write_old(folder / file, (folder / file).read_text("utf-8").replace("FOLDER", str(folder)).encode())
    return folder


def found_in(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    """What `policyd check --json` printed, but for the note that policyd listens on TCP."""
    problems: list[dict[str, str]] = json.loads(capsys.readouterr().out)["problems"]
    return [one for one in problems if one["severity"] != "note"]


def findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `policyd check --postfix FOLDER` finds, as the file `findings` has it; policyd.toml itself is good."""
    capsys.readouterr()
    status = main(["check", "-c", CONFIG, "--json", "--postfix", str(folder)])
    problems = found_in(capsys)
    assert status == (78 if any(one["severity"] == "error" for one in problems) else 0)
    found = []
    for one in problems:
        place = os.path.basename(one["file"]) + (f":{one['line']}" if one["line"] else "")
        found.append(f"{one['severity']} {name_of(one['id'])} {place}")
    return sorted(found)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (FOLDER / name / "findings").read_text("utf-8").splitlines()
    expected = sorted(line for line in lines if line and not line.startswith("#"))
    assert findings(copied(name, tmp_path), capsys) == expected


# What an administrator has set before the script runs (postconf -e).
HUBS: Mapping[str, Sequence[str]] = {
    "Debian's": [],
    "the guide's": ["smtpd_tls_chain_files = FOLDER/hub.key, FOLDER/hub.pem"],
    "the rollout's": [
        "smtpd_tls_ask_ccert = yes",
        "relay_clientcerts = inline:{ {AA:BB=contoso} }",
        "smtpd_relay_restrictions = permit_mynetworks, permit_tls_clientcerts, defer_unauth_destination",
    ],
}


@needs_root
@pytest.mark.parametrize(
    ("hub", "arguments"),
    [
        ("Debian's", ("--list", "relay", "enforce")),
        ("the guide's", ("monitor",)),
        ("the rollout's", ("enforce",)),
    ],
)
def test_what_the_script_makes(
    hub: str, arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("debian-12", tmp_path)
    own = {name: folder / name for name in ("queue_directory", "data_directory")}
    set_here = ["alias_maps =", "relay_domains = contoso.com", *(f"{name} = {path}" for name, path in own.items())]
    set_here += [setting.replace("FOLDER", str(folder)) for setting in HUBS[hub]]
    for path in own.values():
        path.mkdir()
    subprocess.run(["postconf", "-c", str(folder), "-e", *set_here], timeout=60, check=True)
    os.utime(folder / "main.cf", (1e9, 1e9))
    command = [str(SCRIPT), "--config", str(folder), "--ca", str(folder / "connector-cas.pem"), "--no-query"]
    judge = tmp_path / "judge"
    judge.write_text(f'#!/bin/sh\nexec {sys.executable} -m policyd "$@"\n', "utf-8")
    judge.chmod(0o755)
    command += ["--service", "inet:127.0.0.1:10045", "--policyd", str(judge), "--policyd-config", CONFIG]
    done = subprocess.run([*command, "--apply", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    os.utime(folder / "main.cf", (1e9, 1e9))
    told = [name.rpartition(" ")[0] for name in findings(folder, capsys)]
    # policyd.toml says `enforce`, so an answer of the first stage would be one that bounces
    assert told == (["warning DEFAULT_BOUNCES"] if "monitor" in arguments else [])


# --- does smtpd live with it?


@needs_root
@pytest.mark.parametrize(
    ("argument", "lives"),
    [
        ("{ inet:127.0.0.1:10045, timeout=10s, { default_action = 451 4.3.5 Later } }", True),
        ("{ inet:127.0.0.1:10045 timeout=10s,policy_context=a,try_limit=1 { max_idle = 3s } }", True),
        ("{ inet:127.0.0.1:10045, timeout=10s, default_action = 451 4.3.5 Later }", False),
        ("{ inet:127.0.0.1:10045, default_action=451 4.3.5 Later }", False),
        ("{ inet:127.0.0.1:10045, time_out=10s }", False),
        ("{ inet:127.0.0.1:10045, timeout =10s }", False),
        ("{ inet:127.0.0.1:10045, default_action= }", False),
        ("{ inet:127.0.0.1:10045", False),
        ("{ inet:127.0.0.1:10045 }{ timeout=10s }", False),
    ],
)
def test_braces(argument: str, lives: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check finds fault with what smtpd dies of, and with nothing else."""
    folder = copied("relay-list", tmp_path)
    lists = f"smtpd_recipient_restrictions = check_policy_service {argument}, reject\n"
    queue = f"queue_directory = {folder}\ndata_directory = {folder}\nlocal_recipient_maps =\nalias_maps =\n"
    write_old(folder / "main.cf", GOOD + (lists + queue).encode() + b"smtpd_relay_restrictions =\n")
    where = ["postconf", "-c", str(folder), "-hx", "daemon_directory"]
    daemons = subprocess.run(where, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    answered = subprocess.run(
        [f"{daemons}/smtpd", "-S"],
        input="QUIT\r\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "MAIL_CONFIG": str(folder)},
    ).stdout
    assert answered.startswith("220 ") == lives
    told = {name.split()[1] for name in findings(folder, capsys)}
    assert ("BRACES" in told) == (not lives)
    assert "OTHER_ADDRESS" not in told


# --- what is no configuration of Postfix

HOSTILE = {
    "empty": b"",
    "octets": bytes(range(256)) * 20,
    "not UTF-8": b"relay_domains = \xff\xfe, contoso.com\nsmtpd_recipient_restrictions = \xff { \xfe\n",
    "a level that is none": b"compatibility_level = x\n",
    "a name within itself": b"a = $b\nb = $a\nrelay_domains = $a\n",
    "braces": b"smtpd_recipient_restrictions = " + b"{ " * 5000 + b"\n",
    "closing braces": b"relay_domains = " + b"} " * 5000 + b"\n",
    "classes within classes": (
        b"smtpd_restriction_classes = " + b" ".join(b"c%d" % number for number in range(300)) + b"\n"
        b"smtpd_recipient_restrictions = c0\n"
        + b"".join(b"c%d = c%d c%d\n" % (number, number + 1, number + 1) for number in range(299))
    ),
    "files that are none": b"relay_domains = /dev/zero, /dev/stdin, /, /nowhere\nmydestination = FIFO\n",
    "tables that look like options": b"relay_domains = -wi:x, -d:y, :\nheader_checks = -q:/\n",
    "tables of everything": b"relay_domains = static:yes, fail:no, tcp:127.0.0.1:1, nis:z\n",
    "access tables": b"smtpd_recipient_restrictions = cidr:/dev/zero check_client_access FIFO regexp:/nowhere reject\n",
    "lone words": b"smtpd_recipient_restrictions = warn_if_reject\nsmtpd_relay_restrictions = check_policy_service\n",
    "no service": b"smtpd_recipient_restrictions = check_policy_service { }, check_policy_service {, reject\n",
    "odd numbers": b"smtpd_policy_service_timeout = 99999999999999999999w\nmynetworks = 1.2.3.4/99 [::]/999 0/0 !x\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_main(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_cf = HOSTILE[name] if name == "a level that is none" else GOOD + HOSTILE[name]
    problems_on_single_lines(tmp_path, main_cf, SMTP, capsys)


@pytest.mark.parametrize("name", ["octets", "not UTF-8", "braces", "tables that look like options", "no service"])
def test_hostile_master(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as settings of a service."""
    overrides = b"".join(b"  -o { " + line + b" }\n" for line in HOSTILE[name].split(b"\n"))
    asks = b"smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:10045 reject\n"
    problems_on_single_lines(tmp_path, GOOD + asks, SMTP + overrides, capsys)


def problems_on_single_lines(
    folder: Path, main_cf: bytes, master_cf: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Problems, each on its line and in its file, and no traceback; nothing hangs."""
    os.mkfifo(folder / "FIFO")
    write_old(folder / "main.cf", main_cf.replace(b"FIFO", str(folder / "FIFO").encode()))
    write_old(folder / "master.cf", master_cf)
    status = main(["check", "-c", CONFIG, "--postfix", str(folder)])
    told = capsys.readouterr()
    assert status in (0, 78)
    assert len(told.out.splitlines()) == told.out.count("\n")
    assert all(line.startswith((f"{folder}", f"{CONFIG}:4: note: ")) for line in told.out.splitlines()), told.out
    assert "Traceback" not in told.err


# --- where Postfix is not, or cannot be read


def test_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder is postconf's own: as the environment of Postfix says, else the one that it was built with."""
    folder = copied("debian-12", tmp_path)
    monkeypatch.setenv("MAIL_CONFIG", str(folder))
    assert main(["check", "-c", CONFIG, "--postfix"]) == 78
    assert f"{folder}/main.cf:" in capsys.readouterr().out


def test_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(copied("lookups", tmp_path))
    assert main(["check", "-c", CONFIG, "--postfix", folder]) == 0
    assert main(["check", "-c", CONFIG, "--strict", "--postfix", folder]) == 78
    capsys.readouterr()
    assert main(["check", "-c", CONFIG, "--postfix", str(copied("relay-list", tmp_path)), "--strict"]) == 0
    told = capsys.readouterr()
    assert told.out.count("\n") == told.out.count(": note: ") == 1
    assert told.err.endswith("0 errors, 0 warnings, 1 note\n")


@pytest.mark.parametrize("missing", ["main.cf", "master.cf", ""])
def test_nothing_to_read(missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied("relay-list", tmp_path)
    if missing:
        (folder / missing).unlink()
    else:
        shutil.rmtree(folder)
    assert main(["check", "-c", CONFIG, "--json", "--postfix", str(folder)]) == 78
    (problem,) = found_in(capsys)
    assert problem["file"] == str(folder)
    assert ("No such file" if missing else "no such folder") in problem["message"]
    assert problem["id"] == "postfix-not-read"


@needs_root
def test_a_folder_that_only_root_may_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied("relay-list", tmp_path)
    folder.chmod(0o700)
    with as_nobody():
        status = main(["check", "-c", CONFIG, "--json", "--postfix", str(folder)])
    (problem,) = found_in(capsys)
    assert status == 78
    assert "no such folder" in problem["message"], "of what cannot be seen nothing is said"


@contextmanager
def as_nobody() -> Iterator[None]:
    """What is called meanwhile runs as the user nobody."""
    owner = pwd.getpwnam("nobody")
    os.setegid(owner.pw_gid)
    os.seteuid(owner.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
