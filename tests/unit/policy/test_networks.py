"""Addresses and networks by table, and the index against the standard library (SPEC 3.2)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.policy import networks as module
from policyd.policy.networks import Network, Networks, PrefixIndex, format_address, parse_address, parse_network


def v4(text: str) -> int:
    return int(ipaddress.IPv4Address(text))


def v6(text: str) -> int:
    return int(ipaddress.IPv6Address(text))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.5", (4, v4("203.0.113.5"))),
        ("0.0.0.0", (4, 0)),
        ("255.255.255.255", (4, 2**32 - 1)),
        ("::ffff:203.0.113.5", (4, v4("203.0.113.5"))),
        ("::FFFF:cb00:7105", (4, v4("203.0.113.5"))),
        ("2001:db8::1", (6, v6("2001:db8::1"))),
        ("2001:DB8:0:0:0:0:0:1", (6, v6("2001:db8::1"))),
        ("::", (6, 0)),
        ("::203.0.113.5", (6, v6("::203.0.113.5"))),  # compatible, not mapped
        ("::1:ffff:203.0.113.5", (6, v6("::1:ffff:203.0.113.5"))),
        ("unknown", None),
        ("", None),
        ("203.0.113", None),
        ("203.0.113.05", None),
        ("203.0.113.256", None),
        ("203.0.113.5 ", None),
        ("203.0.113.5\0", None),
        ("0x7f.1", None),
        ("2130706433", None),
        ("fe80::1%eth0", None),
        ("[::1]", None),
        ("203.0.113.0/24", None),
        ("٢.0.0.1", None),
        ("\udcff", None),
        (":" * 5000, None),
    ],
)
def test_client_addresses(text: str, address: tuple[int, int] | None) -> None:
    assert parse_address(text) == address
    if address is not None:
        assert parse_address(format_address(address)) == address


@pytest.mark.parametrize(
    ("text", "network", "host_bits"),
    [
        ("203.0.113.5", Network(4, v4("203.0.113.5"), v4("203.0.113.5")), False),
        ("203.0.113.0/28", Network(4, v4("203.0.113.0"), v4("203.0.113.15")), False),
        ("203.0.113.5/28", Network(4, v4("203.0.113.0"), v4("203.0.113.15")), True),
        ("203.0.113.5/32", Network(4, v4("203.0.113.5"), v4("203.0.113.5")), False),
        ("192.0.2.32-192.0.2.47", Network(4, v4("192.0.2.32"), v4("192.0.2.47")), False),
        ("192.0.2.1-192.0.2.1", Network(4, v4("192.0.2.1"), v4("192.0.2.1")), False),
        ("2001:db8::/32", Network(6, v6("2001:db8::"), v6("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")), False),
        ("2001:db8::1-2001:db8::ff", Network(6, v6("2001:db8::1"), v6("2001:db8::ff")), False),
        ("0.0.0.0/0", Network(4, 0, 2**32 - 1), False),
        ("8000::/1", Network(6, 2**127, 2**128 - 1), False),
        ("1::/16", Network(6, 1 << 112, (2 << 112) - 1), False),
        ("::1:0:0:0/80", Network(6, 1 << 48, (2 << 48) - 1), False),
        ("::ffff:0:0/96", Network(4, 0, 2**32 - 1), False),
        ("::ffff:203.0.113.5", Network(4, v4("203.0.113.5"), v4("203.0.113.5")), False),
        ("::ffff:203.0.113.0/124", Network(4, v4("203.0.113.0"), v4("203.0.113.15")), False),
        ("::ffff:192.0.2.1-::ffff:192.0.2.9", Network(4, v4("192.0.2.1"), v4("192.0.2.9")), False),
    ],
)
def test_networks(text: str, network: Network, host_bits: bool) -> None:
    assert parse_network(text) == (network, host_bits)
    assert parse_network(str(network)) == (network, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "203.0.113.0/33",
        "203.0.113.0/",
        "203.0.113.0/-1",
        "203.0.113.0/255.255.255.0",
        "203.0.113.0/٢",
        "2001:db8::/129",
        "192.0.2.9-192.0.2.1",
        "192.0.2.1-2001:db8::1",
        "192.0.2.1-",
        "1-2-3",
        "fe80::1%eth0",
    ],
)
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_network(text)


@pytest.mark.parametrize(
    "text",
    [
        "::/0",
        "1::/15",
        "::1:0:0:0/79",
        "1f::ff1f:1.2.3.0/1",
        "::ffff:0:0/95",
        "::fffe:ffff:ffff-::ffff:0:1",
        "::ffff:255.255.255.255-::1:0:0:1",
    ],
)
def test_networks_that_hold_mapped_addresses_and_others(text: str) -> None:
    with pytest.raises(ValueError, match="IPv4-mapped"):
        parse_network(text)


@pytest.mark.parametrize("text", ["fe80::1%eth0", "::ffff:192.0.2.1%1"])
def test_zones(text: str) -> None:
    with pytest.raises(ValueError, match="an address with a zone"):
        parse_network(text)


MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
NUMBERS = st.one_of(st.integers(0, 2**128 - 1), st.integers(0, 2**49), st.sampled_from([0xFFFF << 32, 1 << 48]))


@given(NUMBERS, st.integers(0, 128))
def test_networks_are_those_of_the_standard_library(value: int, length: int) -> None:
    address = ipaddress.IPv6Address(value)
    meant = ipaddress.IPv6Network((value, length), strict=False)
    if meant.supernet_of(MAPPED) and meant != MAPPED:
        with pytest.raises(ValueError, match="IPv4-mapped"):
            parse_network(f"{address}/{length}")
        return
    network, host_bits = parse_network(f"{address}/{length}")
    assert host_bits == (meant.network_address != address)
    if meant.subnet_of(MAPPED):
        assert network == Network(4, int(meant[0]) % 2**32, int(meant[-1]) % 2**32)
    else:
        assert network == Network(6, int(meant[0]), int(meant[-1]))


# The first and last address of each network, by its kind, and the addresses before and behind it that are not special.
SPECIAL = {
    "THIS_NETWORK": [("0.0.0.0", "0.255.255.255", "", "1.0.0.0")],
    "LOOPBACK": [("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"), ("::1", "::1", "::", "::2")],
    "LINK_LOCAL": [
        ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe7f::", "fec0::"),
    ],
    "PRIVATE": [
        ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
        ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"),
        ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"),
        ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fbff::", "fe00::"),
    ],
    "MULTICAST": [
        ("224.0.0.0", "255.255.255.255", "223.255.255.255", ""),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "feff::", ""),
    ],
    "DISGUISED_V4": [
        ("64:ff9b::", "64:ff9b::ffff:ffff", "64:ff9a::", "64:ff9b::1:0:0"),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "64:ff9b:0:ffff::", "64:ff9b:2::"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff::", "2003::"),
        ("::", "::ffff:ffff", "", "::1:0:0"),
    ],
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_networks_that_are_nobodys(kind: str) -> None:
    """RFC 6890, from the first address to the last and no further."""
    found = Networks(getattr(module, kind))
    assert len(getattr(module, kind)) == len(SPECIAL[kind])
    for first, last, before, behind in SPECIAL[kind]:
        for address in (first, last):
            assert found.overlapping(parse_network(address)[0]) is not None, address
        for address in filter(None, (before, behind)):
            assert found.overlapping(parse_network(address)[0]) is None, address


networks = st.one_of(
    st.tuples(st.just(4), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.tuples(st.just(4), st.integers(0, 300), st.integers(0, 300)),
    st.tuples(st.just(6), st.integers(2**64, 2**128 - 1), st.integers(2**64, 2**128 - 1)),
).map(lambda t: Network(t[0], min(t[1:]), max(t[1:])))


@given(networks)
def test_prefixes_are_those_of_the_standard_library(network: Network) -> None:
    kind = ipaddress.IPv4Address if network.family == 4 else ipaddress.IPv6Address
    blocks = ipaddress.summarize_address_range(kind(network.first), kind(network.last))  # type: ignore[type-var]
    expected = [(int(b.network_address) >> (b.max_prefixlen - b.prefixlen), b.prefixlen) for b in blocks]
    assert list(network.prefixes()) == expected
    assert str(network) == str(parse_network(str(network))[0])


@given(st.lists(networks, max_size=8), st.data())
def test_the_index_finds_what_holds_an_address(filed: list[Network], data: st.DataObject) -> None:
    index = PrefixIndex((network, number) for number, network in enumerate(filed))
    edges = [
        n + step for network in filed for n in (network.first, network.last) for step in (-1, 0, 1) if n + step >= 0
    ]
    value = data.draw(st.sampled_from(edges) if edges else st.just(0))
    for family in (4, 6):
        if family == 4 and value >= 2**32:
            continue
        found = index.find((family, value))
        holding = {number for number, network in enumerate(filed) if network.holds((family, value))}
        assert {number for number, _ in found} == holding
        assert [length for _, length in found] == sorted((length for _, length in found), reverse=True)


def test_the_same_number_twice_in_a_network_is_found_with_its_longest_prefix_first() -> None:
    wide, narrow = parse_network("203.0.113.0/24")[0], parse_network("203.0.113.0/28")[0]
    index = PrefixIndex(iter([(wide, 7), (narrow, 7), (wide, 7)]))
    assert index.find((4, v4("203.0.113.5"))) == [(7, 28), (7, 24)]


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("203.0.113.0/28", "203.0.113.15", True),
        ("203.0.113.0/28", "203.0.113.16", False),
        ("0.0.0.0/0", "2001:db8::/32", False),
        ("10.0.0.1-10.0.0.9", "10.0.0.9-10.0.0.20", True),
    ],
)
def test_overlaps(one: str, other: str, overlap: bool) -> None:
    first, second = parse_network(one)[0], parse_network(other)[0]
    assert first.overlaps(second) == second.overlaps(first) == overlap
