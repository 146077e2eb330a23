"""`policyd import postfix` with a real postconf and postmap: what of a configuration really lets relay (SPEC 7)."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from policyd.cli.common import Exit
from policyd.cli.main import main
from policyd.imports.postfix import import_postfix
from policyd.imports.postfix_grants import Sources, sources_of
from tests.helpers.postfix_files import write_old
from tests.helpers.postfix_import import OTHER, SHA1, SHA256, connectors, noted
from tests.helpers.programs import needs_postconf

pytestmark = needs_postconf


def postfix_in(folder: Path, main_cf: str, master_cf: str = "smtp inet n - n - - smtpd\n", **files: str) -> Path:
    """A folder with a configuration of Postfix; `{F}` in the texts is the folder."""
    folder.mkdir(exist_ok=True)
    named = {"main.cf": f"compatibility_level = 3.6\n{main_cf}\n", "master.cf": master_cf} | files
    for name, text in named.items():
        write_old(folder / name, text.replace("{F}", str(folder)))
    return folder


def left_out(sources: Sources) -> set[tuple[str, str]]:
    return {(note.field, note.name) for note in sources.notes if note.level == "left out"}


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


def test_an_exclusion_in_a_file_that_is_gone_disables(tmp_path: Path) -> None:
    postfix_in(tmp_path, "mynetworks = !{F}/gone, 203.0.113.0/29")
    assert connectors(import_postfix("contoso", sources_of(tmp_path)))["mynetworks"]["enabled"] is False


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


def test_mynetworks_that_is_not_set(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    (tmp_path / "master.cf").write_text("")
    sources = sources_of(tmp_path)
    assert sources.mynetworks == ()
    assert [note.field for note in sources.notes] == ["mynetworks"]


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


def test_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "postfix", "--config", str(tmp_path / "x"), "--organization", "contoso"]) == Exit.DATA
    assert f"{tmp_path}/x: no such folder" in capsys.readouterr().err
    assert main(["import", "postfix", "--config", str(tmp_path), "--organization", "contoso"]) == Exit.DATA
    assert "No such file" in capsys.readouterr().err


def test_postconf_outside_of_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sources_of(postfix_in(tmp_path, "mynetworks = 203.0.113.7")).mynetworks == ("203.0.113.7",)
