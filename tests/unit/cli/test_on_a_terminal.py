"""What commands show on a terminal only: its width, colour, progress; and hints to those who mistyped (SPEC 7)."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import pytest

from policyd.cli.main import COMMANDS, main
from policyd.cli.terminal import coloured, is_journal, wrapped

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com", "contoso.com"]
[organizations.contoso.connectors]
"""
REQUEST = ["client_address=198.51.100.9", "sender=a@contoso.com", "recipient=x@other.example"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard output becomes a terminal of 60 columns."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    return terminal


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "policyd.toml").write_text(RULES.replace(', "contoso.com"', ""))
    return str(tmp_path / "policyd.toml")


@pytest.mark.parametrize("no_color", [None, "", "1"])
def test_colour(no_color: str | None, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = screen(monkeypatch)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    main(["explain", "-c", config, *REQUEST])
    main(["check", "-c", config])
    Path(config).write_text(RULES)
    main(["check", "-c", config])
    shown = terminal.getvalue()
    assert ("\x1b[31mREJECT\x1b[0m  no-connector" in shown) == (not no_color)
    assert ("\x1b[33mwarning:\x1b[0m " in shown) == (not no_color)
    assert (f"\x1b[31m{config}:3\x1b[0m: " in shown) == (not no_color)
    assert ("\x1b" in shown) == (not no_color)


def test_no_colour_elsewhere(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", "-c", config, *REQUEST])
    main(["check", "-c", config])
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert max(map(len, told.out.splitlines())) > 100, "lines are not cut for what reads them"


@pytest.mark.parametrize(
    ("word", "shown"), [("OK", "\x1b[32mOK\x1b[0m"), ("DEFER", "\x1b[31mDEFER\x1b[0m"), ("451", "451")]
)
def test_actions(word: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen(monkeypatch)
    assert coloured(f"{word} OK", word) == f"{shown} OK"


def test_explain_in_the_width(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = screen(monkeypatch)
    main(["explain", "-c", config, "encryption_protocol=TLSv1.3", "ccert_subject=mail.contoso.com", *REQUEST])
    lines = re.sub(r"\x1b\[\d*m", "", terminal.getvalue()).splitlines()
    to_paste = [line for line in lines if line.startswith(" " * 8)]
    assert to_paste, "the example proposes nothing"
    assert max(len(line) for line in lines if line not in to_paste) <= 60


@pytest.mark.parametrize("command", ["", *(command.rstrip("_") for command in COMMANDS)])
def test_help_in_the_width(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = screen(monkeypatch)
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    assert terminal.getvalue().startswith("usage: ")
    too_long = [line for line in terminal.getvalue().splitlines() if len(line) > 60]
    assert [line for line in too_long if " " in line.strip() and not line.startswith("usage:")] == []


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("", [""]),
        ("a" * 60, ["a" * 60]),
        ("  aaa bbb " + "c" * 36, ["  aaa bbb", "    " + "c" * 36]),
        ("a-b " + "c" * 50, ["a-b", "c" * 50]),
    ],
)
def test_wrapped(line: str, lines: list[str]) -> None:
    assert wrapped(line, 40) == lines or (len(line) == 60 and wrapped(line, 60) == lines)


def test_the_journal_is_known_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "journal", "w") as journal, open(tmp_path / "other", "w") as other:
        found = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert is_journal(journal)
        assert not is_journal(other)
        assert not is_journal(io.StringIO())
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not is_journal(journal)


def test_check_has_priorities_for_the_journal(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where systemctl reload runs it."""
    with open(tmp_path / "journal", "w+") as journal:
        found = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        monkeypatch.setattr(sys, "stdout", journal)
        assert main(["check", "-c", config]) == 0
        Path(config).write_text(RULES)
        assert main(["check", "-c", config]) == 78
        journal.seek(0)
        lines = journal.read().splitlines()
    assert [line[:3] for line in lines] == ["<4>", "<3>"], lines


# --- who mistyped -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["serv"], 'there is no command "serv"; is serve meant?'),
        (["xyzzy"], 'there is no command "xyzzy"; there are serve, check, '),
        (["-c", "F", "check"], "the command comes first: policyd check -c F"),
        (["--config=F", "show", "--json"], "the command comes first: policyd show --config=F"),
        (["check", "foo.toml"], "check does not take foo.toml; is `policyd check -c foo.toml` meant?"),
        (["serve", "foo"], "serve does not take foo\n"),
        (["show", "--jsno"], "show does not take --jsno\n"),
    ],
)
def test_what_was_meant(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 64
    assert f"policyd: {told}" in capsys.readouterr().err


def test_policyd_alone_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 64
    told = capsys.readouterr().err
    assert told.startswith("usage: policyd ")
    assert "  serve " in told


@pytest.mark.parametrize("command", ["check", "show", "explain"])
def test_who_may_not_read_the_configuration(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    def refused(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("policyd.config.regular_file.os.open", refused)
    for user, says in ((1000, True), (0, False)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert main([command, "-c", config, *(["sender="] if command == "explain" else [])]) == 78
        told = capsys.readouterr()
        assert "permission denied" in told.out + told.err
        assert ("run this as root" in told.err) == says
