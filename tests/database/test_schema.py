"""contrib/postgresql/schema.sql: what it refuses and marks, who may do what, its versions and its backup (SPEC 9).

The single cases are in refused.toml.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.database import rows
from tests.database.postgres import OPERATOR, PASSWORD, READER, SCHEMA, SECONDS, WRITER, Database, PostgresServer
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
        "UPDATE policyd.organizations SET suspended = 'x'",
        "DELETE FROM policyd.relay_counts",
    ],
    WRITER: [
        "UPDATE policyd.state SET revision = 0",
        "UPDATE policyd.state SET schema_version = 4",
        "DELETE FROM policyd.revisions",
        "DELETE FROM policyd.connector_networks",
        "INSERT INTO policyd.connector_names VALUES ('a', 'a', 'a')",
        "TRUNCATE policyd.organizations CASCADE",
        "ALTER TABLE policyd.domains DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "CREATE TABLE policyd.mine ()",
        "UPDATE policyd.organizations SET suspended = NULL",
        "UPDATE policyd.connectors SET suspended = 'x'",
        "INSERT INTO policyd.organizations (name, suspended) VALUES ('a', NULL)",
        "INSERT INTO policyd.organizations VALUES ('a', false, false, '{}', NULL, 'x')",
        "INSERT INTO policyd.relay_counts VALUES ('a', 'a', 'day', now(), gen_random_uuid(), 'policyd_panel', 1)",
        "DELETE FROM policyd.relay_counts",
    ],
    OPERATOR: [
        "INSERT INTO policyd.organizations (name) VALUES ('a')",
        "UPDATE policyd.organizations SET connectors_only = false",
        "UPDATE policyd.connectors SET enabled = true, suspended = 'x'",
        "UPDATE policyd.domains SET kind = 'accepted'",
        "DELETE FROM policyd.connectors",
        "UPDATE policyd.state SET revision = 0",
        "DELETE FROM policyd.relay_counts",
    ],
}


@pytest.mark.parametrize(("user", "statement"), [(user, text) for user, texts in FORBIDDEN.items() for text in texts])
def test_roles(user: str, statement: str, shared: Database) -> None:
    """What hubs and panel may not do."""
    import psycopg

    with shared.connect(user) as connection:
        assert connection.execute("SELECT schema_version FROM policyd.state").fetchone() == (3,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
        connection.rollback()


def test_only_the_operator_suspends_and_lifts(database: Database) -> None:
    """The panel goes on with what is suspended, but for the one column; deleting it would be lifting it."""
    import psycopg

    with database.connect(autocommit=True) as panel, database.connect(OPERATOR, autocommit=True) as operator:
        panel.execute(BEFORE)
        before = rows.revision(panel)
        operator.execute("UPDATE policyd.organizations SET suspended = 'ticket 1' WHERE name = 'fabrikam'")
        operator.execute("UPDATE policyd.connectors SET suspended = 'ticket 2' WHERE name = 'branch'")
        assert rows.revision(panel) == before + 2
        panel.execute("UPDATE policyd.connectors SET require_tls = true WHERE name = 'branch'")
        panel.execute("DELETE FROM policyd.connectors WHERE name = 'head-office'")
        for statement in (
            "DELETE FROM policyd.organizations WHERE name = 'fabrikam'",
            "DELETE FROM policyd.connectors WHERE name = 'branch'",
            "DELETE FROM policyd.organizations WHERE name = 'contoso'",  # with its connector
        ):
            with pytest.raises(psycopg.errors.RestrictViolation) as refused:
                panel.execute(statement)
            assert refused.value.diag.constraint_name == "suspended_stays"
        operator.execute("UPDATE policyd.organizations SET suspended = NULL")
        operator.execute("UPDATE policyd.connectors SET suspended = NULL WHERE name = 'branch'")
        panel.execute("DELETE FROM policyd.organizations")


def test_a_hub_counts_for_itself(database: Database) -> None:
    """Of policyd.relay_counts a login writes its own rows, reads all, and has nothing else by its role."""
    import psycopg

    own = "INSERT INTO policyd.relay_counts (organization, connector, span, slot, hub, recipients)"
    own += " VALUES ('contoso', 'branch', 'hour', '2026-12-01 12:00+00', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', {})"
    own += (
        " ON CONFLICT (organization, connector, span, slot, hub, login) DO UPDATE SET recipients = excluded.recipients"
    )
    total = "SELECT sum(recipients), count(*) FROM policyd.relay_counts"
    logins = ("policyd_count_1", "policyd_count_2")
    with database.owner() as owner:
        for login in logins:
            owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' IN ROLE policyd_hub")
    try:
        with (
            database.connect(logins[0], autocommit=True) as one,
            database.connect(logins[1], autocommit=True) as other,
            database.connect(READER) as reader,
        ):
            for connection, recipients in ((one, 7), (one, 8), (other, 100)):  # the same hub's name is no matter
                connection.execute(own.format(recipients))
            assert reader.execute(total).fetchone() == other.execute(total).fetchone() == (108, 2)
            assert one.execute("UPDATE policyd.relay_counts SET recipients = 1").rowcount == 1
            assert one.execute("DELETE FROM policyd.relay_counts").rowcount == 1
            assert other.execute(total).fetchone() == (100, 1)
            for refused in (
                "UPDATE policyd.relay_counts SET login = 'policyd_count_1'",
                own.replace("recipients)", "recipients, login)", 1).format("1, 'policyd_count_1'"),
                "SELECT * FROM policyd.organizations",
                "UPDATE policyd.state SET revision = 0",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    other.execute(refused)
            other.execute("SET ROLE policyd_hub")
            assert other.execute("DELETE FROM policyd.relay_counts").rowcount == 1  # still its own
    finally:
        with database.owner() as owner:
            owner.execute(f"DROP ROLE {', '.join(logins)}")


def test_each_revision_has_a_stamp_of_its_own(database: Database) -> None:
    stamps = set()
    with database.connect(autocommit=True) as panel:
        panel.execute(BEFORE)
        for flag in (True, False, True):
            panel.execute("UPDATE policyd.organizations SET connectors_only = %s WHERE name = 'contoso'", (flag,))
            found = dict(panel.execute("SELECT organization, stamp FROM policyd.revisions").fetchall())
            stamps.add(found["contoso"])
            assert found["contoso"] != found["fabrikam"]
    assert len(stamps) == 3


def test_all_tables_have_a_primary_key(database: Database) -> None:
    with database.owner() as owner:
        found = owner.execute(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'policyd'"
            " AND relkind = 'r' AND NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid AND contype = 'p')"
        ).fetchall()
    assert found == []


def test_reader_reads_everything(shared: Database) -> None:
    """The hubs' role sees all tables."""
    with shared.connect(READER) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'policyd'").fetchall()
        assert len(tables) == 11
        for (table,) in tables:
            connection.execute(f"SELECT * FROM policyd.{table}")


