"""`policyd explain`: log lines and references instead of attributes, and what it prints of near misses (SPEC 7)."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from policyd.cli.main import main
from policyd.config.certificates import read_certificate
from policyd.policy.attribution import decide
from policyd.protocol.request import Request
from policyd.records.decision_line import decision_line
from tests.helpers.certificates import in_days, make, self_signed
from tests.helpers.compiled import compiled
from tests.strategies import CERTIFICATE_FOLDER

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]

[organizations.contoso.connectors.pin]
certificate_fingerprints = ["AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA"]
"""
COMPILED = compiled(RULES)
PREFIX = "Nov 23 09:16:01 hub policyd[71]: "


def line(recipient: str = "x@other.example", **attributes: str) -> str:
    given = {"client_address": "203.0.113.77", "sender": "kate@contoso.com", "instance": "1f3.65.0"}
    request = Request(protocol_state="RCPT", recipient=recipient, **given | attributes)
    return decision_line(request, decide(COMPILED, request), 1)


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "policyd.toml").write_text(RULES)
    return str(tmp_path / "policyd.toml")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    lines = [
        "policyd: listening on inet:127.0.0.1:10045",
        line(instance="1f3.64.0", recipient="other@other.example"),
        line(recipient="kate@contoso.com"),
        line(recipient="first@other.example"),
        line(recipient="second@other.example"),
        line(instance="1f3.65.01", recipient="longer@other.example"),
        line(recipient="kate@contoso.com").replace("action=OK", "action=PREPEND"),
    ]
    path = tmp_path / "policyd.log"
    path.write_text("".join(f"{PREFIX}{text}\n" for text in lines))
    return path


class Stdin:
    def __init__(self, data: str) -> None:
        self.buffer = io.BytesIO(data.encode("utf-8", "surrogateescape"))


REFERENCES = {
    "bare": "1f3.65.0",
    "as in the bounce": "(ref 1f3.65.0)",
    "as people quote it": "please look, it says ref 1f3.65.0.",
    "wrapped": "no (ref\n    1f3.65.0)",
    "the whole refusal": "554 5.7.1 <x@other.example>: Recipient address rejected: Relaying denied: no (ref 1f3.65.0)",
}


@pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
def test_a_reference(reference: str, config: str, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first recipient that was refused; the others are counted."""
    assert main(["explain", "-c", config, "--json", "--ref", reference, "--log", str(log)]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["logged"] == {"action": "REJECT", "reason": "no-connector", "generation": "1"}
    note = "there are 3 decisions; this is about recipient=first@other.example (REJECT no-connector)"
    assert told.err == f"policyd explain: {note}\n"
    assert json.loads(told.out)["notes"] == [note]


def test_a_reference_and_a_recipient(config: str, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", "-c", config, "--ref", "1f3.65.0", "--log", str(log)]
    assert main([*words, "recipient=second@other.example"]) == 1
    assert capsys.readouterr().err == ""
    assert main([*words, "recipient=kate@contoso.com"]) == 0
    assert capsys.readouterr().out.startswith("OK  incoming\n")
    assert main([*words, "recipient=nobody@other.example"]) == 65
    assert "3 decisions have the reference" in capsys.readouterr().err
    assert main([*words, "helo_name=x"]) == 65
    assert main([*words, "recipient"]) == 65


REFUSED = "postfix/smtpd[7]: NOQUEUE: reject: RCPT from x[203.0.113.9]: 554 5.7.1 <b@c>: no (ref 9.9); from=<> to=<b@c>"


@pytest.mark.parametrize("words", [REFUSED.split(), [REFUSED], []])
def test_a_refusal_is_no_request(
    words: list[str], config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(REFUSED))
    assert main(["explain", "-c", config, *words]) == 65
    assert "policyd explain --ref 9.9 --log LOG finds its decision" in capsys.readouterr().err


def test_a_log_on_standard_input(
    config: str, log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(log.read_text()))
    assert main(["explain", "-c", config, "--ref", "1f3.64.0", "--log", "-"]) == 1
    assert capsys.readouterr().err == ""


def test_a_reference_that_is_not_there(config: str, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, "--ref", "9.9", "--log", str(log)]) == 65
    assert f"no decision with the reference 9.9 is in {log}; " in capsys.readouterr().err
    log.write_text(
        "postfix/smtpd[3]: NOQUEUE: reject: RCPT from x[203.0.113.9]: 554 5.7.1 no (ref 9.9); from=<> to=<x>\n"
    )
    assert main(["explain", "-c", config, "--ref", "9.9", "--log", str(log)]) == 65
    assert "give policyd's own log" in capsys.readouterr().err


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_rotated_logs(
    pack: Callable[[bytes], bytes], config: str, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reference is looked for in all of them, however they are packed."""
    log.with_suffix(".1").write_bytes(pack(log.read_bytes()))
    log.write_text("")
    words = ["explain", "-c", config, "--json", "--ref", "1f3.64.0", "--log", str(log)]
    assert main(words) == 65
    assert main([*words, "--log", str(log.with_suffix(".1"))]) == 1
    assert json.loads(capsys.readouterr().out)["logged"]["reason"] == "no-connector"


@pytest.mark.parametrize(
    "data", [b"\x1f\x8b\x08\x00" + b"\0" * 6 + b"\xff" * 40, b"\xfd7zXZ\0" + b"x" * 40, b"BZh9" + b"x" * 40]
)
def test_a_damaged_packed_log(data: bytes, config: str, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_bytes(data)
    assert main(["explain", "-c", config, "--ref", "9.9", "--log", str(log)]) == 65
    assert capsys.readouterr().err.startswith(f"policyd explain: cannot read {log}: ")


def test_a_log_packed_by_something_else(config: str, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_bytes(b"\x28\xb5\x2f\xfd" + b"x" * 40)
    assert main(["explain", "-c", config, "--ref", "9.9", "--log", str(log)]) == 65
    assert "zstdcat" in capsys.readouterr().err


def test_a_log_that_cannot_be_read(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, "--ref", "9.9", "--log", f"{config}.none"]) == 65
    assert "No such file or directory" in capsys.readouterr().err


TO_OUTSIDE = "recipient=x@other.example"


@pytest.mark.parametrize(
    ("name", "verified", "told"),
    [
        ("cn-only.pem", False, "a certificate that Postfix did not verify"),
        ("cn-only.pem", True, "a verified certificate named mail.contoso.com"),
        ("no-host-name.pem", True, 'whose CN "Acme+20Appliance+207" is no host name'),
        ("san-only.pem", True, "a verified certificate without a CN"),
    ],
)
def test_a_certificate(name: str, verified: bool, told: str, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A request is made up as Postfix would make it of a client with this certificate."""
    file = CERTIFICATE_FOLDER / name
    words = ["explain", "-c", config, "--json", "--certificate", str(file), *(["--verified"] if verified else [])]
    assert main([*words, "sender=kate@contoso.com", TO_OUTSIDE]) == 1
    steps = [step["text"] for step in json.loads(capsys.readouterr().out)["steps"]]
    assert any(told in step for step in steps)
    found = read_certificate(str(file), name)
    assert f"public key {found.public_key_fingerprints['sha256']}" in steps
    assert f"certificate {found.certificate_fingerprints['sha256']}" in steps
    assert main([*words, "sender=kate@contoso.com", TO_OUTSIDE, "client_address=203.0.113.5"]) == 0


def test_a_certificate_that_postfix_never_verifies(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.pem").write_bytes(self_signed("mail.contoso.com", days=(-9, -1)))
    (tmp_path / "web.pem").write_bytes(self_signed("mail.contoso.com", usage=ExtendedKeyUsageOID.SERVER_AUTH))
    for name, why in (("old.pem", "not valid today"), ("web.pem", "lacks clientAuth")):
        words = ["--certificate", str(tmp_path / name), "--verified", TO_OUTSIDE]
        assert main(["explain", "-c", config, *words]) == 1
        told = capsys.readouterr()
        assert f"never verifies {tmp_path / name}: " in told.err
        assert why in told.err
        assert "certificate-untrusted" in told.out


def test_a_ca_is_proposed_only_where_it_can_help(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, issuer = "mail.contoso.com", make("A CA", authority=True)
    certificates = {
        "issued.pem": make(name, issuer=issuer),
        "self-signed.pem": make(name),
        "old.pem": make(name, issuer=issuer, dates=in_days(-9, -1)),
        "web.pem": make(name, issuer=issuer, usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
    }
    with open(config, "a") as rules:
        rules.write(f'[organizations.contoso.connectors.named]\ncertificate_names = ["{name}"]\n')
    for file, made in certificates.items():
        (tmp_path / file).write_bytes(made.as_pem())
        words = ["--certificate", str(tmp_path / file), "sender=kate@contoso.com", TO_OUTSIDE]
        assert main(["explain", "-c", config, *words]) == 1
        assert ("add that CA to smtpd_tls_CAfile" in capsys.readouterr().out) is (file == "issued.pem")


def test_a_file_that_is_no_certificate(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, "--certificate", config, TO_OUTSIDE]) == 65
    assert "holds no PEM certificate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--ref", "9.9"], ["--log", "x"], ["--verified"], ["--ref", "9", "--log", "x", "--certificate", "y"]]
)
def test_both_or_neither(words: list[str], config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, *words]) == 64
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("split", [False, True], ids=["one word", "unquoted"])
def test_a_line_as_arguments(split: bool, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = PREFIX + line()
    assert main(["explain", "-c", config, *(text.split(" ") if split else [text])]) == 1
    assert capsys.readouterr().out.startswith("REJECT  no-connector\n")


STDIN = {
    "a line": (f"{PREFIX}{line()}\n", ""),
    "a line with CRLF": (f"{PREFIX}{line()}\r\n", ""),
    "a log": (f"policyd: x\n{line(recipient='k@contoso.com')}\n{line()}\n{line()}", "there are 3 decisions"),
    "a request with CRLF": ("sender=kate@contoso.com\r\nrecipient=x@y.example\r\n\r\n", ""),
    "two requests": (
        "sender=a@b\nrecipient=x@y.example\n\nsender=c@d\nrecipient=x@y.example\n\n",
        "there are 2 requests",
    ),
}


@pytest.mark.parametrize(("data", "said"), STDIN.values(), ids=STDIN)
def test_standard_input(
    data: str, said: str, config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(data))
    assert main(["explain", "-c", config, "-"]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("REJECT  no-connector\n")
    assert said in told.err
    assert bool(told.err) == bool(said)


def test_a_log_that_says_otherwise(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = line(ccert_fingerprint="AA:" * 15 + "AA", encryption_protocol="TLSv1.3")
    assert "action=OK" in text
    assert main(["explain", "-c", config, text]) == 1
    told = capsys.readouterr().err
    assert "the log says OK sender-domain (generation 1)" in told
    assert "no certificate fingerprint" in told


def test_a_line_that_was_cut(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, line(sender="k" * 300 + "@contoso.com")]) == 1
    assert "may have been cut" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- what is printed


def test_near_misses_for_people(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, line()]) == 1
    told = capsys.readouterr().out
    assert "What would have let this mail through, the nearest first:\n" in told
    assert " 1. connector contoso/branch: the client's address is none of its addresses.\n" in told
    assert (
        "    In the configuration: if this server is the one meant: add the address 203.0.113.77 to addresses" in told
    )
    assert (
        "\n\n        [organizations.contoso.connectors.branch]\n"
        '        addresses = ["203.0.113.0/28", "203.0.113.77"]\n\n'
    ) in told
    assert " 2. connector contoso/pin: " in told
    assert "    At the sender's end: let the server use STARTTLS and show the pinned certificate AA:AA:" in told


def test_near_misses_as_json(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, "--json", line()]) == 1
    first, second, *_ = json.loads(capsys.readouterr().out)["near_misses"]
    assert (first["organization"], first["connector"], first["partner"]) == ("contoso", "branch", "")
    assert first["failed_at"] == "address"
    assert first["proposal"]["kind"] == "configuration"
    assert tomllib.loads(first["proposal"]["toml"])["organizations"]["contoso"]["connectors"] == {
        "branch": {"addresses": ["203.0.113.0/28", "203.0.113.77"]}
    }
    assert (second["connector"], second["failed_at"]) == ("pin", "no-tls")
    assert (second["proposal"]["kind"], second["proposal"]["toml"]) == ("sender", "")
    assert second["proposal"]["request"]["encryption_protocol"]


def test_nothing_single_would_do(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, line(sender="a@b.example")]) == 1
    assert "No single change would have let this mail through" in capsys.readouterr().out


def test_nothing_is_proposed_for_what_passes(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", config, line(recipient="k@contoso.com")]) == 0
    told = capsys.readouterr().out
    assert "change" not in told
    assert "let this mail through" not in told


def test_a_long_value_is_left_to_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policyd.toml"
    many = ", ".join(f'"203.0.113.{n}"' for n in range(0, 40, 2))
    path.write_text(RULES.replace('"203.0.113.0/28"', many))
    assert main(["explain", "-c", str(path), line()]) == 1
    told = capsys.readouterr().out
    assert "lines, see --json)" in told
    assert "203.0.113.38" not in told
