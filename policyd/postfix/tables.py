"""The tables that a Postfix names, each looked into once: listed, asked as smtpd would, or found missing (SPEC 7).

Only tables on this machine are asked; databases elsewhere are not. Changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from policyd.postfix.access_tables import actions
from policyd.postfix.postconf import Postfix
from policyd.postfix.text import TEXT_TYPES, PostconfError

INLINE = ("inline", "static", "randmap", "unionmap")
PATTERNS = ("cidr", "pcre", "regexp")  # they are asked about the whole key only

_TYPE = re.compile(r"[a-z][a-z0-9_]*(?=:)")
_MISSING = re.compile(r"No such file|Not a directory|Is a directory")


def kind_and_name(table: str) -> tuple[str, str]:
    """The type and the rest of `type:name`, without proxymap(8); an empty type for what is no table."""
    table = table.removeprefix("proxy:")
    kind = _TYPE.match(table)
    return (kind[0], table[kind.end() + 1 :]) if kind is not None else ("", table)


class Tables:
    """What the tables of one Postfix hold."""

    def __init__(self, postfix: Postfix) -> None:
        self._postfix = postfix
        self._entries: dict[str, list[tuple[str, str]] | None] = {}
        self._answers: dict[str, dict[str, str | None] | None] = {}
        self._failures: dict[str, str] = {}

    def entries(self, table: str) -> list[tuple[str, str]] | None:
        """Every key with its value; None where that cannot be said."""
        if table not in self._entries:
            self._entries[table] = self._listed(table)
        return self._entries[table]

    def answers(self, table: str, keys: Iterable[str]) -> dict[str, str] | None:
        """What the table says of those of the keys that it has; None where it cannot be asked."""
        wanted = list(dict.fromkeys(keys))
        known = self._answers.setdefault(table, {} if self._is_here(table) else None)
        if known is None:
            return None
        new = [key for key in wanted if key not in known and key and "\n" not in key]
        try:
            found = self._postfix.lookup(table, new)
        except PostconfError as error:
            self._failures[table] = str(error)
            self._answers[table] = None
            return None
        known.update({key: found.get(key) for key in new})
        return {key: value for key in wanted if (value := known.get(key)) is not None}

    def missing(self, table: str) -> str:
        """Why smtpd cannot open a table: there is no such file; empty where it can, or where nobody can tell."""
        if kind_and_name(table)[0] == "fail":
            return "a table of this type always fails"
        self.answers(table, ["policyd"])
        reason = self._failures.get(table, "")
        _, name = kind_and_name(table)
        return reason if name in reason and _MISSING.search(reason) else ""

    def _listed(self, table: str) -> list[tuple[str, str]] | None:
        if not self._is_here(table):
            return None
        try:
            return list(actions(self._postfix, table))
        except PostconfError:
            return None

    @staticmethod
    def _is_here(table: str) -> bool:
        kind, _ = kind_and_name(table)
        return kind in TEXT_TYPES or kind in INLINE or kind in PATTERNS


def first_answer(answers: dict[str, str], keys: Sequence[str]) -> tuple[str, str]:
    """The first key that a table has, and what it says; two empty texts where it has none."""
    return next(((key, answers[key]) for key in keys if key in answers), ("", ""))
