"""docs/database.md: its commands and statements are executed in order; every constraint that it explains is there."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyd.config.keys import TABLES
from tests.database.postgres import OPERATOR, SCHEMA, SECONDS, WRITER, Database, PostgresServer
from tests.helpers.programs import POSTGRESQL
from tests.places import PROJECT

PAGE = (PROJECT / "docs" / "database.md").read_text("utf-8")
_BLOCK = re.compile(
    r"^```(sh|sql owner|sql panel|sql operator)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)
OF_TRIGGERS = {
    "domains_one_owner",
    "domain_below_another",
    "certificate_name_of_another",
    "outside_domain_below_accepted",
    "for_domains_are_accepted",
    "suspended_stays",
}
MADE = ("policyd", "policyd_restored")  # databases that the page makes


@pytest.fixture
def administrator(postgresql: PostgresServer) -> Iterator[PostgresServer]:
    """The server, from which everything that the page makes is taken again."""
    yield postgresql
    with Database(postgresql, "postgres").owner() as owner:
        for database in MADE:
            owner.execute(f"DROP DATABASE IF EXISTS {database} (FORCE)")
        owner.execute("DROP ROLE IF EXISTS policyd_hub1, policyd_control, policyd_office")


def _shell(server: PostgresServer, folder: Path, script: str) -> None:
    done = subprocess.run(
        ["sh", "-e", "-u", "-c", script],
        cwd=folder,
        env={
            "PATH": f"{POSTGRESQL}:{os.environ['PATH']}",
            "PGHOST": str(server.folder),
            "PGPORT": str(server.port),
            "PGUSER": "postgres",
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{script}{done.stdout}{done.stderr}"


def _check_effect(cursor: Any) -> None:
    """Every statement that should change rows or show some did."""
    while True:
        status = cursor.statusmessage or ""
        if status.startswith(("INSERT", "UPDATE", "DELETE", "SELECT")):
            assert cursor.rowcount > 0, status
        if not cursor.nextset():
            return


def test_page(administrator: PostgresServer, tmp_path: Path) -> None:
    """Each block does what the page says, as the role that it is for: nothing, or the refusal shown below it."""
    import psycopg

    (tmp_path / "contrib").symlink_to(PROJECT / "contrib")
    database = Database(administrator, "policyd")
    blocks = _BLOCK.findall(PAGE)
    assert len(blocks) == PAGE.count("```sh\n") + PAGE.count("```sql ") > 12
    refusals = 0
    for kind, text, expected in blocks:
        if kind == "sh":
            if "001-to-002" in text:
                _shell(administrator, tmp_path, "dropdb policyd; createdb policyd")
                database.apply(SCHEMA / "migrations" / "001.sql")
            _shell(administrator, tmp_path, text)
            continue
        message = ""
        user = {"sql panel": WRITER, "sql operator": OPERATOR}.get(kind)
        with database.owner() if user is None else database.connect(user, autocommit=True) as connection:
            try:
                _check_effect(connection.execute(text))
            except psycopg.Error as error:
                message = f"{error.diag.message_primary}\n"
        assert message == expected, text
        refusals += bool(expected)
    assert refusals == 1
    with Database(administrator, "policyd_restored").owner() as restored:
        organizations = restored.execute("SELECT name, protect_sender_domains FROM policyd.organizations").fetchall()
        assert organizations == [("contoso", True)]
        found = restored.execute("SELECT name, enabled FROM policyd.connectors ORDER BY 1").fetchall()
        assert found == [("appliance", True), ("branch", False), ("head-office", True), ("warehouse", True)]
    with database.owner() as migrated:
        assert migrated.execute("SELECT schema_version FROM policyd.state").fetchone() == (3,)


def test_keys() -> None:
    """What it writes into policyd.toml are keys that there are."""
    (block,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    known = {table.title: table.names for table in TABLES}
    for title, keys in tomllib.loads(block).items():
        assert set(keys) <= set(known[title])
    assert "`refresh_seconds`" in PAGE
    assert "`snapshot_file`" in PAGE
    assert {"refresh_seconds", "snapshot_file"} <= set(known["database"])


def test_constraints_are_explained(database: Database) -> None:
    """Every constraint of its own name stands in the table, and the table names no other."""
    section = PAGE.split("### What is refused")[1].split("### ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    explained = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    with database.owner() as connection:
        found = connection.execute(
            "SELECT conname FROM pg_constraint JOIN pg_namespace n ON n.oid = connamespace WHERE nspname = 'policyd'"
            " AND contype IN ('c', 'x') AND conname !~ '^(state_only_row_check|domains_kind)$'"
        ).fetchall()
    names = {name for (name,) in found} | OF_TRIGGERS
    for name in names:
        assert any(re.fullmatch(text.replace("...", ".*"), name) for text in explained), name
    for text in explained:
        assert any(re.fullmatch(text.replace("...", ".*"), name) for name in names), text
