"""`policyd import exchange`: shapes, rules for connectors and domains, and what is printed where (SPEC 7)."""

from __future__ import annotations

import codecs
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from policyd.cli.common import Exit
from policyd.cli.main import main
from policyd.imports.exchange import import_exchange
from policyd.imports.found import Imported, ImportFailedError, Note
from policyd.loading.load import load
from tests.places import TESTS

SAMPLES = TESTS / "samples" / "exchange"

CONNECTOR: dict[str, Any] = {
    "Name": "Gateway",
    "Identity": "Gateway",
    "Enabled": True,
    "ConnectorType": "OnPremises",
    "Comment": "",
    "SenderIPAddresses": ["203.0.113.7"],
    "SenderDomains": ["smtp:*;1"],
    "AssociatedAcceptedDomains": [],
    "RequireTls": False,
    "RestrictDomainsToIPAddresses": False,
    "RestrictDomainsToCertificate": False,
    "TlsSenderCertificateName": None,
}
PARTNER = CONNECTOR | {
    "ConnectorType": "Partner",
    "SenderIPAddresses": [],
    "SenderDomains": ["smtp:fabrikam.com;1"],
    "RequireTls": True,
}
DOMAIN: dict[str, Any] = {
    "Name": "Main",
    "DomainName": "contoso.com",
    "DomainType": "Authoritative",
    "MatchSubDomains": False,
    "InitialDomain": False,
    "SendingFromDomainDisabled": False,
    "SendingToDomainDisabled": False,
    "PendingRemoval": False,
    "PendingCompletion": False,
}

CERTIFICATE = "TlsSenderCertificateName"
ADDRESSES = "SenderIPAddresses"

CONNECTORS_PS51 = {
    "Inbound-from-1b6f2c3d-5f0e-4d0a-9f52-0c6f6f3f2a10": {
        "description": "Inbound from 1b6f2c3d-5f0e-4d0a-9f52-0c6f6f3f2a10",
        "certificate_names": ["*.contoso.com"],
        "require_tls": True,
    },
    "Branch-Utrecht-scanners": {
        "description": "Branch Utrecht (scanners): Multifunction printers; ask facility@contoso.com",
        "addresses": ["203.0.113.0/28", "203.0.113.77", "192.0.2.32/27"],
    },
    "Old-appliance": {
        "description": "Old appliance",
        "certificate_names": ["relay.contoso.com"],
        "enabled": False,
    },
    "Old-appliance-addresses": {
        "description": "Old appliance",
        "addresses": ["198.51.100.31"],
        "enabled": False,
    },
}


def imported(
    tmp_path: Path, connectors: object = None, domains: object = None, *, trust_verified: bool = False
) -> Imported:
    """Both exports through files, as PowerShell 7 writes them; what comes out has passed the check once more."""
    paths = {}
    for name, export in (("connectors", connectors), ("domains", domains)):
        paths[name] = None if export is None else tmp_path / f"{name}.json"
        if export is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(export), encoding="utf-8")
    result = import_exchange("contoso", **paths, trust_verified=trust_verified)
    assert tomllib.loads(result.text) == result.found.data()
    (tmp_path / "policyd.toml").write_text(result.text, encoding="utf-8")
    assert [problem for problem in load(str(tmp_path / "policyd.toml")).problems if problem.severity == "error"] == []
    return result


def organization(result: Imported) -> Mapping[str, Any]:
    return tomllib.loads(result.text)["organizations"]["contoso"]


def noted(result: Imported, level: str, field: str, name: str | None = None) -> list[Note]:
    return [
        note
        for note in result.notes
        if (note.level, note.field) == (level, field) and (name is None or note.name == name)
    ]


# --- the samples


