"""`policyd check --postfix` with a real postconf: the eight wirings of the guide, real tables, what is shipped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from policyd.cli.main import main
from policyd.postfix.wiring import check_wiring
from tests.helpers.postfix_files import write_old
from tests.helpers.programs import needs_postconf
from tests.helpers.wirings import (
    CERTIFICATES,
    CLIENT,
    DATA,
    DEBIAN,
    GOOD,
    PERMITS,
    RECIPIENT,
    RELAY,
    SMTP,
    configuration_of,
    names_of,
    spelled,
)
from tests.places import PROJECT

pytestmark = needs_postconf

WIRINGS: Mapping[str, tuple[Mapping[str, str], Sequence[str]]] = {
    "W1": ({RELAY: DEBIAN, RECIPIENT: "POLICY"}, ["error OTHER_LIST_REFUSES"]),
    "W2": ({RELAY: "", RECIPIENT: f"{PERMITS} POLICY reject_unauth_destination"}, []),
    "W3": ({RELAY: f"{PERMITS} POLICY reject_unauth_destination", RECIPIENT: ""}, []),
    "W4": ({RELAY: f"{PERMITS} POLICY reject_unauth_destination", RECIPIENT: "POLICY"}, ["warning TWICE"]),
    "W5": ({RELAY: "", RECIPIENT: f"{PERMITS} reject_unauth_destination POLICY"}, ["error AFTER_REFUSAL"]),
    "W6": (
        {RELAY: DEBIAN, RECIPIENT: "POLICY", "smtpd_relay_before_recipient_restrictions": "no"},
        ["error OTHER_LIST_REFUSES"],
    ),
    "W7": ({RELAY: DEBIAN, RECIPIENT: "", CLIENT: "POLICY"}, ["error ONLY_ELSEWHERE"]),
    "W8": ({RELAY: "", RECIPIENT: "POLICY permit_auth_destination reject"}, []),
    "nothing set": ({"mydestination": "hub.example"}, ["error NOT_ASKED"]),
    "the relay list of Postfix itself": (
        {RECIPIENT: "permit_mynetworks POLICY reject_unauth_destination"},
        ["error OTHER_LIST_REFUSES"],
    ),
}


def write_postfix(folder: Path, settings: Mapping[str, str], master: str = SMTP) -> str:
    """A folder with main.cf and master.cf; lists are written over several lines."""
    folder.mkdir()
    shared = {name: GOOD[name] for name in ("compatibility_level", "mydestination", "relay_domains")}
    shared["smtpd_forbid_bare_newline"] = "yes"
    tls = {name: value for name, value in GOOD.items() if name.startswith("smtpd_tls")}
    text = spelled({"myhostname": "localhost.localdomain", **shared, **tls, **settings})
    text = re.sub(r" (POLICY|check_policy_service|reject_unauth_destination|permit_sasl)", r"\n    \1", text)
    write_old(folder / "main.cf", text)
    write_old(folder / "master.cf", master)
    return str(folder)


@pytest.mark.parametrize("name", WIRINGS)
def test_real_wirings(name: str, tmp_path: Path) -> None:
    settings, expected = WIRINGS[name]
    folder = write_postfix(tmp_path / "postfix", settings)
    found = check_wiring(folder, configuration_of(tmp_path, {}))
    assert names_of(found) == expected, found
    written = any(line.startswith(RELAY) for line in Path(folder, "main.cf").read_text().splitlines())
    assert all(problem.line > 0 for problem in found) or not written


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration_of(tmp_path, {})
    config = str(tmp_path / "policyd.toml")
    good = write_postfix(tmp_path / "good", WIRINGS["W2"][0])
    assert main(["check", "-c", config, "--postfix", good]) == 0
    capsys.readouterr()
    bad = write_postfix(tmp_path / "bad", WIRINGS["W5"][0])
    assert main(["check", "-c", config, "--postfix", bad]) == 78
    told = capsys.readouterr()
    assert f"{bad}/main.cf:" in told.out
    assert "1 error" in told.err
    assert main(["check", "-c", config, "--json", "--postfix", bad]) == 78
    (problem,) = [one for one in json.loads(capsys.readouterr().out)["problems"] if one["severity"] == "error"]
    assert problem["file"] == f"{bad}/main.cf"
    assert main(["check", "-c", config, "--postfix", str(tmp_path / "nothing")]) == 78
    assert "no such folder" in capsys.readouterr().out


def test_real_tables(tmp_path: Path) -> None:
    write_old(tmp_path / "relay", "contoso.com x\nfabrikam.com x\n")
    write_old(tmp_path / "virtual", "hub.example x\nroot admin\nsales@hub.example kate\nadatum.example x\n")
    settings = {
        **WIRINGS["W2"][0],
        "mydestination": "localhost",
        "relay_domains": f"texthash:{tmp_path}/relay",
        "virtual_alias_maps": f"texthash:{tmp_path}/virtual",
    }
    found = check_wiring(write_postfix(tmp_path / "postfix", settings), configuration_of(tmp_path, {}))
    assert names_of(found) == ["warning DOMAIN_NOT_ACCEPTED"] * 2, found
    assert '"fabrikam.com" of relay_domains' in str(found)
    assert '"adatum.example" of virtual_alias_domains' in str(found)


@pytest.mark.parametrize(
    ("rules", "accepted", "expected"),
    [
        (r"/^contoso\.com$/ OK", '"contoso.com"', []),
        (r"/^contoso\.org$/ OK", '"contoso.com"', ["warning DOMAIN_UNKNOWN"]),
        (r"/^contoso\.com$/ OK", '"a.contoso.com"', ["warning DOMAIN_UNKNOWN"]),  # the whole name is asked for only
        (r"/(^|\.)contoso\.com$/ OK", '"*.contoso.com", "a.contoso.com"', []),
    ],
)
def test_tables_that_cannot_be_listed(rules: str, accepted: str, expected: list[str], tmp_path: Path) -> None:
    write_old(tmp_path / "rules", rules + "\n")
    settings = {**WIRINGS["W2"][0], "relay_domains": f"regexp:{tmp_path}/rules"}
    configuration = configuration_of(tmp_path, {'"contoso.com"': accepted})
    found = check_wiring(write_postfix(tmp_path / "postfix", settings), configuration)
    assert names_of(found) == expected, found


@pytest.mark.parametrize(
    ("header_checks", "expected"),
    [
        ("/^X-Secret:\\s*(.*)$/ REPLACE X-Org-Attribution: $1", []),
        ("/^X-Other:/ IGNORE", ["error NO_HEADER_CHECKS"]),
        ("/^X-Secret:/ IGNORE", ["error HEADER_NOT_REPLACED"]),
        (None, ["warning TABLE_NOT_READ"]),
    ],
)
def test_stamping(header_checks: str | None, expected: list[str], tmp_path: Path) -> None:
    if header_checks is not None:
        write_old(tmp_path / "header_checks", header_checks + "\n")
    settings = {**WIRINGS["W2"][0], DATA: "POLICY", "header_checks": f"regexp:{tmp_path}/header_checks"}
    stamp = {"[organizations.contoso]\n": '[policy]\nattribution_header = "X-Secret"\n[organizations.contoso]\n'}
    found = check_wiring(write_postfix(tmp_path / "postfix", settings), configuration_of(tmp_path, stamp))
    assert names_of(found) == expected, found


CONTRIB = PROJECT / "contrib" / "postfix"


@pytest.mark.parametrize(
    ("fragments", "monitor", "expected"),
    [
        (["main.cf.enforce"], False, []),
        (["main.cf.enforce-relay-list"], False, []),
        (["main.cf.enforce-inet"], False, []),
        (["main.cf.monitor"], True, []),
        (["main.cf.warn"], True, ["warning ONLY_WARNS"]),
    ],
)
def test_what_is_shipped_is_clean(fragments: list[str], monitor: bool, expected: list[str], tmp_path: Path) -> None:
    shipped = "".join((CONTRIB / name).read_text("utf-8") for name in [*fragments, "main.cf.tls"])
    for name, here in (("connector-cas.pem", "cas.pem"), ("tls/hub.key", "hub.pem"), ("tls/hub.pem", "hub.pem")):
        shipped = shipped.replace(f"/etc/postfix/{name}", f"{CERTIFICATES}/{here}")
    folder = write_postfix(tmp_path / "postfix", {}, SMTP)
    names = "myhostname = localhost.localdomain\nmydestination = hub.example\nrelay_domains = contoso.com\n"
    write_old(Path(folder, "main.cf"), f"compatibility_level = 3.6\n{names}{shipped}")
    if fragments == ["main.cf.enforce"]:  # what these ports say fits this list
        services = (CONTRIB / "master.cf.services").read_text("utf-8")
        write_old(Path(folder, "master.cf"), SMTP + services)
    replaced = {"[service]": '[service]\nmode = "monitor"'} if monitor else {}
    replaced["inet:127.0.0.1:10045"] = 'unix:/var/spool/postfix/policyd/policyd.sock", "inet:127.0.0.1:10045'
    found = check_wiring(folder, configuration_of(tmp_path, replaced))
    assert sorted(set(names_of(found)) - {"warning REMARK"}) == expected, found
