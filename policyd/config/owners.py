"""Whose a name is, over all organizations that were read, before anything is compiled (SPEC 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from policyd.config.evidence_readers import pattern_of
from policyd.config.parsed import Parsed
from policyd.config.problems import KeyPath
from policyd.policy.zones import Zones


class DomainIndex(Zones):
    """Whose an accepted name is, over organizations that may still be in conflict: the first one has it.

    An organization's number is its place among those that were read.
    """

    def __init__(self, all_parsed: Sequence[Parsed]) -> None:
        self.all_parsed = all_parsed
        self.accepted: dict[str, tuple[int, bool]] = {}
        self.cuts: dict[str, list[tuple[int, bool]]] = {}
        self.doubled: list[tuple[int, int, str]] = []  # (holder, other, the name that both accept)
        for number, parsed in enumerate(all_parsed):
            for pattern in parsed.organization.accepted_domains:
                holder, wildcard = self.accepted.setdefault(pattern.name, (number, pattern.wildcard))
                if holder != number:
                    self.doubled.append((holder, number, pattern.name))
                elif pattern.wildcard and not wildcard:
                    self.accepted[pattern.name] = (number, True)
            for name, outside in parsed.organization.cuts:
                self.cuts.setdefault(name, []).append((number, outside))

    def element(self, number: int, name: str) -> tuple[KeyPath, str]:
        """The path and text of the organization's entry `name` or `*.name`."""
        return self.all_parsed[number].element(("accepted_domains",), lambda text: pattern_of(text).name, name)
