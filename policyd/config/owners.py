"""Whose a name is, over all organizations that were read, before anything is compiled (SPEC 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from policyd.config.evidence_readers import pattern_of
from policyd.config.parsed import Parsed
from policyd.config.problems import KeyPath
from policyd.policy.zones import Claims, Zones


class DomainIndex(Zones):
    """Whose an accepted name is, over organizations that may still be in conflict: the first one has it."""

    def __init__(self, all_parsed: Sequence[Parsed]) -> None:
        self.by_name = {parsed.organization.name: parsed for parsed in all_parsed}
        self.accepted: dict[str, tuple[str, bool]] = {}
        self.cuts: dict[str, list[tuple[str, bool]]] = {}
        self.doubled: list[tuple[str, str, str]] = []  # (holder, other, the name that both accept)
        for name, parsed in self.by_name.items():
            for pattern in parsed.organization.accepted_domains:
                holder, wildcard = self.accepted.setdefault(pattern.name, (name, pattern.wildcard))
                if holder != name:
                    self.doubled.append((holder, name, pattern.name))
                elif pattern.wildcard and not wildcard:
                    self.accepted[pattern.name] = (name, True)
            for cut, outside in parsed.organization.cuts:
                self.cuts.setdefault(cut, []).append((name, outside))

    def claims(self, name: str) -> Claims | None:
        """Who accepts the name or cuts it out; what is pending is not looked at."""
        accepted, cuts = self.accepted.get(name), self.cuts.get(name, ())
        return Claims(accepted, cuts) if accepted or cuts else None

    def element(self, organization: str, name: str) -> tuple[KeyPath, str]:
        """The path and text of the organization's entry `name` or `*.name`."""
        return self.by_name[organization].element(("accepted_domains",), lambda text: pattern_of(text).name, name)
