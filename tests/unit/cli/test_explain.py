"""`policyd explain`: how requests are given, what is printed where, exit codes (SPEC 7)."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from policyd.cli.main import main
from policyd.policy.decision import Reason, refusal

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]
"""
OURS = ["client_address=203.0.113.5", "sender=kate@contoso.com", "recipient=x@other.example"]
STRANGERS = ["client_address=198.51.100.9", "sender=a@elsewhere.example", "recipient=x@other.example"]


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "policyd.toml"
    path.write_text(RULES)
    return str(path)


class Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_ok(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, *OURS]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("OK  sender-domain\norganization contoso, connector branch\n")
    assert told.err == ""


def test_reject(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, *STRANGERS]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("REJECT  no-connector\n")
    assert refusal(Reason.NO_CONNECTOR, "a@elsewhere.example", "") in told.out


def test_json(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, "--json", *STRANGERS, "instance=1.2"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["action"], told["reason"], told["organization"], told["connector"]) == (
        "REJECT",
        "no-connector",
        "",
        "",
    )
    assert told["answer"] == refusal(Reason.NO_CONNECTOR, "a@elsewhere.example", "1.2")
    assert told["steps"][-1]["about"] == "decision"


def test_hints(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["client_address=172.17.0.1", "sender=kate@contoso.com", "recipient=x@other.example"]
    assert main(["explain", "-c", config, *words]) == 1
    shown = capsys.readouterr().out
    assert '\nWhat no change is proposed for, since it would let others in:\n - "172.17.0.1" holds private' in shown
    assert "organizations.contoso" not in shown
    assert main(["explain", "-c", config, "--json", *words]) == 1
    (hint,) = json.loads(capsys.readouterr().out)["hints"]
    assert hint["organization"] == ""
    assert hint["text"].startswith('"172.17.0.1" holds private addresses')


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (["-"], "\n".join(OURS)),
        ([], "\n".join(OURS) + "\n"),
        (["-"], "request=smtpd_access_policy\nprotocol_state=RCPT\n" + "\n".join(OURS) + "\n\n"),
        (["-", OURS[2]], "\n".join(OURS[:2])),
        ([OURS[0], "-"], "\n".join(OURS)),
    ],
    ids=["-", "nothing", "a whole request", "both", "the first value counts"],
)
def test_standard_input(
    words: list[str], data: str, config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(data.encode()))
    assert main(["explain", "-c", config, *words]) == 0
    assert "connector branch" in capsys.readouterr().out


def test_odd_bytes_from_standard_input(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b"sender=\xff@contoso.com\nrecipient=k\xc3\xa4te@x.\xff\n"))
    assert main(["explain", "-c", config, "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "recipient-without-domain"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize(
    "words",
    [
        ["sender=a@\udcff", "recipient=b@c\udcfe.example"],
        ["client_address=\udcff\x1b[2J", "recipient=b@ü.x"],
        ["sender=a@\x1b]0;title\x07", "ccert_subject=\x1b[2J"],
    ],
)
def test_odd_bytes_are_shown(
    words: list[str], encoding: str, config: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is not UTF-8 is no internal error, whatever the terminal's encoding, and nothing steers the terminal."""
    with (tmp_path / "out").open("w", encoding=encoding) as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["explain", "-c", config, *words]) == 1
        monkeypatch.undo()
    shown = (tmp_path / "out").read_bytes()
    assert shown.startswith(b"REJECT  ")
    assert not set(shown) & {0x1B, 0x07}


def test_a_state_that_is_not_asked(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, "protocol_state=DATA", *OURS]) == 0
    assert capsys.readouterr().out.startswith("DUNNO  ")


def test_an_attribute_that_postfix_never_sends(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, "sendre=kate@contoso.com", *OURS]) == 0
    assert "no attribute sendre; it is ignored; is sender meant?" in capsys.readouterr().err


def test_nothing_on_standard_input(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b"\n"))
    assert main(["explain", "-c", config]) == 65
    assert "standard input is empty" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["sender"], ["request=other"], ["sender=a\nb"], ["sender=\0"]])
def test_no_request_is_65(words: list[str], config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, *words]) == 65
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("policyd explain: ")


def test_a_bad_configuration_is_78(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(config).write_text(RULES.replace("addresses", "adresses"))
    assert main(["explain", "-c", config, *OURS]) == 78
    told = capsys.readouterr()
    assert told.out == ""
    assert f'{config}:6: organization "contoso", connector "branch": ' in told.err
