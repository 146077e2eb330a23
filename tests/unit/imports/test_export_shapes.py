"""The shapes in which people have their exports: tests/samples/exports, each read, or said what it is (SPEC 7)."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from policyd.cli.common import Exit
from policyd.cli.main import main
from policyd.imports.exchange import import_exchange
from policyd.imports.found import Imported, ImportFailedError
from tests.places import TESTS
from tests.unit.imports.test_exchange import CONNECTOR, DOMAIN, PARTNER, imported, noted, organization

EXPORTS = TESTS / "samples" / "exports"
BRANCH = {"addresses": ["203.0.113.9"]}
PRINTERS = {"connectors": {"Printers": BRANCH}}

READ: dict[str, dict[str, Any]] = {
    "rest-envelope.json": {"connectors": {"From-scanner": {"description": "From scanner", **BRANCH}}},
    "template-lower-case.json": {
        "connectors": {
            "Scan-to-mail": {
                "description": "Scan to mail",
                "certificate_names": ["*.contoso.com"],
                "require_tls": True,
            }
        }
    },
    "joined-lists.json": {
        "connectors": {"Printers": {"addresses": [f"203.0.113.{last}" for last in (9, 10, 11, 12)]}},
        "partners": {
            "Partner-list": {
                "description": "Partner list",
                "sender_domains": ["fabrikam.com", "bank.example"],
                "addresses": ["198.51.100.7", "198.51.100.8"],
                "require_tls": True,
            }
        },
    },
    "connectors-semicolons.csv": {
        "connectors": {"Printers": {"addresses": ["203.0.113.9", "203.0.113.10"]}},
        "partners": {"Bank": {"sender_domains": ["bank.example", "fabrikam.com"], "require_tls": True}},
    },
    "domains-utf-16.csv": {"accepted_domains": ["bücher.example"]},
    "enums-twice.json": PRINTERS,
    "microsoft365dsc.json": {"accepted_domains": ["contoso.com"], **PRINTERS},
    "on-premises-receive-connectors.json": {
        "connectors": {
            "Relay-MFP": {
                "description": "Relay MFP",
                "addresses": ["203.0.113.9", "203.0.113.16-203.0.113.20"],
                "enabled": False,
            }
        }
    },
    "on-premises-accepted-domains.json": {"pending_domains": ["*.contoso.com"]},
    "remote-domains.json": {},
    "associated-domains-domains.json": {"accepted_domains": ["contoso.com", "contoso.net"]},
}
SAID: dict[str, str] = {
    "connectors-clixml.xml": "it is CliXML, as Export-Clixml writes it: Import-Clixml connectors-clixml.xml | Conv",
    "connectors-list.txt": "it is the list that PowerShell shows people (Format-List). Bring the export itself: Get-",
    "connectors-table.txt": "it is the table that PowerShell shows people. Bring the export itself: Get-",
    "connectors-script.ps1": "it is a PowerShell script or the lines of a session. Bring what the commands give: Get-",
    "connectors-lists-lost.csv": 'connector "Printers": SenderIPAddresses is "System.String[]", the name of a type',
    "domains-windows-1252.json": ":1: the file is not UTF-8 here: invalid start byte; Windows-1252 or another code "
    "page? Where it was written: Get-Content domains-windows-1252.json -Encoding Default | Out-File",
    "microsoft365dsc.mof": "it is a compiled configuration of Microsoft365DSC (MOF). Bring the export itself: Get-",
    "microsoft365dsc.ps1": "New-M365DSCReportFromConfiguration -ConfigurationPath microsoft365dsc.ps1 -Type JSON",
    "two-tenants.json": "the objects are of several tenants",
    "one-page-of-several.json": ":1: this is one page of several",
    "parts.json": 'in parts of their own ("InboundConnectors", "AcceptedDomains"). Bring the one of this tenant: (Get-',
}


def both_ways(path: Path) -> Imported:
    """The file as connectors; given as domains it is the same but for the note that it belongs to the other option."""
    as_connectors, as_domains = (
        import_exchange("contoso", **{"connectors": None, "domains": None, option: path}, trust_verified=True)
        for option in ("connectors", "domains")
    )
    assert as_connectors.found == as_domains.found
    return as_connectors


@pytest.mark.parametrize("name", READ)
def test_read(name: str) -> None:
    assert organization(both_ways(EXPORTS / name)) == READ[name]


@pytest.mark.parametrize("name", SAID)
def test_said(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--connectors", "--domains"):
        assert main(["import", "exchange", option, str(EXPORTS / name), "--organization", "contoso"]) == Exit.DATA
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        assert SAID[name] in told.err


def test_every_sample_is_tried() -> None:
    assert {path.name for path in EXPORTS.iterdir()} == {*READ, *SAID, "associated-domains-connectors.json"}


def test_of_an_enum_by_number_and_name_the_name_counts(tmp_path: Path) -> None:
    result = imported(tmp_path, [CONNECTOR | {"ConnectorType": {"value": 9, "Value": "OnPremises"}}])
    assert list(organization(result)["connectors"]) == ["Gateway"]


# --- one file


@pytest.mark.parametrize("copy", [False, True])
def test_the_same_file_named_twice_is_one(copy: bool, tmp_path: Path) -> None:
    path, other = EXPORTS / "microsoft365dsc.json", EXPORTS / "microsoft365dsc.json"
    if copy:
        other = Path(shutil.copy(path, tmp_path / "copy.json"))
    result = import_exchange("contoso", connectors=path, domains=other, trust_verified=True)
    assert organization(result) == READ["microsoft365dsc.json"]
    assert not any("swapped" in note.message for note in result.notes)


def test_two_files_for_one_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first one would be lost without a word."""
    one, other = str(EXPORTS / "enums-twice.json"), str(EXPORTS / "joined-lists.json")
    command = ["import", "exchange", "--organization", "contoso", "--connectors", one, "--connectors"]
    with pytest.raises(SystemExit) as left:
        main([*command, other])
    assert left.value.code == Exit.USAGE
    assert "--connectors names two files" in capsys.readouterr().err
    assert main([*command, one]) == Exit.OK
    assert tomllib.loads(capsys.readouterr().out)["organizations"]["contoso"] == PRINTERS


