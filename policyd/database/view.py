"""The rows of one moment: what a transaction of PostgreSQL sees, and what differs from what is known (SPEC 9).

Every transaction that writes has a revision and a random stamp. Revisions count up, and after a fail-over that lost
commits, or a restore, they come again for other rows; stamps do not. So two databases that both know a revision with
its stamp agree on everything up to it. Knows nothing of what rows mean. It blocks: never call it in the reactor's
thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from policyd.database import statements
from policyd.database.errors import DatabaseError

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMA_VERSION = 3  # of contrib/postgresql/schema.sql
_DOCUMENTS_AT_A_TIME = 100  # in one round trip: each up to 1 MiB
_CHANGED_AT_A_TIME = 1000  # in one statement
_NAMES_AT_A_TIME = 10_000


class Row(NamedTuple):
    """One organization as it was read."""

    revision: int  # of the transaction that touched it last
    document: str  # JSON: the table [organizations.NAME]; with the key TOO_LARGE not all of it
    stamp: str = ""  # of that transaction; empty: not known


@dataclass(frozen=True, slots=True)
class Known:
    """What a reader has from before."""

    stamp: str  # with `revision`: up to which moment, in whatever database
    revision: int
    stamps: Mapping[str, str]  # by organization


@dataclass(frozen=True, slots=True)
class Rows:
    """What one moment says, beyond what was known."""

    stamp: str
    revision: int
    read: Mapping[str, Row]  # new or changed
    gone: frozenset[str]


class View:
    """One moment, while its transaction lasts. Raises DatabaseError where this is no database of ours.

    `asked` frames each wait for the server.
    """

    def __init__(self, connection: Connection[Any], asked: Callable[[], AbstractContextManager[Any]]) -> None:
        self._connection = connection
        self._asked = asked
        self._value(statements.SETTINGS)
        self.revision, self.backend = self._state()
        self.stamp: str = self._value(statements.STAMP, (self.revision,)) or ""

    def changed_since(self, revision: int, stamp: str) -> frozenset[str] | None:
        """Organizations that are new, changed or gone since then.

        None where that moment is not of this database's past, or so long ago that it is not known any more: then only
        `stamps` tell.
        """
        if revision > self.revision or not stamp or not self._value(statements.IS_KNOWN, (revision, stamp)):
            return None
        return frozenset(name for (name,) in self._query(statements.CHANGED, _NAMES_AT_A_TIME, (revision,)))

    def stamps(self) -> Iterator[tuple[str, str]]:
        """Each organization, in the order of names (their octets), with its stamp: another one, other rows."""
        yield from self._query(statements.STAMPS, _NAMES_AT_A_TIME)

    def organizations(self, names: frozenset[str] | None = None) -> Iterator[tuple[str, Row]]:
        """All, or those of these that there are, in the order of names (their octets). Holds few of them at a time."""
        for name, revision, stamp, document in self._documents(names):
            if document is None:
                document = self._value(statements.RESTRICTIONS, {"name": name})
            yield name, Row(revision, document, stamp)

    def differs(self, known: Known | None, compare: bool) -> Rows:
        """What is new to a reader. `compare`: all stamps, not only what has changed by its revision."""
        if known is None:
            return Rows(self.stamp, self.revision, dict(self.organizations()), frozenset())
        changed = None if compare else self.changed_since(known.revision, known.stamp)
        if changed is None:
            now = dict(self.stamps())
            changed = frozenset(name for name, stamp in now.items() if not stamp or known.stamps.get(name) != stamp)
            changed |= known.stamps.keys() - now.keys()
        read = dict(self.organizations(changed)) if changed else {}
        return Rows(self.stamp, self.revision, read, changed - read.keys())

    def _documents(self, names: frozenset[str] | None) -> Iterator[tuple[Any, ...]]:
        if names is None:
            yield from self._query(statements.ALL, _DOCUMENTS_AT_A_TIME)
            return
        ordered = sorted(names)
        for first in range(0, len(ordered), _CHANGED_AT_A_TIME):
            some = ordered[first : first + _CHANGED_AT_A_TIME]
            yield from self._query(statements.SOME, _DOCUMENTS_AT_A_TIME, {"names": some})

    def _state(self) -> tuple[int, int]:
        """The revision of the whole, and which backend says so."""
        import psycopg

        with self._asked():
            try:
                row = self._connection.execute(statements.STATE).fetchone()
            except (
                psycopg.errors.UndefinedTable,
                psycopg.errors.UndefinedColumn,
                psycopg.errors.InvalidSchemaName,
            ) as error:
                reason = error.diag.message_primary or "a table is missing"
                raise DatabaseError(
                    f"the database has no schema for policyd ({reason}); an administrator runs "
                    "contrib/postgresql/schema.sql in it"
                ) from None
        if row is None:
            raise DatabaseError("policyd.state has no row; was contrib/postgresql/schema.sql run to its end?")
        version, revision, backend = row
        if version != SCHEMA_VERSION:
            mend = "run the scripts of contrib/postgresql/migrations" if version < SCHEMA_VERSION else "update policyd"
            raise DatabaseError(
                f"the schema in the database has version {version}, this policyd reads {SCHEMA_VERSION}; {mend}"
            )
        return revision, backend

    def _value(self, statement: str, values: Any = ()) -> Any:
        """The one value of the first row; None where there is none."""
        with self._asked():
            row = self._connection.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def _query(self, statement: str, at_a_time: int, values: Any = ()) -> Iterator[tuple[Any, ...]]:
        """The rows, fetched in portions, each with a wait of its own."""
        with self._connection.cursor(name="policyd") as cursor:
            with self._asked():
                cursor.execute(statement, values)
            while True:
                with self._asked():
                    rows = cursor.fetchmany(at_a_time)
                if not rows:
                    return
                yield from rows
