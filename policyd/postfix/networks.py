"""Whom a list of networks trusts: mynetworks, smtpd_authorized_xclient_hosts and their like (SPEC 7; postconf(5)).

Such a list is judged from left to right: the first pattern that holds an address decides, and `!` turns it into an
exclusion. A file is read in the place of its name; a table matches whatever it says. What cannot be read is named, and
nothing is claimed about it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from policyd.config.problems import subject
from policyd.config.settings import Configuration
from policyd.policy.networks import Network, format_address
from policyd.postfix.restrictions import words
from policyd.postfix.tables import Tables, kind_and_name
from policyd.postfix.text import PostconfError, read_text

# More addresses of the Internet than one organization has: beyond a /12, and a /32 of IPv6.
MOST_ADDRESSES = {4: 1 << 20, 6: 1 << 96}

EVERYBODY = (Network(4, 0, (1 << 32) - 1), Network(6, 0, (1 << 128) - 1))

# Addresses of everywhere, for tables of patterns that can only be asked: the first hosts of networks far apart.
_SAMPLES = ("9.9.9.9", "62.141.5.7", "93.184.216.34", "141.30.2.9", "193.0.6.139", "2a00:1450:4001::5", "2600:3c00::9")


def network_of(text: str) -> Network:
    """A network as Postfix writes it: `10.0.0.0/8`, `[fd00::]/8`, `[::]/0`, or one address. Raises ValueError."""
    address, slash, length = text.partition("/")
    parsed = ipaddress.ip_network(address.strip("[]") + slash + length, strict=False)
    first, last = int(parsed.network_address), int(parsed.broadcast_address)
    if parsed.version == 6 and first >> 32 == 0xFFFF and parsed.prefixlen >= 96:  # IPv4-mapped: IPv4
        return Network(4, first & 0xFFFFFFFF, last & 0xFFFFFFFF)
    return Network(parsed.version, first, last)


def network_of_key(key: str) -> Network:
    """A network as it stands in an access table, where `192.0.2` is one, too. Raises ValueError."""
    octets = key.split(".")
    if 1 <= len(octets) <= 3 and all(octet.isascii() and octet.isdigit() for octet in octets):
        return network_of(".".join([*octets, *["0"] * (4 - len(octets))]) + f"/{8 * len(octets)}")
    return network_of(key)


# What no stranger comes from: networks of one's own, and what is no client's address.
PRIVATE = tuple(
    map(
        network_of,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.168.0.0/16", "224.0.0.0/3", "::/96", "fc00::/7", "fe80::/10", "ff00::/8"),
        ),
    )
)
LOOPBACK = (network_of("127.0.0.0/8"), network_of("::1"))

# Networks from which providers send the mail of all their customers. Microsoft: Exchange Online's of "Office 365 URLs
# and IP address ranges"; Google: _netblocks.google.com, _netblocks2.google.com; Amazon: amazonses.com.
PROVIDERS = {
    "Microsoft": (
        *("40.92.0.0/15", "40.107.0.0/16", "52.100.0.0/14", "104.47.0.0/17"),
        *("2a01:111:f400::/48", "2a01:111:f403::/48"),
    ),
    "Google": (
        *("35.190.247.0/24", "64.233.160.0/19", "66.102.0.0/20", "66.249.80.0/20", "72.14.192.0/18"),
        *("74.125.0.0/16", "108.177.8.0/21", "173.194.0.0/16", "209.85.128.0/17", "216.58.192.0/19"),
        *("216.239.32.0/19", "2607:f8b0:4000::/36", "2a00:1450:4000::/36"),
    ),
    "Amazon": ("54.240.0.0/18", "69.169.224.0/20", "199.255.192.0/22", "206.55.144.0/20"),
}


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whom a list trusts."""

    networks: tuple[Network, ...]  # without what was excluded before them
    written: tuple[Network, ...] = ()  # as they stand there
    unread: tuple[str, ...] = ()  # tables and files that cannot be looked into

    def holding(self, network: Network) -> Network | None:
        """A network, as it stands there, that shares an address with another one."""
        if not any(trusted.overlaps(network) for trusted in self.networks):
            return None
        return next((written for written in self.written if written.overlaps(network)), None)

    def written_of(self, networks: Iterable[Network]) -> list[Network]:
        """What stands there and has a part of some networks."""
        parts = tuple(networks)
        return [written for written in self.written if any(map(written.overlaps, parts))]

    def outside(self, others: Iterable[Network]) -> list[Network]:
        """What is trusted and lies in none of the others."""
        return _without(self.networks, others)

    def covers(self, network: Network) -> bool:
        """Whether it holds all of another network."""
        return not _without([network], self.networks)

    @property
    def strangers(self) -> list[Network]:
        """What is trusted of the Internet."""
        return self.outside(PRIVATE)

    @property
    def is_everybody(self) -> bool:
        """Whether it holds more of the Internet than any one organization has."""
        sizes = dict.fromkeys(MOST_ADDRESSES, 0)
        for network in self.strangers:
            sizes[network.family] += network.size
        return any(size > MOST_ADDRESSES[family] for family, size in sizes.items())

    @property
    def provider(self) -> tuple[str, str]:
        """A provider all of whose customers are trusted, and the network; two empty texts where there is none."""
        for name, networks in _providers().items():
            for network in networks:
                if self.holding(network) is not None:
                    return name, str(network)
        return "", ""


