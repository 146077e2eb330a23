"""What docs/database.md says of TLS to the database, of replicas and of a fail-over, with real servers."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.database.postgres import READER, SECONDS, Database, PostgresServer, make_folder
from tests.helpers.waiting import until
from tests.places import TESTS


def test_tls(database: Database, postgresql: PostgresServer, tmp_path: Path) -> None:
    """verify-full takes the server's own certificate for its own name, and nothing else."""
    import psycopg

    right = f"&sslrootcert={postgresql.certificate}"
    with psycopg.connect(f"{database.dsn()}?sslmode=verify-full{right}") as connection:
        assert connection.pgconn.ssl_in_use
    another = tmp_path / "another.pem"
    shutil.copy(TESTS / "certs" / "cn-only.pem", another)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(f"{database.dsn()}?sslmode=verify-full&sslrootcert={another}")
    other_name = database.dsn().replace("127.0.0.1", "db.example")
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        psycopg.connect(f"{other_name}?hostaddr=127.0.0.1&sslmode=verify-full{right}")


@pytest.fixture(scope="module")
def replica(postgresql: PostgresServer, free_port: Callable[[], int]) -> Iterator[PostgresServer]:
    """A running streaming replica of the server."""
    folder = make_folder()
    server = postgresql.replica(folder, free_port())
    try:
        server.start()
        yield server
    finally:
        if server.running:
            server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(connection: Any, query: str, expected: object) -> None:
    until(lambda: connection.execute(query).fetchone()[0] == expected, f"{query}: {expected!r}")


def test_replica_and_fail_over(
    database: Database, replica: PostgresServer, policyd_command: list[str], tmp_path: Path
) -> None:
    """A replica has what was committed, cannot LISTEN, serves a hub, and goes on as the first server when promoted."""
    import psycopg

    mirrored = Database(replica, database.name)
    with database.connect() as panel:
        panel.execute("INSERT INTO policyd.organizations (name) VALUES ('contoso')")
        panel.execute("INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'contoso.com')")
    # CREATE DATABASE comes over the wire too
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            hub = psycopg.connect(mirrored.dsn(READER), autocommit=True)
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    with hub:
        _wait_for(hub, "SELECT revision FROM policyd.state", 1)
        with pytest.raises(psycopg.errors.Error, match="cannot execute LISTEN during recovery"):
            hub.execute("LISTEN policyd")
        configuration = tmp_path / "policyd.toml"
        configuration.write_text(f'[database]\ndsn = "{mirrored.dsn()}"\nsnapshot_file = ""\n', "utf-8")
        command = [*policyd_command, "show", "-c", str(configuration)]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert 'accepted_domains = ["contoso.com"]' in shown.stdout.replace("[ ", "[").replace(",]", "]"), shown.stderr
        with mirrored.owner() as owner:
            owner.execute("SELECT pg_promote()")
            _wait_for(owner, "SELECT pg_is_in_recovery()", False)
        with mirrored.connect() as panel:
            panel.execute("UPDATE policyd.organizations SET connectors_only = true")
            panel.commit()
        _wait_for(hub, "SELECT revision FROM policyd.state", 2)
        hub.execute("LISTEN policyd")
    both = f"postgresql://{READER}:secret@127.0.0.1:1,127.0.0.1:{replica.port}/{database.name}"
    with psycopg.connect(both) as connection:
        assert connection.execute("SELECT revision FROM policyd.state").fetchone() == (2,)
