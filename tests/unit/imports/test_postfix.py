"""`policyd import postfix`: tables, networks, what postconf says, and what becomes stricter (SPEC 7)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from policyd.cli.common import Exit
from policyd.cli.main import main
from policyd.imports.found import Imported, ImportFailedError, Note
from policyd.imports.mynetworks import networks_text
from policyd.imports.postfix import import_postfix
from policyd.imports.postfix_grants import Sources, sources_of
from policyd.loading.load import load
from policyd.postfix import postconf
from policyd.postfix.text import PostconfMissingError, logical_lines

SHA256 = "F0:99:F0:45:3F:4A:9B:1C:2D:3E:4F:50:61:72:83:94:A5:B6:C7:D8:E9:FA:0B:1C:2D:3E:4F:50:61:72:83:94"
OTHER = SHA256.replace("F0", "0F")
MD5 = SHA256[:47]
SHA1 = SHA256[:59]

needs_postconf = pytest.mark.skipif(shutil.which("postconf") is None, reason="Postfix is not installed")


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


def connectors(result: Imported) -> Mapping[str, Any]:
    return tomllib.loads(result.text)["organizations"]["contoso"].get("connectors", {})


def pins(fingerprint: str) -> dict[str, Any]:
    return {"certificate_fingerprints": [fingerprint], "public_key_fingerprints": [fingerprint]}


def noted(result: Imported, level: str, field: str = "", words: str = "") -> list[Note]:
    return [note for note in result.notes if (note.level, note.field) == (level, field) and words in note.message]


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


# --- what really lets relay


def postfix_in(folder: Path, main_cf: str, master_cf: str = "smtp inet n - n - - smtpd\n", **files: str) -> Path:
    """A folder with a configuration of Postfix; `{F}` in the texts is the folder."""
    folder.mkdir(exist_ok=True)
    named = {"main.cf": f"compatibility_level = 3.6\n{main_cf}\n", "master.cf": master_cf} | files
    for name, text in named.items():
        (folder / name).write_text(text.replace("{F}", str(folder)))
        os.utime(folder / name, (1, 1))  # Postfix waits before it trusts a new file
    return folder


def left_out(sources: Sources) -> set[tuple[str, str]]:
    return {(note.field, note.name) for note in sources.notes if note.level == "left out"}


@needs_postconf
def test_sources_of_a_configuration(tmp_path: Path) -> None:
    postfix_in(
        tmp_path,
        """\
relay_clientcerts = hash:$config_directory/relay_clientcerts,
    lmdb:/b
smtpd_restriction_classes = branches, customers
branches = check_ccert_access { hash:/c, search_order = cert_fingerprint }
customers = Check_CCert_Access hash:/unnamed, reject
smtpd_relay_restrictions =
smtpd_recipient_restrictions = PERMIT_MYNETWORKS, permit_tls_all_clientcerts, branches, Permit_TLS_ClientCerts
    Check_CCert_Access hash:/x, check_client_access cidr:/clients reject_unauth_destination
    check_ccert_access hash:/behind
smtpd_client_restrictions = check_client_access hash:/spammers
smtpd_helo_restrictions = check_ccert_access hash:/helo
mynetworks = 127.0.0.0/8 203.0.113.7
""",
        """\
smtp inet n - n - - smtpd
587 inet n - n - - smtpd
  -o smtpd_recipient_restrictions=check_ccert_access,hash:/y,permit_mynetworks,reject
  -o { mynetworks = 198.51.100.7, 198.51.100.8 }
465 inet n - n - - smtpd
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
  -o mynetworks=192.0.2.1
  -o relay_clientcerts=hash:/submission
