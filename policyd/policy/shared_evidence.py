"""Evidence that very many connectors share: which of them the answer to one request can depend on.

A certificate name that five thousand organizations list matches five thousand connectors, and a request is about
two or three organizations. Here those are chosen, and a few of the others for what counts whoever it is: whether
anybody identified the client, and whether it was exactly one (SPEC 3.4). Nothing here changes an answer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

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
    organizations = {sender.owner, recipient.owner, recipient.zone, *sender.pending, *recipient.pending}
    organizations.update(reading.zone for reading in sender.readings)
    if certificate_name is not None:
        organizations.add(rules.zone(certificate_name))  # what the certificate's name is a domain of (D)
    return organizations


def _representatives(rules: RuleSet, entries: tuple[E, ...]) -> tuple[int, ...]:
    """A few of a crowd that match from every address, worked out once for each crowd of a rule set."""
    known = rules.representatives.get(id(entries))
    if known is None:
        free = [entry for entry in entries if not rules.connectors[_number(entry)].addresses]
        chosen: dict[int, None] = {}
        for require_tls in (False, True):
            alike = [entry for entry in free if rules.connectors[_number(entry)].require_tls == require_tls]
            chosen |= dict.fromkeys(_speaking_for_all(rules, alike))
        known = rules.representatives[id(entries)] = tuple(chosen)
    return known


def _speaking_for_all(rules: RuleSet, entries: Sequence[int | Pinned]) -> Iterator[int]:
    """The first two connectors, the first of another organization than the first, and the first ones whose certificate
    is their own (D) and that take any sender, or any bounce; of those that are suspended the first."""
    suspended = {number for number in map(_number, entries) if is_suspended(rules, number)}
    active = [entry for entry in entries if _number(entry) not in suspended]
    numbers = list(dict.fromkeys(map(_number, active)))
    yield from numbers[:2]
    yield from [number for number in numbers if rules.owners[number] != rules.owners[numbers[0]]][:1]
    for foreign_senders in ("allow", "bounces"):
        taking = (e for e in active if rules.connectors[_number(e)].foreign_senders == foreign_senders)
        yield from [_number(entry) for entry in taking if _owns(rules, entry)][:1]
    yield from sorted(suspended)[:1]


def _number(entry: int | Pinned) -> int:
    return entry if isinstance(entry, int) else entry[0]


def _owns(rules: RuleSet, entry: int | Pinned) -> bool:
    if isinstance(entry, int):
        return False
    number, names = entry
    return any(rules.belongs(name, rules.owners[number], rules.connectors[number].for_domains) for name in names)


def is_suspended(rules: RuleSet, connector: int) -> bool:
    """Whether a connector or its organization is suspended (SPEC 3.7)."""
    return bool(rules.connectors[connector].suspended or rules.organizations[rules.owners[connector]].suspended)
