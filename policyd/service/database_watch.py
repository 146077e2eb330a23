"""The database, seen from the reactor: when to read it, and what to say of it (SPEC 9).

Between reads its connection rests in the reactor, which wakes for a notification or a broken connection; a read takes
it into a thread. It is read at each notification, after each new connection, and every `refresh_seconds`. While it is
away it is tried again and again, ever less often. Nothing here waits.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet import threads
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd.config.settings import DatabaseSettings
from policyd.database.connection import Link
from policyd.database.reader import Reader, at
from policyd.database.snapshot import write_snapshot
from policyd.database.standings import Standings
from policyd.loading.load import FromDatabase
from policyd.service.decision_log import DecisionLog

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0
POLL_SECONDS = 5.0  # between two looks at a standby, which cannot notify
KEEP_SECONDS = 5.0  # between a change and its being kept on disk; many changes are kept once
MOST_REST_SECONDS = 5.0
VAIN_SECONDS = 0.02  # rest after a look that found nothing new, twice as long after each further one, up to
MOST_VAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """How the database stands."""

    up: bool
    read_at: float  # Unix time: the database held the rows in force then
    organizations: int
    left_out: int  # organizations whose latest rows are not in force
    reads: int
    failures: int


@implementer(IReadDescriptor)
class DatabaseWatch:
    """`ask` is called when there is reason to read; `busy` and `rested` frame the reading."""

    def __init__(self, reactor: Any, reader: Reader, log: DecisionLog, ask: Callable[[], None]) -> None:
        self._reactor = reactor
        self._reader = reader
        self._log = log
        self._ask = ask
        self._settings: DatabaseSettings | None = None
        self.from_database: FromDatabase | None = None  # what is in force; None without a database
        self._watched: int | None = None  # the descriptor that the reactor looks at
        self._timer: Any = None
        self._keeping: Any = None  # the timer, or the thread's Deferred
        self._kept: Standings | None = None  # what the file on disk holds
        self._not_kept: Standings | None = None  # what could not be written
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._began: float | None = None  # the read under way, by the reactor's clock
        self._was_away = self._warned = ""
        self._reads = self._failures = 0
        self._stopped = False
        self.complete = True  # what the next read has to be

    def in_force(self, settings: DatabaseSettings | None, from_database: FromDatabase | None) -> None:
        """New rules were put in force: these rows are among them."""
        if settings != self._settings:
            self._kept = self._not_kept = None  # the file may be another one
        self._settings, self.from_database = settings, from_database
        self._reader.standings = None if from_database is None else from_database.standings
        if from_database is None:
            self._reader.disconnect()

    # ------------------------------------------------------------------------------------------- when to read

    def busy(self) -> None:
        """A thread takes the connection."""
        self._began = self._reactor.seconds()
        self._unwatch()
        self._no_timer()

    def rested(self) -> None:
        """The thread is done with it."""
        if self._settings is None or self._stopped:
            self._reader.disconnect()
            return
        self._tell()
        self._keep_later()
        link = self._reader.link
        if link is None:
            self._failures += 1
            self._later(self._retry_seconds * random.uniform(0.7, 1.3), complete=True)  # not all hubs at once
            self._retry_seconds = min(2 * self._retry_seconds, LONGEST_RETRY_SECONDS)
            return
        self._reads += 1
        self._retry_seconds = FIRST_RETRY_SECONDS
        # However many changes there are, half of the time is left for requests.
        took = 0.0 if self._began is None else self._reactor.seconds() - self._began
        rest = min(took, MOST_REST_SECONDS)
        if self._reader.in_vain:  # anybody who may connect can send notifications
            rest = max(rest, min(VAIN_SECONDS * 2 ** (self._reader.in_vain - 1), MOST_VAIN_SECONDS))
        self._timer = self._reactor.callLater(rest, self._rest)

    def stop(self) -> None:
        """No more reads; keeps what is not kept yet."""
        self._stopped = True
        self._unwatch()
        self._no_timer()
        self._reader.stop()
        if isinstance(self._keeping, Deferred):
            return  # a thread is at it, and the end waits for it
        if self._keeping is not None:
            self._keeping.cancel()
        try:
            self._keep()
        except OSError:
            self._cannot_keep(Failure())

    def _rest(self) -> None:
        link = self._reader.link
        if link is None or self._settings is None:
            return
        if self._reader.heard():
            self._read(complete=False)
            return
        self._watch(link)
        if link.listens:
            self._later(self._settings.refresh_seconds * random.uniform(0.9, 1.1), complete=True)
        else:
            self._later(min(POLL_SECONDS, self._settings.refresh_seconds), complete=False)

    def _no_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _later(self, seconds: float, complete: bool) -> None:
        self._timer = self._reactor.callLater(seconds, self._read, complete)

    def _read(self, complete: bool) -> None:
        self._unwatch()
        self.complete = complete
        self._ask()

    def _watch(self, link: Link) -> None:
        self._watched = link.fileno()
        self._reactor.addReader(self)

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._reactor.removeReader(self)
            self._watched = None

    # IReadDescriptor

    def fileno(self) -> int:
        """The connection's."""
        return -1 if self._watched is None else self._watched

    def doRead(self) -> None:
        """A notification, or the end of the connection."""
        link = self._reader.link
        self._unwatch()  # before a broken connection is closed: the reactor could not let go of it afterwards
        if self._reader.heard():
            self._no_timer()
            self._read(complete=False)
        elif link is not None:
            self._watch(link)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gave the descriptor up; the timer will find out."""
        self._watched = None

    def logPrefix(self) -> str:
        """For Twisted's own log."""
        return "database"

    # ------------------------------------------------------------------------------------------- what to say

    def status(self) -> DatabaseStatus | None:
        """For metrics; None without a database."""
        if self.from_database is None:
            return None
        standings = self._reader.standings or self.from_database.standings
        return DatabaseStatus(
            up=not self._reader.away,
            read_at=standings.read_at,
            organizations=len(standings.by_name),
            left_out=len(standings.left_out),
            reads=self._reads,
            failures=self._failures,
        )

    def text(self) -> str:
        """For STATUS; empty where all is well, or there is no database."""
        status = self.status()
        if status is None:
            return ""
        left_out = f", {status.left_out} left out" if status.left_out else ""
        return left_out if status.up else f"{left_out}, database away: rows of {at(status.read_at)} UTC"

    def _tell(self) -> None:
        """Says once that the database went away, and once that it is back."""
        away = self._reader.away
        if away and not self._was_away and self._reader.standings is not None:
            self._log.event(f"{away}; the rows of {at(self._reader.standings.read_at)} UTC stay in force", "<4>")
        elif self._was_away and not away:
            self._log.event("the database can be read again")
        self._was_away = away
        warning = "" if self._reader.link is None else self._reader.link.warning
        if warning and warning != self._warned:
            self._log.event(f"the database is asked every few seconds: {warning}", "<4>")
        self._warned = warning

    # ------------------------------------------------------------------------------------------- keeping

    def _keep_later(self) -> None:
        standings = self._reader.standings
        if self._keeping is None and self._dirty():
            self._keeping = self._reactor.callLater(KEEP_SECONDS, self._start_keeping)
        elif self._settings is not None and not self._reader.away and _same(standings, self._kept):
            with suppress(OSError):  # the rows on disk are still those of the database: so says the time of the file
                os.utime(self._settings.snapshot_file)

    def _dirty(self) -> bool:
        standings, settings = self._reader.standings, self._settings
        wanted = standings is not None and settings is not None and settings.snapshot_file != ""
        return wanted and not _same(standings, self._kept) and not _same(standings, self._not_kept)

    def _start_keeping(self) -> None:
        def over(_: object) -> None:
            self._keeping = None
            if not self._stopped:
                self._keep_later()

        work: Deferred[None] = threads.deferToThread(self._keep)
        self._keeping = work
        work.addErrback(self._cannot_keep)
        work.addBoth(over)

    def _keep(self) -> None:
        """Writes the snapshot. Called in a thread, and at the end. Raises OSError."""
        standings, settings = self._reader.standings, self._settings
        if standings is not None and settings is not None and self._dirty():
            self._not_kept = standings
            write_snapshot(settings.snapshot_file, standings)
            self._kept, self._not_kept = standings, None

    def _cannot_keep(self, failure: Failure) -> None:
        """Said once; the next change tries again."""
        self._log.event(f"cannot keep the rows of the database: {failure.getErrorMessage()}", "<4>")


def _same(one: Standings | None, other: Standings | None) -> bool:
    """Whether both hold the same rows, whenever they were read."""
    return one is not None and other is not None and one.by_name is other.by_name
