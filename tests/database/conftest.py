"""One PostgreSQL server for the session, and a fresh database for each test that asks.

Where Debian's PostgreSQL (15 or later) or psycopg is missing, the tests that need it are skipped.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.database.postgres import WRITER, Database, PostgresServer, make_folder
from tests.helpers.programs import why_no_postgresql


@pytest.fixture(scope="session")
def postgresql(free_port: Callable[[], int]) -> Iterator[PostgresServer]:
    """The server, running, with schema.sql tried on it."""
    if reason := why_no_postgresql():
        pytest.skip(reason)
    folder = make_folder()
    server = PostgresServer(folder, free_port())
    try:
        server.make()
        server.start()
        server.prepare()
        yield server
    finally:
        if server.running:
            server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def databases(postgresql: PostgresServer) -> Iterator[Callable[..., Database]]:
    """A function that makes databases for one test, with the schema or `(schema=False)` empty."""
    if not postgresql.running:  # an earlier test failed between stop and start
        postgresql.start()
    made: list[Database] = []

    def make(schema: bool = True) -> Database:
        made.append(postgresql.database(schema))
        return made[-1]

    yield make
    if postgresql.running:
        for one in made:
            postgresql.drop(one)


@pytest.fixture
def database(databases: Callable[..., Database]) -> Database:
    """A fresh database with the schema in it, for one test."""
    return databases()


@pytest.fixture(scope="module")
def shared(postgresql: PostgresServer) -> Iterator[Database]:
    """A database for the tests of a module, each of which leaves it empty."""
    made = postgresql.database()
    yield made
    postgresql.drop(made)


@pytest.fixture(scope="module")
def panel(shared: Database) -> Iterator[Any]:
    """A connection of the control panel's role to it; tests roll back."""
    with shared.connect(WRITER) as connection:
        yield connection
