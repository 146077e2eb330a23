"""Nothing that a command prints steers a terminal or forges a line: not a file's name, not a request, not a log.

What a server answers to `policyd query` is in test_query.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policyd.cli import explain
from policyd.cli.main import COMMANDS, main
from policyd.policy.decision import Decision, Reason
from policyd.protocol.request import Request
from policyd.protocol.wire import encode_request
from policyd.records.decision_line import decision_line
from tests.helpers.certificates import self_signed

CONTROLS = "\x1b[2J\r\x07\x9b31m\u202e\udcff"
ODD = f"odd{CONTROLS}\nFORGED"
SHOWN = re.compile(r"odd\\(x|u00)1b")  # as people read it
CONFIGURATION = """
[organizations.contoso]
accepted_domains = ["contoso.com"]
"""
REQUEST = Request(
    protocol_state="RCPT",
    client_address="198.51.100.9",
    sender=f"odd{CONTROLS}@contoso.com",
    recipient=f"odd{CONTROLS}@x.example",
    ccert_subject="odd+1B+0AFORGED",
    ccert_pubkey_fingerprint=":".join(["AA"] * 32),
    encryption_protocol=f"odd{CONTROLS}",
    instance="1.2",
)
ATTRIBUTES = [f"{name}={value}" for name, value in REQUEST._asdict().items()]

# ODD is a file that does not exist; the others are in the folder, with names as odd as it.
CASES: dict[str, list[str]] = {
    "serve: no configuration": ["serve", "-c", ODD],
    "check: no configuration": ["check", "-c", ODD],
    "check: a configuration": ["check", "-c", "<config>"],
    "check: mistakes": ["check", "-c", "<mistakes>"],
    "check: a user": ["check", "-c", "<config>", "--user", ODD],
    "explain: no configuration": ["explain", "-c", ODD, "sender="],
    "explain: a request": ["explain", "-c", "<config>", *ATTRIBUTES],
    "explain: a line of a log": ["explain", "-c", "<config>", "<line>"],
    "explain: an attribute": ["explain", "-c", "<config>", f"{ODD}=x"],
    "explain: no request": ["explain", "-c", "<config>", ODD],
    "explain: no log": ["explain", "-c", "<config>", "--ref", "1.2", "--log", ODD],
    "explain: a reference": ["explain", "-c", "<config>", "--ref", ODD, "--log", "<log>"],
    "explain: which of them": ["explain", "-c", "<config>", "--ref", "1.2", "--log", "<log>"],
    "explain: no certificate": ["explain", "-c", "<config>", "--certificate", ODD],
    "explain: a certificate": ["explain", "-c", "<config>", "--certificate", "<pem>", "--verified", "recipient="],
    "query: a server": ["query", "--to", ODD, "sender="],
    "query: nobody there": ["query", "--to", f"unix:/nowhere/{ODD}", "sender="],
    "query: no request": ["query", ODD],
    "replay: no configuration": ["replay", "-c", ODD, "<requests>"],
    "replay: nothing there": ["replay", "-c", "<config>", ODD],
    "replay: requests": ["replay", "-c", "<config>", "--verbose", "<requests>"],
    "replay: a log": ["replay", "-c", "<config>", "--verbose", "<log>"],
    "replay: the wrong file": ["replay", "-c", "<config>", "<pem>"],
    "report: no configuration": ["report", "-c", ODD, "<log>"],
    "report: nothing there": ["report", "-c", "<config>", ODD],
    "report: an organization": ["report", "-c", "<config>", "--organization", ODD, "<log>"],
    "report: a log": ["report", "-c", "<config>", "<log>"],
    "report: the wrong file": ["report", "-c", "<config>", "<pem>"],
    "reload: nobody there": ["reload", "--socket", f"/nowhere/{ODD}"],
    "explain: nobody there": ["explain", "--running", "--socket", f"/nowhere/{ODD}", "sender="],
    "show: no configuration": ["show", "-c", ODD],
    "show: an organization": ["show", "-c", "<config>", ODD],
    "show: nobody there": ["show", "--running", "--socket", f"/nowhere/{ODD}"],
    "show: a configuration": ["show", "-c", "<config>"],
    "certificate: none": ["certificate", ODD],
    "certificate: one": ["certificate", "<pem>"],
    "certificate: a connector": ["certificate", "<unicode>", "--connector", "gw"],
    "import: an organization": ["import", "exchange", "--organization", ODD],
    "export: no configuration": ["export", "-c", ODD, "--to-database", "host=127.0.0.1"],
    "export: no database": ["export", "-c", "<config>", "--to-database", f"host=/nowhere/odd{CONTROLS[:4]} port=1"],
    "usage: a command": [ODD],
    "usage: an option": ["show", f"--{ODD}"],
    "usage: a word": ["check", ODD],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / f"config{ODD}").write_text(f"{CONFIGURATION}description = 'odd\\u001b'\n".replace("'", '"'), "utf-8")
    (tmp_path / f"mistakes{ODD}").write_text('"odd\\u001b\\nFORGED" = 1\n', "utf-8")
    line = decision_line(REQUEST, Decision("REJECT", Reason.NO_CONNECTOR, "", ""), 1)
    odd_prefix = f"odd{CONTROLS}: ".encode("utf-8", "surrogateescape")
    (tmp_path / f"log{ODD}").write_bytes(f"{line}\n".encode("ascii") * 2 + odd_prefix + b"\n")
    (tmp_path / f"requests{ODD}").write_bytes(encode_request(list(REQUEST._asdict().items())))
    for name in (f"pem{ODD}", f"unicode{ODD}".replace("\udcff", "")):
        (tmp_path / name).write_bytes(self_signed("odd\x1b\nFORGED", days=(-2, -1)))
    return tmp_path


def held(output: str) -> None:
    """Fails where an output holds what it was given as it was given."""
    assert [c for c in output if not c.isprintable() and c != "\n"] == []
    assert [line for line in output.split("\n") if line.startswith("FORGED")] == []


def word_of(word: str, folder: Path) -> str:
    if word == "<line>":
        return (folder / f"log{ODD}").read_text("utf-8", "surrogateescape").partition("\n")[0]
    return str(next(folder.glob(f"{word[1:-1]}odd*"))) if word.startswith("<") else word


@pytest.mark.parametrize("case", CASES)
def test_what_is_printed(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([word_of(word, folder) for word in CASES[case]])
    except SystemExit as end:
        code = int(end.code or 0)
    told = capsys.readouterr()
    assert code != 70, told.err
    held(told.out)
    held(told.err)
    assert told.err.isascii()
    assert SHOWN.search((told.out + told.err).lower()), "the case does not show what is odd in it"


def test_every_command_is_among_them() -> None:
    assert {words[0] for words in CASES.values()} >= {command.rstrip("_") for command in COMMANDS}


def test_a_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: object) -> int:
        raise ValueError(f"odd{CONTROLS}")

    monkeypatch.setattr(explain, "run", broken)
    assert main(["explain"]) == 70
    told = capsys.readouterr()
    held(told.err)
    assert SHOWN.search(told.err)
