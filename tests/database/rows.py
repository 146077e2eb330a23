"""Tables of organizations, as tomllib gives them, written to the database and read back: the tests' own control panel.

A row is what a table is. What differs is only the spelling of addresses: a range `a-b` is stored as its networks.
`errors` is what the checker says of the same tables: `policyd.config`, the code that reads files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policyd.config.conflicts import PlacedProvider
from policyd.config.files import check_together
from policyd.config.tables import parse_organization
from policyd.policy.networks import parse_network

KINDS = {"accepted_domains": "accepted", "pending_domains": "pending", "delegated_domains": "delegated"}
OWN = ("protect_sender_domains", "connectors_only", "outside_domains", "relay_limits", "suspended")
LISTS = (
    "certificate_names",
    "certificates",
    "certificate_fingerprints",
    "public_key_fingerprints",
    "tlsa",
    "addresses",
)
SENDING = ("for_domains", "foreign_senders", "relay_limits", "suspended")
_SINGLE = ("until", "foreign_senders", "suspended")

EMPTY = "DELETE FROM policyd.organizations"

Organizations = Mapping[str, Mapping[str, Any]]


def write(connection: Any, organizations: Organizations) -> None:
    """INSERTs all of them. The transaction is the caller's."""
    for name, table in organizations.items():
        _insert(connection, "organizations", {"name": name, **{key: table[key] for key in OWN if key in table}})
        for key, kind in KINDS.items():
            for domain in table.get(key, ()):
                _insert(connection, "domains", {"organization": name, "kind": kind, "domain": domain})
        for kind in ("connectors", "partners"):
            for own_name, evidence in table.get(kind, {}).items():
                row = {"organization": name, "name": own_name, **evidence}
                if "addresses" in row:
                    row["addresses"] = [block for text in row["addresses"] for block in _blocks(text)]
                _insert(connection, kind, row)


def read(connection: Any) -> dict[str, dict[str, Any]]:
    """All organizations, as tables again: empty lists and defaults are left out."""
    organizations: dict[str, dict[str, Any]] = {}
    version = connection.execute("SELECT schema_version FROM policyd.state").fetchone()[0]
    own = OWN if version > 2 else OWN[:2]
    columns = ", ".join(f"{key}::text[]" if key in ("outside_domains", "relay_limits") else key for key in own)
    for name, *values in connection.execute(f"SELECT name, {columns} FROM policyd.organizations ORDER BY name"):
        organizations[name] = {key: value for key, value in zip(own, values, strict=True) if value}
    query = "SELECT organization, domain FROM policyd.domains WHERE kind = %s ORDER BY name"
    for key, kind in KINDS.items():
        for organization, domain in connection.execute(query, (kind,)):
            organizations[organization].setdefault(key, []).append(domain)
    lists = LISTS if version > 2 else tuple(key for key in LISTS if key != "tlsa")
    for kind, more in (("connectors", SENDING if version > 2 else ()), ("partners", ("sender_domains",))):
        keys = (*lists, *(("until",) if version > 2 else ()), *more)
        columns = ", ".join(key if key in _SINGLE else f"{key}::text[]" for key in keys)
        query = f"SELECT organization, name, enabled, require_tls, {columns} FROM policyd.{kind} ORDER BY 1, 2"
        for organization, name, enabled, require_tls, *values in connection.execute(query):
            found = {"enabled": enabled, "require_tls": require_tls, **dict(zip(keys, values, strict=True))}
            table = organizations[organization].setdefault(kind, {})
            table[name] = {key: value for key, value in found.items() if value not in ([], "", "allow", None)}
    return organizations


def revision(connection: Any) -> int:
    """The revision of the database."""
    return int(connection.execute("SELECT revision FROM policyd.state").fetchone()[0])


def _insert(connection: Any, table: str, row: Mapping[str, Any]) -> None:
    marks = ", ".join(["%s"] * len(row))
    connection.execute(f"INSERT INTO policyd.{table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def _blocks(text: str) -> list[str]:
    if "-" not in text:
        return [text]
    network, _ = parse_network(text)
    shift = 32 if network.family == 4 else 128
    return [
        str(type(network)(network.family, bits << (shift - length), (((bits + 1) << (shift - length)) - 1)))
        for bits, length in network.prefixes()
    ]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where the organizations of a test come from."""

    file: str = "database"
    number: int = 0
    folder: str = ""

    def file_of(self, path: object) -> str:
        return self.file

    def line(self, path: object) -> int:
        return 0


def errors(organizations: Organizations) -> list[str]:
    """What the checker says of organizations."""
    source = _Rows()
    all_parsed = [
        parse_organization(name, table, source, 0.0, n) for n, (name, table) in enumerate(organizations.items())
    ]
    problems = [problem for parsed in all_parsed for problem in parsed.report.problems]
    problems += check_together(all_parsed, PlacedProvider())
    return [str(problem) for problem in problems if problem.severity == "error"]
