"""The commands with a database: check, show and explain read it, export and import move organizations (SPEC 9)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyd.cli.main import main
from policyd.database.reader import Reader
from policyd.database.snapshot import write_snapshot
from policyd.loading.load import load
from tests.database.hubs import configuration
from tests.database.postgres import SECONDS, Database
from tests.places import TESTS

CERTIFICATES = TESTS / "certs"

FILES = f"""
[policy]
provider_networks = ["198.51.100.0/24"]

[organizations.contoso]
accepted_domains = ["*.contoso.com", "b\\u00fccher.example"]
delegated_domains = ["lab.contoso.com"]
outside_domains = ["news.contoso.com"]
pending_domains = ["contoso-new.com"]
protect_sender_domains = true
relay_limits = ["2000/hour", "20000/day"]

[organizations.contoso.connectors.head-office]
description = "Exchange 2019, 'Utrecht'"
certificate_names = ["*.contoso.com"]
require_tls = true
for_domains = ["*.contoso.com", "b\\u00fccher.example"]
foreign_senders = "bounces"
relay_limits = ["200/hour"]
until = 2027-01-31T12:00:00.25+01:00

[organizations.contoso.connectors.appliance]
certificate_files = ["{CERTIFICATES / "cn-and-san.pem"}"]
public_key_fingerprints = ["{":".join(["A1"] * 32)}"]
enabled = false

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28", "2001:db8:c::/64", "192.0.2.32-192.0.2.48"]

[organizations.fabrikam]
accepted_domains = ["fabrikam.com", "lab.contoso.com"]
connectors_only = true
relay_limits = []

[organizations.fabrikam.partners.bank]
sender_domains = ["*.bank.example"]
tlsa = ["mail.bank.example"]
until = 2027-01-31
certificate_names = ["mail.bank.example"]

[organizations.fabrikam.partners.all]
sender_domains = ["*"]
require_tls = true
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A configuration in files."""
    path = tmp_path / "files.toml"
    path.write_text(FILES, "utf-8")
    return path


def with_database(folder: Path, database: Database, more: str = "") -> Path:
    """A configuration that reads the database."""
    return configuration(folder / "with-database", database, 10045, "", more)


def organizations_of(toml: str) -> dict[str, Any]:
    """[organizations], certificates by what they pin: they are files here and texts there."""
    found: dict[str, Any] = tomllib.loads(toml)["organizations"]
    for organization in found.values():
        for connector in organization.get("connectors", {}).values():
            if connector.pop("certificate_files", None) or connector.pop("certificates", None):
                connector["certificate"] = True
            if "addresses" in connector:
                connector["addresses"] = "203.0.113.0/28" in connector["addresses"]
    return found


def test_export_and_back(run: Run, files: Path, database: Database, tmp_path: Path) -> None:
    assert run("export", "-c", files, "--to-database", database.dsn("policyd_panel")) == (
        0,
        "",
        "policyd export: 2 organizations written\n",
    )
    hub = with_database(tmp_path, database)
    code, shown, told = run("show", "-c", hub)
    assert (code, told) == (0, "")
    assert organizations_of(shown) == organizations_of(run("show", "-c", files)[1])
    assert "[database]" not in shown  # what is printed is whole, and would otherwise name everybody twice

    code, imported, told = run("import", "database", "--dsn", database.dsn())
    assert (code, told) == (0, "")
    (tmp_path / "imported.toml").write_text(imported, "utf-8")
    assert run("show", "-c", tmp_path / "imported.toml")[1] == shown
    code, one, _ = run("import", "database", "--dsn", database.dsn(), "--organization", "fabrikam")
    assert list(tomllib.loads(one)["organizations"]) == ["fabrikam"]

    loaded, expected = load(str(hub)).configuration, load(str(files)).configuration
    assert loaded is not None
    assert expected is not None
    pins = [
        {
            frozenset(stored.public_key_fingerprints)
            for organization in found.rules.organizations
            for connector in organization.connectors
            for stored in connector.stored_certificates
        }
        for found in (loaded, expected)
    ]
    assert pins[0] == pins[1] != set()
    ours = ["sender=a@contoso.com", "recipient=x@elsewhere.example", "client_address=192.0.2.48"]
    assert run("explain", "-c", hub, *ours)[0] == run("explain", "-c", files, *ours)[0] == 0
    theirs = [*ours[:2], "client_address=192.0.2.49"]
    assert run("explain", "-c", hub, *theirs)[0] == run("explain", "-c", files, *theirs)[0] == 1


SUSPENDED = """
[organizations.contoso]
accepted_domains = ["contoso.com"]
suspended = "ticket 4711"
[organizations.contoso.connectors.c]
addresses = ["192.0.2.1"]
suspended = "ticket 4712"
"""


def test_what_is_suspended_is_the_operators(run: Run, database: Database, tmp_path: Path) -> None:
    """Neither an export nor a replacement by the panel's user suspends, or lifts it."""
    (tmp_path / "suspended.toml").write_text(SUSPENDED)
    (tmp_path / "free.toml").write_text("\n".join(line for line in SUSPENDED.splitlines() if "ticket" not in line))
    panel, both = database.dsn("policyd_panel"), database.dsn("policyd_both")
    with database.owner() as owner:
        owner.execute("CREATE ROLE policyd_both LOGIN PASSWORD 'secret' IN ROLE policyd_writer, policyd_operator")
    try:
        code, _, told = run("export", "-c", tmp_path / "suspended.toml", "--to-database", panel)
        assert (code, "must be a member of policyd_operator" in told) == (69, True)
        assert run("import", "database", "--dsn", panel)[0] == 65  # nothing was written
        assert run("export", "-c", tmp_path / "suspended.toml", "--to-database", both)[0] == 0
        shown = run("import", "database", "--dsn", panel)[1]
        assert [line for line in shown.splitlines() if "ticket" in line] == [
            'suspended = "ticket 4711"',
            'suspended = "ticket 4712"',
        ]
        code, _, told = run("export", "-c", tmp_path / "free.toml", "--to-database", panel, "--replace")
        assert (code, 'organization "contoso" is suspended by the operator: ticket 4711' in told) == (65, True)
        assert run("import", "database", "--dsn", panel)[1] == shown
        assert run("export", "-c", tmp_path / "free.toml", "--to-database", both, "--replace")[0] == 0
    finally:
        with database.owner() as owner:
            owner.execute("DROP ROLE policyd_both")


