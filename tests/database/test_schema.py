"""contrib/postgresql/schema.sql: what it refuses, whoever writes at the same time; that the checker agrees (SPEC 9).

The single cases are in refused.toml. The checker is `policyd.config`: the same code that reads files.
"""

from __future__ import annotations

import random
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policyd.config.conflicts import Provider
from policyd.config.load import check_together
from policyd.config.schema import parse_organization
from policyd.policy.networks import Network, format_address, parse_network
from tests.conftest import PROJECT
from tests.database import rows
from tests.database.postgres import READER, SCHEMA, SECONDS, WRITER, Database, PostgresServer

CASES = tomllib.loads((Path(__file__).parent / "refused.toml").read_text("utf-8"))
EMPTY = "DELETE FROM policyd.organizations"


@pytest.fixture(scope="module")
def shared(postgresql: PostgresServer) -> Iterator[Database]:
    """A database that every test leaves empty."""
    made = postgresql.database()
    yield made
    postgresql.drop(made)


@pytest.fixture(scope="module")
def panel(shared: Database) -> Iterator[Any]:
    """A connection of the control panel's role to it; tests roll back."""
    with shared.connect(WRITER) as connection:
        yield connection


@contextmanager
def rolled_back(connection: Any) -> Iterator[None]:
    try:
        yield
    finally:
        connection.rollback()


# --- single cases


@pytest.mark.parametrize("case", CASES["case"], ids=lambda case: case["name"])
def test_case(case: dict[str, str], shared: Database) -> None:
    """As the owner, so that it is the constraint that refuses and not a missing right."""
    import psycopg

    refusal = None
    with shared.owner() as connection, connection.transaction(force_rollback=True):
        connection.execute(CASES["before"])
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


# --- two writers at the same time


@dataclass(frozen=True, slots=True)
class Race:
    """Two statements, each of which is fine alone over CASES["before"], and which refuse each other."""

    first: str
    second: str


RACES = {
    "the same domain": Race(
        "INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'wg.com')",
        "INSERT INTO policyd.domains VALUES ('fabrikam', 'accepted', '*.wg.com')",
    ),
    "a domain, and one below it": Race(
        "INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'wg.com')",
        "INSERT INTO policyd.domains VALUES ('fabrikam', 'accepted', 'eu.wg.com')",
    ),
    "a domain, and one above it": Race(
        "INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'eu.wg.com')",
        "INSERT INTO policyd.domains VALUES ('fabrikam', 'accepted', '*.wg.com')",
    ),
    "a delegation goes, and is used": Race(
        "DELETE FROM policyd.domains WHERE kind = 'delegated' AND name = 'shop.contoso.net'",
        "INSERT INTO policyd.domains VALUES ('fabrikam', 'accepted', 'shop.contoso.net')",
    ),
    "a certificate name, and its domain": Race(
        "INSERT INTO policyd.connectors (organization, name, certificate_names) VALUES ('contoso', 'a', '{m.wg.com}')",
        "INSERT INTO policyd.domains VALUES ('fabrikam', 'accepted', 'wg.com')",
    ),
    "a domain, and a certificate name in it": Race(
        "INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'wg.com')",
        "INSERT INTO policyd.connectors (organization, name, certificate_names) VALUES ('fabrikam', 'a', '{m.wg.com}')",
    ),
    "overlapping addresses": Race(
        "INSERT INTO policyd.connectors (organization, name, addresses) VALUES ('contoso', 'a', '{198.51.100.0/24}')",
        "INSERT INTO policyd.connectors (organization, name, addresses) VALUES ('fabrikam', 'a', '{198.51.100.7}')",
    ),
    "overlapping addresses, and one is enabled": Race(
        "UPDATE policyd.connectors SET enabled = true WHERE name = 'old'",
        "INSERT INTO policyd.connectors (organization, name, addresses) VALUES ('fabrikam', 'a', '{192.0.2.7}')",
    ),
}
REFUSALS = {"unique_violation", "check_violation", "exclusion_violation", "serialization_failure"}


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("race", RACES.values(), ids=RACES)
def test_writers_at_the_same_time(race: Race, level: str, shared: Database) -> None:
    """The second writer began before the first one ended; it waits, is refused, and what is there has no errors."""
    import psycopg

    outcome: list[object] = []

    def write_second() -> None:
        try:
            second.execute(race.second)
            second.commit()
            outcome.append("committed")
        except psycopg.Error as error:
            outcome.append(error)

    with shared.owner() as owner, shared.connect() as first, shared.connect() as second:
        try:
            owner.execute(CASES["before"])
            owner.execute("INSERT INTO policyd.domains VALUES ('contoso', 'delegated', 'shop.contoso.net')")
            for connection in (first, second):
                connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
                connection.execute("SELECT revision FROM policyd.state")  # from here on REPEATABLE READ sees no more
            first.execute(race.first)
            thread = threading.Thread(target=write_second, daemon=True)
            thread.start()
            _wait_until_blocked(owner, second)
            first.commit()
            thread.join(SECONDS)
            assert isinstance(outcome[0], psycopg.Error), outcome
            assert psycopg.errors.lookup(outcome[0].sqlstate).__name__ in _classes(REFUSALS), outcome
            assert _errors(rows.read(owner)) == []
        finally:
            first.rollback()
            second.rollback()
            owner.execute(EMPTY)