def test_an_import_is_checked_as_a_whole(database: Database) -> None:
    """One wrong row among many refuses all, whichever statement had it; nothing is left to be checked afterwards."""
    import psycopg

    many = (
        "INSERT INTO policyd.organizations (name) SELECT 'o' || n FROM generate_series(1, 300) AS n",
        "INSERT INTO policyd.domains SELECT name, 'accepted', name || '.example' FROM policyd.organizations",
        (
            "INSERT INTO policyd.connectors (organization, name, certificate_names)"
            " SELECT name, 'c', ARRAY['mail.' || name || '.example'] FROM policyd.organizations"
        ),
    )
    alter = "UPDATE policyd.connectors SET {} WHERE organization = 'o8'"
    wrong = {
        "domain_below_another": "INSERT INTO policyd.domains VALUES ('o7', 'accepted', 'x.o8.example')",
        "certificate_name_of_another": alter.format("certificate_names = '{x.o9.example}'"),
        "for_domains_are_accepted": alter.format("for_domains = '{o9.example}'"),
        "outside_domain_below_accepted": "UPDATE policyd.organizations SET outside_domains = '{o9.example}'",
    }
    with database.connect() as panel:
        for constraint, statement in wrong.items():
            for when in ("DEFERRED", "IMMEDIATE"):
                panel.execute(f"SET CONSTRAINTS ALL {when}")
                for each in many:
                    panel.execute(each)
                with pytest.raises(psycopg.errors.CheckViolation) as refused:  # noqa: PT012 - either may be where it is
                    panel.execute(statement)
                    panel.commit()
                assert refused.value.diag.constraint_name == constraint
                panel.rollback()
        for each in many:
            panel.execute(each)
        panel.commit()
        assert panel.execute("SELECT count(*) FROM policyd.unchecked").fetchone() == (0,)
        assert rows.revision(panel) == 1


# --- versions, and the backup


def _catalogue(database: Database) -> str:
    """The schema as pg_dump writes it, without the lines that differ for every dump."""
    text = database.run("pg_dump", "--schema-only")
    return "\n".join(line for line in text.splitlines() if not line.startswith(("--", "\\")))


# What version 2 has of the first and third kind, too long for version 3.
TOO_LONG = """
UPDATE policyd.connectors SET description = repeat('x', 1001) WHERE name = 'lab';
INSERT INTO policyd.partners (organization, name, sender_domains, require_tls)
SELECT 'contoso', 'all', array_agg('p' || n || '.example'), true FROM generate_series(1, 1001) AS n;
"""
SHORTER = """
UPDATE policyd.connectors SET description = repeat('x', 1000) WHERE name = 'lab';
UPDATE policyd.partners SET sender_domains = sender_domains[2:];
"""


