"""What a configuration may say, asked about one small change: nothing is proposed that `policyd check` would refuse.

The errors of SPEC 4 that concern several organizations, or an organization and the provider, for a single address,
name, domain or connector, and public suffixes. `config.conflicts` finds the same over whole configurations; a property
test holds the two together. Here is also what the check allows and nobody should be told to do: addresses that any
program on the same machine or wire has.
"""

from __future__ import annotations

from policyd.config.public_suffixes import is_public_suffix
from policyd.policy.model import Connector, Provider
from policyd.policy.names import Pattern, fold, is_below, is_host_name, without_service_labels
from policyd.policy.networks import DISGUISED_V4, LINK_LOCAL, LOOPBACK, MULTICAST, THIS_NETWORK, Address, Network
from policyd.policy.ruleset import NOBODY, RuleSet
from policyd.policy.zones import Claims, Zones, delegates

_NOBODYS_OWN = (*THIS_NETWORK, *LOOPBACK, *LINK_LOCAL, *MULTICAST, *DISGUISED_V4)


def single(address: Address) -> Network:
    """The network of one address."""
    return Network(address[0], address[1], address[1])


def is_some_servers_own(address: Address) -> bool:
    """Whether an address can identify one server: none of this machine, this wire, or IPv4 in disguise."""
    return not any(network.holds(address) for network in _NOBODYS_OWN)


def connector_may_have_address(rules: RuleSet, provider: Provider, organization: str, address: Address) -> bool:
    """Whether a connector of the organization may list a single address."""
    return (
        is_some_servers_own(address)
        and not any(network.holds(address) for network in provider.networks)
        and all(owner == organization for (owner, _), _ in rules.at_address(address))
    )


def connector_may_have_name(rules: RuleSet, provider: Provider, organization: str, name: str) -> bool:
    """Whether a connector of the organization may list an exact certificate name (canonical)."""
    return (
        is_host_name(name)
        and not is_public_suffix(Pattern(name))
        and not rules.place(name).is_anothers(organization)
        and not provider.shares(name)
    )


def connector_may_be_enabled(rules: RuleSet, organization: str, connector: Connector) -> bool:
    """Whether a disabled connector of the organization may be enabled: no address is another organization's."""
    return all(
        owner == organization for network in connector.addresses for owner, _ in rules.lookups.overlapping(network)
    )


def organization_may_accept(rules: RuleSet, organization: str, name: str) -> bool:
    """Whether the organization may list an exact accepted domain (canonical) that it does not list yet."""
    return (
        is_host_name(name)
        and not is_public_suffix(Pattern(name))
        and all(pattern.name != name for pattern in rules.organization(organization).outside_domains)
        and all(
            domain != name and delegates(rules.organization(holder).delegated_names, name)
            for domain, holder in rules.accepted_above(name)
            if holder != organization
        )
        and not _taken_from_others(rules, organization, name)
    )


class _With(Zones):
    """The rules' zones with one accepted domain more."""

    def __init__(self, rules: RuleSet, organization: str, name: str) -> None:
        self._rules = rules
        self._name = name
        self._holder = (organization, False)

    def claims(self, name: str) -> Claims | None:
        """What is said of the name."""
        claims = self._rules.claims(name)
        return (claims or Claims())._replace(accepted=self._holder) if name == self._name else claims


def _taken_from_others(rules: RuleSet, organization: str, name: str) -> bool:
    """Whether domains, folds, certificate names or hosts of others would come to lie in the name's zone, or its fold
    in theirs.

    A look at every domain and name: only where a domain is about to be proposed.
    """
    zones = _With(rules, organization, name)
    if zones.zone(fold(name) or name) not in (NOBODY, organization):
        return True
    delegated = rules.organization(organization).delegated_names
    for other in rules.organizations():
        if other.name == organization:
            continue
        for pattern in other.accepted_domains:
            if is_below(pattern.name, name) and not delegates(delegated, pattern.name):
                return True
            if "xn--" in pattern.name and zones.zone(fold(pattern.name) or pattern.name) == organization:
                return True
        for connector in other.connectors:
            if any(zones.place(pattern.name).is_anothers(other.name) for pattern in connector.certificate_names):
                return True
            if any(zones.zone(without_service_labels(host)) == organization for host in connector.tlsa):
                return True
    return False
