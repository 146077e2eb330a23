"""Organizations -> rows of PostgreSQL: what `policyd export` writes (SPEC 9; the extra `postgresql`).

One transaction: all organizations or none. The constraints of contrib/postgresql/schema.sql have the last word. Needs a
user that is a member of policyd_writer, and where anything is suspended of policyd_operator, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from policyd.config.certificates import pem_of
from policyd.database.errors import defaults, errors_told
from policyd.policy.fingerprints import colons
from policyd.policy.model import Connector, Evidence, Organization, Partner
from policyd.policy.names import Pattern
from policyd.policy.networks import Network, format_address

_EVIDENCE = (
    "description",
    "enabled",
    "require_tls",
    "certificate_names",
    "certificates",
    "certificate_fingerprints",
    "public_key_fingerprints",
    "addresses",
    "tlsa",
    "until",
)
_ORGANIZATION = ("name", "protect_sender_domains", "connectors_only", "outside_domains", "relay_limits")
_SENDING = ("for_domains", "foreign_senders", "relay_limits")


class AlreadyThereError(Exception):
    """Organizations of these names are in the database."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


def write_organizations(dsn: str, organizations: Sequence[Organization], replace: bool = False) -> None:
    """Writes all, or none. Raises DatabaseError, AlreadyThereError (without `replace`), CertificateRefused."""
    with errors_told(dsn) as psycopg, psycopg.connect(dsn, prepare_threshold=None, **defaults(dsn)) as connection:
        names = [organization.name for organization in organizations]
        rows = connection.execute("SELECT name::text FROM policyd.organizations WHERE name = ANY(%s)", (names,))
        there = sorted(name for (name,) in rows)
        if there and not replace:
            raise AlreadyThereError(there)
        with connection.cursor() as cursor:
            if there:
                cursor.execute("DELETE FROM policyd.organizations WHERE name = ANY(%s)", (there,))
            _copy(cursor, "organizations", _ORGANIZATION, map(_organization, organizations))
            domains = (row for one in organizations for row in _domains(one))
            _copy(cursor, "domains", ("organization", "kind", "domain"), domains)
            columns = ("organization", "name", *_EVIDENCE)
            connectors = (
                (one.name, *_evidence(item), *_sending(item)) for one in organizations for item in one.connectors
            )
            _copy(cursor, "connectors", (*columns, *_SENDING), connectors)
            partners = ((one.name, *_evidence(item), _senders(item)) for one in organizations for item in one.partners)
            _copy(cursor, "partners", (*columns, "sender_domains"), partners)
            _suspend(dsn, cursor, organizations)


def _copy(cursor: Any, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """One statement for each table: the constraints look at all its rows at once."""
    with cursor.copy(f"COPY policyd.{table} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _suspend(dsn: str, cursor: Any, organizations: Sequence[Organization]) -> None:
    """The operator's column, which has a role of its own."""
    whole = [(one.suspended, one.name) for one in organizations if one.suspended]
    single = [
        (item.suspended, one.name, item.name) for one in organizations for item in one.connectors if item.suspended
    ]
    with errors_told(dsn, "policyd_operator"):
        cursor.executemany("UPDATE policyd.organizations SET suspended = %s WHERE name = %s", whole)
        cursor.executemany("UPDATE policyd.connectors SET suspended = %s WHERE organization = %s AND name = %s", single)


def _organization(organization: Organization) -> tuple[object, ...]:
    limits = organization.relay_limits
    return (
        organization.name,
        organization.protect_sender_domains,
        organization.connectors_only,
        _widest(organization.outside_domains),
        None if limits is None else list(map(str, limits)),
    )


def _domains(organization: Organization) -> Iterator[tuple[str, str, str]]:
    """What is delegated stands first: it allows the other's accepted domain."""
    for kind, patterns in (
        ("delegated", organization.delegated_domains),
        ("accepted", organization.accepted_domains),
        ("pending", organization.pending_domains),
    ):
        for pattern in _widest(patterns):
            yield organization.name, kind, pattern


def _widest(patterns: Iterable[Pattern]) -> list[str]:
    """Without `x` beside `*.x`, which means the same."""
    wildcards = {pattern.name for pattern in patterns if pattern.wildcard}
    return sorted(str(pattern) for pattern in patterns if pattern.wildcard or pattern.name not in wildcards)


def _evidence(evidence: Evidence) -> tuple[object, ...]:
    return (
        evidence.name,
        evidence.description,
        evidence.enabled,
        evidence.require_tls,
        _widest(evidence.certificate_names),
        sorted({pem_of(stored) for stored in evidence.stored_certificates}),
        sorted(map(colons, evidence.certificate_fingerprints)),
        sorted(map(colons, evidence.public_key_fingerprints)),
        [block for network in sorted(evidence.addresses) for block in _blocks(network)],
        sorted(evidence.tlsa),
        None if evidence.until is None else datetime.fromtimestamp(evidence.until, UTC),
    )


def _sending(connector: Connector) -> tuple[object, ...]:
    return (
        sorted(map(str, connector.for_domains)),
        connector.foreign_senders,
        list(map(str, connector.relay_limits)),
    )


def _senders(partner: Partner) -> list[str]:
    return ["*"] if partner.every_sender else _widest(partner.sender_domains)


def _blocks(network: Network) -> Iterator[str]:
    """A range as the blocks that make it up: columns of type cidr know no other ranges."""
    for prefix, length in network.prefixes():
        yield f"{format_address((network.family, prefix << (network.bits - length)))}/{length}"