def test_import_names_what_is_too_large(run: Run, database: Database) -> None:
    with database.owner() as owner:
        owner.execute("INSERT INTO policyd.organizations (name) VALUES ('large'), ('small')")
        owner.execute(
            "INSERT INTO policyd.connectors (organization, name, addresses, description)"
            " SELECT 'large', 'c' || n, '{192.0.2.1}', repeat('x', 1000) FROM generate_series(1, 1100) AS n"
        )
    code, out, told = run("import", "database", "--dsn", database.dsn())
    assert (code, list(tomllib.loads(out)["organizations"])) == (65, ["small"])
    assert told == "policyd import: organization 'large' is left out: all of it is more than 1 MiB\n"


def test_export_is_all_or_nothing(run: Run, files: Path, database: Database) -> None:
    panel = database.dsn("policyd_panel")
    with database.connect() as connection:
        connection.execute("INSERT INTO policyd.organizations (name) VALUES ('other')")
        connection.execute("INSERT INTO policyd.domains VALUES ('other', 'accepted', 'fabrikam.com')")
    code, out, told = run("export", "-c", files, "--to-database", panel)
    assert (code, out) == (65, "")
    assert "the database refuses: " in told
    assert run("import", "database", "--dsn", panel)[1].count("[organizations.") == 1
    with database.connect() as connection:
        connection.execute("DELETE FROM policyd.organizations")
    assert run("export", "-c", files, "--to-database", panel)[0] == 0
    code, _, told = run("export", "-c", files, "--to-database", panel)
    assert (code, "2 of these organizations already (contoso, fabrikam)" in told) == (65, True)
    assert run("export", "-c", files, "--to-database", panel, "--replace")[0] == 0


def test_commands_that_cannot_reach_it(run: Run, files: Path, database: Database, tmp_path: Path) -> None:
    away = database.dsn().replace("secret", "wrong-secret")
    for arguments in (("export", "-c", files, "--to-database", away), ("import", "database", "--dsn", away)):
        code, out, told = run(*arguments)
        assert (code, out) == (69, "")
        assert "password authentication failed" in told
        assert "wrong-secret" not in told
    code, _, told = run("export", "-c", files, "--to-database", database.dsn())  # the reader may not write
    assert (code, "must be a member of policyd_writer" in told) == (69, True)
    assert run("import", "database", "--dsn", database.dsn())[0] == 65  # nobody is there
    code, _, told = run("import", "database", "--dsn", "postgresql://u:tell-nobody@[::1/x")
    assert (code, "tell-nobody" in told) == (69, False)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DROP SCHEMA policyd CASCADE", "an administrator runs contrib/postgresql/schema.sql"),
        ("UPDATE policyd.state SET schema_version = 2", "has version 2, this policyd reads 3; run the scripts"),
        ("UPDATE policyd.state SET schema_version = 4", "has version 4, this policyd reads 3; update policyd"),
        ("DELETE FROM policyd.state", "policyd.state has no row"),
        ("REVOKE USAGE ON SCHEMA policyd FROM policyd_reader", "must be a member of policyd_reader"),
        ("ALTER TABLE policyd.connectors RENAME COLUMN enabled TO other", "cannot be read: column"),
    ],
)
def test_a_database_that_is_not_ours(statement: str, says: str, run: Run, database: Database, tmp_path: Path) -> None:
    with database.owner() as owner:
        owner.execute("SET session_replication_role = replica")  # no triggers of the schema
        owner.execute(statement)
    code, out, told = run("check", "-c", with_database(tmp_path, database))
    assert code == 78
    assert re.search(says, out), out
    assert "with-database/policyd.toml:6: " in out
    assert "there are no rows from before" in out
    assert "secret" not in out + told


