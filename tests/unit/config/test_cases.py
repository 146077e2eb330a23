"""Whole configurations as data: tests/bad_configs must be refused, tests/suspicious_configs warned of (SPEC 4).

A folder holds policyd.toml, whatever that names, and expected.txt: each of its lines must stand in what `policyd check`
prints; ` || ` separates texts of which one is enough. A line `policyd.toml:5: ...` stands for the line of the key.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policyd.cli.common import Exit
from policyd.cli.main import main
from policyd.config.messages import Message
from tests.places import TESTS

BAD = sorted(path.parent for path in (TESTS / "bad_configs").glob("*/policyd.toml"))
SUSPICIOUS = sorted(path.parent for path in (TESTS / "suspicious_configs").glob("*/policyd.toml"))

# What cannot stand in a folder that is kept in git and read by any user; test_toml_file.py and others make it.
MADE_ELSEWHERE = {
    # tests/database
    "DATABASE_SNAPSHOT",
    "FILE_HAS_IT",
    "HELD",
    "LAST_GOOD_ROWS",
    "ORGANIZATION_TOO_LARGE",
    "NO_LONGER_ANY",
    "FILE_MISSING",
    "FILE_NOT_REGULAR",
    "FILE_NO_PERMISSION",
    "FILE_UNREADABLE",
    "FILE_TOO_LARGE",
    "INCLUDE_FOLDER",
    "CERTIFICATE_EXPIRES",
    "NOT_WRITABLE",  # test_cli_check_user
    "FILE_IS_PIPE",  # tests/server
    "PACKAGE_MISSING",  # test_check
}


def check(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of `policyd check` on policyd.toml."""
    code = main(["check", "-c", "policyd.toml", *options])
    told = capsys.readouterr()
    return code, told.out, told.err


def missing(folder: Path, told: str) -> list[str]:
    """The expected lines that were not told."""
    expected = (folder / "expected.txt").read_text("utf-8").splitlines()
    assert expected
    return [line for line in expected if not any(text in told for text in line.split(" || "))]


@pytest.mark.parametrize("folder", BAD, ids=lambda path: path.name)
def test_bad(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    code, told, counts = check(capsys)
    assert code == Exit.CONFIG, told
    assert missing(folder, told) == [], told
    assert "Traceback" not in told + counts
    errors = [line for line in told.splitlines() if ": warning: " not in line and ": note: " not in line]
    assert f" {len(errors)} error{'s' * (len(errors) != 1)}, " in counts


@pytest.mark.parametrize("folder", SUSPICIOUS, ids=lambda path: path.name)
def test_suspicious(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    code, told, counts = check(capsys)
    assert code == Exit.OK, told
    assert missing(folder, told) == [], told
    assert {line.split(": ")[1] for line in told.splitlines()} <= {"warning", "note"}, told
    assert ": 0 errors, " in counts
    code, strict, counts = check(capsys, "--strict")
    assert code == Exit.CONFIG
    no_connectors = re.compile(r": (?:note|warning): (.*the organization has no connectors)")
    assert no_connectors.sub(r": \1", strict) == no_connectors.sub(r": \1", told)
    assert not re.search(": note: .*has no connectors", strict)
    assert "--strict" in counts


@pytest.mark.parametrize("command", ["show", "explain"])
def test_no_other_command_takes_a_bad_configuration(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(BAD[0])
    more = ["sender=a@b.example"] if command == "explain" else []
    assert main([command, "-c", "policyd.toml", *more]) == Exit.CONFIG
    told = capsys.readouterr()
    assert told.out == ""
    assert "policyd.toml:5: " in told.err


def test_each_message_has_a_configuration(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told = ""
    for folder in (*BAD, *SUSPICIOUS):
        monkeypatch.chdir(folder)
        told += check(capsys)[1]
    unseen = {message.name for message in Message if not re.search(_pattern(message), told)}
    assert unseen <= MADE_ELSEWHERE
    assert {name for name in MADE_ELSEWHERE if name not in Message.__members__} == set()


def _pattern(message: Message) -> str:
    """A regular expression for what is told by a message."""
    fixed = re.split(r"\{[a-z_]+\}", message.value)
    return r"(?m)^[^\n]*: " + "[^\n]*?".join(re.escape(text) for text in fixed)
