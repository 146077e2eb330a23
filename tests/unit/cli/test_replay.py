"""`policyd replay`: recorded requests decided again, and what a new configuration changes (SPEC 7)."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from policyd.cli import replay
from policyd.cli.main import Parser
from policyd.policy.attribution import decide
from policyd.protocol.wire import encode_request
from policyd.records.decision_line import decision_line
from policyd.records.recorded import Recorded, read_recorded
from tests.helpers.compiled import compiled_file
from tests.places import TESTS

TRANSCRIPTS = sorted((TESTS / "transcripts").glob("*.txt"))
CASES = TESTS / "cases" / "config.toml"

OLD = """
[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]
"""
NEW = OLD.replace("203.0.113.0/28", "203.0.113.0/29")
RENAMED = OLD.replace("branch", "office")


def run(*words: str) -> int:
    parser = Parser(prog="policyd")
    replay.add_parser(parser.add_subparsers(parser_class=Parser))
    arguments = parser.parse_args(["replay", *words])
    return int(arguments.run(arguments))


def asked(address: str, sender: str = "kate@contoso.com", state: str = "RCPT", recipient: str = "x@o.example") -> bytes:
    return encode_request(
        [("protocol_state", state), ("client_address", address), ("sender", sender), ("recipient", recipient)]
    )


RECORDED = asked("203.0.113.5") + asked("203.0.113.9") + asked("203.0.113.9", state="DATA") + asked("198.51.100.9")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in {"old.toml": OLD, "new.toml": NEW, "renamed.toml": RENAMED}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "requests").write_bytes(RECORDED)
    return tmp_path


def test_one_configuration_is_summed_up(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", f"{files}/old.toml", f"{files}/requests") == 0
    assert capsys.readouterr().out.splitlines() == [
        "4 requests, 1 of them in states that are not decided",
        "by reason:",
        "  2  OK sender-domain",
        "  1  REJECT no-connector",
        "by organization and connector:",
        "  2  contoso/branch",
    ]


def test_only_what_changes_is_shown(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", f"{files}/new.toml", "--against", f"{files}/old.toml", f"{files}/requests") == 1
    first, *summary = capsys.readouterr().out.splitlines()
    assert first == (
        f"{files}/requests:2: OK sender-domain contoso/branch -> REJECT no-connector  client=203.0.113.9 certificate= "
        "sender=<kate@contoso.com> recipient=<x@o.example>"
    )
    assert summary[-3:] == ["by change:", "  1  OK sender-domain -> REJECT no-connector", "1 decisions changed"]


def test_nothing_changes(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", f"{files}/old.toml", "--against", f"{files}/old.toml", f"{files}/requests") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no decision changed"


def test_another_attribution_is_a_change(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", f"{files}/renamed.toml", "--against", f"{files}/old.toml", f"{files}/requests") == 1
    told = capsys.readouterr().out
    assert "OK sender-domain contoso/branch -> OK sender-domain contoso/office" in told
    assert "  2  OK sender-domain, for another organization or connector" in told


def test_all_are_shown_when_asked(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", f"{files}/new.toml", "--verbose", f"{files}/requests") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("/requests:")[1].split("  ")[0] for line in lines[:3]] == [
        "1: OK sender-domain contoso/branch",
        "2: REJECT no-connector",
        "4: REJECT no-connector",
    ]


def test_json(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", "-c", f"{files}/new.toml", "--against", f"{files}/old.toml", f"{files}/requests") == 1
    told = json.loads(capsys.readouterr().out)
    (change,) = told["decisions"]
    assert (change["file"], change["number"]) == (f"{files}/requests", 2)
    assert change["old"] == {
        "action": "OK",
        "reason": "sender-domain",
        "organization": "contoso",
        "connector": "branch",
    }
    assert change["new"] == {"action": "REJECT", "reason": "no-connector", "organization": "", "connector": ""}
    assert change["request"]["client_address"] == "203.0.113.9"
    summary = told["summary"]
    assert (summary["requests"], summary["not_asked"], summary["changed"]) == (4, 1, 1)
    assert summary["by_reason"] == [
        {"action": "OK", "reason": "sender-domain", "count": 1},
        {"action": "REJECT", "reason": "no-connector", "count": 2},
    ]
    assert summary["by_connector"] == [{"organization": "contoso", "connector": "branch", "count": 1}]
    assert summary["changes"] == [{"old": "OK sender-domain", "new": "REJECT no-connector", "count": 1}]
    assert summary["problems"] == []


def test_json_without_any_decision(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "requests").write_bytes(b"")
    assert run("--json", "-c", f"{files}/new.toml", f"{files}/requests") == 0
    assert json.loads(capsys.readouterr().out)["decisions"] == []


# ------------------------------------------------------------------------------------------- what is read


class Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_standard_input(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(RECORDED))
    assert run("-c", f"{files}/old.toml", "-") == 0
    assert capsys.readouterr().out.startswith("4 requests")


def log_of(config: Path, data: bytes, prefix: str = "Nov 23 09:16:01 hub policyd[71]: ") -> bytes:
    """The decision log of requests in a transcript."""
    rules = compiled_file(config)
    lines = []
    for found in read_recorded(io.BytesIO(data)):
        assert isinstance(found, Recorded)
        if found.request.protocol_state == "RCPT":
            lines.append(f"{prefix}{decision_line(found.request, decide(rules, found.request), 1)}\n")
    return "".join(lines).encode()


def test_a_decision_log_is_read_alike(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "log").write_bytes(b"policyd: listening\n" + log_of(files / "old.toml", RECORDED))
    assert run("-c", f"{files}/new.toml", "--against", f"{files}/old.toml", f"{files}/log") == 1
    told = capsys.readouterr()
    assert f"{files}/log:2: OK sender-domain contoso/branch -> REJECT no-connector" in told.out
    assert "3 requests, 0 of them" in told.out
    assert told.err == ""


def test_compressed_files(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gzip.open(files / "log.1.gz", "wb") as packed:
        packed.write(log_of(files / "old.toml", RECORDED))
    assert run("-c", f"{files}/old.toml", f"{files}/log.1.gz", f"{files}/requests") == 0
    assert "7 requests" in capsys.readouterr().out
    (files / "cut.gz").write_bytes((files / "log.1.gz").read_bytes()[:-9])
    assert run("-c", f"{files}/old.toml", f"{files}/cut.gz") == 65
    assert "cut off" in capsys.readouterr().err


def test_a_damaged_compressed_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "bad.gz").write_bytes(gzip.compress(b"")[:10] + b"\xff" * 40)
    assert run("-c", f"{files}/old.toml", f"{files}/bad.gz") == 65
    assert "bad.gz: the compressed file is damaged" in capsys.readouterr().err


def test_a_file_of_something_else(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the wrong one; an empty one is a recording that has not begun."""
    assert run("-c", f"{files}/old.toml", f"{files}/old.toml") == 65
    assert "neither requests nor decisions" in capsys.readouterr().err
    (files / "empty").write_bytes(b"")
    assert run("-c", f"{files}/old.toml", f"{files}/empty") == 0


