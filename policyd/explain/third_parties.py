"""Whom a change would let in besides: why a client is not to be registered at an organization.

A client that another organization lists could relay as both, evidence that many share says nothing about whose the mail
is, and what was narrowed on purpose is not widened beside it. Connectors that are disabled or suspended count: they say
whose a server is. Decides nothing; no text here names another organization. SPEC 3.7, 4 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from policyd.config.unusable_addresses import why_unusable
from policyd.explain.clues import is_shared
from policyd.explain.permitted import single
from policyd.policy.identity import Client, listed_of, listing_names
from policyd.policy.lookups import ConnectorName, EvidenceIndex
from policyd.policy.model import Connector, Provider, certificates_of, keys_of
from policyd.policy.names import upwards
from policyd.policy.networks import Address
from policyd.policy.ruleset import NOBODY, RuleSet

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
        self._suspended: dict[str, bool] = {}  # by organization, of those that were asked about

    def claimants(self, client: Client) -> set[str]:
        """The organizations whose server it is: by its certificate's name, or by what any connector lists."""
        zone, given_away = NOBODY, False
        if client.name is not None:
            zone, _, _, given_away = self._rules.place(client.name)
        found = set() if given_away or zone == NOBODY else {zone}
        for evidence in (self._rules.lookups, self._rules.disabled):
            listed = listed_of(evidence, client)
            found.update(name[0] for name, _ in (*listed.certificates, *listed.keys, *listed.at))
            named = {name[0] for _, exactly, with_wildcard in listed.names for name in (*exactly, *with_wildcard)}
            found.update(named if given_away or zone == NOBODY else named & {zone})  # others' names do not match
        return found

    def barrier(self, organization: str, client: Client) -> str:
        """Why no change may let the client's mail through as the organization's; empty where one may."""
        if self._is_suspended(organization):
            return SUSPENDED
        if is_shared(self._provider, client):
            return MANY_PARTIES
        if client.name is not None and is_cut_out(self._rules, client.name):
            return GIVEN_AWAY
        return "" if self.claimants(client) <= {organization} else ANOTHERS

    def _is_suspended(self, organization: str) -> bool:
        if organization not in self._suspended:
            self._suspended[organization] = bool(self._rules.organization(organization).suspended)
        return self._suspended[organization]

    def kept_out(self, organization: str, client: Client, but: Connector | None = None) -> str:
        """Why no connector but that one may be made to know the client: one that does is narrower on purpose."""
        for connector in self.knowing(organization, client):
            key = _narrowed_by(connector)
            if key and (but is None or connector.name != but.name):
                return _KEPT_OUT.format(name=connector.name, key=key)
        return ""

    def knowing(self, organization: str, client: Client) -> list[Connector]:
        """The organization's connectors that list the client's certificate, key, name or address, in order of name."""
        found: set[ConnectorName] = set()
        for evidence in (self._rules.lookups, self._rules.disabled):
            listed = listed_of(evidence, client)
            found.update(name for name, _ in (*listed.certificates, *listed.keys, *listed.at))
            found.update(name for _, exactly, with_wildcard in listed.names for name in (*exactly, *with_wildcard))
        names = {name for owner, name in found if owner == organization}
        if not names:
            return []  # as for most clients: then nothing is read of an organization that may have very many
        connectors = self._rules.organization(organization).connectors
        return sorted((connector for connector in connectors if connector.name in names), key=attrgetter("name"))

    def may_be_enabled(self, organization: str, connector: Connector) -> bool:
        """Whether no other organization lists anything of what a disabled connector does."""
        return all(
            owner == organization
            for listed in (self._rules.lookups, self._rules.disabled)
            for owner, _ in self._listing_the_same(listed, organization, connector)
        )

    def _listing_the_same(
        self, listed: EvidenceIndex, organization: str, connector: Connector
    ) -> Iterator[ConnectorName]:
        """The connectors that know a client that this one knows."""
        for fingerprint, _ in certificates_of(connector):
            yield from (name for name, _ in listed.certificates(fingerprint))
        for fingerprint, _ in keys_of(connector):
            yield from (name for name, _ in listed.keys(fingerprint))
        for network in connector.addresses:
            yield from listed.overlapping(network)
        for pattern in connector.certificate_names:
            zone = self._rules.zone(pattern.name)
            for _, exactly, with_wildcard in listing_names(listed, pattern.name, wildcard=False):
                yield from (name for name in (*exactly, *with_wildcard) if zone in (NOBODY, name[0]))
            if pattern.wildcard:
                for name, theirs in listed.names_below(pattern.name):
                    if self._rules.zone(name) in (NOBODY, organization):
                        yield theirs


def is_cut_out(rules: RuleSet, name: str) -> bool:
    """Whether a name lies in what an organization gives away or has hosted elsewhere, and nobody else accepts."""
    for up in upwards(name):
        claims = rules.claims(up)
        if claims is not None and (claims.accepted is not None or claims.cuts):
            return claims.accepted is None
    return False


def unusable_address(address: Address | None) -> str:
    """Why an address says nothing about who connects; empty where it may."""
    return "" if address is None else why_unusable(single(address))


def _narrowed_by(connector: Connector) -> str:
    """The key that takes mail of its server away; empty where none does."""
    if connector.suspended:
        return "suspended"
    if connector.for_domains:
        return "for_domains"
    return "foreign_senders" if connector.foreign_senders != "allow" else ""
