"""Where the rows come from: the database, else what is known from before, else the snapshot on disk (SPEC 9).

A Reader belongs to one thread at a time, but for `stop`. It blocks, up to the limits of `connection`; never call it in
the reactor's thread.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from policyd.config.settings import DatabaseSettings
from policyd.database.connection import SILENT_SECONDS, Link
from policyd.database.errors import DatabaseError
from policyd.database.snapshot import SnapshotRefused, read_snapshot
from policyd.database.standings import NOTHING, Standings
from policyd.database.view import Rows

FIRST_SECONDS = 3.0  # for servers that say nothing, where rows of last time wait to be served
MOST_IN_VAIN = 20  # notifications in a row that announced nothing; then it is polled until all is compared again


class Reader:
    """One hub's access to the database, which may come and go."""

    def __init__(self) -> None:
        self.standings: Standings | None = None  # in force; who puts it in force sets it
        self.link: Link | None = None
        self.away = ""  # why the last read did not reach the database; empty: it did
        self.in_vain = 0  # looks in a row, without `complete`, that found nothing new
        self._dsn = ""
        self._stopped = threading.Event()

    def read(self, settings: DatabaseSettings, complete: bool = True) -> tuple[Standings, frozenset[str]]:
        """The newest rows there are, and the organizations of which there are other rows than before.

        `complete`: compare everything, not only what was notified; a new connection always does. Raises DatabaseError
        when there are no rows at all.
        """
        refused = ""
        before = self.standings
        seconds = SILENT_SECONDS
        if before is None:
            try:
                before = read_snapshot(settings.snapshot_file)
                seconds = FIRST_SECONDS
            except SnapshotRefused as error:
                refused = str(error)
        try:
            rows = self._rows(settings.dsn, seconds, before, complete)
        except DatabaseError as error:
            self.disconnect()
            self.away = str(error)
            if before is None:
                raise type(error)(f"{error}; and there are no rows from before: {refused}") from None
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

    def stop(self) -> None:
        """Whoever waits for the database in another thread waits no longer. Called from any thread, at the end."""
        self._stopped.set()
        if (link := self.link) is not None:
            link.give_up("policyd stops")

    def _rows(self, dsn: str, seconds: float, before: Standings | None, complete: bool) -> Rows:
        """What is new since `before`. Raises DatabaseError."""
        if self.link is None or dsn != self._dsn:
            self.disconnect()
            self.link, self._dsn = Link(dsn, seconds, seconds < SILENT_SECONDS, self._stopped), dsn
            complete = True
        link = self.link
        with link.view() as view:
            if before is not None and not complete and (view.revision, view.stamp) == (before.revision, before.stamp):
                rows = Rows(view.stamp, view.revision, {}, frozenset())  # a million others are not even named for that
            else:
                rows = view.differs(None if before is None else before.known(), complete)
        link.seconds = SILENT_SECONDS
        self.in_vain = 0 if complete or rows.read or rows.gone else self.in_vain + 1
        link.listen(self.in_vain <= MOST_IN_VAIN)
        return rows


def at(moment: float) -> str:
    """A moment for people, in UTC."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S}"
