"""Behind a real pgbouncer in transaction mode: nothing leaks to the next client, changes come into force (SPEC 9)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from policyd.database.connection import POOLED, Link
from policyd.database.view import Known
from tests.database.hubs import Hub, configuration
from tests.database.postgres import PASSWORD, READER, SECONDS, Database, identity, make_folder
from tests.helpers.policyd_server import PolicydServer
from tests.helpers.programs import why_no_pgbouncer
from tests.helpers.waiting import until

OWNER = "postgres"
SETTINGS = """
[databases]
* = host={folder} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = plain
auth_file = {own}/users
pool_mode = {mode}
default_pool_size = {size}
logfile = {own}/log
"""
ROWS = """
INSERT INTO policyd.organizations (name) VALUES ('contoso');
INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'contoso.com');
INSERT INTO policyd.connectors (organization, name, addresses) VALUES ('contoso', 'c', '{192.0.2.1}');
"""
LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'listen%' AND datname = current_database()"


@pytest.fixture
def pooled(database: Database, free_port: Callable[[], int]) -> Iterator[Callable[..., str]]:
    """A function that starts a pgbouncer before the database, and says the dsn for it."""
    if reason := why_no_pgbouncer():
        pytest.skip(reason)
    running: list[subprocess.Popen[bytes]] = []

    def start(mode: str = "transaction", size: int = 1, user: str = READER) -> str:
        own, port = make_folder(), free_port()
        settings = own / "pgbouncer.ini"
        server = database.server
        settings.write_text(
            SETTINGS.format(folder=server.folder, port=server.port, own=own, own_port=port, mode=mode, size=size)
        )
        (own / "users").write_text("".join(f'"{user}" "{PASSWORD}"\n' for user in (READER, OWNER)))
        running.append(subprocess.Popen(["pgbouncer", str(settings)], **identity()))
        dsn = f"postgresql://{user}:{PASSWORD}@127.0.0.1:{port}/{database.name}"
        until(lambda: answers(dsn), lambda: (own / "log").read_text())
        return dsn

    yield start
    for process in running:
        process.terminate()
        process.wait(SECONDS)


def answers(dsn: str) -> bool:
    """Whether one can connect."""
    import psycopg

    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


def settings_of(dsn: str) -> tuple[Any, ...]:
    """What the next client of the same backend finds."""
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT current_setting('statement_timeout'), current_setting('default_transaction_read_only'),"
            " current_setting('default_transaction_isolation'), current_setting('jit'),"
            " (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_prepared_statements),"
            " (SELECT count(*) FROM pg_cursors WHERE name = 'policyd')"
        ).fetchone()
    assert row is not None
    return row


def test_nothing_leaks(database: Database, pooled: Callable[..., str]) -> None:
    """With one backend for all: however often it is read, and where a read ends in the middle."""
    with database.connect() as panel:
        panel.execute(ROWS)
    dsn = pooled()
    before = settings_of(dsn)
    with closing(Link(dsn)) as link:
        rows = link.read(None, complete=True)
        known = Known(rows.stamp, rows.revision, {name: row.stamp for name, row in rows.read.items()})
        for complete in (True, False) * 5:
            assert not link.read(known, complete).read
        with pytest.raises(KeyError, match="contoso"), link.view() as view:
            raise KeyError(next(view.organizations())[0])
        assert (link.listens, link.warning) == (False, POOLED)
        assert settings_of(dsn) == before
        with database.connect() as panel:
            panel.execute("UPDATE policyd.organizations SET connectors_only = true")
        assert set(link.read(known, complete=False).read) == {"contoso"}
    assert settings_of(dsn) == before


def test_two_reads_at_once_are_each_of_one_moment(database: Database, pooled: Callable[..., str]) -> None:
    """With more clients than backends, which come and go between transactions."""
    with database.connect() as panel:
        panel.execute(ROWS)
    dsn = pooled(size=2)
    with closing(Link(dsn)) as one, closing(Link(dsn)) as other, closing(Link(dsn)), one.view() as view:
        with database.connect() as panel:
            panel.execute("UPDATE policyd.domains SET domain = 'contoso.test'")
        assert "contoso.com" in dict(view.organizations())["contoso"].document
        assert "contoso.test" in other.read(None, complete=True).read["contoso"].document
        assert "contoso.com" in dict(view.organizations())["contoso"].document


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_hub_behind_it(
    mode: str,
    database: Database,
    pooled: Callable[..., str],
    policyd_server: Callable[..., PolicydServer],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    """A change is in force without a notification, and the log says why that takes a little longer."""
    with database.connect() as panel:
        panel.execute(ROWS)
    dsn = pooled(mode)
    port = free_port()
    config = configuration(tmp_path / "hub", database, port)
    config.write_text(config.read_text().replace(database.dsn(), dsn))
    hub = Hub(policyd_server(config), port)
    hub.server.start()
    mail = {"sender": "a@contoso.com", "recipient": "x@elsewhere.example"}
    try:
        assert hub.answers(client_address="192.0.2.1", **mail) == {"OK"}
        with database.connect() as panel:
            panel.execute("UPDATE policyd.connectors SET addresses = '{192.0.2.2}'")
        until(lambda: hub.answers(client_address="192.0.2.2", **mail) == {"OK"}, hub.log)
        assert hub.answers(client_address="192.0.2.1", **mail) == {"REJECT"}
        until(lambda: POOLED in hub.log(), hub.log)
        assert hub.log().count(POOLED) == 1
        with database.owner() as owner:
            assert owner.execute(LISTENERS).fetchone() == (0,)
    finally:
        hub.server.kill()


def test_a_direct_connection_listens(database: Database) -> None:
    """The same without a pooler: there is nothing to warn of."""
    with closing(Link(database.dsn())) as link:
        link.read(None, complete=True)
        assert (link.listens, link.warning) == (True, "")
        with database.connect() as panel:
            panel.execute(ROWS)
        until(link.heard)


def test_export_and_import(
    database: Database,
    pooled: Callable[..., str],
    policyd_command: list[str],
    tmp_path: Path,
) -> None:
    """Both ways through it; the writer prepares nothing either."""
    reading, writing = pooled(), pooled(user=OWNER)
    config = tmp_path / "policyd.toml"
    tables = "".join(
        f'[organizations.o{n}]\naccepted_domains = ["o{n}.example"]\n'
        f'[organizations.o{n}.connectors.c]\naddresses = ["192.0.2.{n}"]\nsuspended = "ticket {n}"\n'
        for n in range(20)
    )
    config.write_text(tables)
    before = settings_of(writing)
    for more in ((), ("--replace",)):
        command = [*policyd_command, "export", "--to-database", writing, "-c", str(config), *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        assert settings_of(writing) == before
    command = [*policyd_command, "import", "database", "--dsn", reading]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.stdout.count("addresses") == 20
