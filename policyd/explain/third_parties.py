"""Whom a change would let in besides: why a client is not to be registered at an organization.

A client that another organization lists could relay as both, evidence that many share says nothing about whose the mail
is, and what was narrowed on purpose is not widened beside it. Connectors that are disabled or suspended count: they say
whose a server is. Decides nothing; no text here names another organization. SPEC 3.7, 4 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from policyd.config.unusable_addresses import why_unusable
from policyd.explain.clues import is_shared
from policyd.explain.permitted import single
from policyd.policy.identity import Client
from policyd.policy.model import Connector, Organization, Provider, Rules
from policyd.policy.names import upwards
from policyd.policy.networks import Address
from policyd.policy.ruleset import NOBODY, RuleSet, certificates_of, keys_of

SUSPENDED = "it is suspended, so nothing is proposed that would let its mail through"
MANY_PARTIES = (
    "many parties present a certificate of this name: neither name nor key nor address says whose the mail is. Its "
    "server needs a certificate in a name of its own"
)
GIVEN_AWAY = (
    "the certificate's name lies in a domain that is given away or hosted elsewhere (delegated_domains, "
    "outside_domains): whoever has that domain has to accept it first"
)
ANOTHERS = (
    "this server is another organization's: its name is that one's, or a connector there, perhaps a disabled one, "
    "lists its certificate, key, name or address. Registered here too, it could send as both. Ask the other "
    "organization: if it gives the server up, take it out there first; if this mail is its own, the domain has to be "
    "its own, too (accepted_domains, and for_domains of the connector)"
)
_KEPT_OUT = (
    'connector "{name}" knows this server and keeps mail of it out on purpose ({key}); another one beside it would '
    "let that in: if this mail is meant to pass, that key is to be changed"
)


class ThirdParties:
    """What stands against registering clients, asked of one rule set."""

    def __init__(self, rules: RuleSet, provider: Provider) -> None:
        self._rules = rules
        self._provider = provider
        numbers = [
            number
            for number, organization in enumerate(rules.organizations)
            if any(not connector.enabled for connector in organization.connectors)
        ]
        disabled = RuleSet(
            Rules(organizations=tuple(_disabled_part(rules.organizations[number]) for number in numbers))
        )
        self._listings = (
            (rules, rules.owners),
            (disabled, tuple(numbers[owner] for owner in disabled.owners)),  # whose numbers are their own
        )

    def claimants(self, client: Client) -> set[int]:
        """The organizations whose server it is: by its certificate's name, or by what any connector lists."""
        zone, given_away = NOBODY, False
        if client.name is not None:
            zone, _, _, given_away = self._rules.place(client.name)
        found = set() if given_away or zone == NOBODY else {zone}
        for listing, owners in self._listings:
            found.update(owners[connector] for connector in _pinned_or_at(listing, client))
            named = {owners[connector] for connector in _named(listing, client)}
            found.update(named if given_away or zone == NOBODY else named & {zone})  # others' names do not match
        return found

    def barrier(self, number: int, client: Client) -> str:
        """Why no change may let the client's mail through as the organization's; empty where one may."""
        if self._rules.organizations[number].suspended:
            return SUSPENDED
        if is_shared(self._provider, client):
            return MANY_PARTIES
        if client.name is not None and is_cut_out(self._rules, client.name):
            return GIVEN_AWAY
        return "" if self.claimants(client) <= {number} else ANOTHERS

    def kept_out(self, number: int, client: Client, but: Connector | None = None) -> str:
        """Why no connector but that one may be made to know the client: one that does is narrower on purpose."""
        for connector in self.knowing(number, client):
            key = _narrowed_by(connector)
            if key and (but is None or connector.name != but.name):
                return _KEPT_OUT.format(name=connector.name, key=key)
        return ""

    def knowing(self, number: int, client: Client) -> list[Connector]:
        """The organization's connectors that list the client's certificate, key, name or address, in order of name."""
        found = {
            listing.connectors[each].name: listing.connectors[each]
            for listing, owners in self._listings
            for each in (*_pinned_or_at(listing, client), *_named(listing, client))
            if owners[each] == number
        }
        return [found[name] for name in sorted(found)]

    def may_be_enabled(self, number: int, connector: Connector) -> bool:
        """Whether no other organization lists anything of what a disabled connector does. A look at every connector."""
        return not any(
            self._have_common(number, connector, owner, other)
            for owner, organization in enumerate(self._rules.organizations)
            if owner != number
            for other in organization.connectors
        )

    def _have_common(self, number: int, mine: Connector, owner: int, theirs: Connector) -> bool:
        """Whether one client can show evidence of both."""
        if any(not pins(mine).isdisjoint(pins(theirs)) for pins in (_certificates, _keys)):
            return True
        if any(one.overlaps(other) for one in mine.addresses for other in theirs.addresses):
            return True
        return any(
            (other.covers(one.name) and self._rules.zone(one.name) in (NOBODY, owner))
            or (one.covers(other.name) and self._rules.zone(other.name) in (NOBODY, number))
            for one in mine.certificate_names
            for other in theirs.certificate_names
        )


def is_cut_out(rules: RuleSet, name: str) -> bool:
    """Whether a name lies in what an organization gives away or has hosted elsewhere, and nobody else accepts."""
    nearest = next((up for up in upwards(name) if up in rules.accepted or up in rules.cuts), "")
    return nearest in rules.cuts and nearest not in rules.accepted


def unusable_address(address: Address | None) -> str:
    """Why an address says nothing about who connects; empty where it may."""
    return "" if address is None else why_unusable(single(address))


def _disabled_part(organization: Organization) -> Organization:
    connectors = tuple(replace(one, enabled=True) for one in organization.connectors if not one.enabled)
    return Organization(name=organization.name, connectors=connectors)


def _pinned_or_at(listing: RuleSet, client: Client) -> Iterator[int]:
    """The connectors that list the client's certificate, key or address."""
    yield from (number for number, _ in listing.certificates.get(client.fingerprint, ()))
    yield from (number for number, _ in listing.keys.get(client.key, ()))
    if client.address is not None:
        yield from (number for number, _ in listing.addresses.find(client.address))


def _named(listing: RuleSet, client: Client) -> Iterator[int]:
    """The connectors that list the certificate's name."""
    if client.name is None:
        return
    if not client.wildcard:
        yield from listing.exact_names.get(client.name, ())
    for up in upwards(client.name):
        yield from listing.wildcard_names.get(up, ())


def _narrowed_by(connector: Connector) -> str:
    """The key that takes mail of its server away; empty where none does."""
    if connector.suspended:
        return "suspended"
    if connector.for_domains:
        return "for_domains"
    return "foreign_senders" if connector.foreign_senders != "allow" else ""


def _certificates(connector: Connector) -> set[str]:
    return {fingerprint for fingerprint, _ in certificates_of(connector)}


def _keys(connector: Connector) -> set[str]:
    return {fingerprint for fingerprint, _ in keys_of(connector)}
