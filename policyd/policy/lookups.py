"""What a decision looks up in the rules, one record at a time (SPEC 3): between the rules and where they are kept.

`policyd.store` implements it. Names are canonical, fingerprints upper-case hex without colons; an organization is known
by its name, a connector by both names. Sequences are in the order of these names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from policyd.policy.model import ForeignSenders, Incoming, Organization
from policyd.policy.names import Pattern
from policyd.policy.networks import Address, Network
from policyd.policy.zones import Claims

ConnectorName = tuple[str, str]  # of the organization, of the connector
Pinned = tuple[ConnectorName, tuple[str, ...]]  # a connector, and the names of the stored certificate that was pinned

# An organization before and after a change; None where there is none.
Exchange = tuple[Organization | None, Organization | None]


class Named(NamedTuple):
    """The connectors that list a certificate name."""

    exactly: tuple[ConnectorName, ...] = ()
    with_wildcard: tuple[ConnectorName, ...] = ()


class ConnectorTraits(NamedTuple):
    """What a decision needs to know of an enabled connector whose evidence was found."""

    asks_for_certificate: bool
    has_addresses: bool
    require_tls: bool
    is_suspended: bool  # itself, or its organization
    foreign_senders: ForeignSenders
    for_domains: tuple[Pattern, ...]


class OrganizationTraits(NamedTuple):
    """What an organization asks for mail beyond the rows of SPEC 3.4."""

    connectors_only: bool = False
    protect_sender_domains: bool = False
    has_partners: bool = False  # enabled ones


class EvidenceIndex(Protocol):
    """The connectors that list a piece of evidence: the enabled ones, or the disabled ones."""

    def certificate_names(self, name: str) -> Named:
        """Those that list exactly this name, as it stands or with `*.`."""

    def names_below(self, name: str) -> Iterator[tuple[str, ConnectorName]]:
        """The certificate names below this one, each with a connector that lists it."""

    def certificates(self, fingerprint: str) -> tuple[Pinned, ...]:
        """Those that pin the certificate."""

    def keys(self, fingerprint: str) -> tuple[Pinned, ...]:
        """Those that pin the public key."""

    def tlsa_hosts(self, host: str) -> tuple[ConnectorName, ...]:
        """Those that take pins from the TLSA records of the host."""

    def at_address(self, address: Address) -> list[tuple[ConnectorName, int]]:
        """Those that list a network that holds the address, each with its prefix length, longest first.

        A range counts as the CIDR block of it that holds the address.
        """

    def overlapping(self, network: Network) -> Iterator[ConnectorName]:
        """Those that list a network that shares an address with this one; some may come twice."""


class Lookups(EvidenceIndex, Protocol):
    """The rules of one moment."""

    @property
    def generation(self) -> int:
        """Counts the changes of one running service."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings that a reload changes, by key."""

    @property
    def incoming(self) -> Incoming:
        """policy.incoming"""

    @property
    def disabled(self) -> EvidenceIndex:
        """What disabled connectors list."""

    def claims(self, name: str) -> Claims | None:
        """What organizations say of exactly that domain; None where nothing is said."""

    def concerned_below(self, name: str) -> Iterator[str]:
        """The organizations that accept, list or name something at or below a domain, or whose domain folds into one
        there; some may come twice."""

    def connector(self, name: ConnectorName) -> ConnectorTraits:
        """Of an enabled connector."""

    def traits(self, organization: str) -> OrganizationTraits:
        """Of an organization."""

    def organization(self, name: str) -> Organization:
        """All of it, as it was meant. Raises KeyError."""

    def organizations(self) -> Iterator[Organization]:
        """All of them, by name."""

    def after(self, *exchanges: Exchange) -> Lookups:
        """The rules as they would be after a change of some organizations; nothing is written."""

    @property
    def organization_count(self) -> int:
        """How many organizations there are."""

    @property
    def connector_count(self) -> int:
        """How many enabled connectors they have."""

    def next_expiry(self) -> int | None:
        """Unix time at which the first stored certificate of an enabled connector expires; None without any."""
