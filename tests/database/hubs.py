"""Hubs of the tests' own: a configuration with a database, and questions that Postfix would ask."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.database.postgres import Database
from tests.helpers.policyd_server import PolicydServer

SECONDS = 60.0  # for anything to take effect, on a machine that is busy


def configuration(folder: Path, database: Database, port: int, settings: str = "", more: str = "") -> Path:
    """A policyd.toml that reads the database; `settings` stand in [service], `more` behind all."""
    folder.mkdir(exist_ok=True)
    path = folder / "policyd.toml"
    path.write_text(
        f"""
[service]
listen = ["inet:127.0.0.1:{port}"]
{settings}
[database]
dsn = "{database.dsn()}"
snapshot_file = "database.snapshot"
{more}
"""
    )
    return path


class Hub:
    """One running policyd and how to ask it."""

    def __init__(self, server: PolicydServer, port: int, processes: int = 1) -> None:
        self.server = server
        self.port = port
        self.snapshot = server.config.parent / "database.snapshot"
        self._asked_each_time = 1 if processes == 1 else 4 * processes  # a connection is of one worker

    def answers(self, **attributes: str) -> set[str]:
        """The first words of what it answers, over new connections; more than one where its workers differ."""
        return {answer(self.port, **attributes) for _ in range(self._asked_each_time)}

    def log(self) -> str:
        """All it has logged."""
        return self.server.log()


def answer(port: int, **attributes: str) -> str:
    """The first word of the answer to one request in state RCPT."""
    lines = [
        "request=smtpd_access_policy",
        "protocol_state=RCPT",
        *(f"{key}={text}" for key, text in attributes.items()),
    ]
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        connection.settimeout(SECONDS)
        connection.sendall("\n".join([*lines, "", ""]).encode())
        reply = b""
        while not reply.endswith(b"\n\n"):
            piece = connection.recv(4096)
            assert piece, f"policyd closed the connection after {reply!r}"
            reply += piece
    return reply.decode().removeprefix("action=").split()[0]
