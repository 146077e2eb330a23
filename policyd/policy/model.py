"""What the administrator meant: organizations, their domains, connectors and partners (SPEC 2 and 4).

Plain immutable values, made by `config` (from TOML, PostgreSQL, an import) and compiled by `ruleset`.
Names are canonical, fingerprints upper-case hex without colons, networks parsed: nothing is checked again here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from policyd.policy.names import Pattern
from policyd.policy.networks import Network

Incoming = Literal["OK", "DUNNO", "REJECT"]
ForeignSenders = Literal["allow", "bounces", "refuse"]


@dataclass(frozen=True, slots=True)
class Provider:
    """What no connector may claim: `policy.provider_networks` and names that many parties present (SPEC 4)."""

    networks: tuple[Network, ...] = ()
    certificate_names: tuple[Pattern, ...] = ()  # the administrator's, policy.provider_certificate_names
    shipped_names: tuple[Pattern, ...] = ()  # those of the list that ships with policyd

    def shares(self, name: str) -> bool:
        """Whether many parties present a certificate of that (canonical) name."""
        return any(pattern.covers(name) for pattern in (*self.certificate_names, *self.shipped_names))


NO_PROVIDER = Provider()


class RelayLimit(NamedTuple):
    """So many recipients may leave within one window (SPEC 3.7)."""

    recipients: int
    window: Literal["minute", "hour", "day"]

    def __str__(self) -> str:
        return f"{self.recipients}/{self.window}"


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A certificate of `certificate_files` or `certificates`: what it is recognised by, and the names it carries."""

    source: str  # the path as the administrator wrote it
    names: tuple[str, ...]  # CN and DNS SANs, canonical, without `*.`; those that are no host names left out
    certificate_fingerprints: frozenset[str]  # md5, sha1, sha256, sha384, sha512 of the DER certificate
    public_key_fingerprints: frozenset[str]  # the same of the DER SubjectPublicKeyInfo
    not_after: int  # Unix time
    path: str = ""  # the absolute path that was read
    pem: str = field(default="", repr=False)  # the PEM text, where it stood in the configuration itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How a client is recognised; connectors and partners share it (SPEC 3.2)."""

    name: str
    description: str = ""
    enabled: bool = True
    certificate_names: tuple[Pattern, ...] = ()
    stored_certificates: tuple[StoredCertificate, ...] = ()
    certificate_fingerprints: tuple[str, ...] = ()
    public_key_fingerprints: tuple[str, ...] = ()
    tlsa: tuple[str, ...] = ()  # hosts or owner names whose TLSA records pin (SPEC 10)
    addresses: tuple[Network, ...] = ()
    require_tls: bool = False
    until: int | None = None  # Unix time from which on it grants nothing (SPEC 4.1)

    @property
    def asks_for_certificate(self) -> bool:
        """Whether there is any certificate evidence."""
        return bool(
            self.certificate_names
            or self.stored_certificates
            or self.certificate_fingerprints
            or self.public_key_fingerprints
            or self.tlsa
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector(Evidence):
    """How one organization's own mail server is recognised."""

    for_domains: tuple[Pattern, ...] = ()  # those accepted domains that it speaks for; empty: all (SPEC 3.3)
    foreign_senders: ForeignSenders = "allow"  # that row 1 takes (SPEC 3.7)
    relay_limits: tuple[RelayLimit, ...] = ()
    suspended: str = ""  # the operator's reason; empty: it is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Partner(Evidence):
    """A foreign sender domain whose mail to the organization must arrive in a stated way."""

    sender_domains: tuple[Pattern, ...] = ()
    every_sender: bool = False  # sender_domains holds `*`


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """A customer of the hub."""

    name: str
    accepted_domains: tuple[Pattern, ...] = ()
    delegated_domains: tuple[Pattern, ...] = ()
    outside_domains: tuple[Pattern, ...] = ()
    pending_domains: tuple[Pattern, ...] = ()
    protect_sender_domains: bool = False
    connectors_only: bool = False
    relay_limits: tuple[RelayLimit, ...] | None = None  # None: the policy's
    suspended: str = ""  # the operator's reason; empty: it is not
    connectors: tuple[Connector, ...] = ()
    partners: tuple[Partner, ...] = ()

    @property
    def delegated_names(self) -> frozenset[str]:
        """The names that others may have, for `zones.delegates`."""
        return frozenset(pattern.name for pattern in self.delegated_domains)

    @property
    def cuts(self) -> Iterator[tuple[str, bool]]:
        """What lies below its accepted domains and is not its own: names, and whether they are hosted elsewhere."""
        for patterns, outside in ((self.delegated_domains, False), (self.outside_domains, True)):
            for name in dict.fromkeys(pattern.name for pattern in patterns):
                yield name, outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All that decides: what a RuleSet is compiled from."""

    organizations: tuple[Organization, ...] = field(default=())
    incoming: Incoming = "OK"
    relay_limits: tuple[RelayLimit, ...] = ()  # of organizations that have none of their own


class Delta(NamedTuple):
    """What is different: organizations that are gone, and those that are new or changed."""

    gone: frozenset[str]
    put: tuple[Organization, ...]

    def applied(self, organizations: Iterable[Organization]) -> tuple[Organization, ...]:
        """The organizations after it."""
        touched = self.gone.union(one.name for one in self.put)
        return (*(one for one in organizations if one.name not in touched), *self.put)


def certificates_of(connector: Connector) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Certificate fingerprints that match it, each with the names of the stored certificate that it is of."""
    for fingerprint in connector.certificate_fingerprints:
        yield fingerprint, ()
    for stored in connector.stored_certificates:
        for fingerprint in stored.certificate_fingerprints:
            yield fingerprint, stored.names


def keys_of(connector: Connector) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Fingerprints of public keys, likewise."""
    for fingerprint in connector.public_key_fingerprints:
        yield fingerprint, ()
    for stored in connector.stored_certificates:
        for fingerprint in stored.public_key_fingerprints:
            yield fingerprint, stored.names
