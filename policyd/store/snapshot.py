"""The look-ups of `policyd.policy.lookups`, over records: those of the file at one moment, or with a change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from policyd.policy.lookups import ConnectorName, ConnectorTraits, Exchange, Named, OrganizationTraits, Pinned
from policyd.policy.model import Incoming, Organization
from policyd.policy.networks import Address, Network
from policyd.policy.zones import Claims
from policyd.store import lines, organization_json
from policyd.store.records import Overlay, Records, exchanged

R = TypeVar("R")

_BITS = {4: 32, 6: 128}
_MANY = 64  # lines; what longer records say is kept, while they are few
_MOST_KEPT = 256
_NOWHERE = Named()
_NOTHING = OrganizationTraits()


class Listings:
    """What connectors list: the enabled ones, or the disabled ones."""

    __slots__ = ("_disabled", "_kept", "_lengths", "records")

    def __init__(self, records: Records, disabled: bool = False) -> None:
        self.records = records
        self._disabled = disabled
        self._lengths: dict[int, tuple[int, ...]] = {}  # of the CIDR blocks that there are, by family, longest first
        self._kept: dict[bytes, object] = {}

    def certificate_names(self, name: str) -> Named:
        """Those that list exactly this name, as it stands or with `*.`."""
        return self._read(lines.listed_key(b"n", name, self._disabled), lines.read_named, _NOWHERE)

    def names_below(self, name: str) -> Iterator[tuple[str, ConnectorName]]:
        """The certificate names below this one, each with a connector that lists it."""
        for key in self.records.keys(*lines.all_below(lines.listed_key(b"n", name, self._disabled))):
            exactly, with_wildcard = lines.read_named(self.records.lines(key))
            for connector in (*exactly, *with_wildcard):
                yield lines.name_of(key), connector

    def certificates(self, fingerprint: str) -> tuple[Pinned, ...]:
        """Those that pin the certificate."""
        return self._pinned(b"c", fingerprint)

    def keys(self, fingerprint: str) -> tuple[Pinned, ...]:
        """Those that pin the public key."""
        return self._pinned(b"k", fingerprint)

    def tlsa_hosts(self, host: str) -> tuple[ConnectorName, ...]:
        """Those whose TLSA records stand at the host."""
        nobody: tuple[ConnectorName, ...] = ()
        return self._read(lines.listed_key(b"t", host, self._disabled), lines.read_connectors, nobody)

    def at_address(self, address: Address) -> list[tuple[ConnectorName, int]]:
        """Those that list a network that holds the address, each with its prefix length, longest first."""
        family, value = address
        found: list[tuple[ConnectorName, int]] = []
        for length in self._lengths_of(family):
            key = lines.block_key(family, length, value >> (_BITS[family] - length), self._disabled)
            found += [(name, length) for name in lines.read_connectors(self.records.lines(key))]
        return found

    def overlapping(self, network: Network) -> Iterator[ConnectorName]:
        """Those that list a network that shares an address with this one; some may come twice."""
        family = network.family
        for length in self._lengths_of(family):
            shift = _BITS[family] - length
            ends = (
                lines.block_key(family, length, end >> shift, self._disabled) for end in (network.first, network.last)
            )
            for key in self.records.keys(*ends):
                yield from lines.read_connectors(self.records.lines(key))

    def _pinned(self, kind: bytes, fingerprint: str) -> tuple[Pinned, ...]:
        if not fingerprint:
            return ()
        return self._read(lines.pin_key(kind, fingerprint, self._disabled), lines.read_pinned, ())

    def _read(self, key: bytes, read: Callable[[Sequence[str]], R], nothing: R) -> R:
        """What a record says. Of a long one, which a crowd shares, that is always the same object."""
        if key in self._kept:
            return self._kept[key]  # type: ignore[return-value]
        record = self.records.lines(key)
        if not record:
            return nothing
        found = read(record)
        if len(record) > _MANY:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[key] = found
        return found

    def _lengths_of(self, family: int) -> tuple[int, ...]:
        known = self._lengths.get(family)
        if known is None:
            known = self._lengths[family] = tuple(
                length for length in range(_BITS[family], -1, -1) if self._has_block(family, length)
            )
        return known

    def _has_block(self, family: int, length: int) -> bool:
        first = lines.block_key(family, length, 0, self._disabled)
        last = lines.block_key(family, length, (1 << length) - 1, self._disabled)
        return next(self.records.keys(first, last), None) is not None


class Meta(NamedTuple):
    """What is kept beside the organizations."""

    generation: int = 0
    organizations: int = 0
    connectors: int = 0  # enabled ones
    settings: Mapping[str, Any] = {}  # what a reload can change, by key


class Snapshot(Listings):
    """The rules of one moment."""

    __slots__ = ("connector_count", "disabled", "generation", "incoming", "organization_count", "settings")

    def __init__(self, records: Records, meta: Meta) -> None:
        super().__init__(records)
        self.generation = meta.generation
        self.settings = meta.settings
        self.incoming: Incoming = meta.settings.get("incoming", "OK")
        self.organization_count = meta.organizations
        self.connector_count = meta.connectors
        self.disabled = Listings(records, disabled=True)

    def claims(self, name: str) -> Claims | None:
        """What organizations say of exactly that domain; None where nothing is said."""
        record = self.records.lines(lines.domain_key(name))
        return lines.read_claims(record) if record else None

    def concerned_below(self, name: str) -> Iterator[str]:
        """The organizations that accept, list or name something at or below a domain, or whose domain folds into one
        there; some may come twice."""
        for key in lines.keys_at(name):
            for first, last in ((key, key), lines.all_below(key)):
                for found in self.records.keys(first, last):
                    yield from map(lines.organization_of, self.records.lines(found))

    def connector(self, name: ConnectorName) -> ConnectorTraits:
        """Of an enabled connector."""
        (line,) = self.records.lines(lines.connector_key(name))
        return lines.read_connector_traits(line)

    def traits(self, organization: str) -> OrganizationTraits:
        """Of an organization."""
        record = self.records.lines(lines.traits_key(organization))
        return lines.read_traits(record[0]) if record else _NOTHING

    def organization(self, name: str) -> Organization:
        """All of it, as it was meant. Raises KeyError."""
        line = self.written_one(name)
        if line is None:
            raise KeyError(name)
        return organization_json.read(line)

    def organizations(self) -> Iterator[Organization]:
        """All of them, by name."""
        return map(organization_json.read, self.written())

    def written_one(self, name: str) -> str | None:
        """An organization as it stands in the file (`organization_json`); None where there is none."""
        record = self.records.lines(lines.organization_key(name))
        return record[0] if record else None

    def written(self) -> Iterator[str]:
        """All of them, by name, likewise."""
        for key in self.records.keys(*lines.ALL_ORGANIZATIONS):
            yield self.records.lines(key)[0]

    def next_expiry(self) -> int | None:
        """Unix time at which the first stored certificate of an enabled connector expires; None without any."""
        first = next(self.records.keys(*lines.ALL_EXPIRIES), None)
        return None if first is None else lines.expiry_of(first)

    def after(self, *exchanges: Exchange) -> Snapshot:
        """The rules as they would be after a change of some organizations; nothing is written."""
        overlay = Overlay(self.records, dict(exchanged(self.records, exchanges)))
        return Snapshot(overlay, Meta(self.generation, settings=self.settings))
