"""A PostgreSQL server of the tests' own: started, stopped and asked for databases.

It listens on a loopback port and a unix socket in a folder of its own and keeps nothing (fsync is off). The
fixtures are in conftest.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.certificates import make as make_certificate
from tests.helpers.programs import POSTGRESQL
from tests.places import PROJECT

SCHEMA = PROJECT / "contrib" / "postgresql"
PASSWORD = "secret"
# Login roles: members of policyd_reader, policyd_writer and policyd_operator.
READER, WRITER, OPERATOR = "policyd_reading", "policyd_panel", "policyd_operating"
SECONDS = 120.0  # to start or stop, on a machine that is busy

_SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 60
shared_buffers = 64MB
fsync = off
full_page_writes = off
synchronous_commit = off
log_line_prefix = '%m [%p] %u@%d '
ssl = on
"""
_ACCESS = """
local all all trust
local replication postgres trust
host all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True, slots=True)
class Database:
    """One database of the server."""

    server: PostgresServer
    name: str

    def dsn(self, user: str = READER) -> str:
        """What a client over TCP gives, password included. Works while the server is away."""
        return f"postgresql://{user}:{PASSWORD}@127.0.0.1:{self.server.port}/{self.name}"

    @property
    def owner_dsn(self) -> str:
        """The superuser over the unix socket, for psql and psycopg."""
        return f"host={self.server.folder} port={self.server.port} user=postgres dbname={self.name}"

    def connect(self, user: str = WRITER, **options: Any) -> Any:
        """A psycopg connection of a login role over TCP."""
        import psycopg

        return psycopg.connect(self.dsn(user), **options)

    def owner(self) -> Any:
        """A psycopg connection of the superuser; each statement is its own transaction."""
        import psycopg

        return psycopg.connect(self.owner_dsn, autocommit=True)

    def run(self, program: str, *arguments: str) -> str:
        """What psql, pg_dump and such print about this database. Fails where the program does."""
        return self.server.run(program, "-d", self.owner_dsn, *arguments)

    def apply(self, file: Path) -> None:
        """Runs a file of SQL as docs/database.md says."""
        self.run("psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", str(file))


class PostgresServer:
    """The server. Whoever stops it starts it again; its port stays."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def run(self, program: str, *arguments: str) -> str:
        """What one of PostgreSQL's programs prints. Fails where the program does."""
        return self._run({}, program, *arguments)

    def _run(self, identity: dict[str, Any], program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(POSTGRESQL / program), *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            **identity,
        )
        assert done.returncode == 0, f"{program} {arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def make(self) -> None:
        """initdb, and the settings."""
        self._run(
            identity(), "initdb", "-D", str(self._data), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"
        )
        self._configure(_SETTINGS)
        (self._data / "pg_hba.conf").write_text(_ACCESS)
        files = make_certificate("127.0.0.1", addresses=("127.0.0.1",)).write(self._data, "server")
        files.pem.rename(self._data / "server.crt")
        if identity():
            shutil.chown(files.key, "postgres", "postgres")

    def replica(self, folder: Path, port: int) -> PostgresServer:
        """A streaming replica of this server, not started yet."""
        copy = PostgresServer(folder, port)
        self._run(
            identity(),
            "pg_basebackup",
            *("-h", str(self.folder), "-p", str(self.port), "-U", "postgres", "-D", str(copy._data)),
            *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
        )
        copy._configure("")
        return copy

    def _configure(self, settings: str) -> None:
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"{settings}port = {self.port}\nunix_socket_directories = '{self.folder}'\n")

    @property
    def certificate(self) -> str:
        """The file with its certificate, which it has signed itself: what a client takes for the CA."""
        copy = self.folder / "server.crt"
        copy.write_bytes((self._data / "server.crt").read_bytes())
        return str(copy)

    def start(self) -> None:
        """Starts it and waits until it answers."""
        assert self._process is None, "PostgreSQL runs already"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(POSTGRESQL / "postgres"), "-D", str(self._data)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **identity(),
            )
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL does not start:\n{self.log()}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends it: SIGINT disconnects all clients and stops in order, SIGQUIT stops as a crash does."""
        assert self._process is not None, "PostgreSQL does not run"
        self._process.send_signal(how)
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(SECONDS)
        self._process = None

    def restart(self) -> None:
        """Stops and starts it; clients lose their connections."""
        self.stop()
        self.start()

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def log(self) -> str:
        """Everything it has logged."""
        return (self.folder / "log").read_text("utf-8", "backslashreplace")

    def database(self, schema: bool = True) -> Database:
        """A new database, with schema.sql in it or empty."""
        self._databases += 1
        name = f"policyd_{self._databases}"
        template = "policyd_template" if schema else "template0"
        self._sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return Database(self, name)

    def drop(self, database: Database) -> None:
        """Removes a database, whoever is connected to it."""
        self._sql(f"DROP DATABASE {database.name} (FORCE)")

    def prepare(self) -> None:
        """The template that `database` copies, and the login roles."""
        self._sql("CREATE DATABASE policyd_template TEMPLATE template0")
        Database(self, "policyd_template").apply(SCHEMA / "schema.sql")
        groups = {READER: "policyd_reader", WRITER: "policyd_writer", OPERATOR: "policyd_operator"}
        for user, group in groups.items():
            self._sql(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}' IN ROLE {group}")

    def _sql(self, statement: str) -> None:
        self.run("psql", "-X", "-q", "-h", str(self.folder), "-p", str(self.port), "-U", "postgres", "-c", statement)

    def _answers(self) -> bool:
        command = [str(POSTGRESQL / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port)]
        return subprocess.run(command, timeout=SECONDS, check=False).returncode == 0


def identity() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it is Debian's user postgres."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def make_folder() -> Path:
    """A folder for a server; not one of pytest's, which are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="policyd-postgresql-"))
    if identity():
        shutil.chown(folder, "postgres", "postgres")
    return folder