def test_sample_of_powershell_7() -> None:
    result = import_exchange(
        "contoso", connectors=SAMPLES / "connectors.json", domains=SAMPLES / "domains.json", trust_verified=True
    )
    assert organization(result) == {
        "accepted_domains": ["contoso.com", "*.contoso.net"],
        "pending_domains": ["contoso-new.com", "news.contoso.org"],
        "connectors": CONNECTORS_PS51
        | {
            name: CONNECTORS_PS51[name] | {"for_domains": ["contoso.com"]}
            for name in ("Old-appliance", "Old-appliance-addresses")
        },
        "partners": {
            "Fabrikam-Bank": {
                "description": "Fabrikam Bank",
                "sender_domains": ["fabrikam.com", "*.fabrikam.com"],
                "require_tls": True,
                "certificate_names": ["mail.fabrikam.com"],
            },
            "Lockdown": {"sender_domains": ["*"], "addresses": ["192.0.2.64/26"]},
        },
    }
    (lockdown,) = noted(result, "note", "SenderDomains", "Lockdown")
    assert "never grants relaying" in lockdown.message
    assert noted(result, "left out", "InitialDomain", "contoso.onmicrosoft.com")
    for name, field in (
        ("Inbound from 1b6f2c3d-5f0e-4d0a-9f52-0c6f6f3f2a10", "CloudServicesMailEnabled"),
        ("Inbound from 1b6f2c3d-5f0e-4d0a-9f52-0c6f6f3f2a10", "RequireTls"),
        ("Branch Utrecht (scanners)", "EFSkipLastIP"),
        ("Old appliance", "TreatMessagesAsInternal"),
        ("contoso.net", "DomainType"),
    ):
        assert noted(result, "note", field, name), (name, field)
    for name, field in (
        ("Branch Utrecht (scanners)", "SenderIPAddresses"),
        ("Old appliance", "TlsSenderCertificateName"),
        ("contoso-new.com", "PendingCompletion"),
        ("news.contoso.org", "SendingFromDomainDisabled"),
    ):
        assert noted(result, "warning", field, name), (name, field)


def test_sample_of_powershell_5() -> None:
    result = import_exchange(
        "contoso", connectors=SAMPLES / "connectors-ps51.json", domains=SAMPLES / "domain-single-ps51.json"
    )
    assert organization(result) == {"pending_domains": ["contoso.com"], "connectors": CONNECTORS_PS51}


def test_sample_of_one_object() -> None:
    result = import_exchange("contoso", connectors=SAMPLES / "connector-single.json", domains=None)
    assert organization(result) == {
        "connectors": {
            "Tailspin-gateway": {
                "description": "Tailspin gateway ü",
                "addresses": ["198.51.100.200"],
                "require_tls": True,
            }
        }
    }
    assert noted(result, "warning", "RestrictDomainsToIPAddresses", "Tailspin gateway ü")


# --- shapes (section "What to accept")


def wrapped(value: Any) -> Any:
    """As Windows PowerShell 5.1 may write it: a wrapper for every list."""
    if isinstance(value, list):
        return {"value": [wrapped(item) for item in value], "Count": len(value)}
    return {key: wrapped(item) for key, item in value.items()} if isinstance(value, dict) else value


def bare(value: Any) -> Any:
    """Every list of one as its value, every empty one as null."""
    if isinstance(value, list):
        return bare(value[0]) if len(value) == 1 else [bare(item) for item in value] or None
    return {key: bare(item) for key, item in value.items()} if isinstance(value, dict) else value