""",
    )
    sources = sources_of(tmp_path)
    assert sources.relay_clientcerts == (f"hash:{tmp_path}/relay_clientcerts", "lmdb:/b")
    assert sources.ccert_access == ("hash:/c", "hash:/x", "hash:/y")
    assert set(sources.ccert_refusals) == {"hash:/behind", "hash:/helo", "hash:/unnamed"}
    assert sources.mynetworks == ("127.0.0.0/8 203.0.113.7", "198.51.100.7, 198.51.100.8")
    assert sources.digest == "sha256"
    assert left_out(sources) == {
        ("permit_tls_all_clientcerts", "main.cf"),
        ("check_client_access", "cidr:/clients"),
        ("check_ccert_access", "hash:/behind"),
        ("check_ccert_access", "hash:/helo"),
        ("check_ccert_access", "hash:/unnamed"),
        ("relay_clientcerts", "hash:/submission"),
        ("mynetworks", "192.0.2.1"),
    }


# The rest of smtpd's lists is empty. Tried with Postfix 3.7: a client in mynetworks relays, a stranger does not.
GRANTING = [
    {"relay": "permit_mynetworks, reject_unauth_destination"},
    {"relay": "permit_mynetworks, defer_unauth_destination", "recipient": "reject_non_fqdn_recipient"},
    {"recipient": "Permit_MyNetworks, REJECT_unauth_destination"},
    {"relay": "permit_mynetworks, reject", "recipient": "permit_mynetworks, reject_unauth_destination"},
    {"relay": "permit_mynetworks, reject", "recipient": "permit"},
    {"relay": "warn_if_reject reject, permit_mynetworks, reject"},
    {"relay": "ours, reject"},
    {"relay": "guarded, permit_mynetworks", "ours": "permit_mynetworks", "guarded": "ours, reject"},
    {"relay": "permit_mynetworks, reject", "client": "permit_mynetworks, reject"},
    {"relay": "permit_mynetworks, reject", "sender": "permit_sasl_authenticated"},
]
NOT_GRANTING = [
    {"relay": "reject_unauth_destination"},
    {"relay": "reject_unauth_destination, permit_mynetworks"},
    {"relay": "permit_mynetworks, reject_unauth_destination", "recipient": "reject_unauth_destination"},
    {"relay": "reject_unauth_destination", "recipient": "permit_mynetworks, reject_unauth_destination"},
    {"relay": "permit_mynetworks"},
    {"relay": "permit, reject_unauth_destination", "recipient": "permit_mynetworks"},
    {"relay": "permit_mynetworks, warn_if_reject reject_unauth_destination"},
    {"relay": "permit_auth_destination, reject, permit_mynetworks"},
    {"relay": "permit_mynetworks, reject", "client": "permit_sasl_authenticated, reject"},
    {"relay": "permit_mynetworks, reject", "helo": "reject_unauth_destination"},
    {"relay": "permit_mynetworks, reject", "data": "reject"},
    {"relay": "reject", "helo": "permit_mynetworks"},
    {"relay": "reject_unauth_destination", "guarded": "permit_mynetworks"},
    {"relay": "guarded, permit_mynetworks", "guarded": "reject"},
]


@needs_postconf
@pytest.mark.parametrize("in_master", [False, True])
@pytest.mark.parametrize(
    ("lists", "grants"), [*((one, True) for one in GRANTING), *((one, False) for one in NOT_GRANTING)]
)
def test_where_mynetworks_relays(lists: dict[str, str], grants: bool, in_master: bool, tmp_path: Path) -> None:
    stages = ("client", "helo", "sender", "relay", "recipient", "data")
    values = {f"smtpd_{stage}_restrictions": lists.get(stage, "") for stage in stages}
    values |= {name: lists.get(name, "permit_mynetworks") for name in ("ours", "guarded")}
    main_cf = "mynetworks = 203.0.113.7\nsmtpd_restriction_classes = ours guarded\n"
    if in_master:
        options = "".join(f"  -o {{ {name} = {value} }}\n" for name, value in values.items())
        postfix_in(tmp_path, main_cf, f"smtp inet n - n - - smtpd\n{options}")
    else:
        postfix_in(tmp_path, main_cf + "".join(f"{name} = {value}\n" for name, value in values.items()))
    sources = sources_of(tmp_path)
    assert sources.mynetworks == (("203.0.113.7",) if grants else ())
    assert (("mynetworks", "203.0.113.7") in left_out(sources)) is not grants


@needs_postconf
@pytest.mark.parametrize(
    ("service", "options", "grants"),
    [
        ("127.0.0.1:10025", "", False),
        ("[::1]:10025", "", False),
        ("localhost:10025", "", False),
        ("127.0.0.1:10025", "smtpd_authorized_xclient_hosts=127.0.0.1", True),
        ("127.0.0.1:10025", "smtpd_upstream_proxy_protocol=haproxy", True),
        ("203.0.113.1:25", "", True),
    ],
)
def test_what_only_this_machine_reaches(service: str, options: str, grants: bool, tmp_path: Path) -> None:
    option = f"  -o {options}\n" if options else ""
    postfix_in(
        tmp_path,
        "mynetworks = 203.0.113.7\nsmtpd_relay_restrictions = reject_unauth_destination",
        "smtp inet n - n - - smtpd\n"
        f"{service} inet n - n - - smtpd\n  -o smtpd_relay_restrictions=permit_mynetworks,reject\n{option}",
    )
    assert bool(sources_of(tmp_path).mynetworks) is grants


@needs_postconf
def test_a_table_whose_source_is_gone(tmp_path: Path) -> None:
    postfix_in(
        tmp_path,
        "smtpd_relay_restrictions = permit_mynetworks, permit_tls_clientcerts\n"
        "    check_ccert_access hash:{F}/access reject\n"
        "relay_clientcerts = hash:{F}/clients, hash:{F}/nothing, tcp:127.0.0.1:1, texthash:{F}/others\n"
        "mynetworks = {F}/no-file, hash:{F}/networks, 203.0.113.9\n"
        "smtpd_tls_ask_ccert = yes",
        clients=f"{SHA256} x\n",
        access=f"{SHA1} OK y\n",
        networks="203.0.113.7 OK\n",
        others=f"{OTHER} z\n",
    )
    for name in ("clients", "access", "networks"):
        subprocess.run(["postmap", f"hash:{tmp_path}/{name}"], check=True)
        (tmp_path / name).unlink()
    result = import_postfix("contoso", sources_of(tmp_path))
    assert connectors(result)["x"]["certificate_fingerprints"] == [SHA256]
    assert connectors(result)["y"]["certificate_fingerprints"] == [SHA1]
    assert connectors(result)["z"]["certificate_fingerprints"] == [OTHER]
    assert connectors(result)["mynetworks"]["addresses"] == ["203.0.113.7", "203.0.113.9"]
    for name in (f"hash:{tmp_path}/nothing", "tcp:127.0.0.1:1"):
        assert [note.field for note in result.notes if note.name == name] == ["relay_clientcerts"]
    assert [note.name for note in noted(result, "left out", "mynetworks", "no such file")] == [f"{tmp_path}/no-file"]


@needs_postconf
def test_an_exclusion_in_a_file_that_is_gone_disables(tmp_path: Path) -> None:
    postfix_in(tmp_path, "mynetworks = !{F}/gone, 203.0.113.0/29")
    assert connectors(import_postfix("contoso", sources_of(tmp_path)))["mynetworks"]["enabled"] is False


@needs_postconf
def test_what_tables_do_is_reported(tmp_path: Path) -> None:
    postfix_in(
        tmp_path,
        """\
