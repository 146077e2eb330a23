"""What is kept of an organization: each record is a sorted set of lines under a key.

    key                            lines
    d  domain                      ORGANIZATION accepted x|*     exactly, or with `*.`
                                   ORGANIZATION pending x|*
                                   ORGANIZATION cut given|outside   delegated to others, or hosted elsewhere
    f  domain                      ORGANIZATION DOMAIN    an accepted domain whose letters fold into this one
    n  certificate name            ORGANIZATION CONNECTOR x|*
    c  certificate fingerprint     ORGANIZATION CONNECTOR NAME...   names of the stored certificate that it is of
    k  key fingerprint             the same
    a  family, length, bits        ORGANIZATION CONNECTOR           a CIDR block of its addresses
    t  TLSA host                   ORGANIZATION CONNECTOR
    N C K A T                      the same of connectors that are disabled
    u  ORGANIZATION CONNECTOR      what a decision needs to know of an enabled connector
    g  ORGANIZATION                what it asks for beyond the rows; no record where it asks for nothing
    e  time, ORGANIZATION CONNECTOR    when a stored certificate of an enabled connector expires
    o  ORGANIZATION                all of it, as JSON

Domains and names are written from the right (`com.contoso.mail`), so that a domain and all below it stand together. A
change of an organization takes the lines out that it no longer has and puts the new ones in; nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from policyd.policy.lookups import ConnectorName, ConnectorTraits, Named, OrganizationTraits, Pinned
from policyd.policy.model import Connector, Organization, certificates_of, keys_of
from policyd.policy.names import Pattern, fold, parse_pattern, without_service_labels
from policyd.policy.zones import Claims
from policyd.store import organization_json

Line = tuple[bytes, str]  # a key, and one line of the record under it

ALL_ORGANIZATIONS = (b"o", b"o\xff")  # the first and the last key there could be
ALL_EXPIRIES = (b"e", b"e" + b"\xff" * 9)

_EXACT, _WILDCARD = "x", "*"
_GIVEN, _OUTSIDE = "given", "outside"


# ------------------------------------------------------------------------------------------- keys


def reversed_labels(name: str) -> str:
    """`mail.contoso.com` as `com.contoso.mail`, and back."""
    return ".".join(reversed(name.split("."))) if "." in name else name


def _key(kind: bytes, name: str) -> bytes:
    return kind + reversed_labels(name).encode()


def domain_key(name: str) -> bytes:
    """Of what is said of a domain."""
    return _key(b"d", name)


def fold_key(name: str) -> bytes:
    """Of the accepted domains that fold into this one."""
    return _key(b"f", name)


def listed_key(kind: bytes, name: str, disabled: bool = False) -> bytes:
    """Of the connectors that list a certificate name (n) or a TLSA host (t)."""
    return _key(kind.upper() if disabled else kind, name)


def name_of(key: bytes) -> str:
    """The name in a key of one."""
    return reversed_labels(key[1:].decode())


def keys_at(name: str) -> list[bytes]:
    """Every key of something that is said of exactly that name."""
    return [_key(kind, name) for kind in (b"d", b"f", b"n", b"N", b"t", b"T")]


def all_below(key: bytes) -> tuple[bytes, bytes]:
    """The first and the last key there could be of what lies below the name in a key."""
    return key + b".", key + b"/"  # the character after the dot stands in no name


def pin_key(kind: bytes, fingerprint: str, disabled: bool = False) -> bytes:
    """Of the connectors that pin a certificate (c) or a key (k)."""
    return (kind.upper() if disabled else kind) + fingerprint.encode()


def block_key(family: int, length: int, bits: int, disabled: bool = False) -> bytes:
    """Of the connectors that list a CIDR block: its leading bits as a number, and how many they are."""
    return b"%c%c%c" % (b"A"[0] if disabled else b"a"[0], family, length) + bits.to_bytes(16, "big")


def connector_key(name: ConnectorName) -> bytes:
    """Of a connector's traits."""
    return f"u{name[0]} {name[1]}".encode()


def traits_key(organization: str) -> bytes:
    """Of an organization's traits."""
    return f"g{organization}".encode()


def organization_key(name: str) -> bytes:
    """Of all of an organization."""
    return f"o{name}".encode()


def expiry_key(time: int, name: ConnectorName) -> bytes:
    """Of the end of a stored certificate; sorts by time."""
    return b"e" + max(time, 0).to_bytes(8, "big") + " ".join(name).encode()


def expiry_of(key: bytes) -> int:
    """The time in such a key."""
    return int.from_bytes(key[1:9], "big")


# ------------------------------------------------------------------------------------------- written


def lines_of(organization: Organization) -> set[Line]:
    """Everything that is kept of an organization."""
    return set(_lines(organization))