@cache
def _providers() -> dict[str, tuple[Network, ...]]:
    return {name: tuple(map(network_of, texts)) for name, texts in PROVIDERS.items()}


def trusted_by(value: str, tables: Tables, of_interest: Iterable[Network] = ()) -> Trusted:
    """Whom the value of a parameter trusts. `of_interest`: what tables that cannot be listed are asked about, too."""
    decided: list[Network] = []
    trusted: list[Network] = []
    written: list[Network] = []
    unread: list[str] = []
    interest = tuple(of_interest)
    for pattern, wanted in _patterns(value, unread):
        networks = _networks(pattern, tables, interest)
        if networks is None:
            unread.append(pattern)
            continue
        if wanted:
            trusted += _without(networks, decided)
            written += networks
        decided += networks
    return Trusted(tuple(trusted), tuple(written), tuple(unread))


def connectors_of(configuration: Configuration | None) -> Iterator[tuple[str, Network]]:
    """(`organization "contoso", connector "branch"`, one of its networks) of all enabled connectors by address."""
    for organization in configuration.rules.organizations if configuration is not None else ():
        for connector in organization.connectors:
            if connector.enabled:
                owner = subject(("organizations", organization.name, "connectors", connector.name))
                yield from ((owner, network) for network in connector.addresses)


def _patterns(value: str, unread: list[str], inside: tuple[str, ...] = ()) -> Iterator[tuple[str, bool]]:
    """(pattern, whether it is wanted) of a list, with those of files in the place of their names."""
    for word in words(value):
        bare = word.text.lstrip("!")
        wanted = (len(word.text) - len(bare)) % 2 == 0
        if not bare.startswith("/"):
            yield bare, wanted
            continue
        try:
            lines = [] if bare in inside else read_text(bare).split("\n")
        except PostconfError:
            unread.append(bare)
            continue
        text = " ".join(line for line in lines if not line.startswith("#"))
        for pattern, wanted_there in _patterns(text, unread, (*inside, bare)):
            yield pattern, wanted_there == wanted


def _networks(pattern: str, tables: Tables, interest: tuple[Network, ...]) -> list[Network] | None:
    """What a pattern holds; None where nobody can tell."""
    try:
        return [network_of(pattern)]
    except ValueError:
        pass
    kind, _ = kind_and_name(pattern)
    if not kind:
        return []  # a name: no address matches it
    if kind == "static":
        return list(EVERYBODY)
    entries = tables.entries(pattern)
    if entries is None or kind in ("pcre", "regexp"):
        return _asked(pattern, tables, interest)
    networks: list[Network] = []
    for key, _ in entries:
        try:
            network = network_of(key.lstrip("!"))
        except ValueError:
            continue
        networks += _without(EVERYBODY, [network]) if key.startswith("!") else [network]
    return networks


def _asked(table: str, tables: Tables, interest: tuple[Network, ...]) -> list[Network] | None:
    """What a table of patterns holds, as far as asking it about some addresses can show."""
    of_interest = {format_address((network.family, network.first)): network for network in interest}
    answers = tables.answers(table, [*_SAMPLES, *of_interest])
    if answers is None:
        return None
    if all(sample in answers for sample in _SAMPLES if ":" not in sample):
        return list(EVERYBODY)
    return [network for address, network in of_interest.items() if address in answers]


def _without(networks: Iterable[Network], others: Iterable[Network]) -> list[Network]:
    """Networks less others."""
    left = list(networks)
    for other in others:
        cut: list[Network] = []
        for network in left:
            if not network.overlaps(other):
                cut.append(network)
                continue
            if network.first < other.first:
                cut.append(Network(network.family, network.first, other.first - 1))
            if other.last < network.last:
                cut.append(Network(network.family, other.last + 1, network.last))
        left = cut
    return left
