"""Rows of the database as a source of problems, and as the mapping that `tables` reads (SPEC 9).

Places read `database:organizations/contoso/connectors/head-office`; there are no lines. Knows nothing of SQL.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from policyd.config.messages import Message
from policyd.config.parsed import Parsed
from policyd.config.problems import KeyPath, Report
from policyd.config.tables import parse_organization
from policyd.config.text import clean
from policyd.database.statements import TOO_LARGE
from policyd.policy.model import Organization

_AFTER_ALL_FILES = 1 << 30
_PLACE_LENGTH = 4  # organizations/NAME/connectors/NAME


class RowSource:
    """The database; it is read after all files."""

    file = "database"
    number = _AFTER_ALL_FILES
    folder = ""

    def file_of(self, path: KeyPath) -> str:
        """The rows that a key is of."""
        return f"database:{'/'.join(clean(str(part)) for part in path[:_PLACE_LENGTH])}"

    def line(self, path: KeyPath) -> int:
        """Rows have no lines."""
        return 0


SOURCE = RowSource()


class Document(Mapping[str, Any]):
    """The mapping in a JSON text, decoded when somebody looks: of a hundred thousand, few are looked at twice."""

    __slots__ = ("_data", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._data: dict[str, Any] | None = None

    def _decoded(self) -> dict[str, Any]:
        if self._data is None:
            self._data, _ = table_of(self._text)
        return self._data

    def __getitem__(self, key: str) -> Any:
        return self._decoded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())


def table_of(text: str) -> tuple[dict[str, Any], bool]:
    """The table [organizations.NAME] in a document, as TOML would give it; and whether there is more than it says."""
    table: dict[str, Any] = json.loads(text)
    for kind in ("connectors", "partners"):
        for evidence in table.get(kind, {}).values():
            if isinstance(evidence, dict) and isinstance(evidence.get("until"), str):
                with suppress(ValueError):
                    evidence["until"] = datetime.fromisoformat(evidence["until"])
    return table, table.pop(TOO_LARGE, False) is True


def parse_document(name: str, text: str, now: float, number: int) -> Parsed:
    """The organization in a document, with its problems."""
    table, too_large = table_of(text)
    parsed = parse_organization(name, table, SOURCE, now, number)
    if too_large:
        parsed.report.error(parsed.path, Message.ORGANIZATION_TOO_LARGE)
    return parsed


def known_document(organization: Organization, text: str, now: float, number: int) -> Parsed:
    """What was read from the document before."""
    return Parsed(organization, Document(text), Report(SOURCE, now), number)