SHAPES = {
    "array": lambda export: export,
    "wrapped": wrapped,
    "bare": bare,
    "twice wrapped": lambda export: {"value": wrapped(export), "Count": 1},
    "empty texts": lambda export: json.loads(json.dumps(export).replace("[]", '""')),
    "numbers": lambda export: json.loads(
        json.dumps(export).replace('"OnPremises"', "1").replace('"Partner"', "2").replace('"InternalRelay"', "2")
    ),
    "numbers as texts": lambda export: json.loads(
        json.dumps(export).replace('"OnPremises"', '"1"').replace('"Partner"', '"2"')
    ),
    "upper case": lambda export: json.loads(
        json.dumps(export).replace("OnPremises", "ONPREMISES").replace("Partner", "PARTNER")
    ),
    "texts for switches": lambda export: json.loads(
        json.dumps(export).replace("true", '"True"').replace("false", '"False"')
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, tmp_path: Path) -> None:
    connectors = json.loads((SAMPLES / "connectors.json").read_text("utf-8"))
    domains = json.loads((SAMPLES / "domains.json").read_text("utf-8"))
    plain = imported(tmp_path, connectors, domains, trust_verified=True)
    result = imported(tmp_path, SHAPES[shape](connectors), SHAPES[shape](domains), trust_verified=True)
    assert (result.found, result.notes) == (plain.found, plain.notes)


@pytest.mark.parametrize("shape", ["array", "wrapped", "bare"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings(mark: bytes, encoding: str, newline: str, shape: str, tmp_path: Path) -> None:
    text = json.dumps(SHAPES[shape]([CONNECTOR | {"Name": "Bücher"}]), ensure_ascii=False, indent=2)
    path = tmp_path / "connectors.json"
    path.write_bytes(mark + text.replace("\n", newline).encode(encoding))
    result = import_exchange("contoso", connectors=path, domains=None)
    assert organization(result)["connectors"] == {"B-cher": {"description": "Bücher", "addresses": ["203.0.113.7"]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: this is no JSON: .*empty"),
        (b'[{"Name": "x",\n\n "ConnectorType" 1}]', ":3: this is no JSON"),
        ('[{"Name":\n"Büro"}]'.encode("latin-1"), ":2: the file is not UTF-8"),
        (b'[\n\n{"Name": "\xff"}]', ":3: the file is not UTF-8"),
        (codecs.BOM_UTF16_LE + '[\n"'.encode("utf-16-le") + b"\x00\xd8\x00", ":2: the file is not UTF-16-LE"),
        (codecs.BOM_UTF32_LE + "[]".encode("utf-32-le"), ":1: the file is UTF-32"),
        (b'"Name","Enabled"\r\n"x","True"\r\n', ":1: this is no export: no object in it"),
        ("[]".encode("utf-16-le"), ":1: this is no JSON: .*without a byte order mark"),
        (b"<html>", ":1: this is no JSON"),
        (b"17", ':1: this is no export: it holds "17"'),
        (b'"text"', ':1: this is no export: it holds "text"'),
        (b"null", ":1: this is no export"),
        (b"[1]", ':1: this is no export: entry 1 is "1"'),
        (b'[{"ConnectorType": 1}, ["x"]]', ':1: this is no export: entry 2 is "x"'),
        (b'{"name": "left-pad", "version": "1"}', ":1: this is no export: no object in it"),
        (b"[NaN]", ":1: this is no JSON: NaN"),
        (b"[" * 100_000, ":1: this is no export: it is nested"),
        (b"[" + b"9" * 5000 + b"]", ":1: this is no JSON"),
        (b'[{"ConnectorType": 1, "connectortype": 2}]', ':1: this is no JSON: the key "connectortype" stands twice'),
        (b'{"ConnectorType": 1}\n{"ConnectorType": 1}', ":2: this is no JSON: several JSON texts"),
        (b'"Name","DomainType"\r\n"x"\r\n', ":2: this is CSV, but not whole: 1 fields"),
        (b'"Name","DomainType","name"\r\n', ":1: this is CSV, but not whole: the key"),
        (b'"Name","DomainType"\r\n"a"b,\r\n', ":2: this is CSV, but not whole"),
        (b"PK\x03\x04\xff", ":1: this is a ZIP archive or an Excel workbook. Bring the export: Get-"),
    ],
    ids=range(24),
)
def test_what_is_no_export(content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    for option in ("connectors", "domains"):
        files = {"connectors": None, "domains": None} | {option: path}
        with pytest.raises(ImportFailedError, match=f"x.json{message}"):
            import_exchange("contoso", **files)
        assert main(["import", "exchange", "--organization", "contoso", f"--{option}", str(path)]) == Exit.DATA
        written = capsys.readouterr()
        assert written.out == ""
        assert f"policyd import: {path}" in written.err


@pytest.mark.parametrize("name", ["missing.json", ".", "\0"])
def test_what_is_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImportFailedError):
        import_exchange("contoso", connectors=tmp_path / name, domains=None)


def test_swapped_files(tmp_path: Path) -> None:
    straight = imported(tmp_path, [CONNECTOR], [DOMAIN])
    swapped = imported(tmp_path, [DOMAIN], [CONNECTOR])
    assert swapped.found == straight.found
    assert len(noted(swapped, "warning", "")) == len(noted(straight, "warning", "")) + 2
    assert any("swapped" in note.message for note in swapped.notes)


def test_all_in_one_file(tmp_path: Path) -> None:
    result = imported(tmp_path, [CONNECTOR, DOMAIN])
    assert organization(result) == {
        "pending_domains": ["contoso.com"],
        "connectors": {"Gateway": {"addresses": ["203.0.113.7"]}},
    }
    assert any("beside inbound connectors also accepted domains" in note.message for note in result.notes)


def test_nothing_in_the_files(tmp_path: Path) -> None:
    assert imported(tmp_path, [], []).found.data() == {"organizations": {"contoso": {}}}


# --- rules for connectors


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({}, {"addresses": ["203.0.113.7"]}),
        ({"Comment": "Ask Bob"}, {"description": "Ask Bob", "addresses": ["203.0.113.7"]}),
        ({"Enabled": False}, {"addresses": ["203.0.113.7"], "enabled": False}),
        ({"Enabled": "maybe"}, {"addresses": ["203.0.113.7"], "enabled": False}),
        ({"Enabled": None}, {"addresses": ["203.0.113.7"]}),
        ({CERTIFICATE: "<S>CN=mail\\.contoso.com", ADDRESSES: []}, {"certificate_names": ["mail.contoso.com"]}),
        ({"RequireTls": True}, {"addresses": ["203.0.113.7"], "require_tls": True}),
        (
            {ADDRESSES: ["2001:db8::1", "198.51.100.1-198.51.100.9", "::ffff:203.0.113.9", "2001:db8:1::1/64"]},
            {"addresses": ["2001:db8::1", "198.51.100.1-198.51.100.9", "::ffff:203.0.113.9", "2001:db8:1::/64"]},
        ),
        ({ADDRESSES: ["203.0.113.7", "203.0.113.7"]}, {"addresses": ["203.0.113.7"]}),
        ({ADDRESSES: "203.0.113.7 192.0.2.8, 192.0.2.9"}, {"addresses": ["203.0.113.7", "192.0.2.8", "192.0.2.9"]}),
        ({CERTIFICATE: "notoutlook.com", ADDRESSES: []}, {"certificate_names": ["notoutlook.com"]}),
        ({CERTIFICATE: "mail.contoso.com", ADDRESSES: []}, {"certificate_names": ["mail.contoso.com"]}),
        ({CERTIFICATE: "bücher.example", ADDRESSES: None}, {"certificate_names": ["bücher.example"]}),
        (
            {CERTIFICATE: '<I>CN=CA<S>O="x, CN=evil.example", CN="mail.contoso.com"', ADDRESSES: ""},
            {"certificate_names": ["mail.contoso.com"]},
        ),
        (
            {CERTIFICATE: "<i>CN=CA<s>o=Contoso\\, CN=x, cn = mail.contoso.com", ADDRESSES: ""},
            {"certificate_names": ["mail.contoso.com"]},
        ),
        ({"AssociatedAcceptedDomains": "a/contoso.com"}, {"addresses": ["203.0.113.7"], "enabled": False}),
        ({"AssociatedAcceptedDomains": [{"x": 1}]}, {"addresses": ["203.0.113.7"], "enabled": False}),
    ],
)  # fmt: skip
def test_on_premises(fields: dict[str, Any], values: dict[str, Any], tmp_path: Path) -> None:
    result = imported(tmp_path, [CONNECTOR | fields])
    assert organization(result) == {"connectors": {"Gateway": values}}


@pytest.mark.parametrize(
    ("fields", "level", "field", "words"),
    [
        ({"SenderIPAddresses": []}, "left out", "", "no certificate name and no addresses"),
        ({"ConnectorType": 3}, "left out", "ConnectorType", "neither"),
        ({"ConnectorType": True}, "left out", "ConnectorType", "neither"),
        ({"ConnectorType": None}, "left out", "ConnectorType", "neither"),
        ({"ConnectorType": {"value": "OnPremises"}, "SmartHosts": []}, "left out", "", "outbound"),
        ({"SenderIPAddresses": ["203.0.113.0/99"]}, "left out", "SenderIPAddresses", "prefix length"),
        ({"SenderIPAddresses": ["bücher"]}, "left out", "SenderIPAddresses", '"bücher"'),
        ({"SenderIPAddresses": [["11.0.0.0/8"]]}, "left out", "addresses", '"11.0.0.0/8"'),
        ({"SenderIPAddresses": ["172.17.0.1"]}, "left out", "SenderIPAddresses", '"172.17.0.1" holds private'),
        ({"SenderIPAddresses": ["2001::/16"]}, "left out", "addresses", '"2001::/16"'),
        ({"SenderIPAddresses": ["::/0"]}, "left out", "SenderIPAddresses", '"::/0"'),
        ({"SenderIPAddresses": [], "TlsSenderCertificateName": "*"}, "left out", "TlsSenderCertificateName", '"*"'),
        ({"SenderIPAddresses": [], "TlsSenderCertificateName": "*.com"}, "left out", "certificate_names", '"*.com"'),
        ({"SenderIPAddresses": [], "TlsSenderCertificateName": "*.OUTLOOK.com"}, "left out", "certificate_names",
         "all customers of a provider"),
        ({"SenderIPAddresses": [], "TlsSenderCertificateName": "<I>CN=a.example<S>O=b.example"}, "left out",
         "TlsSenderCertificateName", "no host name"),
    ],
)  # fmt: skip
def test_connector_left_out(fields: dict[str, Any], level: str, field: str, words: str, tmp_path: Path) -> None:
    result = imported(tmp_path, [CONNECTOR | fields])
    assert organization(result) == {}
    assert any(words in note.message for note in noted(result, level, field, "Gateway"))


@pytest.mark.parametrize(
    ("fields", "level", "field"),
    [
        ({"RestrictDomainsToIPAddresses": True}, "warning", "RestrictDomainsToIPAddresses"),
        ({"RestrictDomainsToCertificate": True}, "warning", "RestrictDomainsToCertificate"),
        ({"SenderDomains": ["smtp:contoso.com;1"]}, "note", "SenderDomains"),
        ({"SenderIPAddresses": ["203.0.113.1/28"]}, "warning", "SenderIPAddresses"),
        ({"RequireTls": True}, "note", "RequireTls"),
        ({"TlsSenderCertificateName": "<I>CN=CA<S>CN=mail.contoso.com"}, "warning", "TlsSenderCertificateName"),
        ({"TlsSenderCertificateName": "mail.contoso.com"}, "warning", ""),
        ({"TlsSenderCertificateName": "mail.protection.outlook.com"}, "left out", "certificate_names"),
        ({"AssociatedAcceptedDomains": ["x/contoso.com"]}, "warning", "AssociatedAcceptedDomains"),
        ({"CloudServicesMailEnabled": True}, "note", "CloudServicesMailEnabled"),
        ({"TreatMessagesAsInternal": True}, "note", "TreatMessagesAsInternal"),
        ({"TrustedOrganizations": ["x"]}, "note", "TrustedOrganizations"),
        ({"ScanAndDropRecipients": "x"}, "note", "ScanAndDropRecipients"),
        ({"ClientHostNames": wrapped(["x"])}, "note", "ClientHostNames"),
        ({"EFSkipLastIP": True}, "note", "EFSkipLastIP"),
        ({"EFSkipIPs": ["203.0.113.1"]}, "note", "EFSkipIPs"),
        ({"EFSkipMailGateway": ["x"]}, "note", "EFSkipMailGateway"),
        ({"EFUsers": ["x"]}, "note", "EFUsers"),
        ({"EFTestMode": True}, "note", "EFTestMode"),
        ({"EFNew": {"x": 1}}, "note", "EFNew"),
        ({"Enabled": "maybe"}, "warning", "Enabled"),
        ({"RequireTls": [True, False]}, "warning", "RequireTls"),
        ({"Name": ["a", "b"]}, "warning", "Name"),
        ({"SenderIPAddresses": ["203.0.113.7", True]}, "warning", "SenderIPAddresses"),
        ({"SenderIPAddresses": ["203.0.113.7", {"value": "203.0.113.8", "Prefix": 1}]}, "warning", "SenderIPAddresses"),
    ],
)  # fmt: skip
def test_connector_noted(fields: dict[str, Any], level: str, field: str, tmp_path: Path) -> None:
    plain = imported(tmp_path, [CONNECTOR])
    result = imported(tmp_path, [CONNECTOR | fields])
    assert len(noted(result, level, field)) == len(noted(plain, level, field)) + 1
    assert len(organization(result)["connectors"]) >= 1


@pytest.mark.parametrize(
    "field",
    ["CloudServicesMailEnabled", "TreatMessagesAsInternal", "EFSkipLastIP", "EFTestMode", "TrustedOrganizations"],
)
@pytest.mark.parametrize("value", [False, "False", None, "", [], {"value": [], "Count": 0}])
def test_defaults_are_not_noted(field: str, value: object, tmp_path: Path) -> None:
    assert imported(tmp_path, [CONNECTOR | {field: value}]).notes == imported(tmp_path, [CONNECTOR]).notes


def test_unknown_fields_are_named(tmp_path: Path) -> None:
    result = imported(tmp_path, [CONNECTOR | {"Novelty": 1, "odd\x1b[2J name": 2}])
    (note,) = [note for note in result.notes if note.kind == "file"]
    assert note.message.endswith('Identity, Novelty, "odd\\u001B[2J name"')


def test_one_bad_value_does_not_cost_the_connector(tmp_path: Path) -> None:
    result = imported(
        tmp_path, [CONNECTOR | {"SenderIPAddresses": ["11.0.0.0/8", "203.0.113.7", "2001::/16", "169.254.7.1"]}]
    )
    assert organization(result)["connectors"] == {"Gateway": {"addresses": ["203.0.113.7"]}}
    assert len(noted(result, "left out", "addresses", "Gateway")) == 2
    (note,) = noted(result, "left out", "SenderIPAddresses", "Gateway")
    assert note.message.startswith('"169.254.7.1" holds link-local addresses')


@pytest.mark.parametrize(
    ("names", "safe"),
    [
        (["a"], ["a"]),
        (["A.b_c-9"], ["A.b_c-9"]),
        (["a b", "a-b", "a?b"], ["a-b", "a-b-2", "a-b-3"]),
        (["Mail", "mail"], ["Mail", "mail-2"]),
        (["mail", "Mail"], ["mail", "Mail-2"]),
        (["  (x)  "], ["x"]),
        (["--x--"], ["x"]),
        (["ü"], ["connector"]),
        (["", None], ["connector", "connector-2"]),
        (["n" * 63 + " y"], ["n" * 63]),
        (["n" * 70, "n" * 80], ["n" * 64, "n" * 62 + "-2"]),
        ([17], ["17"]),
        (["a\n\x1b\u202e\ud800b"], ["a-b"]),
    ],
)
def test_names(names: list[Any], safe: list[str], tmp_path: Path) -> None:
    result = imported(tmp_path, [CONNECTOR | {"Name": name, "Identity": ""} for name in names])
    assert list(organization(result)["connectors"]) == safe
    for name, made in zip(names, safe, strict=True):
        changed = name is not None and str(name).strip() not in (made, "")
        described = organization(result)["connectors"][made].get("description", "")
        assert described == (str(name).strip().replace("\ud800", "\ufffd") if changed else "")


def test_names_of_the_two_halves(tmp_path: Path) -> None:
    both = {"TlsSenderCertificateName": "mail.contoso.com"}
    result = imported(
        tmp_path,
        [CONNECTOR | {"Name": "x-addresses"}, CONNECTOR | both | {"Name": "x"}, CONNECTOR | both | {"Name": "n" * 64}],
    )
    assert organization(result)["connectors"] == {
        "x-addresses": {"addresses": ["203.0.113.7"]},
        "x": {"certificate_names": ["mail.contoso.com"]},
        "x-addresses-2": {"description": "x", "addresses": ["203.0.113.7"]},
        "n" * 64: {"certificate_names": ["mail.contoso.com"]},
        "n" * 54 + "-addresses": {"description": "n" * 64, "addresses": ["203.0.113.7"]},
    }


# --- partners


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({}, {"sender_domains": ["fabrikam.com"], "require_tls": True}),
        ({"SenderDomains": "fabrikam.com"}, {"sender_domains": ["fabrikam.com"], "require_tls": True}),
        ({"SenderDomains": ["SMTP:fabrikam.com;99"]}, {"sender_domains": ["fabrikam.com"], "require_tls": True}),
        ({"SenderDomains": ["smtp:*;1", "smtp:a.example;1"]}, {"sender_domains": ["*"], "require_tls": True}),
        (
            {"RequireTls": False, "RestrictDomainsToIPAddresses": True, "SenderIPAddresses": "203.0.113.1/31"},
            {"sender_domains": ["fabrikam.com"], "addresses": ["203.0.113.0/31"]},
        ),
        (
            {"RestrictDomainsToCertificate": True, "TlsSenderCertificateName": "mail.fabrikam.com"},
            {"sender_domains": ["fabrikam.com"], "require_tls": True, "certificate_names": ["mail.fabrikam.com"]},
        ),
        (
            {"RestrictDomainsToCertificate": "?", "TlsSenderCertificateName": "mail.fabrikam.com"},
            {"sender_domains": ["fabrikam.com"], "require_tls": True, "certificate_names": ["mail.fabrikam.com"]},
        ),
        ({"AssociatedAcceptedDomains": ["a/b.example"]},
         {"sender_domains": ["fabrikam.com"], "require_tls": True, "enabled": False}),
        ({"Enabled": "?"}, {"sender_domains": ["fabrikam.com"], "require_tls": True}),
        ({"RequireTls": "?"}, {"sender_domains": ["fabrikam.com"], "require_tls": True}),
        ({"SenderDomains": ["*.com", "smtp:a.example;1"]}, {"sender_domains": ["a.example"], "require_tls": True}),
    ],
)  # fmt: skip
def test_partner(fields: dict[str, Any], values: dict[str, Any], tmp_path: Path) -> None:
    result = imported(tmp_path, [PARTNER | fields])
    assert organization(result) == {"partners": {"Gateway": values}}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"RequireTls": False}, ""),
        ({"Enabled": False}, "Enabled"),
        ({"SenderDomains": []}, ""),
        ({"SenderDomains": ["x400:c=nl"]}, "SenderDomains"),
        ({"SenderDomains": ["smtp:*.com;1"]}, "sender_domains"),
        ({"RequireTls": False, "RestrictDomainsToIPAddresses": True, "SenderIPAddresses": ["11.0.0.0/8"]}, "addresses"),
    ],
)
def test_partner_left_out(fields: dict[str, Any], field: str, tmp_path: Path) -> None:
    result = imported(tmp_path, [PARTNER | fields])
    assert organization(result) == {}
    assert noted(result, "left out", field, "Gateway")