def test_objects_of_two_tenants_in_two_files(tmp_path: Path) -> None:
    with pytest.raises(ImportFailedError, match=r'several tenants .OrganizationId is "a" and "b"'):
        imported(tmp_path, [CONNECTOR | {"OrganizationId": "a"}], [DOMAIN | {"organizationid": "b"}])


def test_a_resource_that_shall_be_absent(tmp_path: Path) -> None:
    for ensure in ("Absent", "absent", "?"):
        result = imported(tmp_path, [CONNECTOR | {"Ensure": ensure}], [DOMAIN | {"ensure": ensure}])
        assert organization(result) == {}
        assert noted(result, "left out", "Ensure", "Gateway")


# --- AssociatedAcceptedDomains

OTHER = DOMAIN | {"Name": "Other", "DomainName": "contoso.net", "MatchSubDomains": True}
INITIAL = DOMAIN | {"Name": "i", "DomainName": "contoso.onmicrosoft.com", "InitialDomain": True}
ASSOCIATED = "AssociatedAcceptedDomains"


@pytest.mark.parametrize("trusted", [True, False])
def test_all_domains_limit_nothing(trusted: bool, tmp_path: Path) -> None:
    domains = [DOMAIN, OTHER, INITIAL]
    for listed in (["Main", "other"], ["x/Configuration/Main", "x/Configuration/contoso.net", "i"], "Main;contoso.net"):
        result = imported(tmp_path, [CONNECTOR | {ASSOCIATED: listed}, PARTNER | {ASSOCIATED: listed}], domains,
                          trust_verified=trusted)  # fmt: skip
        assert organization(result)["connectors"] == {"Gateway": {"addresses": ["203.0.113.7"]}}
        assert "enabled" not in organization(result)["partners"]["Gateway"]
        assert noted(result, "note", ASSOCIATED, "Gateway")


