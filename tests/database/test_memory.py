"""Reads of the database, by the thousand in a year: nothing is left of one that a freeze would keep for ever."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from policyd.config.settings import DatabaseSettings
from policyd.database.reader import Reader
from policyd.service.reactor import in_thread
from tests.database.postgres import Database
from tests.helpers.waiting import until


class Reactor(Clock):
    """Does what threads hand over when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[tuple[Callable[..., None], Any]] = []

    def callFromThread(self, work: Callable[..., None], result: Any) -> None:
        self.handed.append((work, result))

    def do(self) -> None:
        until(lambda: bool(self.handed), "the thread is done")
        work, result = self.handed.pop()
        work(result)


@pytest.mark.parametrize("complete", [False, True])
def test_reads_leave_nothing_to_the_garbage_collector(complete: bool, database: Database, tmp_path: Path) -> None:
    settings = DatabaseSettings(dsn=database.dsn(), snapshot_file=str(tmp_path / "snapshot"))
    reader, reactor = Reader(), Reactor()
    seen: list[int] = []

    def read() -> None:
        in_thread(reactor, reader.read, settings, complete).addCallback(lambda read: seen.append(len(read)))
        reactor.do()

    for _ in range(3):
        read()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            read()
        assert gc.collect() == 0
    finally:
        gc.enable()
        reader.disconnect()
    assert seen == [2] * 23