@pytest.mark.parametrize(
    ("fields", "level", "field", "words"),
    [
        ({"SenderDomains": ["smtp:*;1"]}, "note", "SenderDomains", "never grants relaying"),
        ({"SenderDomains": ["smtp:*.a.example;1"]}, "note", "SenderDomains", '"a.example" itself'),
        ({"TlsSenderCertificateName": "a.example"}, "note", "TlsSenderCertificateName", "without effect"),
        ({"SenderIPAddresses": ["203.0.113.1"]}, "note", "SenderIPAddresses", "without effect"),
        ({"RestrictDomainsToCertificate": True}, "warning", "RestrictDomainsToCertificate", "without effect"),
        ({"RestrictDomainsToIPAddresses": True}, "warning", "RestrictDomainsToIPAddresses", "without effect"),
        ({"AssociatedAcceptedDomains": ["a/b.example"]}, "warning", "AssociatedAcceptedDomains", '"b.example"'),
        ({"SenderDomains": ["a.example", "?"]}, "left out", "SenderDomains", '"?"'),
    ],
)
def test_partner_noted(fields: dict[str, Any], level: str, field: str, words: str, tmp_path: Path) -> None:
    result = imported(tmp_path, [PARTNER | fields])
    assert any(words in note.message for note in noted(result, level, field, "Gateway"))
    assert list(organization(result)["partners"]) == ["Gateway"]