smtpd_restriction_classes = customers
customers = permit_mynetworks, reject
smtpd_relay_restrictions =
smtpd_sender_restrictions = check_sender_access texthash:{F}/senders, check_sender_access tcp:127.0.0.1:1
    check_client_access texthash:{F}/early
smtpd_recipient_restrictions = permit_mynetworks
    check_client_access cidr:{F}/clients, check_helo_access texthash:{F}/helo, check_helo_access texthash:{F}/harmless
    check_client_access cidr:{F}/several, permit_dnswl_client list.example, reject_unauth_destination
    check_client_access texthash:{F}/behind
""",
        senders="contoso.com customers\n",
        early="203.0.113.7 OK\n",
        clients="203.0.113.0/28 OK\n",
        helo="x.example permit\n",
        harmless="y.example REJECT ok\n",
        several="198.51.100.0/24 reject_unlisted_sender, permit\n",
        behind="203.0.113.7 OK\n",
    )
    assert left_out(sources_of(tmp_path)) == {
        ("check_sender_access", f"texthash:{tmp_path}/senders"),
        ("check_sender_access", "tcp:127.0.0.1:1"),
        ("check_client_access", f"cidr:{tmp_path}/clients"),
        ("check_client_access", f"cidr:{tmp_path}/several"),
        ("check_helo_access", f"texthash:{tmp_path}/helo"),
        ("permit_dnswl_client", "main.cf"),
        ("mynetworks", "main.cf"),
    }


@needs_postconf
def test_a_certificate_that_another_list_refuses(tmp_path: Path) -> None:
    postfix_in(
        tmp_path,
        """\
