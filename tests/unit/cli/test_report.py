"""`policyd report`: what a decision log tells the people who run the hub (SPEC 7)."""

from __future__ import annotations

import io
import json
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from policyd.cli import report
from policyd.cli.main import Parser
from policyd.explain import digest as digest_module
from policyd.policy.attribution import decide
from policyd.protocol.request import Request
from policyd.records.decision_line import decision_line
from tests.helpers.compiled import compiled

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com"]
pending_domains = ["contoso-new.com"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]

[organizations.contoso.connectors.head-office]
certificate_names = ["mail.contoso.com"]

[organizations.contoso.connectors.off]
enabled = false
addresses = ["192.0.2.99"]

[organizations.fabrikam]
accepted_domains = ["fabrikam.com"]

[organizations.fabrikam.connectors.office]
addresses = ["192.0.2.10"]

[organizations.quiet]
accepted_domains = ["quiet.example"]
"""
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = "6E:3B:0E:6B:D2:82:67:DC:94:FE:BA:47:22:9B:4C:B7:49:CB:D6:68:5E:E8:28:6F:B8:CD:82:D4:DE:A9:97:90"
UNVERIFIED = {"encryption_protocol": "TLSv1.3", "ccert_pubkey_fingerprint": KEY}
VERIFIED = UNVERIFIED | {"ccert_issuer": "Example+20CA"}
COMPILED = compiled(RULES)


def line(day: str = "2026-11-20", **attributes: str) -> str:
    """A line of the log of a server with RULES."""
    given = {"client_address": "198.51.100.9", "sender": "john@elsewhere.example", "recipient": "x@other.example"}
    request = Request(protocol_state="RCPT", **given | attributes)
    prefix = f"{day}T09:00:00+0000 hub policyd[71]: " if day else ""
    return prefix + decision_line(request, decide(COMPILED, request), 1)


OURS = line(client_address="203.0.113.5", sender="kate@contoso.com")


def run(*words: str) -> int:
    parser = Parser(prog="policyd")
    report.add_parser(parser.add_subparsers(parser_class=Parser))
    return report.run(parser.parse_args(["report", *words]), NOW)


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "policyd.toml").write_text(RULES)
    return str(tmp_path / "policyd.toml")


class Reporter:
    """Runs the command on log lines."""

    def __init__(self, config: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config = config
        self._log = folder / "log"
        self._capsys = capsys

    def text(self, *lines: str, options: tuple[str, ...] = ()) -> str:
        self._log.write_text("\n".join(lines) + "\n")
        assert run("-c", self._config, *options, str(self._log)) == 0
        return self._capsys.readouterr().out

    def json(self, *lines: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.text(*lines, options=("--json", *options)))
        data["organizations"] = {about["organization"]: about for about in data["organizations"]}
        return data


@pytest.fixture
def reported(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Reporter:
    return Reporter(config, tmp_path, capsys)


def test_the_whole_digest(reported: Reporter) -> None:
    text = reported.text(
        "2026-10-01T08:00:00+0000 hub policyd[71]: policyd: listening on inet:127.0.0.1:10045",
        line("2026-10-01", client_address="192.0.2.10", sender="sam@fabrikam.com"),
        *[OURS] * 3,
        line(sender="kate@contoso.com"),
        line("2026-11-21", sender="kate@contoso.com"),
        line(sender="kate@contoso.com", recipient="sam@fabrikam.com"),
        line(sender="kate@contoso.com", client_address="198.51.100.10", ccert_subject="mx2.contoso.com", **VERIFIED),
        line(),
    )
    assert text == (
        """\
9 decisions, 4 refused; 2026-10-01 to 2026-11-21

organization contoso
  refused: 3
          2  no-connector: No connector recognises the client, and the recipient's domain is not accepted here.
          1  certificate-unknown: The client showed a verified certificate, but no connector recognises it.
  addresses that use its sender domains and are not registered: forgers, or servers that were forgotten
          3  198.51.100.9 (2 refused, last 2026-11-21)
          1  198.51.100.10 (1 refused, last 2026-11-20)
  certificates that were shown and are not registered: paste the lines if the server is its own
          1  mx2.contoso.com, verified, issued by Example CA (1 refused, last 2026-11-20), from 198.51.100.10
             public key """
        + KEY
        + """
             [organizations.contoso.connectors.mx2-contoso-com]
             certificate_names = ["mx2.contoso.com"]
  connectors not used for 30 days
    head-office

