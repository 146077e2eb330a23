"""Evidence that very many connectors share: which of them the answer to one request can depend on.

A certificate name that five thousand organizations list matches five thousand connectors, and a request is about
two or three organizations. Here those are chosen, and a few of the others for what counts whoever it is: whether
anybody identified the client, and whether it was exactly one (SPEC 3.4). Nothing here changes an answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from policyd.policy.lookups import ConnectorName, Pinned
from policyd.policy.ruleset import Domain, RuleSet

CROWD = 64  # connectors behind one name or fingerprint; up to so many are looked at one by one

# What is listed, in order of the connector's name: that alone, or with the names of a stored certificate.
E = TypeVar("E", ConnectorName, Pinned)


class Choice:
    """What one request is about: some organizations, and the connectors whose networks hold its address."""

    def __init__(self, rules: RuleSet, organizations: Iterable[str], at: Iterable[ConnectorName]) -> None:
        self._rules = rules
        # From the first name to the first one behind: no name holds an octet as high as 0x7F.
        self._ranges = [((name, ""), (name, "\x7f")) for name in organizations]
        self._ranges += [_only(name) for name in at]

    def among(self, entries: tuple[E, ...]) -> Iterable[E]:
        """Those that count: all of a few; of a crowd enough to answer as all of them would."""
        if len(entries) <= CROWD:
            return entries
        chosen: set[int] = set()  # places among the entries; one connector may have several
        for first, end in [*self._ranges, *map(_only, _representatives(self._rules, entries))]:
            begin, stop = bisect_left(entries, first, key=_name), bisect_left(entries, end, key=_name)
            chosen.update(range(begin, stop))
        return [entries[place] for place in sorted(chosen)]


def everybody(entries: tuple[E, ...]) -> Iterable[E]:
    """In place of `Choice.among`: all entries, however many."""
    return entries


def concerned(rules: RuleSet, sender: Domain, recipient: Domain, certificate_name: str | None) -> set[str]:
    """The organizations that the answer can name, or whose own conditions it depends on."""
    organizations = {sender.owner, recipient.owner, recipient.zone, *sender.pending, *recipient.pending}
    organizations.update(reading.zone for reading in sender.readings)
    if certificate_name is not None:
        organizations.add(rules.zone(certificate_name))  # what the certificate's name is a domain of (D)
    return organizations


def _only(name: ConnectorName) -> tuple[ConnectorName, ConnectorName]:
    return name, (name[0], f"{name[1]}\0")


def _representatives(rules: RuleSet, entries: tuple[E, ...]) -> tuple[ConnectorName, ...]:
    """A few of a crowd that match from every address, worked out once for each crowd of a rule set."""
    known = rules.representatives.get(id(entries))
    if known is not None and known[0] is entries:
        return known[1]
    by_tls: dict[bool, list[E]] = {False: [], True: []}
    for entry in entries:
        traits = rules.connector(_name(entry))
        if not traits.has_addresses:
            by_tls[traits.require_tls].append(entry)
    chosen = tuple(dict.fromkeys(name for alike in by_tls.values() for name in _speaking_for_all(rules, alike)))
    rules.representatives[id(entries)] = (entries, chosen)
    return chosen


def _speaking_for_all(rules: RuleSet, entries: Sequence[ConnectorName | Pinned]) -> Iterator[ConnectorName]:
    """The first two connectors, the first of another organization than the first, and the first ones whose certificate
    is their own (D) and that take any sender, or any bounce; of those that are suspended the first."""
    suspended = {name for name in map(_name, entries) if rules.connector(name).is_suspended}
    active = [entry for entry in entries if _name(entry) not in suspended]
    names = list(dict.fromkeys(map(_name, active)))
    yield from names[:2]
    yield from [name for name in names if name[0] != names[0][0]][:1]
    for foreign_senders in ("allow", "bounces"):
        taking = (entry for entry in active if rules.connector(_name(entry)).foreign_senders == foreign_senders)
        yield from [_name(entry) for entry in taking if _owns(rules, entry)][:1]
    yield from sorted(suspended)[:1]


def _name(entry: ConnectorName | Pinned) -> ConnectorName:
    first, second = entry
    return first if isinstance(first, tuple) else (first, second)  # type: ignore[return-value]


def _owns(rules: RuleSet, entry: ConnectorName | Pinned) -> bool:
    first, second = entry
    if not isinstance(first, tuple):
        return False
    return any(rules.belongs(name, first[0], rules.connector(first).for_domains) for name in second)