relay_clientcerts = texthash:{F}/clients
smtpd_helo_restrictions = check_ccert_access texthash:{F}/access
smtpd_recipient_restrictions = permit_tls_clientcerts, reject
smtpd_relay_restrictions =
""",
        clients=f"{SHA256} x\n{OTHER} y\n",
        access=f"{SHA256} REJECT\n{OTHER} OK\n",
    )
    result = import_postfix("contoso", sources_of(tmp_path))
    assert {name: values.get("enabled", True) for name, values in connectors(result).items()} == {"x": False, "y": True}
    assert noted(result, "warning", "smtpd_tls_ask_ccert", "not yes")


@needs_postconf
def test_addresses_that_a_table_refuses_before(tmp_path: Path) -> None:
    postfix_in(
        tmp_path,
        """\
mynetworks = 203.0.113.0/29
smtpd_client_restrictions = check_client_access cidr:{F}/bad
smtpd_relay_restrictions = permit_mynetworks, check_client_access texthash:{F}/after, reject_unauth_destination
""",
        bad="203.0.113.4/31 REJECT\n203.0.113.0/31 DUNNO\n",
        after="203.0.113.2 REJECT\n",
    )
    result = import_postfix("contoso", sources_of(tmp_path))
    assert connectors(result)["mynetworks"]["addresses"] == ["203.0.113.0/30", "203.0.113.6/31"]


@needs_postconf
def test_mynetworks_that_is_not_set(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    (tmp_path / "master.cf").write_text("")
    sources = sources_of(tmp_path)
    assert sources.mynetworks == ()
    assert [note.field for note in sources.notes] == ["mynetworks"]


@needs_postconf
def test_the_command_reads_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    postfix_in(
        tmp_path,
        "relay_clientcerts = hash:{F}/clients\nmynetworks = 203.0.113.7\n"
        "smtpd_relay_restrictions = permit_mynetworks, permit_tls_clientcerts, reject_unauth_destination",
        clients=f"{SHA256} x\n",
    )
    arguments = ["--config", str(tmp_path), "--mynetworks", "198.51.100.7", "--organization", "contoso"]
    assert main(["import", "postfix", *arguments]) == Exit.OK
    written = capsys.readouterr()
    found = tomllib.loads(written.out)["organizations"]["contoso"]["connectors"]
    assert found["mynetworks"]["addresses"] == ["198.51.100.7", "203.0.113.7"]
    assert found["x"]["public_key_fingerprints"] == [SHA256]
    assert "any sender to anywhere" in written.err


@needs_postconf
def test_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "postfix", "--config", str(tmp_path / "x"), "--organization", "contoso"]) == Exit.DATA
    assert f"{tmp_path}/x: no such folder" in capsys.readouterr().err
    assert main(["import", "postfix", "--config", str(tmp_path), "--organization", "contoso"]) == Exit.DATA
    assert "No such file" in capsys.readouterr().err


@needs_postconf
def test_postconf_outside_of_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sources_of(postfix_in(tmp_path, "mynetworks = 203.0.113.7")).mynetworks == ("203.0.113.7",)


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