# --- accepted domains


@pytest.mark.parametrize(
    ("fields", "accepted", "pending", "noted_field"),
    [
        ({}, ["contoso.com"], [], None),
        ({"DomainName": None, "Name": "contoso.org"}, ["contoso.org"], [], None),
        ({"DomainName": {"Odd": "x"}, "Name": "contoso.org"}, ["contoso.org"], [], "DomainName"),
        ({"MatchSubDomains": True}, ["*.contoso.com"], [], None),
        ({"MatchSubDomains": True, "DomainName": "*.contoso.com"}, ["*.contoso.com"], [], None),
        ({"MatchSubDomains": "?"}, ["contoso.com"], [], "MatchSubDomains"),
        ({"PendingCompletion": True}, [], ["contoso.com"], "PendingCompletion"),
        ({"PendingRemoval": True}, [], ["contoso.com"], "PendingRemoval"),
        ({"PendingRemoval": 7}, [], ["contoso.com"], "PendingRemoval"),
        ({"SendingFromDomainDisabled": True}, [], ["contoso.com"], "SendingFromDomainDisabled"),
        ({"SendingToDomainDisabled": True}, [], ["contoso.com"], "SendingToDomainDisabled"),
        ({"InitialDomain": True}, [], [], "InitialDomain"),
        ({"InitialDomain": "?"}, [], [], "InitialDomain"),
        ({"DomainType": "InternalRelay"}, ["contoso.com"], [], "DomainType"),
        ({"DomainType": 1}, ["contoso.com"], [], "DomainType"),
        ({"DomainType": 9}, ["contoso.com"], [], "DomainType"),
        ({"DomainName": "*"}, [], [], "DomainName"),
        ({"DomainName": "com", "MatchSubDomains": True}, [], [], ""),
        ({"DomainName": "a b"}, [], [], "DomainName"),
        ({"DomainName": "bücher.example"}, ["bücher.example"], [], None),
        ({"Default": True}, ["contoso.com"], [], "Default"),
        ({"OutboundOnly": True}, ["contoso.com"], [], "OutboundOnly"),
        ({"CatchAllRecipientID": "x"}, ["contoso.com"], [], "CatchAllRecipientID"),
    ],
)
def test_domain(
    fields: dict[str, Any], accepted: list[str], pending: list[str], noted_field: str | None, tmp_path: Path
) -> None:
    result = imported(tmp_path, None, [DOMAIN | fields], trust_verified=True)
    assert (list(result.found.accepted_domains), list(result.found.pending_domains)) == (accepted, pending)
    assert {note.field for note in result.notes if note.kind == "domain"} == set() | (
        set() if noted_field is None else {noted_field}
    )
    assert not noted(result, "warning", "pending_domains")
    untrusting = imported(tmp_path, None, [DOMAIN | fields])
    assert (list(untrusting.found.accepted_domains), list(untrusting.found.pending_domains)) == ([], accepted + pending)
    assert bool(noted(untrusting, "warning", "pending_domains")) == bool(accepted or pending)


