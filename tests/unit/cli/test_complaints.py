"""Errors of a configuration: every command that reads one tells them in the same words and with the same escapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policyd.cli.main import main

COMMANDS = {
    "serve": [],
    "show": [],
    "show --json": [],
    "export": ["--to-database", "postgresql://nobody@127.0.0.1:1/none"],
    "explain": ["sender=kate@contoso.com"],
    "explain --json": ["sender=kate@contoso.com"],
    "replay": ["/nowhere/requests"],
    "replay --json": ["/nowhere/requests"],
    "report": ["/nowhere/log"],
    "report --json": ["/nowhere/log"],
}
TEXT = '"schlüssel" = 1\n[organizations.contoso]\naccepted_domains = ["bücher.example", "bücher .example"]\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A bad configuration with an odd name, which tells no terminal what to do."""
    path = tmp_path / "büro\x1b[1m\n.toml"
    path.write_text(TEXT, "utf-8")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_errors_are_told_in_one_way(command: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, *options = command.split()
    assert main([name, "-c", str(config), *options, *COMMANDS[command]]) == 78
    told = capsys.readouterr()
    assert told.out == ""
    place = str(config.parent / "b\\xfcro\\x1b[1m\\n.toml")
    front = "<3>" if name == "serve" else ""  # for the journal
    unknown, no_name, *more = (line.removeprefix(front) for line in told.err.splitlines() if line.startswith(front))
    assert unknown.startswith(f'{place}:1: unknown key "schl\\xfcssel"')
    assert no_name.startswith(f'{place}:3: organization "contoso": "b\\xfccher .example" is no host name')
    assert more == (["policyd: not started: the configuration has errors"] if name == "serve" else [])


def test_check_tells_the_same_on_standard_output(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There it is data: in the characters of the locale, but a line for each problem all the same."""
    assert main(["check", "-c", str(config)]) == 78
    told = capsys.readouterr()
    place = str(config.parent / "büro\\x1b[1m\\n.toml")
    assert [line.partition(" ")[0] for line in told.out.splitlines()] == [f"{place}:1:", f"{place}:3:"]
    escaped = place.replace("ü", "\\xfc")
    assert told.err.startswith(f"policyd check: {escaped}: 1 file: 2 errors")
    assert main(["check", "-c", str(config), "--json"]) == 78
    out = capsys.readouterr().out
    assert out.isascii()
    assert {problem["file"] for problem in json.loads(out)["problems"]} == {str(config)}