organization fabrikam
  connectors not used for 30 days
    office (last 2026-10-01)

mail that concerns no organization
  refused: 1
          1  no-connector: No connector recognises the client, and the recipient's domain is not accepted here.
"""
    )


PRIVATE = '"172.17.0.1" holds private addresses: if it is a container\'s or NAT gateway, every client arrives with it'


def test_a_gateway_in_front_of_all_clients(reported: Reporter) -> None:
    gateway = [line(sender="kate@contoso.com", client_address="172.17.0.1")] * 2
    text = reported.text(*gateway, OURS)
    assert f"2 of the decisions are of clients at 172.17.0.1: {PRIVATE}" in text
    assert f"          2  172.17.0.1 (2 refused, last 2026-11-20): {PRIVATE}" in text
    told = reported.json(*gateway, OURS)["gateway"]
    assert (told["address"], told["decisions"]) == ("172.17.0.1", 2)
    assert told["why"].startswith(PRIVATE)


def test_one_private_client_among_others_is_no_gateway(reported: Reporter) -> None:
    private = line(sender="kate@contoso.com", client_address="172.17.0.1")
    for lines in ([private], [private, private, OURS, line()], [line()] * 3):
        assert reported.json(*lines)["gateway"] is None


def test_the_same_as_json(reported: Reporter) -> None:
    told = reported.json(OURS, line(sender="kate@contoso.com"), line())
    assert (told["decisions"], told["days"]) == (3, 30)
    assert (told["first"], told["last"]) == ("2026-11-20T09:00:00+00:00",) * 2
    assert told["strangers_refused"] == {"no-connector": 1}
    contoso = told["organizations"]["contoso"]
    assert contoso["refused"] == {"no-connector": 1}
    assert contoso["unknown_addresses"] == [
        {"address": "198.51.100.9", "count": 1, "refused": 1, "last": "2026-11-20T09:00:00+00:00"}
    ]
    assert contoso["unused_connectors"] == [{"connector": "head-office", "last": None}]


# ------------------------------------------------------------------------------------------- whose it is

CONCERNED = [
    ("the sender's", {"sender": "a@contoso.com"}, "contoso"),
    ("a name below the sender's", {"sender": "a@host.contoso.com"}, "contoso"),
    ("the client's", {"client_address": "192.0.2.10"}, "fabrikam"),
    ("pending", {"sender": "a@contoso-new.com"}, "contoso"),
    ("the certificate's name", {"sender": "", "ccert_subject": "x.fabrikam.com", **VERIFIED}, "fabrikam"),
    ("the recipient's", {"recipient": "a%b@fabrikam.com"}, "fabrikam"),
]


@pytest.mark.parametrize(("attributes", "organization"), [c[1:] for c in CONCERNED], ids=[c[0] for c in CONCERNED])
def test_a_refusal_is_told_to_whom_it_concerns(
    attributes: dict[str, str], organization: str, reported: Reporter
) -> None:
    told = reported.json(line(**attributes))
    assert {name for name, about in told["organizations"].items() if about["refused"]} == {organization}
    assert told["strangers_refused"] == {}


def test_incoming_mail_with_its_sender_is_seen_too(reported: Reporter) -> None:
    told = reported.json(line(sender="kate@contoso.com", recipient="kate@contoso.com"))
    (address,) = told["organizations"]["contoso"]["unknown_addresses"]
    assert (address["count"], address["refused"]) == (1, 0)


def test_its_own_servers_are_not_unknown(reported: Reporter) -> None:
    told = reported.json(
        OURS, line(client_address="203.0.113.5", sender="kate@contoso.com", recipient="a@fabrikam.com")
    )
    assert told["organizations"]["contoso"]["unknown_addresses"] == []


# ------------------------------------------------------------------------------------------- certificates


def certificates(reported: Reporter, *lines: str) -> list[dict[str, Any]]:
    """What is said of certificates, of all organizations."""
    told = reported.json(*lines)["organizations"].values()
    return [certificate for about in told for certificate in about["unknown_certificates"]]


def test_a_certificate_that_was_not_verified_is_pinned(reported: Reporter) -> None:
    (seen,) = certificates(reported, line(sender="kate@contoso.com", **UNVERIFIED))
    assert (seen["name"], seen["verified"], seen["public_key_fingerprint"]) == ("", False, KEY)
    assert tomllib.loads(seen["toml"]) == {
        "organizations": {"contoso": {"connectors": {"pin-6e3b0e6b": {"public_key_fingerprints": [KEY]}}}}
    }


def test_a_certificate_that_is_another_organizations_is_not_to_be_registered(reported: Reporter) -> None:
    refused = line(sender="kate@contoso.com", ccert_subject="mx.fabrikam.com", **VERIFIED)
    shown = reported.text(refused)
    assert "not to be registered: this server is another organization's" in shown
    assert "[organizations." not in shown
    (seen,) = certificates(reported, refused)
    assert seen["toml"] == ""
    assert seen["not_proposed"].startswith("this server is another organization's")


def test_what_is_to_be_pasted_works(reported: Reporter) -> None:
    mail = {"sender": "kate@contoso.com", **VERIFIED}
    for extra in ({"ccert_subject": "mx2.contoso.com"}, {}, {"ccert_subject": "*.contoso.com"}):
        (seen,) = certificates(reported, line(**mail | extra))
        after = compiled(f"{RULES}\n{seen['toml']}")
        request = Request("RCPT", "198.51.100.9", recipient="x@other.example", **mail | extra)
        assert decide(after, request).action == "OK"


def test_one_certificate_from_several_addresses(reported: Reporter) -> None:
    lines = [line(client_address=f"198.51.100.{n}", sender="kate@contoso.com", **UNVERIFIED) for n in (*range(9), 8)]
    (seen,) = certificates(reported, *lines)
    assert seen["count"] == 10
    assert seen["addresses"] == [f"198.51.100.{n}" for n in range(5)]


def test_a_registered_certificate_is_not_unknown(reported: Reporter) -> None:
    known = {"ccert_subject": "mail.contoso.com", **VERIFIED}
    assert certificates(reported, line(sender="kate@contoso.com", **known), line(**known)) == []


def test_a_certificate_beside_a_registered_address(reported: Reporter) -> None:
    (seen,) = certificates(reported, line(client_address="203.0.113.5", ccert_subject="new.example", **VERIFIED))
    assert seen["name"] == "new.example"
    assert 'certificate_names = ["new.example"]' in seen["toml"]


def test_certificates_of_strangers_are_no_matter(reported: Reporter) -> None:
    strangers = {"ccert_subject": "mx.elsewhere.example", **VERIFIED}
    assert certificates(reported, line(**strangers), line(recipient="kate@contoso.com", **strangers)) == []


# ------------------------------------------------------------------------------------------- what nobody uses


def unused(reported: Reporter, *lines: str, options: tuple[str, ...] = ()) -> set[str]:
    """Connectors that are said to be unused."""
    told = reported.json(*lines, options=options)["organizations"].values()
    return {connector["connector"] for about in told for connector in about["unused_connectors"]}


def test_unused_connectors_by_the_time_of_the_lines(reported: Reporter) -> None:
    old = line("2026-10-20", client_address="192.0.2.10", sender="sam@fabrikam.com")
    assert unused(reported, old, OURS) == {"head-office", "office"}
    assert unused(reported, old, OURS, options=("--days", "31")) == {"head-office"}
    assert unused(reported, old, OURS, options=("--days", "30")) == {"head-office", "office"}


def test_a_refused_client_uses_its_connector_too(reported: Reporter) -> None:
    assert unused(reported, line(client_address="203.0.113.5")) == {"head-office", "office"}


def test_without_times(reported: Reporter) -> None:
    """A log file of policyd's own has none."""
    bare = line("", client_address="203.0.113.5", sender="kate@contoso.com")
    assert unused(reported, bare) == {"head-office", "office"}
    text = reported.text(bare)
    assert "1 decisions, 0 refused; the lines carry no times" in text
    assert "connectors that no line names" in text
    assert reported.json(bare)["first"] is None


