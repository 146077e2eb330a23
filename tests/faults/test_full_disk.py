"""A full disk under what policyd keeps besides its log: recorded requests, and the last rows of a database.

Answers go on, what was kept before stays readable, and the operator is told once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyd.database.snapshot import read_snapshot, write_snapshot
from policyd.database.standings import Standing, Standings
from policyd.database.view import Row
from policyd.records.transcript import read_requests
from tests.faults.peers import OK, answers, ask, configuration, connect, request
from tests.helpers.waiting import until

BLOCK = 100
LONG = request(
    client_address="203.0.113.7", sender="kate@contoso.com", recipient="b@other.example", helo_name="x" * 400
)


def test_recording(
    small_disk: Path, policyd_server: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """It ends with one line; every answer comes, and what was taken can be read."""
    port, file = free_port(), small_disk / "requests"
    config = configuration(tmp_path, port, more='[log]\ndecisions = "none"')
    with policyd_server(config, "--record", str(file)) as server:
        ended = f"recording to {file} ended: it could not be written"
        with connect(port) as connection:

            def asked() -> bool:
                connection.sendall(LONG * BLOCK)
                assert answers(connection, BLOCK) == [OK] * BLOCK
                return ended in server.log()

            until(asked, "the disk is full and that is told")
            asked()
        assert server.log().count(ended) == 1
        assert ask(port) == OK
        assert "internal error" not in server.log()
    assert file.stat().st_mode & 0o077 == 0
    whole = file.read_bytes().rpartition(b"\n\n")[0].count(b"\n\n") + 1
    assert whole > 50
    with file.open("rb") as stream:
        for _, read in zip(range(whole), read_requests(stream), strict=False):
            assert read.sender == "kate@contoso.com"


def test_rows_of_the_database(small_disk: Path) -> None:
    """The rows kept before stay as they were, and the next ones are kept when there is room again."""
    path = str(small_disk / "rows")

    def standings(revision: int, size: int) -> Standings:
        by_name = {f"o{n}": Standing(Row(revision, f'["{os.urandom(40).hex()}"]'), None, None) for n in range(size)}
        return Standings("server", revision, 0.0, by_name)

    write_snapshot(path, standings(1, 10))
    with pytest.raises(OSError, match="No space left"):
        write_snapshot(path, standings(2, 3000))
    assert (read_snapshot(path).revision, len(read_snapshot(path).by_name)) == (1, 10)
    write_snapshot(path, standings(3, 20))
    assert (read_snapshot(path).revision, len(read_snapshot(path).by_name)) == (3, 20)
