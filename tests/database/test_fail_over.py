"""Fail-over that loses commits, and restores in place: revisions come again, and mislead no hub (SPEC 9).

With a primary and a standby, both real, and a real `policyd serve` that runs all the time or was stopped meanwhile.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from policyd.database.connection import Link
from policyd.database.view import Known, Rows
from tests.database.hubs import Hub, configuration
from tests.database.postgres import PASSWORD, READER, Database, PostgresServer, make_folder
from tests.helpers.policyd_server import PolicydServer
from tests.helpers.programs import why_no_postgresql
from tests.helpers.waiting import until

BEFORE = """
INSERT INTO policyd.organizations (name) VALUES ('contoso'), ('fabrikam');
INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'contoso.com'), ('fabrikam', 'accepted', 'fabrikam.com');
INSERT INTO policyd.connectors (organization, name, addresses) VALUES ('fabrikam', 'c', '{192.0.2.9}');
"""
CONNECTOR = "INSERT INTO policyd.connectors (organization, name, addresses) VALUES ('contoso', 'c', '{%s}')"
LOST, WRITTEN = "192.0.2.1", "192.0.2.2"  # the address that was lost, and the one that was written instead


@pytest.fixture
def servers(free_port: Callable[[], int]) -> Iterator[Callable[[], PostgresServer]]:
    """A function that makes a folder and a port into a server of the test's own."""
    if reason := why_no_postgresql():
        pytest.skip(reason)
    made: list[PostgresServer] = []

    def make() -> PostgresServer:
        made.append(PostgresServer(make_folder(), free_port()))
        return made[-1]

    yield make
    for server in made:
        if server.running:
            server.stop(signal.SIGQUIT)
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def primary(servers: Callable[[], PostgresServer]) -> Database:
    """A database on a server of its own, with revision 1 in it."""
    server = servers()
    server.make()
    server.start()
    server.prepare()
    database = server.database()
    write(database, BEFORE)
    return database


def write(database: Database, *statements: str) -> None:
    """One transaction of the panel."""
    with database.connect() as panel:
        for statement in statements:
            panel.execute(statement)


def read(database: Database, known: Known | None, complete: bool = True) -> Rows:
    """What a hub reads over a new connection."""
    with closing(Link(database.dsn())) as link:
        return link.read(known, complete)


def known_of(rows: Rows) -> Known:
    """What the hub knows then."""
    return Known(rows.stamp, rows.revision, {name: row.stamp for name, row in rows.read.items()})


def address_in(rows: Rows) -> str:
    """Which of the two addresses contoso has now; empty: its rows are as they were known."""
    document = rows.read["contoso"].document if "contoso" in rows.read else ""
    return next((address for address in (LOST, WRITTEN) if address in document), "")


def lose_a_commit(primary: Database, standby: PostgresServer) -> Database:
    """The commit of LOST is on the primary only, which ends; the standby is promoted: its database."""
    with primary.owner() as owner:
        until(
            lambda: (
                owner.execute("SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication").fetchone()
                == (True,)
            ),
            lambda: "the standby does not come after",
        )
    standby.stop()
    write(primary, CONNECTOR % LOST)
    return Database(standby, primary.name)


def promote(database: Database) -> None:
    """Starts the standby, and makes it the primary."""
    database.server.start()
    with database.owner() as owner:
        owner.execute("SELECT pg_promote()")
        until(lambda: owner.execute("SELECT pg_is_in_recovery()").fetchone() == (False,), lambda: "not promoted")


