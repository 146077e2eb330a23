"""`policyd import postfix`: tables, networks, and what becomes stricter (SPEC 7)."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from policyd.cli.common import Exit
from policyd.cli.main import main
from policyd.imports.found import Imported, ImportFailedError
from policyd.imports.mynetworks import networks_text
from policyd.imports.postfix import import_postfix
from policyd.imports.postfix_grants import Sources, sources_of
from policyd.loading.load import load
from policyd.postfix import postconf
from policyd.postfix.text import PostconfMissingError, logical_lines
from tests.helpers.postfix_import import MD5, OTHER, SHA1, SHA256, connectors, noted


def imported(tmp_path: Path, **sources: Any) -> Imported:
    """Tables and networks as texts; what comes out has passed the check once more."""
    named: dict[str, Any] = {}
    for parameter in ("relay_clientcerts", "ccert_access"):
        if parameter in sources:
            (tmp_path / parameter).write_text(sources.pop(parameter), encoding="utf-8")
            named[parameter] = (f"hash:{tmp_path / parameter}",)
    if "mynetworks" in sources:
        named["mynetworks"] = (sources.pop("mynetworks"),)
    result = import_postfix("contoso", Sources(**named, **sources))
    assert tomllib.loads(result.text) == result.found.data()
    (tmp_path / "policyd.toml").write_text(result.text, encoding="utf-8")
    assert [problem for problem in load(str(tmp_path / "policyd.toml")).problems if problem.severity == "error"] == []
    return result


def pins(fingerprint: str) -> dict[str, Any]:
    return {"certificate_fingerprints": [fingerprint], "public_key_fingerprints": [fingerprint]}


# --- the text of tables


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a b\nc d\n", [(1, "a b"), (2, "c d")]),
        ("a\n b\n\tc", [(1, "a b c")]),
        ("# x\n\na\n# between\n\n b\nc\n", [(3, "a b"), (7, "c")]),
        ("  # x\n a b\n", [(2, "a b")]),
        ("a b\r\nc d\r\n", [(1, "a b"), (2, "c d")]),
    ],
)
def test_logical_lines(text: str, lines: list[tuple[int, str]]) -> None:
    assert list(logical_lines(text)) == lines


# --- relay_clientcerts


def test_relay_clientcerts(tmp_path: Path) -> None:
    result = imported(
        tmp_path,
        relay_clientcerts=f"# ours\n{SHA256} mail.contoso.com\n{OTHER.lower()}\n   Branch Utrecht,\n\tscanner\n",
    )
    assert connectors(result) == {
        "mail.contoso.com": {"description": "from relay_clientcerts of Postfix"} | pins(SHA256),
        "Branch-Utrecht-scanner": {
            "description": "Branch Utrecht, scanner: from relay_clientcerts of Postfix"
        } | pins(OTHER),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (SHA256, "no value"),
        ("mail.contoso.com OK", "no fingerprint"),
        ("F0:99 x", "no fingerprint"),
        (f"{SHA256}:00 x", "no fingerprint"),
        ("ünï x", "no fingerprint"),
        (f"{OTHER} x\n{OTHER.lower()} y", "the first counts"),
    ],
)
def test_entries_left_out(line: str, words: str, tmp_path: Path) -> None:
    result = imported(tmp_path, relay_clientcerts=f"{SHA256.replace('99', '98')} good\n{line}\n")
    (note,) = noted(result, "left out", "relay_clientcerts", words)
    assert note.name == f"{tmp_path}/relay_clientcerts:{3 if 'first' in words else 2}"
    assert set(connectors(result)) <= {"good", "x"}


@pytest.mark.parametrize(("fingerprint", "digest"), [(MD5, "md5"), (SHA1, "sha1")])
def test_weak_fingerprints_are_noted(fingerprint: str, digest: str, tmp_path: Path) -> None:
    result = imported(tmp_path, relay_clientcerts=f"{fingerprint} old\n")
    assert connectors(result)["old"]["certificate_fingerprints"] == [fingerprint]
    assert any(note.name == "old" and digest in note.message.lower().replace("-", "") for note in result.notes)


def test_a_digest_that_postfix_does_not_use_is_noted(tmp_path: Path) -> None:
    result = imported(tmp_path, relay_clientcerts=f"{SHA1} old\n{SHA256} new\n", digest="sha256")
    (note,) = noted(result, "warning", "relay_clientcerts")
    assert "sha1, but smtpd_tls_fingerprint_digest is sha256" in note.message


def test_a_fingerprint_without_colons_is_noted(tmp_path: Path) -> None:
    result = imported(tmp_path, relay_clientcerts=f"{SHA256.replace(':', '')} x\n")
    assert connectors(result)["x"]["public_key_fingerprints"] == [SHA256]
    assert noted(result, "warning", "relay_clientcerts", "without colons")


@pytest.mark.parametrize("kind", ["pcre", "ldap", "static", "inline"])
def test_tables_without_a_text(kind: str, tmp_path: Path) -> None:
    result = import_postfix("contoso", Sources(relay_clientcerts=(f"{kind}:/etc/postfix/x",)))
    assert connectors(result) == {}
    assert noted(result, "left out", "relay_clientcerts", f"type {kind}")


@pytest.mark.parametrize("table", ["{}", "hash:{}", "texthash:{}", "proxy:btree:{}"])
def test_tables_with_a_text(table: str, tmp_path: Path) -> None:
    path = tmp_path / "clients"
    path.write_bytes(f"# caf\xe9\n{SHA256} x\n".encode("latin-1"))
    assert list(connectors(import_postfix("contoso", Sources(relay_clientcerts=(table.format(path),))))) == ["x"]


# --- check_ccert_access


@pytest.mark.parametrize("action", ["OK", "ok", "permit", "PERMIT"])
def test_permissions(action: str, tmp_path: Path) -> None:
    result = imported(tmp_path, ccert_access=f"{SHA256} {action}\n")
    assert connectors(result) == {
        "certificate-F099F045": {"description": "from check_ccert_access of Postfix"} | pins(SHA256)
    }


def test_a_permission_with_a_text(tmp_path: Path) -> None:
    assert list(connectors(imported(tmp_path, ccert_access=f"{SHA256} OK branch\n"))) == ["branch"]


@pytest.mark.parametrize(
    "action",
    [
        "REJECT",
        "REJECT go away",
        "550 no",
        "550",
        "1",
        "DUNNO",
        "permit_auth_destination",
        "OKAY",
        "PREPEND X: y",
        "a_class",
    ],
)
def test_other_actions_are_noted(action: str, tmp_path: Path) -> None:
    result = imported(tmp_path, ccert_access=f"{SHA256} {action}\n")
    assert connectors(result) == {}
    assert noted(result, "left out", "check_ccert_access", f'"{action}" is not carried over')


@pytest.mark.parametrize(("action", "disabled"), [("REJECT", True), ("DUNNO", False), ("OK", False)])
def test_a_certificate_in_two_tables(action: str, disabled: bool, tmp_path: Path) -> None:
    result = imported(tmp_path, relay_clientcerts=f"{SHA256} x\n", ccert_access=f"{SHA256} {action}\n")
    assert connectors(result) == {
        "x": {"description": "from relay_clientcerts of Postfix"}
        | pins(SHA256)
        | ({"enabled": False} if disabled else {})
    }
    assert bool(noted(result, "warning", "", "disabled")) == disabled


# --- mynetworks


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("203.0.113.7", ["203.0.113.7"]),
        ("203.0.113.0/28, 198.51.100.9\n\t[2001:db8:c::]/64 [2001:db8::25]",
         ["203.0.113.0/28", "198.51.100.9", "2001:db8:c::/64", "2001:db8::25"]),
        ("[::ffff:203.0.113.0]/124", ["203.0.113.0/28"]),
        ("!203.0.113.5 203.0.113.0/29", ["203.0.113.0-203.0.113.4", "203.0.113.6/31"]),
        ("!203.0.113.0/30 203.0.113.0/29", ["203.0.113.4/30"]),
        ("203.0.113.0/29 !203.0.113.5", ["203.0.113.0/29"]),
        ("!203.0.113.0/24 203.0.113.0/29", []),
        ("!!203.0.113.0/29", ["203.0.113.0/29"]),
        ("127.0.0.0/8 [::1]/128 [::ffff:127.0.0.0]/104 127.0.0.1", []),
        ("127.0.0.0/8, 203.0.113.9, 203.0.113.9/32", ["203.0.113.9"]),
        ("", []),
    ],
)  # fmt: skip
def test_mynetworks(text: str, addresses: list[str], tmp_path: Path) -> None:
    result = imported(tmp_path, mynetworks=text)
    described = {"description": "from mynetworks of Postfix", "addresses": addresses}
    assert connectors(result) == ({"mynetworks": described} if addresses else {})


@pytest.mark.parametrize(
    ("pattern", "level", "words"),
    [
        ("127.0.0.0/8", "left out", "this machine itself"),
        ("[::1]/128", "left out", "this machine itself"),
        ("hash:/etc/postfix/networks", "left out", "table lookup"),
        ("cidr:/etc/postfix/networks", "left out", "table lookup"),
        ("mail.contoso.com", "left out", "host name"),
        (".contoso.com", "left out", "host name"),
        ("203.0.113", "left out", "no IPv4 or IPv6 address"),
        ("203.0.113.0/33", "left out", "prefix length"),
        ("!203.0.113.5", "note", "excluded"),
        ("203.0.113.9/28", "warning", "203.0.113.0/28"),
    ],
)
def test_mynetworks_noted(pattern: str, level: str, words: str, tmp_path: Path) -> None:
    result = imported(tmp_path, mynetworks=f"198.51.100.7 {pattern}")
    (note,) = noted(result, level, "mynetworks", words)
    assert note.name == pattern
    assert "198.51.100.7" in connectors(result)["mynetworks"]["addresses"]


@pytest.mark.parametrize("pattern", ["!hash:/x", "!mail.contoso.com", "!203.0.113.0/99"])
def test_an_exclusion_that_is_lost_disables(pattern: str, tmp_path: Path) -> None:
    result = imported(tmp_path, mynetworks=f"{pattern} 203.0.113.0/29")
    assert connectors(result)["mynetworks"]["enabled"] is False
    assert noted(result, "warning", "mynetworks", "disabled")


@pytest.mark.parametrize("network", ["11.0.0.0/8", "128.0.0.0/3", "[2001::]/16"])
def test_networks_that_are_too_wide(network: str, tmp_path: Path) -> None:
    result = imported(tmp_path, mynetworks=f"203.0.113.7 {network}")
    assert connectors(result)["mynetworks"]["addresses"] == ["203.0.113.7"]
    assert [note.name for note in noted(result, "left out", "addresses")] == ["mynetworks"]


TABLES = {
    "texthash": (
        "192.0.2.7 OK\n192.0.2.9 REJECT\n192.0.2.0/24 OK\n192.0.2 OK\nx.example OK\n192.0.2.11\n",
        ["192.0.2.7", "192.0.2.9"],
    ),
    "proxy:lmdb": ("2001:db8::1\tOK\n", ["2001:db8::1"]),
    "cidr": ("192.0.2.0/28 OK\n198.51.100.7 REJECT\n127.0.0.0/8 x\n", ["192.0.2.0/28", "198.51.100.7"]),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_networks(kind: str, tmp_path: Path) -> None:
    """What a table says of a network does not matter: that it has it does."""
    text, addresses = TABLES[kind]
    (tmp_path / "networks").write_text(text)
    result = imported(tmp_path, mynetworks=f"{kind}:{tmp_path}/networks")
    assert connectors(result)["mynetworks"]["addresses"] == addresses
    assert "enabled" not in connectors(result)["mynetworks"]
    if kind == "texthash":
        left_out = noted(result, "left out", "mynetworks")
        assert [note.message.split(": ")[0].rpartition(":")[2] for note in left_out if "networks:" in note.message] == [
            "3",
            "6",
        ]
        assert len(left_out) == 4


def test_an_excluded_table(tmp_path: Path) -> None:
    (tmp_path / "networks").write_text("203.0.113.2 x\n")
    result = imported(tmp_path, mynetworks=f"!hash:{tmp_path}/networks 203.0.113.0/30")
    assert connectors(result)["mynetworks"]["addresses"] == ["203.0.113.0/31", "203.0.113.3"]


@pytest.mark.parametrize("line", ["!192.0.2.0/28 OK", "if 192.0.2.0/28\n192.0.2.7 OK\nendif"])
@pytest.mark.parametrize("sign", ["", "!"])
def test_a_table_with_conditions(line: str, sign: str, tmp_path: Path) -> None:
    (tmp_path / "networks").write_text(f"198.51.100.7 OK\n{line}\n")
    result = imported(tmp_path, mynetworks=f"{sign}cidr:{tmp_path}/networks 203.0.113.7")
    assert connectors(result)["mynetworks"]["addresses"] == ["203.0.113.7"]
    assert connectors(result)["mynetworks"].get("enabled", True) is not bool(sign)
    assert noted(result, "left out", "mynetworks", "is a condition")[0].name == f"{sign}cidr:{tmp_path}/networks"


@pytest.mark.parametrize("network", ["10.0.0.0/8", "172.17.0.1", "100.64.0.0/10", "[fd00::]/64", "0.0.0.0/0"])
def test_networks_that_are_anybodys(network: str, tmp_path: Path) -> None:
    result = imported(tmp_path, mynetworks=f"203.0.113.7 {network}")
    assert connectors(result)["mynetworks"]["addresses"] == ["203.0.113.7"]
    (note,) = noted(result, "left out", "mynetworks")
    assert (note.kind, note.name) == ("entry", network)
    assert f"{'loopback' if network == '0.0.0.0/0' else 'private'} addresses: " in note.message


def test_addresses_that_look_like_tables(tmp_path: Path) -> None:
    addresses = ["2001:1:2:3:4:5:6:7", "ab::9", "ab:2::/64"]
    result = imported(tmp_path, mynetworks=" ".join(addresses))
    assert connectors(result)["mynetworks"]["addresses"] == addresses


def test_files_of_networks(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("# exceptions\n203.0.113.5, 203.0.113.6\n")
    outer.write_text(f"!{inner}\n203.0.113.0/29  # no comment here\n")
    addresses = ["203.0.113.0-203.0.113.4", "203.0.113.7"]
    assert connectors(imported(tmp_path, mynetworks=str(outer)))["mynetworks"]["addresses"] == addresses
    assert connectors(imported(tmp_path, mynetworks=networks_text(str(outer))))["mynetworks"]["addresses"] == addresses


@pytest.mark.parametrize("text", ["203.0.113.7, x", "x" * 5000, "\0"])
def test_a_text_is_no_file(text: str) -> None:
    assert networks_text(text) == text


def test_files_that_name_each_other(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(f"{tmp_path}/b\n")
    (tmp_path / "b").write_text(f"203.0.113.7 {tmp_path}/a\n")
    with pytest.raises(ImportFailedError, match="names itself"):
        imported(tmp_path, mynetworks=f"{tmp_path}/a")


# --- what becomes stricter


def test_what_becomes_stricter(tmp_path: Path) -> None:
    result = imported(tmp_path, relay_clientcerts=f"{SHA256} x\n", mynetworks="203.0.113.7")
    assert noted(result, "warning", "stricter", "any sender to anywhere")
    assert noted(result, "warning", "accepted_domains", "until then")
    assert noted(result, "warning", "permit_tls_clientcerts", "bounces and forwarded mail")
    assert noted(result, "warning", "mynetworks", "Take these networks out")


def test_nothing_becomes_stricter_where_nothing_was(tmp_path: Path) -> None:
    assert imported(tmp_path, mynetworks="").notes == imported(tmp_path, relay_clientcerts="# none\n").notes


def test_there_is_a_place_for_the_domains(tmp_path: Path) -> None:
    result = imported(tmp_path, relay_clientcerts=f"{SHA256} x\n")
    assert result.text.startswith("[organizations.contoso]\naccepted_domains = []\n")
    (note,) = noted(result, "warning", "", "no accepted domains")
    assert (note.kind, note.name) == ("organization", "contoso")


# --- what is told


def test_nothing_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(tmp_path / "\x1b[2J\x9b1m")
    assert main(["import", "postfix", "--ccert-access", table, "--organization", "contoso"]) == Exit.DATA
    assert main(["import", "postfix", "--mynetworks", "\x1b[2J", "--organization", "contoso"]) == Exit.OK
    assert main(["import", "postfix", "--config", table, "--organization", "contoso"]) in (Exit.DATA, Exit.UNAVAILABLE)
    err = capsys.readouterr().err
    assert "\\x1b[2J" in err
    assert err.replace("\n", "").isprintable()


def test_no_postconf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postconf, "SYSTEM_FOLDERS", "")
    with pytest.raises(PostconfMissingError):
        sources_of(tmp_path)
    assert main(["import", "postfix", "--config", str(tmp_path), "--organization", "contoso"]) == Exit.UNAVAILABLE
    assert "postconf is not installed" in capsys.readouterr().err


# --- the command


def test_no_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "postfix", "--organization", "contoso"]) == Exit.USAGE
    assert "--relay-clientcerts" in capsys.readouterr().err


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["import", "postfix", "--mynetworks", "203.0.113.7 x", "--organization", "contoso", "--json"]) == Exit.OK
    )
    written = capsys.readouterr()
    assert written.err == ""
    data = json.loads(written.out)
    assert data["configuration"]["organizations"]["contoso"]["connectors"]["mynetworks"]["addresses"] == ["203.0.113.7"]
    assert {"left out", "warning"} <= {note["level"] for note in data["report"]}


@pytest.mark.parametrize("content", [None, b"\x00\x01\n", b"# source\nx\x00\n"])
@pytest.mark.parametrize("option", ["--relay-clientcerts", "--ccert-access"])
def test_what_is_no_table(
    option: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clients.db"
    if content is not None:
        path.write_bytes(content)
    assert main(["import", "postfix", option, str(path), "--organization", "contoso"]) == Exit.DATA
    written = capsys.readouterr()
    assert written.out == ""
    place = f"{path}:" if content is None else f"{path}:{2 if b'#' in content else 1}: this is no text"
    assert place in written.err
