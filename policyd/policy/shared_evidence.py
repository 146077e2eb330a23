"""Evidence that very many connectors share: which of them the answer to one request can depend on.

A certificate name that five thousand organizations list matches five thousand connectors, and a request is about
two or three organizations. Here those are chosen, and a few of the others for what counts whoever it is: whether
anybody identified the client, and whether it was exactly one (SPEC 3.4). Nothing here changes an answer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any, TypeVar

from policyd.policy.ruleset import Domain, Pinned, RuleSet

CROWD = 64  # connectors behind one name or fingerprint; up to so many are looked at one by one

# What the indexes hold, in order of the connector's number: that alone, or with the names of a stored certificate.
E = TypeVar("E", int, Pinned)


class Choice:
    """What one request is about: some organizations, and the connectors whose networks hold its address."""

    def __init__(self, rules: RuleSet, organizations: Iterable[int], at: Iterable[int]) -> None:
        self._rules = rules
        of = ((bisect_left(rules.owners, number), bisect_right(rules.owners, number)) for number in organizations)
        self._ranges = [*of, *((number, number + 1) for number in at)]

    def among(self, entries: tuple[E, ...]) -> Iterable[E]:
        """Those that count: all of a few; of a crowd enough to answer as all of them would."""
        if len(entries) <= CROWD:
            return entries
        ranges = [*self._ranges, *((number, number + 1) for number in _representatives(self._rules, entries))]
        chosen: set[int] = set()  # places among the entries; one connector may have several
        for first, end in ranges:
            begin, stop = bisect_left(entries, first, key=_number), bisect_left(entries, end, key=_number)
            chosen.update(range(begin, stop))
        return [entries[place] for place in sorted(chosen)]


def everybody(entries: tuple[E, ...]) -> Iterable[E]:
    """In place of `Choice.among`: all entries, however many."""
    return entries


def concerned(rules: RuleSet, sender: Domain, recipient: Domain, certificate_name: str | None) -> set[int]:
    """The organizations that the answer can name, or whose own conditions it depends on."""
    organizations = {sender.owner, sender.zone, recipient.owner, *sender.pending, *recipient.pending}
    if certificate_name is not None:
        organizations.add(rules.zone(certificate_name))  # what the certificate's name is a domain of (D)
    return organizations


def _representatives(rules: RuleSet, entries: tuple[E, ...]) -> tuple[int, ...]:
    """Of those that match from every address the first two, and the first whose certificate is its own (D); of those
    that ask for TLS likewise. Worked out once for each crowd of a rule set."""
    known = rules.representatives.get(id(entries))
    if known is None:
        found: dict[int, None] = {}
        for require_tls in (False, True):
            free: list[Any] = [entry for entry in entries if _is_free(rules, _number(entry), require_tls)]
            owning: list[Any] = [entry for entry in free if _owns(rules, entry)]
            found |= dict.fromkeys(list(dict.fromkeys(map(_number, free)))[:2])
            found |= dict.fromkeys(map(_number, owning[:1]))
        known = rules.representatives[id(entries)] = tuple(found)
    return known


def _number(entry: int | Pinned) -> int:
    return entry if isinstance(entry, int) else entry[0]


def _is_free(rules: RuleSet, number: int, require_tls: bool) -> bool:
    connector = rules.connectors[number]
    return not connector.addresses and connector.require_tls == require_tls


def _owns(rules: RuleSet, entry: int | Pinned) -> bool:
    return not isinstance(entry, int) and any(rules.belongs(name, rules.owners[entry[0]]) for name in entry[1])