@pytest.mark.parametrize(
    ("listed", "limit"),
    [
        (["Main"], {"for_domains": ["contoso.com"]}),
        (["x/Other"], {"for_domains": ["*.contoso.net"]}),
        (["Main", "unknown"], {"for_domains": ["contoso.com"]}),
        (["Main", "contoso-new.com"], {"for_domains": ["contoso.com"]}),
        (["Main", "Other"], {"for_domains": ["contoso.com", "*.contoso.net"]}),  # what is pending would not be in it
        (["contoso-new.com"], {"enabled": False}),
        (["unknown"], {"enabled": False}),
        (["i"], {"enabled": False}),
        ([{"x": 1}], {"enabled": False}),
    ],
)  # fmt: skip
def test_some_domains_become_for_domains(listed: list[Any], limit: dict[str, Any], tmp_path: Path) -> None:
    domains = [
        DOMAIN,
        OTHER,
        INITIAL,
        DOMAIN | {"Name": "n", "DomainName": "contoso-new.com", "PendingCompletion": True},
    ]
    result = imported(tmp_path, [CONNECTOR | {ASSOCIATED: listed}], domains, trust_verified=True)
    assert organization(result)["connectors"] == {"Gateway": {"addresses": ["203.0.113.7"], **limit}}
    partner = imported(tmp_path, [PARTNER | {ASSOCIATED: listed}], domains, trust_verified=True)
    assert organization(partner)["partners"]["Gateway"]["enabled"] is False
    assert noted(partner, "warning", ASSOCIATED, "Gateway")


def test_what_is_not_accepted_in_the_end_widens_nothing(tmp_path: Path) -> None:
    """A public suffix is no accepted domain, so that for_domains would end up empty."""
    domains = [DOMAIN, DOMAIN | {"Name": "s", "DomainName": "co.uk"}]
    result = imported(tmp_path, [CONNECTOR | {ASSOCIATED: ["s"]}], domains, trust_verified=True)
    assert organization(result)["connectors"] == {"Gateway": {"addresses": ["203.0.113.7"], "enabled": False}}


# --- certificate names


def test_of_several_names_the_servers_is_read(tmp_path: Path) -> None:
    """Windows writes the server's first, and the container's behind it; Postfix sends the other end."""
    name = "<I>CN=CA<S>CN=exch01.contoso.com, CN=Computers, DC=contoso, DC=com"
    result = imported(tmp_path, [CONNECTOR | {"SenderIPAddresses": [], "TlsSenderCertificateName": name}])
    assert organization(result)["connectors"] == {"Gateway": {"certificate_names": ["exch01.contoso.com"]}}
    assert any('only "Computers"' in note.message for note in noted(result, "warning", "TlsSenderCertificateName"))


@pytest.mark.parametrize("name", ["Computers", "<S>CN=Computers"])
def test_a_single_label_is_no_certificate_name(name: str, tmp_path: Path) -> None:
    result = imported(tmp_path, [CONNECTOR | {"SenderIPAddresses": [], "TlsSenderCertificateName": name}])
    assert organization(result) == {}
    assert any("single label" in note.message for note in noted(result, "left out", "TlsSenderCertificateName"))


# --- accepted domains


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"IsCoexistenceDomain": True}, "IsCoexistenceDomain"),
        ({"DomainName": "contoso.mail.onmicrosoft.com"}, "DomainName"),
        ({"DomainName": "onmicrosoft.com", "MatchSubDomains": True}, "DomainName"),
    ],
)
def test_microsofts_domains_are_left_out(fields: dict[str, Any], field: str, tmp_path: Path) -> None:
    result = imported(tmp_path, None, [DOMAIN | fields], trust_verified=True)
    assert organization(result) == {}
    (note,) = noted(result, "left out", field)
    assert "is Microsoft's" in note.message


def test_a_domain_beside_all_below_it_is_one(tmp_path: Path) -> None:
    """On premises `*.x` stands beside x; here it covers x, too."""
    both = [DOMAIN, DOMAIN | {"DomainName": "*.contoso.com"}]
    for domains in (both, both[::-1]):
        result = imported(tmp_path, None, domains, trust_verified=True)
        assert organization(result) == {"accepted_domains": ["*.contoso.com"]}
        assert any('"contoso.com" itself' in note.message for note in noted(result, "note", "DomainName"))
    pending = imported(tmp_path, None, [both[0] | {"PendingRemoval": True}, both[1]], trust_verified=True)
    assert organization(pending) == {"pending_domains": ["*.contoso.com"]}


def test_a_partner_of_a_domain_and_all_below_it_is_no_warning(tmp_path: Path) -> None:
    """In Exchange the one does not cover the other, so that both are usual."""
    result = imported(tmp_path, [PARTNER | {"SenderDomains": ["smtp:a.example;1", "smtp:*.a.example;1"]}])
    assert organization(result)["partners"]["Gateway"]["sender_domains"] == ["a.example", "*.a.example"]
    assert not [note for note in result.notes if note.kind == "partner" or "a.example" in note.message]


