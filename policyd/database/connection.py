"""PostgreSQL, read: with `writer` and `errors` the only importer of psycopg (SPEC 9; the extra `postgresql`).

A Link is one connection that listens for `NOTIFY policyd` and reads consistent snapshots. It gives each organization as
the text of a JSON document with the keys of [organizations.NAME], and knows nothing of what they mean. Of one that is
too large the server sends only what restricts. It blocks: never call it in the reactor's thread. Whatever goes wrong is
a DatabaseError, whose text holds no password.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from policyd.database.errors import DatabaseError, defaults, errors_told

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMA_VERSION = 3  # of contrib/postgresql/schema.sql
CHANNEL = "policyd"

STATEMENT_SECONDS = 60  # for the server to work on one statement
READ_SECONDS = 90.0  # for all that one read asks
_AT_A_TIME = 2000  # organizations in one round trip

LARGEST_DOCUMENT = 1 << 20  # octets of one organization (SPEC 9)
TOO_LARGE = "too_large"  # a key of a document that has not all of its organization

# No document is built, let alone sent, of rows whose texts are so long that it cannot be small enough. The length of a
# single text costs the server nothing; a row as text is up to 4 times its part of the document.
_LONGEST_ROWS = 8 * LARGEST_DOCUMENT
_ROW_OCTETS = f"""COALESCE((SELECT sum(CASE WHEN octet_length(r.description) > {LARGEST_DOCUMENT}
         THEN {_LONGEST_ROWS} ELSE octet_length(r::text) END) FROM policyd.{{0}} r WHERE r.organization = o.name), 0)"""
_MOST_DOMAINS = 4000  # of each kind, where there are too many

_EVIDENCE = """
    'description', NULLIF({0}.description, ''), 'enabled', NULLIF({0}.enabled, true),
    'require_tls', NULLIF({0}.require_tls, false),
    'certificate_names', NULLIF({0}.certificate_names::text[], '{{}}'),
    'certificates', NULLIF({0}.certificates::text[], '{{}}'),
    'certificate_fingerprints', NULLIF({0}.certificate_fingerprints::text[], '{{}}'),
    'public_key_fingerprints', NULLIF({0}.public_key_fingerprints::text[], '{{}}'),
    'tlsa', NULLIF({0}.tlsa::text[], '{{}}'),
    'addresses', NULLIF({0}.addresses::text[], '{{}}'),
    'until', to_char({0}.until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00')
"""
_SENDING = """
    'for_domains', NULLIF(c.for_domains::text[], '{}'), 'foreign_senders', NULLIF(c.foreign_senders, 'allow'),
    'relay_limits', NULLIF(c.relay_limits::text[], '{}'), 'suspended', c.suspended
"""


def _domains(kind: str, most: str = "ALL") -> str:
    return f"""(SELECT json_agg(d.domain ORDER BY d.domain) FROM (SELECT domain::text FROM policyd.domains
       WHERE organization = o.name AND kind = '{kind}' ORDER BY domain LIMIT {most}) d)"""


def _organization(most_domains: str = "ALL") -> str:
    """Keys and values of the organization's own, without connectors and partners."""
    return f"""
    'accepted_domains', {_domains("accepted", most_domains)},
    'delegated_domains', {_domains("delegated", most_domains)},
    'outside_domains', NULLIF(o.outside_domains::text[], '{{}}'),
    'pending_domains', {_domains("pending", most_domains)},
    'protect_sender_domains', NULLIF(o.protect_sender_domains, false),
    'connectors_only', NULLIF(o.connectors_only, false),
    'relay_limits', o.relay_limits::text[], 'suspended', o.suspended"""


def _documents(where: str) -> str:
    """The statement; OFFSET 0 keeps the server from building each document once more for its length."""
    return f"""
SELECT name::text, revision, CASE WHEN octet_length(document) <= {LARGEST_DOCUMENT} THEN document ELSE
  json_strip_nulls(json_build_object('{TOO_LARGE}', true, {_organization(str(_MOST_DOMAINS))}))::text END
FROM (
  SELECT o.*, COALESCE((SELECT r.revision FROM policyd.revisions r WHERE r.organization = o.name), 0) AS revision,
    CASE WHEN {_ROW_OCTETS.format("connectors")} + {_ROW_OCTETS.format("partners")}
      + (SELECT COALESCE(sum(octet_length(d.domain)), 0) FROM policyd.domains d WHERE d.organization = o.name)
      < {_LONGEST_ROWS}
    THEN json_strip_nulls(json_build_object({_organization()},
      'connectors', (SELECT json_object_agg(c.name, json_build_object({_EVIDENCE.format("c")}, {_SENDING})
         ORDER BY c.name) FROM policyd.connectors c WHERE c.organization = o.name),
      'partners', (SELECT json_object_agg(p.name, json_build_object(
           'sender_domains', NULLIF(p.sender_domains::text[], '{{}}'), {_EVIDENCE.format("p")}) ORDER BY p.name)
         FROM policyd.partners p WHERE p.organization = o.name)
    ))::text END AS document
  FROM policyd.organizations o {where} OFFSET 0
) o"""


_ALL = _documents("")
_SOME = _documents("WHERE o.name = ANY(%s)")
_REVISIONS = """
SELECT o.name::text, COALESCE(r.revision, 0)
FROM policyd.organizations o LEFT JOIN policyd.revisions r ON r.organization = o.name"""
_CHANGED = "SELECT organization::text FROM policyd.revisions WHERE revision > %s"
# Which server this is: another system, timeline (a promoted standby, a restored backup) or database counts anew.
_IDENTITY = """
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text || '/'
    || (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())::text || '/'
    || (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())::text"""


class Row(NamedTuple):
    """One organization as it was read."""

    revision: int  # of the transaction that touched it last
    document: str  # JSON: the table [organizations.NAME]; with the key TOO_LARGE not all of it


@dataclass(frozen=True, slots=True)
class Known:
    """What the reader has from before."""

    server: str
    revision: int
    revisions: Mapping[str, int]  # by organization


@dataclass(frozen=True, slots=True)
class Rows:
    """What one consistent snapshot says, beyond what was known."""

    server: str
    revision: int
    read: Mapping[str, Row]  # new or changed
    gone: frozenset[str]


class Link:
    """One connection. Raises DatabaseError when it cannot be made."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._heard = False  # a notification came
        self._server = ""  # as in Known
        self.listens = True  # False on a standby: it must be polled
        with self._errors_told() as psycopg:
            self._connection: Connection[Any] = psycopg.connect(dsn, **defaults(dsn))
            self._errors: type[Exception] = psycopg.Error
        try:
            with self._limited():
                self._begin()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor that becomes readable when there is something to hear."""
        return self._connection.fileno()

    def heard(self) -> bool:
        """Whether a notification has arrived since the last `read`. Raises DatabaseError when the server is gone."""
        with self._errors_told():
            self._connection.pgconn.consume_input()
            self._drain()
        return self._heard

    def read(self, known: Known | None, complete: bool, each: Callable[[], None] = lambda: None) -> Rows:
        """What differs from what is known; `complete` compares each organization, not only what was notified.

        `each` is told of each organization that is read where none is known.
        """
        self._heard = False
        with self._limited(), self._errors_told(), self._connection.transaction():
            revision = self._state()
            same = known is not None and known.server == self._server and known.revision <= revision
            if known is None or not same:
                read = {}
                for name, row in self._documents(None):
                    read[name] = row
                    each()
                gone = frozenset() if known is None else known.revisions.keys() - read.keys()
                return Rows(self._server, revision, read, frozenset(gone))
            if complete:
                return self._compared(revision, known)
            if known.revision == revision:
                return Rows(self._server, revision, {}, frozenset())
            changed = [name for (name,) in self._query(_CHANGED, known.revision)]
            read = dict(self._documents(changed))
            return Rows(self._server, revision, read, frozenset(changed) - read.keys())

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """A server that hangs, or a network that swallows everything, is given up: the call fails in time."""
        limit = threading.Timer(READ_SECONDS, self._abort)
        limit.daemon = True
        limit.start()
        try:
            yield
        finally:
            limit.cancel()

    def _abort(self) -> None:
        """Wakes the thread that waits for the server."""
        try:
            with socket.socket(fileno=os.dup(self.fileno())) as twin:
                twin.shutdown(socket.SHUT_RDWR)
        except (OSError, self._errors):
            return  # it is over already

    # ----------------------------------------------------------------------------------------- within

    def _begin(self) -> None:
        """Settings of the session, LISTEN, and what server this is: all before the first snapshot."""
        connection = self._connection
        connection.add_notify_handler(self._notified)
        with self._errors_told() as psycopg:
            connection.autocommit = True
            connection.execute(f"SET statement_timeout = '{STATEMENT_SECONDS}s'")
            connection.execute("SET default_transaction_isolation = 'repeatable read'")
            connection.execute("SET default_transaction_read_only = on")
            with suppress(psycopg.errors.InsufficientPrivilege):  # then the revisions alone must do
                self._server = str(*(connection.execute(_IDENTITY).fetchone() or ()))
            try:
                connection.execute(f"LISTEN {CHANNEL}")
            except (psycopg.errors.FeatureNotSupported, psycopg.errors.ReadOnlySqlTransaction):
                self.listens = False
            except psycopg.errors.ObjectNotInPrerequisiteState:
                self.listens = False

    def _notified(self, _: Any) -> None:
        self._heard = True

    def _drain(self) -> None:
        """What has arrived beside answers; psycopg looks only while it waits for one."""
        while self._connection.pgconn.notifies() is not None:
            self._heard = True

    def _errors_told(self) -> AbstractContextManager[Any]:
        return errors_told(self._dsn, "policyd_reader")

    def _state(self) -> int:
        """The revision of the whole. Raises DatabaseError where this is no database of ours."""
        import psycopg

        try:
            row = self._connection.execute("SELECT schema_version, revision FROM policyd.state").fetchone()
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
        version, revision = row
        if version < SCHEMA_VERSION:
            raise DatabaseError(
                f"the schema in the database has version {version}, this policyd reads {SCHEMA_VERSION}; run the "
                "scripts of contrib/postgresql/migrations"
            )
        if version > SCHEMA_VERSION:
            raise DatabaseError(
                f"the schema in the database has version {version}, this policyd reads {SCHEMA_VERSION}; update policyd"
            )
        return int(revision)

    def _compared(self, revision: int, known: Known) -> Rows:
        now = dict(self._query(_REVISIONS))
        changed = [name for name, newest in now.items() if known.revisions.get(name) != newest]
        read = dict(self._documents(changed)) if changed else {}
        return Rows(self._server, revision, read, frozenset(known.revisions.keys() - now.keys()))

    def _documents(self, names: list[str] | None) -> Iterator[tuple[str, Row]]:
        rows = self._query(_ALL) if names is None else self._query(_SOME, names)
        for name, revision, document in rows:
            yield name, Row(revision, document)

    def _query(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The rows, fetched in portions: a hundred thousand organizations are not held twice."""
        with self._connection.cursor(name="policyd") as cursor:
            cursor.itersize = _AT_A_TIME
            yield from cursor.execute(statement, values)
