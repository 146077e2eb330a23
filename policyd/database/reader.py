"""Where the rows come from: the database, else what is known from before, else the snapshot on disk (SPEC 9).

A Reader belongs to one thread at a time. It blocks, up to the limits of `connection`; never call it in the reactor's
thread.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from policyd.config.settings import DatabaseSettings
from policyd.database.connection import Link
from policyd.database.errors import DatabaseError
from policyd.database.snapshot import SnapshotRefused, read_snapshot
from policyd.database.standings import NOTHING, Standings


class Reader:
    """One hub's access to the database, which may come and go."""

    def __init__(self) -> None:
        self.standings: Standings | None = None  # in force; who puts it in force sets it
        self.link: Link | None = None
        self.away = ""  # why the last read did not reach the database; empty: it did
        self._dsn = ""

    def read(self, settings: DatabaseSettings, complete: bool = True) -> tuple[Standings, frozenset[str]]:
        """The newest rows there are, and the organizations of which there are other rows than before.

        `complete`: compare everything, not only what was notified; a new connection always does. Raises DatabaseError
        when there are no rows at all.
        """
        refused = ""
        before = self.standings
        if before is None:
            try:
                before = read_snapshot(settings.snapshot_file)
            except SnapshotRefused as error:
                refused = str(error)
        try:
            complete = self._connect(settings.dsn) or complete
            assert self.link is not None
            rows = self.link.read(None if before is None else before.known(), complete)
        except DatabaseError as error:
            self.disconnect()
            self.away = str(error)
            if before is None:
                raise DatabaseError(f"{error}; and there are no rows from before: {refused}") from None
            return before, frozenset()
        except BaseException:
            self.disconnect()
            raise
        self.away = ""
        standings = (before or NOTHING).with_rows(rows, time.time())
        return standings, rows.gone.union(rows.read)

    def heard(self) -> bool:
        """Whether there is reason to read: a notification, or a connection that broke."""
        try:
            return self.link is None or self.link.heard()
        except DatabaseError as error:
            self.away = str(error)
            self.disconnect()
            return True

    def disconnect(self) -> None:
        """Ends the connection; the next read makes a new one."""
        link, self.link = self.link, None
        if link is not None:
            link.close()

    def _connect(self, dsn: str) -> bool:
        """Makes a connection where there is none to this dsn; whether it did."""
        if self.link is not None and dsn == self._dsn:
            return False
        self.disconnect()
        self.link, self._dsn = Link(dsn), dsn
        return True


def at(moment: float) -> str:
    """A moment for people, in UTC."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S}"