def test_a_short_log_says_so(reported: Reporter) -> None:
    assert "The log covers 0 days only" in reported.text(OURS)
    assert "covers" not in reported.text(line("2026-10-01"), OURS)


def test_a_log_of_refusals_only_says_so(reported: Reporter) -> None:
    assert 'log.decisions = "rejects"?' in reported.text(line())
    assert 'log.decisions = "rejects"?' not in reported.text(line(), OURS)


def test_disabled_connectors_are_not_missed(reported: Reporter) -> None:
    assert "off" not in unused(reported, OURS)


def test_one_organization_only(reported: Reporter) -> None:
    text = reported.text(line(sender="kate@contoso.com"), options=("--organization", "fabrikam"))
    assert "organization fabrikam" in text
    assert "contoso" not in text


def test_long_tables_are_cut_for_people(reported: Reporter) -> None:
    lines = [line(client_address=f"198.51.100.{n}", sender="kate@contoso.com") for n in range(30)]
    assert "    and 10 more (--json has all)" in reported.text(*lines)
    assert len(reported.json(*lines)["organizations"]["contoso"]["unknown_addresses"]) == 30


def test_a_flood_of_addresses_is_only_counted(reported: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_module, "MOST_OF_ONE", 5)
    lines = [line(client_address=f"198.51.100.{n}", sender="kate@contoso.com") for n in range(30)]
    lines += [line(client_address=f"198.51.100.{n}", sender="sam@fabrikam.com") for n in range(3)]
    told = reported.json(*lines)
    kept = told["organizations"]["contoso"]["unknown_addresses"]
    assert len(kept) <= 5
    assert told["not_told_apart"] == 30 - len(kept)
    assert len(told["organizations"]["fabrikam"]["unknown_addresses"]) == 3
    monkeypatch.setattr(digest_module, "MOST_OF_ALL", 4)
    assert reported.json(*lines)["not_told_apart"] > told["not_told_apart"]


