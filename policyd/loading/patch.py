"""A RuleSet made from another one by exchanging a few organizations: what `RuleSet(rules)` would decide (SPEC 9).

Whatever an index holds of the organizations that stay is shared or copied in one step; only entries of those that
change are worked out. Numbers keep the order of names, as the decision needs it: new ones take places that are free.
A free place repeats the organization or connector before it, and no index names it. `spaced` makes free places.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any, Generic, TypeVar

from policyd.loading.numbers import NAME, NO_CONNECTOR, NO_ORGANIZATION, NoRoom, Numbers
from policyd.policy.model import Connector, Delta, Organization, Partner, Rules
from policyd.policy.networks import Network
from policyd.policy.ruleset import NOBODY, RuleSet, certificates_of, keys_of

V = TypeVar("V")

_ORGANIZATION_STEP = 2  # places for each organization when there is to be room
_CONNECTOR_STEP = 3


def patched(base: RuleSet, delta: Delta, generation: int) -> RuleSet:
    """The rules with `delta`; `base` stays as it is."""
    rules = replace(base.rules, organizations=delta.applied(base.rules.organizations))
    for roomy in (base, None):
        try:
            return _Patch(spaced(base) if roomy is None else roomy, delta).made(rules, generation)
        except NoRoom:
            continue
    return RuleSet(rules, generation)  # hundreds of new names in one place


class _Index(Generic[V]):
    """A dictionary of tuples that is copied at its first change."""

    def __init__(self, entries: dict[str, tuple[V, ...]], number: Callable[[V], int]) -> None:
        self.entries = entries
        self._original = entries
        self._number = number

    def take(self, key: str, number: int) -> None:
        self._own()
        left = tuple(entry for entry in self.entries.get(key, ()) if self._number(entry) != number)
        if left:
            self.entries[key] = left
        else:
            self.entries.pop(key, None)

    def put(self, key: str, entry: V) -> None:
        self._own()
        self.entries[key] = tuple(sorted((*self.entries.get(key, ()), entry), key=self._number))

    def _own(self) -> None:
        if self.entries is self._original:
            self.entries = dict(self._original)


class _Patch:
    """The indexes, while they are being changed."""

    def __init__(self, base: RuleSet, delta: Delta) -> None:
        self._base = base
        self._numbers = Numbers(base)
        self._exact: _Index[int] = _Index(base.exact_names, int)
        self._wildcard: _Index[int] = _Index(base.wildcard_names, int)
        self._certificates: _Index[Any] = _Index(base.certificates, itemgetter(0))
        self._keys: _Index[Any] = _Index(base.keys, itemgetter(0))
        self._pending: _Index[Any] = _Index(base.pending, itemgetter(0))
        self._cuts: _Index[Any] = _Index(base.cuts, itemgetter(0))
        self._networks: dict[tuple[int, int], dict[int, tuple[int, ...]]] = {}
        self._accepted_before: set[str] = set()  # accepted names that are taken out
        self._accepted_now: dict[str, tuple[int, bool]] = {}
        self._expiries: list[int] = []
        self._expired_too = False  # a certificate that could be the first to expire was taken out
        self._count = base.connector_count
        old = [(number, self._numbers.organizations[number]) for number in self._in_force(delta)]
        for number, organization in old:
            self._forget(number, organization)
        for name in delta.gone:
            number = self._numbers.number(name)
            if number != NOBODY:
                self._numbers.take_out(number)
        new = [one for one in delta.put if self._numbers.number(one.name) == NOBODY]
        for organization in sorted(new, key=NAME):
            self._numbers.put_in(organization)
        for organization in delta.put:
            self._learn(self._numbers.number(organization.name), organization)

    def _in_force(self, delta: Delta) -> Iterator[int]:
        for name in (*delta.gone, *(one.name for one in delta.put)):
            number = self._numbers.number(name)
            if number != NOBODY:
                yield number

    # ------------------------------------------------------------------------------------------- entries

    def _forget(self, number: int, organization: Organization) -> None:
        self._accepted_before.update(pattern.name for pattern in organization.accepted_domains)
        for name, _ in organization.cuts:
            self._cuts.take(name, number)
        for name in {pattern.name for pattern in organization.pending_domains}:
            self._pending.take(name, number)
        begin, end = bisect_left(self._base.owners, number), bisect_right(self._base.owners, number)
        gone = range(begin, end)
        for at in gone:
            connector = self._base.connectors[at]
            if connector is NO_CONNECTOR or (at and connector is self._base.connectors[at - 1]):
                continue  # a free place
            self._count -= 1
            for index, key, _ in self._entries(at, connector):
                index.take(key, at)
            for network in connector.addresses:
                self._network(network, lambda numbers: tuple(n for n in numbers if n not in gone))
            for stored in connector.stored_certificates:
                self._expired_too |= stored.not_after == self._base.next_expiry

    def _learn(self, number: int, organization: Organization) -> None:
        for pattern in organization.accepted_domains:
            wildcard = pattern.wildcard or self._accepted_now.get(pattern.name, (number, False))[1]
            self._accepted_now[pattern.name] = (number, wildcard)
        for name, outside in organization.cuts:
            self._cuts.put(name, (number, outside))
        for pattern in organization.pending_domains:
            self._pending.put(pattern.name, (number, pattern.wildcard))
        for at, connector in self._numbers.exchange(number, organization):
            self._count += 1
            for index, key, entry in self._entries(at, connector):
                index.put(key, entry)
            for network in connector.addresses:
                self._network(network, partial(_with, at))
            self._expiries += [stored.not_after for stored in connector.stored_certificates]

    def _entries(self, number: int, connector: Connector) -> Iterator[tuple[_Index[Any], str, Any]]:
        for pattern in connector.certificate_names:
            yield self._wildcard if pattern.wildcard else self._exact, pattern.name, number
        for fingerprint, names in certificates_of(connector):
            yield self._certificates, fingerprint, (number, names)
        for fingerprint, names in keys_of(connector):
            yield self._keys, fingerprint, (number, names)

    def _network(self, network: Network, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
        for bits, length in network.prefixes():
            table = self._networks.get((network.family, length))
            if table is None:
                table = self._networks[network.family, length] = self._base.addresses.table(network.family, length)
            numbers = change(table.get(bits, ()))
            if numbers:
                table[bits] = numbers
            else:
                table.pop(bits, None)

    # ------------------------------------------------------------------------------------------- the whole

    def made(self, rules: Rules, generation: int) -> RuleSet:
        base, numbers = self._base, self._numbers
        return RuleSet.of_parts(
            rules,
            generation,
            organizations=tuple(numbers.organizations),
            connectors=tuple(numbers.connectors),
            owners=tuple(numbers.owners),
            partners=tuple(numbers.partners),
            accepted=self._accepted(),
            pending=self._pending.entries,
            cuts=self._cuts.entries,
            exact_names=self._exact.entries,
            wildcard_names=self._wildcard.entries,
            certificates=self._certificates.entries,
            keys=self._keys.entries,
            addresses=base.addresses.exchanged(self._networks),
            next_expiry=self._next_expiry(),
            connector_count=self._count,
        )

    def _next_expiry(self) -> int | None:
        known = [] if self._base.next_expiry is None else [self._base.next_expiry]
        if self._expired_too:
            known = [stored.not_after for one in self._numbers.connectors for stored in one.stored_certificates]
        return min([*known, *self._expiries], default=None)

    def _accepted(self) -> Mapping[str, tuple[int, bool]]:
        base = self._base.accepted
        if {name: base.get(name) for name in self._accepted_before} == self._accepted_now:
            return base
        return {name: entry for name, entry in base.items() if name not in self._accepted_before} | self._accepted_now


def spaced(base: RuleSet) -> RuleSet:
    """The same rules with free places between all numbers."""
    organizations = [one for one in base.organizations for _ in range(_ORGANIZATION_STEP)]
    connectors = [one for one in base.connectors for _ in range(_CONNECTOR_STEP)]
    owners = [_ORGANIZATION_STEP * number for number in base.owners for _ in range(_CONNECTOR_STEP)]
    partners: list[tuple[Partner, ...]] = []
    for of in base.partners:
        partners += [of, *([()] * (_ORGANIZATION_STEP - 1))]
    a, c = _ORGANIZATION_STEP, _CONNECTOR_STEP
    # One more free place before everything, for names that come first.
    return RuleSet.of_parts(
        base.rules,
        base.generation,
        organizations=(NO_ORGANIZATION, NO_ORGANIZATION, *organizations),
        connectors=(*[NO_CONNECTOR] * c, *connectors),
        owners=(*([0] * c), *(number + a for number in owners)),
        partners=((), (), *partners),
        accepted={name: (a * number + a, wildcard) for name, (number, wildcard) in base.accepted.items()},
        cuts={name: tuple((a * n + a, outside) for n, outside in of) for name, of in base.cuts.items()},
        pending={name: tuple((a * n + a, w) for n, w in of) for name, of in base.pending.items()},
        exact_names={name: tuple(c * n + c for n in of) for name, of in base.exact_names.items()},
        wildcard_names={name: tuple(c * n + c for n in of) for name, of in base.wildcard_names.items()},
        certificates={key: tuple((c * n + c, names) for n, names in of) for key, of in base.certificates.items()},
        keys={key: tuple((c * n + c, names) for n, names in of) for key, of in base.keys.items()},
        addresses=base.addresses.renumbered(lambda n: c * n + c),
        next_expiry=base.next_expiry,
        connector_count=base.connector_count,
    )


def _with(number: int, numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({*numbers, number}))