def test_last_rows_serve_every_command(run: Run, files: Path, database: Database, tmp_path: Path) -> None:
    run("export", "-c", files, "--to-database", database.dsn("policyd_panel"))
    hub = with_database(tmp_path, database)
    reader = Reader()
    loaded = load(str(hub), reader=reader)
    reader.disconnect()
    assert loaded.database is not None
    shown = run("show", "-c", hub)[1]
    snapshot = hub.parent / "database.snapshot"
    write_snapshot(str(snapshot), loaded.database.standings)
    os.utime(snapshot, (1_700_000_000, 1_700_000_000))
    with database.owner() as owner:
        owner.execute("UPDATE policyd.state SET schema_version = 4")
    assert run("show", "-c", hub)[1] == shown
    code, out, _ = run("check", "-c", hub)
    assert code == 0
    assert "update policyd; the rows of 2023-11-14 22:13:20 (UTC) are used" in out
    snapshot.chmod(0o660)
    code, out, _ = run("check", "-c", hub)
    assert (code, "can be written by others" in out) == (78, True)


def test_what_is_left_out_is_told_and_hinders_nobody(run: Run, files: Path, database: Database, tmp_path: Path) -> None:
    run("export", "-c", files, "--to-database", database.dsn("policyd_panel"))
    hub = with_database(
        tmp_path,
        database,
        """
[policy]
provider_networks = ["203.0.113.8"]
[organizations.fabrikam]
accepted_domains = ["file.example"]
""",
    )
    code, out, _ = run("check", "-c", hub)
    assert code == 0
    lines = out.splitlines()
    contoso = [line for line in lines if line.startswith("database:organizations/contoso")]
    assert any("connectors/branch: warning: " in line and "provider_networks" in line for line in contoso), out
    assert any("its connectors match nobody" in line for line in contoso), out
    assert not any("has no connectors" in line for line in contoso), out  # it has some, that do not count now
    assert any(
        line.startswith('database:organizations/fabrikam: warning: organization "fabrikam": a file defines')
        for line in lines
    ), out
    assert run("check", "-c", hub, "--strict")[0] == 78
    mail = ["client_address=192.0.2.48", "sender=a@contoso.com", "recipient=x@elsewhere.example"]
    assert run("explain", "-c", hub, *mail)[0] == 1
    shown = tomllib.loads(run("show", "-c", hub)[1])["organizations"]
    assert shown["fabrikam"] == {"accepted_domains": ["file.example"]}
    assert shown["contoso"]["protect_sender_domains"] is True
    assert "connectors" not in shown["contoso"]


def test_a_server_that_hangs_is_given_up(
    run: Run, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told in our own words, not as a connection that broke."""
    monkeypatch.setattr("policyd.database.reader.SILENT_SECONDS", 1.0)
    with database.owner() as owner, owner.transaction():
        owner.execute("LOCK TABLE policyd.state IN ACCESS EXCLUSIVE MODE")
        code, out, _ = run("check", "-c", with_database(tmp_path, database))
    assert (code, "the database cannot be read: it has said nothing for 1 s;" in out) == (78, True), out


@pytest.mark.parametrize(
    ("dsn", "code"), [("host=127.0.0.1 port=1", 69), ("host=127.0.0.1 port='", 78), ("postgresql://%zz", 78)]
)
def test_what_a_restart_mends(dsn: str, code: int, policyd_command: list[str], tmp_path: Path) -> None:
    """A database that is not up yet is tried again by systemd; a dsn that is none is the administrator's to mend."""
    path = tmp_path / "policyd.toml"
    path.write_text(f'[service]\nlisten = ["inet:127.0.0.1:1"]\n[database]\ndsn = "{dsn}"\nsnapshot_file = ""\n')
    command = [*policyd_command, "serve", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == code, done.stderr


def test_without_psycopg(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    path = tmp_path / "policyd.toml"
    path.write_text('[database]\ndsn = "postgresql://hub:secret@127.0.0.1/policyd"\nsnapshot_file = "none"\n')
    code, out, _ = run("check", "-c", path)
    assert code == 78
    assert f"{path}:2: " in out
    assert "psycopg is not installed" in out
    assert "secret" not in out
    code, _, told = run("import", "database", "--dsn", "host=127.0.0.1")
    assert (code, "psycopg is not installed" in told) == (69, True)