@pytest.mark.parametrize("first", [1, 2])
def test_versions(first: int, databases: Callable[..., Database]) -> None:
    """A migrated older version is the new one, to the letter; its data stays; every organization has a revision."""
    old, new = databases(schema=False), databases()
    migrations = SCHEMA / "migrations"
    old.apply(migrations / "001.sql")
    if first == 2:
        old.apply(migrations / "001-to-002.sql")
    with old.owner() as connection:
        connection.execute(BEFORE)
        before = rows.read(connection)
        assert rows.revision(connection) == first
        if first == 1:
            old.apply(migrations / "001-to-002.sql")
        revisions = "SELECT organization, revision FROM policyd.revisions ORDER BY 1"
        assert connection.execute(revisions).fetchall() == [("contoso", 2), ("fabrikam", 2)]
        connection.execute("LISTEN policyd")
        old.apply(migrations / "002-to-003.sql")
        assert [notice.payload for notice in connection.notifies(timeout=SECONDS, stop_after=1)] == ["3"]
        assert rows.read(connection) == before
        assert connection.execute("SELECT schema_version FROM policyd.state").fetchone() == (3,)
        assert connection.execute(revisions).fetchall() == [("contoso", 2), ("fabrikam", 2)]
        assert len(set(connection.execute("SELECT stamp FROM policyd.revisions").fetchall())) == 2
    assert _catalogue(old) == _catalogue(new)
    for script in ("001-to-002.sql", "002-to-003.sql"):
        with pytest.raises(AssertionError, match="the database has version 3"):
            old.apply(migrations / script)
    with pytest.raises(AssertionError, match='schema "policyd" already exists'):
        old.apply(SCHEMA / "schema.sql")


def test_a_migration_says_what_is_too_long(databases: Callable[..., Database]) -> None:
    """It names the rows and changes nothing; after they were shortened it goes through."""
    database = databases(schema=False)
    for script in ("001.sql", "001-to-002.sql"):
        database.apply(SCHEMA / "migrations" / script)
    with database.owner() as connection:
        connection.execute(BEFORE)
        connection.execute(TOO_LONG)
        with pytest.raises(AssertionError) as refused:
            database.apply(SCHEMA / "migrations" / "002-to-003.sql")
        assert 'organization "contoso", partner "all": sender_domains has 1001 elements' in str(refused.value)
        assert 'organization "fabrikam", connector "lab": description has 1001 characters' in str(refused.value)
        assert connection.execute("SELECT schema_version FROM policyd.state").fetchone() == (2,)
        connection.execute(SHORTER)
        database.apply(SCHEMA / "migrations" / "002-to-003.sql")
        assert connection.execute("SELECT schema_version FROM policyd.state").fetchone() == (3,)


MORE = """
UPDATE policyd.organizations SET outside_domains = '{news.contoso.net}', relay_limits = '{}', suspended = 'ticket 1'
 WHERE name = 'contoso';
UPDATE policyd.connectors SET for_domains = '{contoso.com}', foreign_senders = 'bounces', tlsa = '{mail.contoso.com}',
       relay_limits = '{2/day}', until = '2027-01-31', suspended = 'ticket 2' WHERE name = 'head-office';
"""


def test_backup(databases: Callable[..., Database], postgresql: PostgresServer) -> None:
    """pg_dump and pg_restore give the same rows, and the constraints still hold."""
    import psycopg

    database, copy = databases(), databases(schema=False)
    with database.owner() as connection:
        connection.execute(BEFORE)
        before = rows.read(connection)
        connection.execute(MORE)
        before = rows.read(connection)
        assert before["contoso"]["suspended"] == "ticket 1"
        stamps = connection.execute("SELECT * FROM policyd.revisions ORDER BY 1").fetchall()
    file = str(postgresql.folder / "backup")
    database.run("pg_dump", "--format=custom", f"--file={file}")
    copy.run("pg_restore", "--exit-on-error", "--single-transaction", file)
    with copy.connect() as connection:
        assert rows.read(connection) == before
        assert rows.revision(connection) == 2
        assert connection.execute("SELECT * FROM policyd.revisions ORDER BY 1").fetchall() == stamps
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE policyd.connectors SET suspended = NULL")
        connection.rollback()
        with pytest.raises(psycopg.errors.ExclusionViolation):
            connection.execute("UPDATE policyd.connectors SET addresses = '{203.0.113.7}' WHERE name = 'lab'")
        connection.rollback()
        connection.execute("INSERT INTO policyd.domains VALUES ('fabrikam', 'accepted', 'x.contoso.com')")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.commit()
