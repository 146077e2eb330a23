"""The command line as a whole: help, usage, exit codes of the last resort (SPEC 7)."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from policyd import RULES_FORMAT, __version__
from policyd.cli import explain
from policyd.cli.common import Exit
from policyd.cli.main import COMMANDS, main
from tests.places import PROJECT


def ended(arguments: list[str]) -> int:
    """The exit code, however it ends."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def test_the_documented_exit_codes() -> None:
    assert (Exit.OK, Exit.REJECTED, Exit.USAGE, Exit.DATA) == (0, 1, 64, 65)
    assert (Exit.UNAVAILABLE, Exit.INTERNAL, Exit.CANNOT_LISTEN, Exit.CONFIG) == (69, 70, 71, 78)


@pytest.mark.parametrize("arguments", [["--help"], *([command.rstrip("_"), "--help"] for command in COMMANDS)])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(arguments) == 0
    told = capsys.readouterr()
    assert told.out.startswith("usage: policyd")
    assert told.err == ""


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    ended(["--help"])
    told = capsys.readouterr().out
    assert all(f" {command.rstrip('_')} " in told for command in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["--version"]) == 0
    told = capsys.readouterr().out
    libraries = r"Python 3\.\d+\.\d+, Twisted \d+\.\d+\.\d+\w*"
    versions = rf"policyd {re.escape(__version__)} \({libraries}, rules format {RULES_FORMAT}\)\n"
    assert re.fullmatch(versions, told)


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["--nonsense"], ["serve", "--nonsense"], ["serve", "extra"], ["explain", "-c"]]
)
def test_wrong_usage_is_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(arguments) == 64
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    assert "--help" in told.err


def test_a_bug_is_70(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(arguments: argparse.Namespace) -> NoReturn:
        raise KeyError("of ours")

    monkeypatch.setattr(explain, "run", broken)
    assert ended(["explain", "sender="]) == 70
    told = capsys.readouterr()
    assert "KeyError: 'of ours'" in told.err
    assert "internal error" in told.err


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: argparse.Namespace) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(explain, "run", interrupted)
    assert ended(["explain", "sender="]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_who_has_seen_enough(tmp_path: Path) -> None:
    """`policyd explain ... | head -0`: no traceback."""
    config = tmp_path / "policyd.toml"
    config.write_text("")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        run = subprocess.run(
            [sys.executable, "-m", "policyd", "explain", "-c", str(config), "sender=a@x", "recipient=b@y"],
            cwd=PROJECT,
            stdout=nobody,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    assert run.stderr == b""


@pytest.mark.parametrize("command", [["show"], ["explain", "sender=a@x", "recipient=b@y"]], ids=lambda words: words[0])
def test_a_full_disk_under_the_output(command: list[str], tmp_path: Path) -> None:
    """`policyd show >file`: told as what it is, and never success."""
    config = tmp_path / "policyd.toml"
    config.write_text("")
    name, *rest = command
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            [sys.executable, "-m", "policyd", name, "-c", str(config), *rest],
            cwd=PROJECT,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    assert (run.returncode, run.stderr) == (70, b"policyd: cannot write: No space left on device\n")


def test_commands_start_without_the_server() -> None:
    """`--help` and `explain` need no Twisted: they start fast, and work where it is broken."""
    code = (
        "import sys; from policyd.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('twisted', 'cryptography', 'psycopg')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]"
