"""What the administrator meant: organizations, their domains, connectors and partners (SPEC 2 and 4).

Plain immutable values, made by `config` (from TOML, PostgreSQL, an import) and compiled by `ruleset`.
Names are canonical, fingerprints upper-case hex without colons, networks parsed: nothing is checked again here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from policyd.policy.names import Pattern
from policyd.policy.networks import Network

Incoming = Literal["OK", "DUNNO", "REJECT"]


@dataclass(frozen=True, slots=True)
class Provider:
    """What no connector may claim: `policy.provider_networks` and `policy.provider_certificate_names` (SPEC 4)."""

    networks: tuple[Network, ...] = ()
    certificate_names: tuple[Pattern, ...] = ()


NO_PROVIDER = Provider()


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
    addresses: tuple[Network, ...] = ()
    require_tls: bool = False

    @property
    def asks_for_certificate(self) -> bool:
        """Whether there is any certificate evidence."""
        return bool(
            self.certificate_names
            or self.stored_certificates
            or self.certificate_fingerprints
            or self.public_key_fingerprints
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector(Evidence):
    """How one organization's own mail server is recognised."""


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
    pending_domains: tuple[Pattern, ...] = ()
    protect_sender_domains: bool = False
    connectors_only: bool = False
    connectors: tuple[Connector, ...] = ()
    partners: tuple[Partner, ...] = ()

    @property
    def delegated_names(self) -> frozenset[str]:
        """The names that others may have, for `zones.delegates`."""
        return frozenset(pattern.name for pattern in self.delegated_domains)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All that decides: what a RuleSet is compiled from."""

    organizations: tuple[Organization, ...] = field(default=())
    incoming: Incoming = "OK"


class Delta(NamedTuple):
    """What is different: organizations that are gone, and those that are new or changed."""

    gone: frozenset[str]
    put: tuple[Organization, ...]

    def applied(self, organizations: Iterable[Organization]) -> tuple[Organization, ...]:
        """The organizations after it."""
        touched = self.gone.union(one.name for one in self.put)
        return (*(one for one in organizations if one.name not in touched), *self.put)