def _lines(organization: Organization) -> Iterator[Line]:
    name = organization.name
    for pattern in organization.accepted_domains:
        yield domain_key(pattern.name), f"{name} accepted {_form(pattern)}"
        folded = fold(pattern.name)
        if folded is not None and folded != pattern.name:
            yield fold_key(folded), f"{name} {pattern.name}"
    for cut, outside in organization.cuts:
        yield domain_key(cut), f"{name} cut {_OUTSIDE if outside else _GIVEN}"
    for pattern in organization.pending_domains:
        yield domain_key(pattern.name), f"{name} pending {_form(pattern)}"
    for connector in organization.connectors:
        yield from _evidence(f"{name} {connector.name}", connector)
        if connector.enabled:
            yield connector_key((name, connector.name)), _connector_traits(organization, connector)
            for stored in connector.stored_certificates:
                yield expiry_key(stored.not_after, (name, connector.name)), ""
    traits = _organization_traits(organization)
    if traits:
        yield traits_key(name), traits
    yield organization_key(name), organization_json.written(organization)


def _evidence(named: str, connector: Connector) -> Iterator[Line]:
    disabled = not connector.enabled
    for pattern in connector.certificate_names:
        yield listed_key(b"n", pattern.name, disabled), f"{named} {_form(pattern)}"
    for kind, pins in ((b"c", certificates_of(connector)), (b"k", keys_of(connector))):
        for fingerprint, names in pins:
            yield pin_key(kind, fingerprint, disabled), " ".join((named, *names))
    for network in connector.addresses:
        for bits, length in network.prefixes():
            yield block_key(network.family, length, bits, disabled), named
    for owner_name in connector.tlsa:
        yield listed_key(b"t", without_service_labels(owner_name), disabled), named


def _form(pattern: Pattern) -> str:
    return _WILDCARD if pattern.wildcard else _EXACT


def _connector_traits(organization: Organization, connector: Connector) -> str:
    flags = (
        ("certificate", connector.asks_for_certificate),
        ("address", bool(connector.addresses)),
        ("tls", connector.require_tls),
        ("suspended", bool(connector.suspended or organization.suspended)),
    )
    stated = ",".join(flag for flag, holds in flags if holds)
    return " ".join((stated, connector.foreign_senders, *map(str, connector.for_domains)))


def _organization_traits(organization: Organization) -> str:
    flags = (
        ("connectors_only", organization.connectors_only),
        ("protect_sender_domains", organization.protect_sender_domains),
        ("partners", any(partner.enabled for partner in organization.partners)),
    )
    return ",".join(flag for flag, holds in flags if holds)


# ------------------------------------------------------------------------------------------- read


def read_claims(lines: Sequence[str]) -> Claims:
    """Of a domain's record."""
    if len(lines) == 1:  # as most are
        organization, kind, form = lines[0].split(" ")
        if kind == "accepted":
            return Claims((organization, form == _WILDCARD))
    accepted: tuple[str, bool] | None = None
    cuts: list[tuple[str, bool]] = []
    pending: list[tuple[str, bool]] = []
    for line in lines:
        organization, kind, form = line.split(" ")
        if kind == "accepted":
            accepted = organization, form == _WILDCARD or accepted == (organization, True)
        elif kind == "cut":
            cuts.append((organization, form == _OUTSIDE))
        else:
            pending.append((organization, form == _WILDCARD))
    return Claims(accepted, cuts, pending)


def read_named(lines: Sequence[str]) -> Named:
    """Of a certificate name's record."""
    if len(lines) == 1:  # as most are
        organization, connector, form = lines[0].split(" ")
        name = ((organization, connector),)
        return Named(name) if form == _EXACT else Named((), name)
    both: dict[str, list[ConnectorName]] = {_EXACT: [], _WILDCARD: []}
    for line in lines:
        organization, connector, form = line.split(" ")
        both[form].append((organization, connector))
    return Named(tuple(both[_EXACT]), tuple(both[_WILDCARD]))


def read_pinned(lines: Iterable[str]) -> tuple[Pinned, ...]:
    """Of a fingerprint's record."""
    pinned = []
    for line in lines:
        organization, connector, *names = line.split(" ")
        pinned.append(((organization, connector), tuple(names)))
    return tuple(pinned)


def organization_of(line: str) -> str:
    """Whose a line is, of any record but those of one organization alone."""
    return line.partition(" ")[0]


def read_connectors(lines: Iterable[str]) -> tuple[ConnectorName, ...]:
    """Of a block's or host's record."""
    return tuple([(organization, connector) for organization, connector in [line.split(" ") for line in lines]])


def read_connector_traits(line: str) -> ConnectorTraits:
    """Of a connector."""
    stated, foreign_senders, *domains = line.split(" ")
    flags = stated.split(",")
    return ConnectorTraits(
        "certificate" in flags,
        "address" in flags,
        "tls" in flags,
        "suspended" in flags,
        foreign_senders,  # type: ignore[arg-type]
        tuple(pattern for pattern in map(parse_pattern, domains) if pattern is not None) if domains else (),
    )


def read_traits(line: str) -> OrganizationTraits:
    """Of an organization."""
    flags = line.split(",")
    return OrganizationTraits("connectors_only" in flags, "protect_sender_domains" in flags, "partners" in flags)
