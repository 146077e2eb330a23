"""Whoever writes at the same time: what the checker would refuse does not get into the database (SPEC 9)."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from tests.database import rows
from tests.database.postgres import SECONDS, Database
from tests.database.refused import BEFORE
from tests.helpers.waiting import until


@dataclass(frozen=True, slots=True)
class Race:
    """Two statements, each of which is fine alone over `BEFORE`, and which refuse each other."""

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
            owner.execute(BEFORE)
            owner.execute("INSERT INTO policyd.domains VALUES ('contoso', 'delegated', 'shop.contoso.net')")
            for alone in (race.first, race.second):
                with owner.transaction(force_rollback=True):
                    owner.execute(alone)
                    owner.execute("SET CONSTRAINTS ALL IMMEDIATE")
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
            assert rows.errors(rows.read(owner)) == []
        finally:
            first.rollback()
            second.rollback()
            owner.execute(rows.EMPTY)


def _wait_until_blocked(owner: Any, connection: Any) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    pid = connection.info.backend_pid
    until(lambda: owner.execute(query, (pid,)).fetchone()[0] > 0, "the second writer does not wait for the first")


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
            assert rows.errors(rows.read(owner)) == []
        finally:
            owner.execute(rows.EMPTY)


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
        before = rows.revision(owner)
        connection.execute("SAVEPOINT s")
        connection.execute("INSERT INTO policyd.organizations (name) VALUES ('a')")
        connection.execute("ROLLBACK TO s")
        connection.execute("INSERT INTO policyd.organizations (name) VALUES ('b')")
        connection.commit()
        assert rows.revision(owner) == before + 1
        assert [name for (name,) in owner.execute("SELECT name FROM policyd.organizations")] == ["b"]
        owner.execute(rows.EMPTY)
