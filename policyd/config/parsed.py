"""One organization as it was read, with what is needed to point at the places of what it says (SPEC 4).

The model holds parsed values without places. Where one of them turns out to be in conflict, its place is found
again in the raw mapping, once for each list: so a configuration without conflicts pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from policyd.config.problems import KeyPath, Report
from policyd.policy.model import Organization


@dataclass(frozen=True, slots=True)
class Parsed:
    """`organization` holds what could be read; it may be used only where it is sound."""

    organization: Organization
    raw: Mapping[str, Any]
    report: Report
    number: int  # in the order of reading
    _indexes: dict[KeyPath, dict[Hashable, int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def path(self) -> KeyPath:
        """Its key path in the source."""
        return ("organizations", self.organization.name)

    @property
    def sound(self) -> bool:
        """Whether all of it could be read; conflicts with other organizations are not looked at."""
        return self.report.errors == 0

    def element(self, keys: KeyPath, parse: Callable[[str], Hashable], parsed: Hashable) -> tuple[KeyPath, str]:
        """The path and the text of the element of the list `keys` (below the organization) that means `parsed`.

        `parse` may raise ValueError: such an element means nothing.
        """
        texts: Any = self.raw
        for key in keys:
            texts = texts.get(key) if isinstance(texts, Mapping) else None
        texts = texts if isinstance(texts, list) else []
        indexes = self._indexes.get(keys)
        if indexes is None:
            indexes = self._indexes[keys] = {}
            for index, text in enumerate(texts):
                with suppress(ValueError):
                    if isinstance(text, str):
                        indexes.setdefault(parse(text), index)
        place = indexes.get(parsed)
        return ((*self.path, *keys), str(parsed)) if place is None else ((*self.path, *keys, place), texts[place])
