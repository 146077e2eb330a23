"""Client addresses, networks and ranges, and the index that finds all networks that hold an address.

Addresses are integers with a family (4 or 6); IPv4-mapped IPv6 is IPv4 (SPEC 3.2). `ipaddress` only
formats them, since it reads slowly; a look-up is one dict probe for each prefix length in use.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Address = tuple[int, int]  # family (4 or 6), value

_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96
_V4 = 1 << 32


def parse_address(text: str) -> Address | None:
    """The address that Postfix sent as `client_address`; None for `unknown` and anything else."""
    try:
        if ":" not in text:
            return 4, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
        value = int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big")
    except (OSError, ValueError):  # ValueError: NUL or a surrogate escape
        return None
    return (4, value - _MAPPED) if value >> 32 == 0xFFFF else (6, value)


@dataclass(frozen=True, slots=True, order=True)
class Network:
    """The addresses from `first` to `last`, both included, of one family."""

    family: int
    first: int
    last: int

    @property
    def bits(self) -> int:
        """How many bits an address of this family has."""
        return 32 if self.family == 4 else 128

    @property
    def size(self) -> int:
        """How many addresses it holds."""
        return self.last - self.first + 1

    def holds(self, address: Address) -> bool:
        """Whether the address lies in it."""
        return address[0] == self.family and self.first <= address[1] <= self.last

    def overlaps(self, other: Network) -> bool:
        """Whether the two share an address."""
        return self.family == other.family and self.first <= other.last and other.first <= self.last

    def prefixes(self) -> Iterator[tuple[int, int]]:
        """The fewest CIDR blocks that make it up: (leading bits as a number, how many of them)."""
        at = self.first
        while at <= self.last:
            span = min((at & -at) if at else 1 << self.bits, 1 << ((self.last - at + 1).bit_length() - 1))
            host_bits = span.bit_length() - 1
            yield at >> host_bits, self.bits - host_bits
            at += span

    def __str__(self) -> str:
        """An address, CIDR, or `a-b`, as short as it goes; what `parse_network` reads back."""
        blocks = list(self.prefixes()) if self.size & (self.size - 1) == 0 else []
        if len(blocks) != 1:
            return f"{format_address((self.family, self.first))}-{format_address((self.family, self.last))}"
        text = format_address((self.family, self.first))
        return text if self.size == 1 else f"{text}/{blocks[0][1]}"


def format_address(address: Address) -> str:
    """The usual text of an address (RFC 5952 for IPv6)."""
    family, value = address
    return str(ipaddress.IPv4Address(value) if family == 4 else ipaddress.IPv6Address(value))


def parse_network(text: str) -> tuple[Network, bool]:
    """A single address, CIDR, or `a-b` range; the flag says that host bits were set in a CIDR.

    Raises ValueError with a text for the administrator. A network of IPv4-mapped IPv6 addresses
    becomes IPv4; one that holds such addresses and others is refused.
    """
    if "-" in text:
        (family, first), (other, last) = (_address(part) for part in text.split("-", 1))
        if family != other:
            raise ValueError("a range needs two addresses of one kind, IPv4 or IPv6")
        if last < first:
            raise ValueError("the range is backwards: write the lower address first")
        return _unmapped(family, first, last), False
    base, slash, length = text.partition("/")
    family, value = _address(base)
    if not slash:
        return _unmapped(family, value, value), False
    bits = 32 if family == 4 else 128
    if not (length.isascii() and length.isdigit() and int(length) <= bits):
        raise ValueError(f"the prefix length after / must be a number from 0 to {bits}")
    host_mask = (1 << (bits - int(length))) - 1
    first = value & ~host_mask
    return _unmapped(family, first, first | host_mask), first != value


def _address(text: str) -> Address:
    """As `parse_address`, but what is IPv4-mapped stays IPv6. Raises ValueError."""
    family, number = (socket.AF_INET6, 6) if ":" in text else (socket.AF_INET, 4)
    try:
        return number, int.from_bytes(socket.inet_pton(family, text), "big")
    except (OSError, ValueError):
        address, _, zone = text.partition("%")
        if zone and "%" not in zone and "/" not in zone and ":" in address and parse_address(address) is not None:
            raise ValueError("an address with a zone (%...) cannot be a client's") from None
        raise ValueError(f'"{text}" is no IPv4 or IPv6 address') from None


def _unmapped(family: int, first: int, last: int) -> Network:
    low, high = _MAPPED, _MAPPED + _V4 - 1
    if family == 6 and first <= high and last >= low:
        if first < low or last > high:
            raise ValueError("it holds IPv4-mapped addresses (::ffff:0:0/96) and others: write the IPv4 part as IPv4")
        return Network(4, first - low, last - low)
    return Network(family, first, last)


def _of_kind(*texts: str) -> tuple[Network, ...]:
    return tuple(parse_network(text)[0] for text in texts)


# Networks whose addresses are nobody's own on the Internet (RFC 6890), by kind.
THIS_NETWORK = _of_kind("0.0.0.0/8")
LOOPBACK = _of_kind("127.0.0.0/8", "::1")
LINK_LOCAL = _of_kind("169.254.0.0/16", "fe80::/10")
# RFC 1918, RFC 6598, RFC 4193: many networks' own, and those of gateways that hide who connects
PRIVATE = _of_kind("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
MULTICAST = _of_kind("224.0.0.0/3", "ff00::/8")  # with what is reserved, and broadcast
# IPv4 addresses as IPv6: NAT64, 6to4, IPv4-compatible. ::1 lies there, yet is none (RFC 4291, 2.5.5.1).
DISGUISED_V4 = _of_kind("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "::/96")


class Networks:
    """Which of some networks shares an address with another one."""

    __slots__ = ("_all", "_index")

    def __init__(self, networks: Iterable[Network]) -> None:
        self._all = tuple(networks)
        self._index = PrefixIndex((network, number) for number, network in enumerate(self._all))

    def overlapping(self, network: Network) -> Network | None:
        """The one that does, where several do the one that reaches furthest."""
        found = (self._all[number] for number in self._index.within(network))
        return max(found, key=lambda one: (one.last, one.first), default=None)


class PrefixIndex:
    """Which numbers (of connectors, say) were filed under networks that hold an address."""

    __slots__ = ("_tables",)

    def __init__(self, filed: Iterator[tuple[Network, int]]) -> None:
        tables: dict[tuple[int, int], dict[int, list[int]]] = {}
        for network, number in filed:
            for bits, length in network.prefixes():
                numbers = tables.setdefault((network.family, length), {}).setdefault(bits, [])
                if not numbers or numbers[-1] != number:
                    numbers.append(number)
        self._tables = {
            family: tuple(
                (length, (32 if family == 4 else 128) - length, {bits: tuple(n) for bits, n in table.items()})
                for (of, length), table in sorted(tables.items(), reverse=True)
                if of == family
            )
            for family in (4, 6)
        }

    def find(self, address: Address) -> list[tuple[int, int]]:
        """(number, prefix length) of each network that holds the address, longest prefix first.

        A range counts as the CIDR block of it that holds the address.
        """
        family, value = address
        found: list[tuple[int, int]] = []
        for length, shift, table in self._tables[family]:
            numbers = table.get(value >> shift)
            if numbers is not None:
                found.extend((number, length) for number in numbers)
        return found

    def within(self, network: Network) -> Iterator[int]:
        """The numbers filed under networks that share an address with `network`."""
        for number, _ in self.find((network.family, network.first)):
            yield number
        for _, shift, table in self._tables[network.family]:
            first, last = network.first >> shift, network.last >> shift
            if last - first < len(table):
                found = (table.get(bits, ()) for bits in range(first, last + 1))
            else:
                found = (numbers for bits, numbers in table.items() if first <= bits <= last)
            for numbers in found:
                yield from numbers