def test_a_domain_twice(tmp_path: Path) -> None:
    domains = [DOMAIN, DOMAIN | {"DomainName": "Contoso.COM.", "PendingRemoval": True}]
    result = imported(tmp_path, None, domains, trust_verified=True)
    assert organization(result) == {"pending_domains": ["contoso.com"]}
    assert noted(result, "warning", "DomainName", "Contoso.COM.")


def test_a_pending_domain_below_an_accepted_wildcard(tmp_path: Path) -> None:
    domains = [
        DOMAIN | {"MatchSubDomains": True},
        DOMAIN | {"DomainName": "news.contoso.com", "SendingToDomainDisabled": True},
    ]
    result = imported(tmp_path, None, domains, trust_verified=True)
    (note,) = noted(result, "warning", "DomainName", "news.contoso.com")
    assert '"*.contoso.com" is accepted and covers it' in note.message


# --- the command


def test_toml_to_stdout_report_to_stderr(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    files = ["--connectors", str(SAMPLES / "connector-single.json"), "--domains", str(SAMPLES / "domains.json")]
    assert main(["import", "exchange", *files, "--organization", "contoso", "--trust-verified"]) == Exit.OK
    written = capsysbinary.readouterr()
    configuration = tomllib.loads(written.out.decode("utf-8"))
    assert configuration["organizations"]["contoso"]["accepted_domains"] == ["contoso.com", "*.contoso.net"]
    report = written.err.decode("utf-8")
    assert 'connector "Tailspin gateway ü": warning: RestrictDomainsToIPAddresses: dropped' in report
    assert report.endswith("left out: 1, warnings: 4\n") or "contoso: connectors: 1, partners: 0" in report


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--connectors", str(SAMPLES / "connectors.json")]
    assert main(["import", "exchange", *files, "--organization", "contoso", "--json"]) == Exit.OK
    written = capsys.readouterr()
    assert written.err == ""
    data = json.loads(written.out)
    assert list(data) == ["configuration", "report"]
    assert list(data["configuration"]["organizations"]["contoso"]["connectors"]) == list(CONNECTORS_PS51)
    assert {
        "level": "warning",
        "kind": "connector",
        "name": "Branch Utrecht (scanners)",
        "field": "SenderIPAddresses",
        "message": '"192.0.2.33/27" has host bits set: the network 192.0.2.32/27 was read',
    } in data["report"]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "a\n", "ü"])
def test_organization_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--connectors", str(SAMPLES / "connectors.json")]
    assert main(["import", "exchange", *files, "--organization", name]) == Exit.USAGE
    written = capsys.readouterr()
    assert written.out == ""
    assert "is no name for an organization" in written.err


def test_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "exchange", "--organization", "contoso"]) == Exit.USAGE
    assert "--connectors" in capsys.readouterr().err


def test_a_name_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "connectors.json"
    path.write_text(json.dumps([CONNECTOR | {"Name": "\x1b]0;x\x07\n\u202e", "SenderIPAddresses": ["\x1b[2J"]}]))
    assert main(["import", "exchange", "--connectors", str(path), "--organization", "contoso"]) == Exit.OK
    written = capsys.readouterr()
    assert all(character.isprintable() or character == "\n" for character in written.out + written.err)