def test_pins_that_a_log_cannot_show(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pin = "AA:" * 31 + "AA"
    (files / "old.toml").write_text(
        f'{OLD}\n[organizations.contoso.connectors.pin]\ncertificate_fingerprints = ["{pin}"]'
    )
    (files / "log").write_bytes(log_of(files / "old.toml", RECORDED))
    assert run("-c", f"{files}/old.toml", f"{files}/log") == 0
    assert "does not hold certificate fingerprints" in capsys.readouterr().err
    assert run("-c", f"{files}/old.toml", f"{files}/requests") == 0
    assert capsys.readouterr().err == ""


def test_damage(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "requests").write_bytes(asked("203.0.113.5") + b"junk\n\n" + asked("203.0.113.5") + b"more\n\nx=y\n")
    assert run("-c", f"{files}/old.toml", f"{files}/requests") == 65
    told = capsys.readouterr()
    assert "2 requests" in told.out
    assert "2 damaged requests, the first is number 2: a line that is no name=value" in told.err
    assert "cut off" in told.err


def test_a_file_that_is_being_written_is_no_damage(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "requests").write_bytes(RECORDED[:-20])
    assert run("-c", f"{files}/old.toml", f"{files}/requests") == 0
    assert "cut off" in capsys.readouterr().err


def test_files_that_are_not_there(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", f"{files}/old.toml", f"{files}/none", f"{files}/requests") == 65
    told = capsys.readouterr()
    assert f"cannot read {files}/none: No such file or directory" in told.err
    assert "4 requests" in told.out


def test_bad_configurations(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "new.toml").write_text("[organisations]")
    for words in (["-c", "new.toml"], ["-c", "old.toml", "--against", "new.toml"]):
        assert (
            run(words[0], *[f"{files}/{w}" if w.endswith("toml") else w for w in words[1:]], f"{files}/requests") == 78
        )
        told = capsys.readouterr()
        assert told.out == ""
        assert "organisations" in told.err


@pytest.mark.parametrize("option", ["--unknown", "--against"])
def test_wrong_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(option)
    assert exit_.value.code == 64


# ------------------------------------------------------------------------------------------- what Postfix sent


def test_the_shipped_transcripts_before_and_after_a_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that was recorded of a real Postfix; fabrikam takes over example.org, so that mail to it is incoming."""
    text = CASES.read_text("utf-8").replace("certs/", f"{CASES.parent}/certs/")
    (tmp_path / "old.toml").write_text(text, "utf-8")
    (tmp_path / "new.toml").write_text(text.replace('"fabrikam.com", ', '"fabrikam.com", "example.org", '), "utf-8")
    files = [str(path) for path in TRANSCRIPTS]
    old, new = f"{tmp_path}/old.toml", f"{tmp_path}/new.toml"

    assert run("--json", "--verbose", "-c", old, *files) == 0
    before = json.loads(capsys.readouterr().out)
    assert before["summary"]["requests"] == sum(path.read_bytes().count(b"\n\n") for path in TRANSCRIPTS)
    assert run("--json", "--verbose", "-c", new, *files) == 0
    after = json.loads(capsys.readouterr().out)
    assert run("--json", "-c", new, "--against", old, *files) == 1
    changes = json.loads(capsys.readouterr().out)

    pairs = list(zip(before["decisions"], after["decisions"], strict=True))
    assert [(place(b), b["new"], a["new"]) for b, a in pairs if a["new"] != b["new"]] == [
        (place(c), c["old"], c["new"]) for c in changes["decisions"]
    ]
    assert len(changes["decisions"]) == changes["summary"]["changed"] > 10
    for change in changes["decisions"]:
        assert change["request"]["recipient"].lower().endswith("@example.org")
        assert change["new"]["reason"] == "incoming"
    assert run("-c", old, "--against", old, *files) == 0


def place(shown: dict[str, Any]) -> tuple[str, int]:
    return shown["file"], shown["number"]


# ------------------------------------------------------------------------------------------- at a terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_a_terminal(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_PROGRESS_EVERY", 0.0)
    monkeypatch.setattr(replay, "_LOOK_EVERY", 2)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run("-c", f"{files}/new.toml", "--against", f"{files}/old.toml", f"{files}/requests") == 1
    assert "\r3 requests, 1 changed " in terminal.getvalue()
    assert terminal.getvalue().endswith(" \r")  # the line is taken away at the end


def test_no_progress_elsewhere(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replay, "_PROGRESS_EVERY", 0.0)
    monkeypatch.setattr(replay, "_LOOK_EVERY", 1)
    assert run("-c", f"{files}/old.toml", f"{files}/requests") == 0
    assert capsys.readouterr().err == ""


def test_what_a_stranger_sent_does_not_steer_the_terminal(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "requests").write_bytes(asked("203.0.113.9", sender="\x1b[2J@contoso.com"))
    assert run("-c", f"{files}/new.toml", "--against", f"{files}/old.toml", f"{files}/requests") == 1
    assert "\x1b" not in capsys.readouterr().out
