"""The mapped file that the rules are kept in: one writes, all others read the same pages (LMDB).

A change is one transaction: whoever reads sees all of it or nothing, and goes on seeing what he saw until he takes a
new snapshot. Each value carries a checksum over key and value. Readers of other processes open the same path; nobody
may use a Store that was opened before a fork.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, cast
from zlib import crc32

import lmdb

from policyd.policy.lookups import Exchange
from policyd.policy.model import Delta, Organization, Rules
from policyd.policy.ruleset import RuleSet
from policyd.store import lines, organization_json
from policyd.store.records import exchanged
from policyd.store.snapshot import Meta, Snapshot

_META = b"m"
_CHECKSUM = 4  # octets
_BATCH = 5000  # organizations written together: records that many of them share are put together once
_MAP_SIZES = (1 << 38, 1 << 33, 1 << 30)  # octets of address space, not of memory or disk: the first that can be had
_READERS = 1024  # processes, at most
# Hears of an organization before and after a change; None where there is none.
Told = Callable[[Organization | None, Organization | None], None]


class Damaged(Exception):
    """The file holds something else than what was written."""


class FileRecords:
    """The records of one moment: a transaction that reads."""

    __slots__ = ("_get", "_transaction")

    def __init__(self, transaction: lmdb.Transaction) -> None:
        self._transaction = transaction
        self._get = cast(Callable[[bytes], bytes | None], transaction.get)  # no buffers were asked for

    def lines(self, key: bytes) -> Sequence[str]:
        """The lines of a record; none where there is no record. Raises Damaged."""
        value = self._get(key)
        if value is None:
            return ()
        text = value[_CHECKSUM:]
        if crc32(text, crc32(key)) != int.from_bytes(value[:_CHECKSUM], "big"):
            raise Damaged(f"the record {key!r} is damaged")
        return text.decode().split("\n")

    def keys(self, first: bytes, last: bytes) -> Iterator[bytes]:
        """The keys from `first` to `last`, both included, in order."""
        with closing(self._transaction.cursor()) as cursor:
            if cursor.set_range(first):
                for key in cast(Iterator[bytes], cursor.iternext(keys=True, values=False)):
                    if key > last:
                        break
                    yield key

    def meta(self) -> Meta:
        """What is kept beside the organizations. Raises Damaged."""
        record = self.lines(_META)
        return Meta(**json.loads(record[0])) if record else Meta()


class Store:
    """The file at `path`; without one, a private one in memory. `readonly`: for all but the one that writes."""

    def __init__(self, path: str = "", readonly: bool = False) -> None:
        self.path = path
        self._environment = _opened(path, readonly)

    def snapshot(self) -> Snapshot:
        """The rules as they are now. Raises Damaged."""
        records = FileRecords(self._environment.begin())
        return Snapshot(records, records.meta())

    def replace_all(
        self,
        organizations: Iterable[Organization],
        generation: int,
        settings: Mapping[str, str],
        told: Told = lambda *_: None,
    ) -> None:
        """Makes these all the organizations there are; `told` hears of each that is not the same, before and after."""
        with self._environment.begin(write=True) as transaction:
            writer = _Writer(transaction, told)
            writer.exchange(writer.differing(organizations))
            writer.finish(generation, settings)

    def change(self, delta: Delta, generation: int, told: Told = lambda *_: None) -> None:
        """Exchanges some organizations."""
        with self._environment.begin(write=True) as transaction:
            writer = _Writer(transaction, told)
            gone = [(before, None) for name in sorted(delta.gone) if (before := writer.found(name)) is not None]
            put = [(writer.found(one.name), one) for one in delta.put]
            writer.exchange([*gone, *put])
            writer.finish(generation, writer.meta.settings)


class _Writer:
    """One change of the file."""

    def __init__(self, transaction: lmdb.Transaction, told: Told) -> None:
        self._transaction = transaction
        self._told = told
        self._records = FileRecords(transaction)
        self.meta = self._records.meta()
        self._organizations, self._connectors = self.meta.organizations, self.meta.connectors

    def found(self, name: str) -> Organization | None:
        """An organization as it is in the file."""
        record = self._records.lines(lines.organization_key(name))
        return organization_json.read(record[0]) if record else None

    def differing(self, organizations: Iterable[Organization]) -> Iterator[Exchange]:
        """Those that are not in the file as they stand here, and those that are in the file only."""
        left = set(self._records.keys(*lines.ALL_ORGANIZATIONS))
        for organization in organizations:
            key = lines.organization_key(organization.name)
            if key not in left:
                yield None, organization
                continue
            left.discard(key)
            (line,) = self._records.lines(key)
            if line != organization_json.written(organization):
                yield organization_json.read(line), organization
        for key in sorted(left):
            yield organization_json.read(self._records.lines(key)[0]), None

    def exchange(self, exchanges: Iterable[Exchange]) -> None:
        """Writes organizations, some at a time."""
        remaining = iter(exchanges)
        while batch := list(islice(remaining, _BATCH)):
            for key, record in exchanged(self._records, batch):
                self._put(key, record)
            for before, after in batch:
                self._organizations += (after is not None) - (before is not None)
                self._connectors += _enabled(after) - _enabled(before)
                if before != after:
                    self._told(before, after)

    def finish(self, generation: int, settings: Mapping[str, Any]) -> None:
        """Writes what is kept beside the organizations."""
        meta = Meta(generation, self._organizations, self._connectors, dict(settings))
        self._put(_META, [json.dumps(meta._asdict())])

    def _put(self, key: bytes, record: Sequence[str]) -> None:
        if record:
            text = "\n".join(record).encode()
            self._transaction.put(key, crc32(text, crc32(key)).to_bytes(_CHECKSUM, "big") + text)
        else:
            self._transaction.delete(key)


def rule_set(rules: Rules, generation: int = 1) -> RuleSet:
    """The rules, in a file of their own in memory, which ends with them."""
    store = Store()
    store.replace_all(rules.organizations, generation, {"incoming": rules.incoming})
    return RuleSet(store.snapshot())


def _enabled(organization: Organization | None) -> int:
    return 0 if organization is None else sum(connector.enabled for connector in organization.connectors)


def _opened(path: str, readonly: bool) -> lmdb.Environment:
    """Opens the file, with as much address space as can be had. Raises lmdb.Error."""
    descriptor = -1 if path else os.memfd_create("policyd-rules")
    options: dict[str, Any] = (
        {"path": path, "max_readers": _READERS, "readonly": readonly, "mode": 0o600}
        if path
        else {"path": f"/proc/self/fd/{descriptor}", "lock": False}
    )
    try:
        for size in _MAP_SIZES:
            try:
                return lmdb.open(**options, subdir=False, sync=False, map_size=size)  # made anew at each start
            except (lmdb.MemoryError, MemoryError):
                if size == _MAP_SIZES[-1]:
                    raise
        raise AssertionError("unreachable")
    finally:
        if descriptor >= 0:
            os.close(descriptor)
