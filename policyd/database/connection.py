"""PostgreSQL, connected: with `view`, `writer` and `errors` the only importer of psycopg (SPEC 9; extra `postgresql`).

A Link is one connection that listens for `NOTIFY policyd` and gives views of one moment each. Behind a pooler, whose
backends change, it only looks now and then: nothing is set, prepared or listened for there that the next client of the
backend would have too. It blocks: never call it in the reactor's thread. Whatever goes wrong is a DatabaseError, whose
text holds no password. The server may work as long as it likes if it only says something now and then.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, LiteralString

from policyd.database.errors import DatabaseError, defaults, errors_told
from policyd.database.statements import CHANNEL
from policyd.database.view import Known, Rows, View

if TYPE_CHECKING:
    from psycopg import Connection

SILENT_SECONDS = 45.0  # without an answer the server is given up; it gives a statement up itself a little later
POOLED = "no notification arrives through the connection pooler between; a dsn of the server itself is quicker"
FLOODED = "somebody sends notifications of changes that there are not"
_LOOK_SECONDS = 0.1  # between two looks whether a connection that is being made is still wanted


class Link:
    """One connection. Raises DatabaseError when it cannot be made.

    `seconds`: how long a server may say nothing. To connect, libpq has limits for each address of each host; where
    `whole` is true, `seconds` are for all of them together. `unwanted`: set by another thread, ends the attempt.
    """

    def __init__(
        self, dsn: str, seconds: float = SILENT_SECONDS, whole: bool = False, unwanted: threading.Event | None = None
    ) -> None:
        self._dsn = dsn
        self.seconds = seconds
        self._heard = False  # a notification came
        self._given_up = ""  # why we have broken the connection ourselves
        self.listens = False  # False: it must be polled
        self.warning = ""  # why it is polled, where that is no matter of course
        with errors_told(dsn, "policyd_reader") as psycopg:
            limit = seconds if whole else float("inf")
            self._connection: Connection[Any] = _connected(dsn, limit, unwanted or threading.Event())
            self._errors: type[Exception] = psycopg.Error
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor that becomes readable when there is something to hear."""
        return self._connection.fileno()

    def heard(self) -> bool:
        """Whether a notification has arrived since the last view. Raises DatabaseError when the server is gone."""
        with errors_told(self._dsn, "policyd_reader"):
            self._connection.pgconn.consume_input()
            while self._connection.pgconn.notifies() is not None:  # psycopg looks only while it waits for an answer
                self._heard = True
        return self._heard

    @contextmanager
    def view(self) -> Iterator[View]:
        """The rows of this moment, until the context ends."""
        self._heard = False
        self._do("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            view = View(self._connection, self._asked)
            self._look_out_for_poolers(view.backend)
            yield view
        except BaseException:
            with suppress(DatabaseError):  # the connection may be broken
                self._do("ROLLBACK")
            raise
        self._do("COMMIT")

    def read(self, known: Known | None, complete: bool) -> Rows:
        """What differs from what is known; `complete` compares each organization, not only what has changed since."""
        with self.view() as view:
            return view.differs(known, complete)

    def listen(self, wanted: bool) -> None:
        """Hears of changes, or does not, where somebody sends notifications of none. Not possible on a standby."""
        if wanted == self.listens or self.warning == POOLED:
            return
        with self._asked() as psycopg:
            try:
                self._connection.execute(f"LISTEN {CHANNEL}" if wanted else f"UNLISTEN {CHANNEL}")
            except (
                psycopg.errors.FeatureNotSupported,
                psycopg.errors.ReadOnlySqlTransaction,
                psycopg.errors.ObjectNotInPrerequisiteState,
            ):
                return
        self.listens, self.warning = wanted, "" if wanted else FLOODED
        self._heard = self._heard or wanted  # what changed just before

    def give_up(self, why: str) -> None:
        """Breaks the connection; a thread that waits for the server fails at once, with these words."""
        self._given_up = why
        try:
            with socket.socket(fileno=os.dup(self.fileno())) as twin:
                twin.shutdown(socket.SHUT_RDWR)
        except (OSError, self._errors):
            return  # it is over already

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    # ----------------------------------------------------------------------------------------- within

    def _begin(self) -> None:
        """LISTEN, before the first view; where it would be of use."""
        self._connection.add_notify_handler(self._notified)
        self._connection.autocommit = True
        with self._asked():
            (backend,) = self._connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone() or (0,)
        self._look_out_for_poolers(backend)
        self.listen(True)

    def _look_out_for_poolers(self, backend: int) -> None:
        """A pooler greets with a number of its own, or gives another backend later; notifications go astray then."""
        if backend != self._connection.pgconn.backend_pid:
            self.listens, self.warning = False, POOLED

    def _notified(self, _: Any) -> None:
        self._heard = True

    def _do(self, statement: LiteralString) -> None:
        with self._asked():
            self._connection.execute(statement)

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        """One wait for the server: it is given up where it says nothing for too long."""
        limit = threading.Timer(self.seconds, self.give_up, (f"it has said nothing for {self.seconds:g} s",))
        limit.daemon = True
        limit.start()
        try:
            with errors_told(self._dsn, "policyd_reader") as psycopg:
                yield psycopg
        except DatabaseError:
            if self._given_up:
                raise DatabaseError(f"the database cannot be read: {self._given_up}") from None
            raise
        finally:
            limit.cancel()


def _connected(dsn: str, seconds: float, unwanted: threading.Event) -> Connection[Any]:
    """A connection, made in a thread of its own, which may wait on when nobody else does. Raises psycopg's errors."""
    import psycopg

    outcome: SimpleQueue[Connection[Any] | Exception] = SimpleQueue()
    options = defaults(dsn)

    def connect() -> None:
        try:
            outcome.put(psycopg.connect(dsn, prepare_threshold=None, **options))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            outcome.put(error)
        if unwanted_now.is_set():
            _close_all(outcome)

    unwanted_now = threading.Event()
    threading.Thread(target=connect, name="connecting", daemon=True).start()
    deadline = time.monotonic() + seconds
    while not unwanted.is_set() and time.monotonic() < deadline:
        with suppress(Empty):
            found = outcome.get(timeout=_LOOK_SECONDS)
            if isinstance(found, Exception):
                raise found
            return found
    unwanted_now.set()
    _close_all(outcome)
    why = "policyd stops" if unwanted.is_set() else f"no server has answered within {seconds:g} s"
    raise DatabaseError(f"the database cannot be read: {why}")


def _close_all(outcome: SimpleQueue[Connection[Any] | Exception]) -> None:
    """Closes what came too late."""
    with suppress(Empty):
        found = outcome.get_nowait()
        if not isinstance(found, Exception):
            found.close()
