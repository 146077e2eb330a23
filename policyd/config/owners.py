"""Whose a name is, over all organizations that were read, before anything is compiled (SPEC 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from policyd.config.evidence_readers import pattern_of
from policyd.config.parsed import Parsed
from policyd.config.problems import KeyPath
from policyd.config.readers import Refused
from policyd.policy.names import Pattern


class DomainIndex:
    """Whose an accepted name is, over organizations that may still be in conflict: the first one has it."""

    def __init__(self, all_parsed: Sequence[Parsed]) -> None:
        self.all_parsed = all_parsed
        self.holder: dict[str, int] = {}  # accepted name -> index of the organization
        self.wildcards: set[str] = set()  # accepted names with `*.`
        self.doubled: list[tuple[int, int, Pattern]] = []  # (holder, other, the other's entry)
        for index, parsed in enumerate(all_parsed):
            for pattern in parsed.organization.accepted_domains:
                holder = self.holder.setdefault(pattern.name, index)
                if holder != index:
                    self.doubled.append((holder, index, pattern))
                elif pattern.wildcard:
                    self.wildcards.add(pattern.name)

    def zone(self, name: str) -> tuple[int, str] | None:
        """The index of the nearest accepted domain at or above `name`, and that domain (SPEC 3.1)."""
        up, dot = name, "."
        while dot:  # as `upwards` does, without a generator: each name of a configuration comes by
            holder = self.holder.get(up)
            if holder is not None:
                return holder, up
            _, dot, up = up.partition(".")
        return None

    def owns(self, index: int, name: str) -> bool:
        """Whether owner(name) is the organization's (SPEC 3.1)."""
        up, dot = name, "."
        while dot:
            holder = self.holder.get(up)
            if holder is not None:
                if holder != index:
                    return False
                if up == name or up in self.wildcards:
                    return True
            _, dot, up = up.partition(".")
        return False

    def belongs(self, index: int, name: str) -> bool:
        """Whether belongs(name) of SPEC 3.3, D, holds for the organization."""
        if self.owns(index, name):
            return True
        zone = self.zone(name)
        return zone is not None and zone[0] == index and "." in name and self.owns(index, name.partition(".")[2])

    def accepted(self, index: int, name: str) -> tuple[KeyPath, str]:
        """The path and text of the organization's entry `name` or `*.name`."""
        keys = ("accepted_domains",)
        return self.all_parsed[index].element(keys, _name_of, name)


def _name_of(text: str) -> str | None:
    try:
        return pattern_of(text).name
    except Refused:
        return None