# --- an Exchange server


RECEIVE = {"Name": "Relay", "RemoteIPRanges": ["203.0.113.9"], "PermissionGroups": "AnonymousUsers", "Enabled": True}


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({}, BRANCH),
        ({"RequireTLS": True}, BRANCH | {"require_tls": True}),
        ({"RemoteIPRanges": [{"LowerBound": "203.0.113.9", "Expression": "203.0.113.9"}]}, BRANCH),
        ({"RemoteIPRanges": ["0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]}, None),
        ({"RemoteIPRanges": ["10.0.0.7"]}, None),
    ],
)
def test_receive_connectors(fields: dict[str, Any], values: dict[str, Any] | None, tmp_path: Path) -> None:
    result = imported(tmp_path, [RECEIVE | fields])
    made = {} if values is None else {"connectors": {"Relay": values | {"enabled": False}}}
    assert organization(result) == made
    assert any("a receive connector of an Exchange server" in note.message for note in result.notes)
    if values is None:
        left_out = noted(result, "left out", "RemoteIPRanges")
        assert len(left_out) == len(fields["RemoteIPRanges"])
        assert all("is everybody" in note.message or "private addresses" in note.message for note in left_out)


def test_a_send_connector_is_left_out(tmp_path: Path) -> None:
    result = imported(tmp_path, [{"Name": "Out", "AddressSpaces": ["SMTP:*;1"], "SmartHosts": []}])
    assert organization(result) == {}
    assert noted(result, "left out", "", "Out")


def test_nobody_verified_the_domains_of_a_server(tmp_path: Path) -> None:
    name = "CN=x,CN=Accepted Domains,CN=Contoso,CN=Microsoft Exchange,CN=Services,CN=Configuration,DC=c"
    result = imported(tmp_path, None, [DOMAIN | {"DistinguishedName": name}], trust_verified=True)
    assert organization(result) == {"pending_domains": ["contoso.com"]}
    tenant = name.replace("CN=Microsoft Exchange,CN=Services,", "CN=ConfigurationUnits,")
    result = imported(tmp_path, None, [DOMAIN | {"DistinguishedName": tenant}], trust_verified=True)
    assert organization(result) == {"accepted_domains": ["contoso.com"]}


# --- CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("before", ["", "#TYPE x\r\n", "sep={}\r\n"])
def test_csv(delimiter: str, before: str, tmp_path: Path) -> None:
    columns = {
        "name": "Müller, Ltd",
        "ConnectorType": "Partner",
        "RequireTls": "True",
        "SenderDomains": "a.example b.example",
    }
    lines = [delimiter.join(f'"{field}"' for field in row) for row in (columns, columns.values())]
    path = tmp_path / "connectors.csv"
    path.write_text(before.format(delimiter) + "\r\n".join([*lines, "", ""]), "utf-8-sig")
    result = import_exchange("contoso", connectors=path, domains=None)
    assert tomllib.loads(result.text)["organizations"]["contoso"] == {
        "partners": {
            "M-ller-Ltd": {
                "description": "Müller, Ltd",
                "sender_domains": ["a.example", "b.example"],
                "require_tls": True,
            }
        }
    }


@pytest.mark.parametrize(
    "lost",
    [
        "System.String[]",
        "System.Object[]",
        "System.Collections.ArrayList",
        "Microsoft.Exchange.Data.MultiValuedProperty`1[System.String]",
        "Deserialized.Microsoft.Exchange.Data.MultiValuedProperty`1[[x, y]]",
    ],
)
def test_lists_that_are_lost(lost: str, tmp_path: Path) -> None:
    for field in ("SenderIPAddresses", "AssociatedAcceptedDomains"):
        path = tmp_path / "connectors.json"
        path.write_text(json.dumps([CONNECTOR | {field: lost}]))
        with pytest.raises(ImportFailedError, match=f'connectors.json: connector "Gateway": {field} is "'):
            import_exchange("contoso", connectors=path, domains=None)
    assert imported(tmp_path, [CONNECTOR | {"EFSkipIPs": lost}]).found.sections