def test_a_fail_over_that_loses_a_commit(
    primary: Database,
    servers: Callable[[], PostgresServer],
    policyd_server: Callable[..., PolicydServer],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    """What no database holds is not granted, what was written instead is: after reconnecting, and after a restart."""
    place = servers()
    standby = primary.server.replica(place.folder, place.port)
    standby.start()
    both = f"{READER}:{PASSWORD}@127.0.0.1:{primary.server.port},127.0.0.1:{standby.port}"
    hubs = []
    for name in ("running", "stopped"):
        port = free_port()
        config = configuration(tmp_path / name, primary, port)
        dsn = f"postgresql://{both}/{primary.name}?target_session_attrs=primary"
        config.write_text(config.read_text().replace(primary.dsn(), dsn))
        hubs.append(Hub(policyd_server(config), port))
        hubs[-1].server.start()
    stopped = hubs[1]
    try:
        promoted = lose_a_commit(primary, standby)
        known = known_of(read(primary, None))
        mail = {"sender": "a@contoso.com", "recipient": "x@elsewhere.example"}
        for hub in hubs:
            until(lambda hub=hub: hub.answers(client_address=LOST, **mail) == {"OK"}, hub.log)
        stopped.server.stop()
        primary.server.stop(signal.SIGQUIT)

        promote(promoted)
        write(promoted, CONNECTOR % WRITTEN)
        assert read(promoted, None).revision == known.revision
        assert address_in(read(promoted, known)) == WRITTEN
        stopped.server.start()
        for hub in hubs:
            until(lambda hub=hub: hub.answers(client_address=WRITTEN, **mail) == {"OK"}, hub.log)
            assert hub.answers(client_address=LOST, **mail) == {"REJECT"}
            assert hub.answers(client_address="192.0.2.9", sender="a@fabrikam.com", recipient="x@y.example") == {"OK"}
    finally:
        for hub in hubs:
            hub.server.kill()


def test_what_was_not_lost_is_not_read_again(primary: Database, servers: Callable[[], PostgresServer]) -> None:
    """Rows of the same stamp are the same rows, on whatever server."""
    place = servers()
    standby = primary.server.replica(place.folder, place.port)
    standby.start()
    promoted = lose_a_commit(primary, standby)
    known = known_of(read(primary, None))
    primary.server.stop()
    promote(promoted)
    for complete in (True, False):
        rows = read(promoted, known, complete)
        assert (rows.revision, set(rows.read), set(rows.gone)) == (1, {"contoso"}, set())
        assert address_in(rows) == ""
    known = known_of(read(promoted, None))
    write(promoted, CONNECTOR % WRITTEN)
    with closing(Link(promoted.dsn())) as link, link.view() as view:
        assert view.changed_since(known.revision, known.stamp) == {"contoso"}


def test_a_backup_of_the_whole_server_in_its_place(primary: Database) -> None:
    """Its own files of yesterday: the same system and timeline, and another revision 2."""
    server = primary.server
    data, backup = server.folder / "data", server.folder / "backup"
    server.stop()
    subprocess.run(["cp", "-a", data, backup], check=True)
    server.start()
    write(primary, CONNECTOR % LOST)
    known = known_of(read(primary, None))
    server.stop()
    shutil.rmtree(data)
    backup.rename(data)
    server.start()
    write(primary, CONNECTOR % WRITTEN)
    for complete in (True, False):
        rows = read(primary, known, complete)
        assert rows.revision == known.revision
        assert address_in(rows) == WRITTEN


def test_a_dump_restored_in_the_same_database(
    database: Database,
    policyd_server: Callable[..., PolicydServer],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    """Under a hub whose connection stays: it hears of the next change only, and then everything is right."""
    write(database, BEFORE)
    dump = tmp_path / "dump"
    database.run("pg_dump", "--format=custom", f"--file={dump}")
    write(database, CONNECTOR % LOST)
    port = free_port()
    hub = Hub(policyd_server(configuration(tmp_path / "hub", database, port)), port)
    hub.server.start()
    mail = {"sender": "a@contoso.com", "recipient": "x@elsewhere.example"}
    try:
        assert hub.answers(client_address=LOST, **mail) == {"OK"}
        known = known_of(read(database, None))
        database.run("pg_restore", "--clean", "--if-exists", "--single-transaction", str(dump))
        assert "contoso" in read(database, known, complete=False).read
        write(database, CONNECTOR % WRITTEN)
        assert address_in(read(database, known, complete=False)) == WRITTEN
        until(lambda: hub.answers(client_address=WRITTEN, **mail) == {"OK"}, hub.log)
        assert hub.answers(client_address=LOST, **mail) == {"REJECT"}
    finally:
        hub.server.kill()
