"""Names that many parties present: the list that ships with policyd, and what claims one of them (SPEC 4).

Read when a configuration is, never in the request path. `many_parties.toml` beside this module is the one place of the
names, each with its source.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from policyd.policy.names import Pattern, parse_pattern, upwards, upwards_in


@cache
def shipped_names() -> tuple[Pattern, ...]:
    """The names on the list."""
    listed = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["names"]
    return tuple(pattern for entry in listed if (pattern := parse_pattern(entry["name"])) is not None)


class SharedNames:
    """Finds the name of many parties that a certificate name would match; the first of equals counts."""

    def __init__(self, names: Sequence[Pattern]) -> None:
        self._exact = {pattern.name: pattern for pattern in reversed(names)}
        self._wildcards = {pattern.name: pattern for pattern in reversed(names) if pattern.wildcard}
        self._above = {up: pattern for pattern in reversed(names) for up in upwards(pattern.name)}

    def claimed_by(self, pattern: Pattern) -> Pattern | None:
        """A name of theirs that `pattern` covers, or that covers `pattern`."""
        if pattern.wildcard and pattern.name in self._above:
            return self._above[pattern.name]
        if pattern.name in self._exact:
            return self._exact[pattern.name]
        return next((wildcard for _, wildcard in upwards_in(self._wildcards, pattern.name)), None)