def _wait_until_blocked(owner: Any, connection: Any) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + SECONDS
    while owner.execute(query, (connection.info.backend_pid,)).fetchone()[0] == 0:
        assert time.monotonic() < deadline, "the second writer does not wait for the first"
        time.sleep(0.01)


def _classes(names: set[str]) -> set[str]:
    return {"".join(part.capitalize() for part in name.split("_")) for name in names}


WRITERS, ROUNDS = 4, 60


def test_many_writers(shared: Database) -> None:
    """Whatever they try in whatever order: no deadlock, no error that is no refusal, and in the end no conflict."""
    import psycopg

    errors: list[psycopg.Error] = []
    committed: list[int] = []

    def write(seed: int) -> None:
        choose = random.Random(seed)
        with shared.connect() as connection:
            for _ in range(ROUNDS):
                level = choose.choice(("READ COMMITTED", "REPEATABLE READ"))
                try:
                    connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
                    for _ in range(choose.randint(1, 3)):
                        connection.execute(*_some_change(choose))
                    connection.commit()
                    committed.append(seed)
                except psycopg.Error as error:
                    connection.rollback()
                    errors.append(error)

    with shared.owner() as owner:
        try:
            owner.execute("INSERT INTO policyd.organizations (name) VALUES ('a'), ('b'), ('c')")
            threads = [threading.Thread(target=write, args=(seed,), daemon=True) for seed in range(WRITERS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(SECONDS)
            assert not any(thread.is_alive() for thread in threads)
            allowed = {*_classes(REFUSALS)}
            assert {type(error).__name__ for error in errors} <= allowed
            assert len(committed) + len(errors) == WRITERS * ROUNDS
            assert len(committed) > ROUNDS // 4
            assert len(errors) > ROUNDS // 4
            assert _errors(rows.read(owner)) == []
        finally:
            owner.execute(EMPTY)


def _some_change(choose: random.Random) -> tuple[str, tuple[str, ...]]:
    organization = choose.choice("abc")
    name = choose.choice(("x.example", "y.x.example", "z.y.x.example"))
    address = choose.choice(("198.51.100.0/24", "198.51.100.7", "198.51.100.0/28"))
    return choose.choice(
        [
            (
                "INSERT INTO policyd.domains VALUES (%s, %s, %s) ON CONFLICT (organization, kind, name) DO NOTHING",
                (organization, choose.choice(("accepted", "accepted", "delegated")), name),
            ),
            ("DELETE FROM policyd.domains WHERE organization = %s AND name = %s", (organization, name)),
            (
                (
                    "INSERT INTO policyd.connectors (organization, name, certificate_names) VALUES (%s, 'n', ARRAY[%s])"
                    " ON CONFLICT (organization, name) DO UPDATE SET certificate_names = excluded.certificate_names"
                ),
                (organization, name),
            ),
            (
                (
                    "INSERT INTO policyd.connectors (organization, name, addresses) VALUES (%s, 'a', ARRAY[%s::cidr])"
                    " ON CONFLICT (organization, name) DO UPDATE SET addresses = excluded.addresses, enabled = true"
                ),
                (organization, address),
            ),
            ("UPDATE policyd.connectors SET enabled = NOT enabled WHERE organization = %s", (organization,)),
            ("DELETE FROM policyd.connectors WHERE organization = %s", (organization,)),
        ]
    )


def test_savepoints(shared: Database) -> None:
    """A statement that was rolled back to a savepoint leaves no lock behind, and the next one takes it again."""
    with shared.owner() as owner, shared.connect() as connection:
        before = _revision(owner)
        connection.execute("SAVEPOINT s")
        connection.execute("INSERT INTO policyd.organizations (name) VALUES ('a')")
        connection.execute("ROLLBACK TO s")
        connection.execute("INSERT INTO policyd.organizations (name) VALUES ('b')")
        connection.commit()
        assert _revision(owner) == before + 1
        assert [name for (name,) in owner.execute("SELECT name FROM policyd.organizations")] == ["b"]
        owner.execute(EMPTY)


# --- revisions, and the NOTIFY


def _revision(connection: Any) -> int:
    return int(connection.execute("SELECT revision FROM policyd.state").fetchone()[0])


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
        connection.execute(CASES["before"])
        connection.execute("UPDATE policyd.state SET changed_by = NULL")  # as if a new transaction began here
        before = _revision(connection)
        connection.execute(change)
        found = connection.execute("SELECT organization FROM policyd.revisions WHERE revision > %s", (before,))
        assert {name for (name,) in found} == CHANGES[change]
        assert _revision(connection) == before + 1


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
        expected = [str(_revision(hub) - 1), str(_revision(hub))]
        found = [notice.payload for notice in hub.notifies(timeout=SECONDS, stop_after=2)]
        found += [notice.payload for notice in hub.notifies(timeout=0)]
        assert found == expected
        hub.execute(EMPTY)


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


# --- the checker agrees

DOMAINS = ("contoso.com", "eu.contoso.com", "a.eu.contoso.com", "com", "contoso.net", "lan", "xn--bcher-kva.example")
DOMAINS += ("fabrikam.net", "tailspin.example", "litware.example", "proseware.example")
NAMES = (*DOMAINS, "mail.contoso.com", "mail.eu.contoso.com", *("a.example", "b.example", "c.example", "d.example") * 2)
GOOD_ADDRESSES = ("203.0.113.0/28", "203.0.113.7", "203.0.113.16/28", "203.0.113.10-203.0.113.20", "10.1.0.0/16")
GOOD_ADDRESSES += ("2001:db8::/32", "2001:db8:1::7", "::1", "fe80::/64")
BAD_ADDRESSES = ("10.0.0.0/15", "2001:db8::/31", "2002:cb00:7107::/48", "64:ff9b::1", "::7")
ADDRESSES = (*GOOD_ADDRESSES * 6, *BAD_ADDRESSES)
CERTIFICATES = (*[(PROJECT / "tests/certs/cn-only.pem").read_text("ascii")] * 5, "certs/cn-only.pem")
FINGERPRINTS = (*(":".join(["A9"] * octets) for octets in (16, 20, 32, 48, 64)), ":".join(["A9"] * 31))

patterns = st.builds(lambda name, wild: f"*.{name}" if wild else name, st.sampled_from(NAMES), st.booleans())
domain_lists = st.lists(
    st.builds(lambda name, wild: f"*.{name}" if wild else name, st.sampled_from(DOMAINS), st.booleans()),
    max_size=3,
    unique_by=lambda text: text.removeprefix("*."),
)
evidence = {
    "enabled": st.booleans(),
    "require_tls": st.booleans(),
    "certificate_names": st.lists(patterns, min_size=1, max_size=2),
    "addresses": st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2),
    "certificates": st.lists(st.sampled_from(CERTIFICATES), min_size=1, max_size=2),
    "certificate_fingerprints": st.lists(st.sampled_from(FINGERPRINTS), min_size=1, max_size=2),
    "public_key_fingerprints": st.lists(st.sampled_from(FINGERPRINTS), min_size=1, max_size=2),
}
nothing_sure = st.fixed_dictionaries({}, optional=evidence)
connectors = nothing_sure | st.sampled_from(sorted(rows.LISTS)).flatmap(
    lambda key: st.fixed_dictionaries({key: evidence[key]}, optional={k: v for k, v in evidence.items() if k != key})
)
senders = {"sender_domains": st.lists(patterns | st.just("*"), min_size=1, max_size=2)}
partners = st.builds(dict.__or__, connectors, st.fixed_dictionaries(senders)) | st.fixed_dictionaries(
    {}, optional={**evidence, **senders}
)
organization_tables = st.fixed_dictionaries(
    {"accepted_domains": domain_lists},
    optional={
        "delegated_domains": domain_lists,
        "pending_domains": domain_lists,
        "connectors": st.dictionaries(st.sampled_from("ab"), connectors, max_size=2),
        "partners": st.dictionaries(st.just("p"), partners, max_size=1),
    },
)
worlds = st.dictionaries(st.sampled_from(["contoso", "fabrikam", "tailspin"]), organization_tables, max_size=3)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where the drafts of a test come from."""

    file: str = "database"
    number: int = 0
    folder: str = ""

    def file_of(self, path: object) -> str:
        return self.file

    def line(self, path: object) -> int:
        return 0


def _errors(organizations: rows.Organizations) -> list[str]:
    """What the checker says of organizations."""
    source = _Rows()
    drafts = [parse_organization(name, table, source, 0.0, n) for n, (name, table) in enumerate(organizations.items())]
    problems = [problem for draft in drafts for problem in draft.report.problems]
    problems += check_together(drafts, Provider())
    return [str(problem) for problem in problems if problem.severity == "error"]


def _refusal(connection: Any, organizations: rows.Organizations) -> str | None:
    """What the schema says of them; they are there until the transaction is rolled back."""
    import psycopg

    try:
        rows.write(connection, organizations)
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as error:
        return str(error)
    return None


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(worlds)
def test_schema_and_checker_agree(panel: Any, organizations: dict[str, Any]) -> None:
    """Either both refuse or neither does; and what was accepted is there, as it was written."""
    with rolled_back(panel):
        refusal = _refusal(panel, organizations)
        errors = _errors(organizations)
        assert (refusal is None) == (errors == []), (refusal, errors)
        if refusal is None:
            assert _errors(rows.read(panel)) == []


def test_both_verdicts_are_tried(panel: Any) -> None:
    """The strategy above would prove nothing if nearly all worlds were refused."""
    accepted = refused = 0

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(worlds)
    def count(organizations: dict[str, Any]) -> None:
        nonlocal accepted, refused
        connectors = any(table.get("connectors") for table in organizations.values())
        if _errors(organizations):
            refused += 1
        elif connectors or len(organizations) > 1:
            accepted += 1

    count()
    assert accepted > 8, accepted
    assert refused > 30, refused


def test_what_sql_cannot_judge(panel: Any) -> None:
    """It gets in, and the checker refuses it: docs/database.md says so."""
    pem = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
    for table in (
        {"accepted_domains": ["xn--a.example"]},
        {"accepted_domains": ["contoso.com"], "connectors": {"a": {"certificates": [pem]}}},
    ):
        with rolled_back(panel):
            assert _refusal(panel, {"contoso": table}) is None
        assert _errors({"contoso": table}) != []


addresses_of_a_family = st.sampled_from([4, 6]).flatmap(
    lambda family: st.tuples(
        st.just(family), st.integers(0, (1 << (32 if family == 4 else 64)) - 1), st.integers(0, 70_000)
    )
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(addresses_of_a_family)
def test_networks(panel: Any, drawn: tuple[int, int, int]) -> None:
    """policyd.networks gives the fewest blocks, as Network.prefixes does."""
    family, first, size = drawn
    last = min(first + size, (1 << 32) - 1) if family == 4 else first + size
    ends = [format_address((family, value)) for value in (first, last)]
    with rolled_back(panel):
        found = [
            text for (text,) in panel.execute("SELECT network::text FROM policyd.networks(%s, %s) AS network", ends)
        ]
    bits = 32 if family == 4 else 128
    expected = [(prefix << (bits - length), length) for prefix, length in Network(family, first, last).prefixes()]
    assert [(parse_network(text)[0].first, int(text.partition("/")[2])) for text in found] == expected


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
        connection.execute(CASES["before"])
        before = rows.read(connection)
        assert _revision(connection) == 1
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
        connection.execute(CASES["before"])
        before = rows.read(connection)
    file = str(postgresql.folder / "backup")
    database.run("pg_dump", "--format=custom", f"--file={file}")
    copy.run("pg_restore", "--exit-on-error", "--single-transaction", file)
    with copy.connect() as connection:
        assert rows.read(connection) == before
        assert _revision(connection) == 1
        with pytest.raises(psycopg.errors.ExclusionViolation):
            connection.execute("UPDATE policyd.connectors SET addresses = '{203.0.113.7}' WHERE name = 'lab'")
        connection.rollback()
        connection.execute("INSERT INTO policyd.domains VALUES ('fabrikam', 'accepted', 'x.contoso.com')")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.commit()
