"""contrib/postgresql/schema.sql: what it refuses and marks, who may do what, its versions and its backup (SPEC 9).

The single cases are in refused.toml.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.database import rows
from tests.database.postgres import READER, SCHEMA, SECONDS, WRITER, Database, PostgresServer
from tests.database.refused import BEFORE, CASES

# --- single cases


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: dict[str, str], shared: Database) -> None:
    """As the owner, so that it is the constraint that refuses and not a missing right."""
    import psycopg

    refusal = None
    with shared.owner() as connection, connection.transaction(force_rollback=True):
        connection.execute(BEFORE)
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        connection.execute(
            "SET CONSTRAINTS ALL DEFERRED; SET CONSTRAINTS policyd.addresses_are_of_one_organization IMMEDIATE"
        )
        try:
            connection.execute(case["sql"])
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg.Error as error:
            refusal = error
    names = () if refusal is None else (refusal.diag.constraint_name, refusal.diag.sqlstate)
    assert (case["refused"] in names) if "refused" in case else refusal is None, refusal


# --- revisions, and the NOTIFY


CHANGES = {
    "INSERT INTO policyd.organizations (name) VALUES ('new')": {"new"},
    "UPDATE policyd.organizations SET connectors_only = true WHERE name = 'contoso'": {"contoso"},
    "UPDATE policyd.organizations SET name = 'other' WHERE name = 'contoso'": {"contoso", "other"},
    "DELETE FROM policyd.organizations WHERE name = 'fabrikam'": {"fabrikam"},
    "UPDATE policyd.domains SET organization = 'contoso' WHERE domain = 'fabrikam.com'": {"contoso", "fabrikam"},
    "DELETE FROM policyd.domains WHERE kind = 'pending'": {"contoso"},
    "UPDATE policyd.connectors SET require_tls = true WHERE name = 'lab'": {"fabrikam"},
    "DELETE FROM policyd.connectors": {"contoso", "fabrikam"},
    "INSERT INTO policyd.partners VALUES ('contoso', 'b', '', true, '{*}', true)": {"contoso"},
    "DELETE FROM policyd.connectors WHERE name = 'nobody'": set(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_revisions(change: str, shared: Database) -> None:
    """Exactly the organizations that a transaction touched carry its revision, those that are gone too."""
    with shared.owner() as connection, connection.transaction(force_rollback=True):
        connection.execute(BEFORE)
        connection.execute("UPDATE policyd.state SET changed_by = NULL")  # as if a new transaction began here
        before = rows.revision(connection)
        connection.execute(change)
        found = connection.execute("SELECT organization FROM policyd.revisions WHERE revision > %s", (before,))
        assert {name for (name,) in found} == CHANGES[change]
        assert rows.revision(connection) == before + 1


def test_notify(shared: Database) -> None:
    """One for each transaction that wrote, with the revision, and none for one that was rolled back."""
    with shared.owner() as hub, shared.connect() as writer:
        hub.execute("LISTEN policyd")
        for number in range(3):
            writer.execute(f"INSERT INTO policyd.organizations (name) VALUES ('a{number}'), ('b{number}')")
            writer.execute(
                "INSERT INTO policyd.domains VALUES (%s, 'accepted', %s)", (f"a{number}", f"{number}.example")
            )
            if number == 1:
                writer.rollback()
            else:
                writer.commit()
        expected = [str(rows.revision(hub) - 1), str(rows.revision(hub))]
        found = [notice.payload for notice in hub.notifies(timeout=SECONDS, stop_after=2)]
        found += [notice.payload for notice in hub.notifies(timeout=0)]
        assert found == expected
        hub.execute(rows.EMPTY)


# --- roles

FORBIDDEN = {
    READER: [
        "INSERT INTO policyd.organizations (name) VALUES ('a')",
        "UPDATE policyd.connectors SET enabled = true",
        "DELETE FROM policyd.domains",
        "DELETE FROM policyd.partners",
        "UPDATE policyd.state SET revision = 0",
        "CREATE TABLE policyd.mine ()",
    ],
    WRITER: [
        "UPDATE policyd.state SET revision = 0",
        "UPDATE policyd.state SET schema_version = 3",
        "DELETE FROM policyd.revisions",
        "DELETE FROM policyd.connector_networks",
        "INSERT INTO policyd.connector_names VALUES ('a', 'a', 'a')",
        "TRUNCATE policyd.organizations CASCADE",
        "ALTER TABLE policyd.domains DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "CREATE TABLE policyd.mine ()",
    ],
}


@pytest.mark.parametrize(("user", "statement"), [(user, text) for user, texts in FORBIDDEN.items() for text in texts])
def test_roles(user: str, statement: str, shared: Database) -> None:
    """What hubs and panel may not do."""
    import psycopg

    with shared.connect(user) as connection:
        assert connection.execute("SELECT schema_version FROM policyd.state").fetchone() == (2,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
        connection.rollback()


def test_reader_reads_everything(shared: Database) -> None:
    """The hubs' role sees all tables."""
    with shared.connect(READER) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'policyd'").fetchall()
        assert len(tables) == 8
        for (table,) in tables:
            connection.execute(f"SELECT * FROM policyd.{table}")


# --- versions, and the backup


def _catalogue(database: Database) -> str:
    """The schema as pg_dump writes it, without the lines that differ for every dump."""
    text = database.run("pg_dump", "--schema-only")
    return "\n".join(line for line in text.splitlines() if not line.startswith(("--", "\\")))


def test_versions(databases: Callable[..., Database]) -> None:
    """The migrated first version is the new one, to the letter; its data stays; every organization has a revision."""
    old, new = databases(schema=False), databases()
    old.apply(SCHEMA / "migrations" / "001.sql")
    with old.owner() as connection:
        connection.execute(BEFORE)
        before = rows.read(connection)
        assert rows.revision(connection) == 1
        old.apply(SCHEMA / "migrations" / "001-to-002.sql")
        assert rows.read(connection) == before
        assert connection.execute("SELECT schema_version FROM policyd.state").fetchone() == (2,)
        found = connection.execute("SELECT organization, revision FROM policyd.revisions ORDER BY 1").fetchall()
        assert found == [("contoso", 2), ("fabrikam", 2)]
    assert _catalogue(old) == _catalogue(new)
    with pytest.raises(AssertionError, match="the database has version 2"):
        old.apply(SCHEMA / "migrations" / "001-to-002.sql")
    with pytest.raises(AssertionError, match='schema "policyd" already exists'):
        old.apply(SCHEMA / "schema.sql")


def test_backup(databases: Callable[..., Database], postgresql: PostgresServer) -> None:
    """pg_dump and pg_restore give the same rows, and the constraints still hold."""
    import psycopg

    database, copy = databases(), databases(schema=False)
    with database.owner() as connection:
        connection.execute(BEFORE)
        before = rows.read(connection)
    file = str(postgresql.folder / "backup")
    database.run("pg_dump", "--format=custom", f"--file={file}")
    copy.run("pg_restore", "--exit-on-error", "--single-transaction", file)
    with copy.connect() as connection:
        assert rows.read(connection) == before
        assert rows.revision(connection) == 1
        with pytest.raises(psycopg.errors.ExclusionViolation):
            connection.execute("UPDATE policyd.connectors SET addresses = '{203.0.113.7}' WHERE name = 'lab'")
        connection.rollback()
        connection.execute("INSERT INTO policyd.domains VALUES ('fabrikam', 'accepted', 'x.contoso.com')")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.commit()