def test_who_comes_again_stands_out_of_a_flood(reported: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server that was forgotten, among forgers who come once each."""
    monkeypatch.setattr(digest_module, "MOST_OF_ONE", 8)
    lines = [line(client_address=f"198.51.100.{n}", sender="kate@contoso.com") for n in range(99)]
    for n in range(90, 30, -3):
        lines.insert(n, line(client_address="192.0.2.200", sender="kate@contoso.com"))
    first = reported.json(*lines)["organizations"]["contoso"]["unknown_addresses"][0]
    assert (first["address"], first["count"]) == ("192.0.2.200", 20)


# ------------------------------------------------------------------------------------------- files


class Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_standard_input(config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(f"{OURS}\n".encode()))
    assert run("-c", config, "-") == 0
    assert capsys.readouterr().out.startswith("1 decisions")


def test_files_that_cannot_be_read(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text(f"{OURS}\n")
    (tmp_path / "other").write_text("Nov 23 09:16:01 hub sshd[1]: hello\n")
    assert run("-c", config, f"{tmp_path}/none", f"{tmp_path}/other", f"{tmp_path}/log") == 65
    told = capsys.readouterr()
    assert f"cannot read {tmp_path}/none: No such file or directory" in told.err
    assert f"{tmp_path}/other holds no decisions of policyd" in told.err
    assert told.out.startswith("1 decisions")


def test_wrong_usage(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", config, "--days", "-1", "-") == 64
    assert run("-c", config, "--organization", "nobody", "-") == 64
    assert 'no organization "nobody"' in capsys.readouterr().err


def test_a_bad_configuration(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(config).write_text("[organisations]")
    assert run("-c", config, "-") == 78
    assert capsys.readouterr().out == ""
