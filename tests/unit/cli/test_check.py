"""`policyd check`: exit codes and output (SPEC 7); what it finds is in test_config_cases.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policyd.cli.main import main

GOOD = '[service]\nlisten = ["unix:/run/policyd/policyd.sock"]\n'
GOOD += '[organizations.contoso]\naccepted_domains = ["contoso.com"]\n[organizations.contoso.connectors.c]\n'
GOOD += 'certificate_names = ["mail.contoso.com"]\n'


def write(folder: Path, text: str) -> str:
    """The name of a file with the text."""
    path = folder / "policyd.toml"
    path.write_text(text, "utf-8")
    return str(path)


@pytest.mark.parametrize("options", [[], ["--strict"]])
def test_good(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, GOOD)
    assert main(["check", "-c", path, *options]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    counts = "1 file, 1 organization, 1 accepted domain, 1 connector, 0 partners: 0 errors, 0 warnings"
    assert told.err == f"policyd check: {path}: {counts}\n"


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nothing.toml"
    assert main(["check", "-c", str(path)]) == 78
    told = capsys.readouterr().out
    assert told.startswith(f"{path}: no such file")
    assert told.endswith(" [file-missing]\n")
    main(["check", "-c", str(path), "--json"])
    assert [problem["id"] for problem in json.loads(capsys.readouterr().out)["problems"]] == ["file-missing"]


def test_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, GOOD + "enabled = false\n")
    assert main(["check", "-c", path]) == 0
    assert main(["check", "-c", path, "--strict"]) == 78
    assert "0 errors, 1 warning (--strict: warnings are errors)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("service", "line", "noted"),
    [
        ('[service]\nlisten = ["inet:127.0.0.1:10045"]\n', 2, 1),
        ('[service]\nlisten = [\n"unix:/run/x",\n"inet:[::1]:1",\n"inet:127.0.0.1:1"]\n', 4, 2),
        ("", 0, 0),  # the default has no line to stand at
        ('[service]\nlisten = ["systemd:policyd"]\n', 0, 0),  # systemd holds the port while policyd is down
    ],
)
def test_notes_are_no_mistakes(
    service: str, line: int, noted: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SPEC 4: any local user can take a TCP port while policyd is down."""
    path = write(tmp_path, service + GOOD.partition("\n[org")[2].join(("[org", "")))
    assert main(["check", "-c", path, "--strict"]) == 0
    told = capsys.readouterr()
    assert told.out.count(": note: listen on TCP (") == told.out.count("\n") == noted
    assert not noted or told.out.startswith(f"{path}:{line}: note: ")
    counted = f", {noted} note{'s' * (noted > 1)}" if noted else ""
    assert told.err.endswith(f": 0 errors, 0 warnings{counted}\n")
    assert main(["check", "-c", path, "--json", "--strict"]) == 0
    told_json = json.loads(capsys.readouterr().out)
    assert told_json["ok"]
    assert [problem["severity"] for problem in told_json["problems"]] == ["note"] * noted


DATABASE = '[database]\ndsn = "postgresql://nobody@127.0.0.1:1/none"\nsnapshot_file = ""\n'


@pytest.mark.parametrize(
    ("text", "included", "warned"),
    [
        ("", None, True),
        ("[organizations]\n", None, True),
        ('[service]\nmode = "monitor"\n', None, True),
        ('include = ["conf.d/*.toml"]\n', "", True),
        ('include = ["conf.d/*.toml"]\n', GOOD, False),
        (GOOD, None, False),
        (DATABASE, None, False),  # the organizations are there (that it is away is an error of its own)
        ("[organisations.contoso]\n", None, False),  # an error, which says more
    ],
)
def test_nobody_is_there(
    text: str, included: str | None, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A configuration by which all mail is refused is not passed over in silence."""
    path = write(tmp_path, text)
    if included is not None:
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d/customers.toml").write_text(included)
    main(["check", "-c", path])
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if line.startswith(f"{path}: warning: there is no organization")] == told[:warned]


@pytest.mark.parametrize("command", ["check", "serve"])
def test_package_that_is_not_installed(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps the server from starting is a finding of the check, too."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = write(tmp_path, f'{GOOD}[metrics]\nlisten = "inet:127.0.0.1:9645"\n')
    assert main([command, "-c", path]) == 78
    told = capsys.readouterr()
    assert "[metrics] needs the Python package prometheus-client" in told.out + told.err


@pytest.mark.parametrize(("more", "code"), [("", 0), ("enabled = false\n", 0), ("requiretls = true\n", 78)])
def test_json(more: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, GOOD + more)
    assert main(["check", "-c", path, "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is (code == 0)
    assert [problem["severity"] for problem in told["problems"]] == ["error" if code else "warning"] * (more != "")
    assert all(problem["file"] == path for problem in told["problems"])
    if not code:
        assert told["counts"]["organizations"] == told["counts"]["connectors"] == 1


def test_problems_stay_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, '"a\\nb\\u001b[31m" = 1\n')
    assert main(["check", "-c", path]) == 78
    (line,) = capsys.readouterr().out.splitlines()
    assert "\x1b" not in line
