"""What a configuration may say, asked about one small change: nothing is proposed that `policyd check` would refuse.

The errors of SPEC 4 that concern several organizations, or an organization and the provider, for a single address,
name, domain or connector, and public suffixes. `config.conflicts` finds the same over whole configurations; a property
test holds the two together. Here is also what the check allows and nobody should be told to do: addresses that any
program on the same machine or wire has.
"""

from __future__ import annotations

from policyd.config.public_suffixes import is_public_suffix
from policyd.policy.model import Connector, Provider
from policyd.policy.names import Pattern, fold, is_below, is_host_name, upwards_in, without_service_labels
from policyd.policy.networks import DISGUISED_V4, LINK_LOCAL, LOOPBACK, MULTICAST, THIS_NETWORK, Address, Network
from policyd.policy.ruleset import NOBODY, RuleSet
from policyd.policy.zones import Zones, delegates

_NOBODYS_OWN = (*THIS_NETWORK, *LOOPBACK, *LINK_LOCAL, *MULTICAST, *DISGUISED_V4)


def single(address: Address) -> Network:
    """The network of one address."""
    return Network(address[0], address[1], address[1])


def is_some_servers_own(address: Address) -> bool:
    """Whether an address can identify one server: none of this machine, this wire, or IPv4 in disguise."""
    return not any(network.holds(address) for network in _NOBODYS_OWN)


def connector_may_have_address(rules: RuleSet, provider: Provider, organization: int, address: Address) -> bool:
    """Whether a connector of the organization may list a single address."""
    return (
        is_some_servers_own(address)
        and not any(network.holds(address) for network in provider.networks)
        and all(rules.owners[number] == organization for number, _ in rules.addresses.find(address))
    )


def connector_may_have_name(rules: RuleSet, provider: Provider, organization: int, name: str) -> bool:
    """Whether a connector of the organization may list an exact certificate name (canonical)."""
    return (
        is_host_name(name)
        and not is_public_suffix(Pattern(name))
        and not rules.place(name).is_anothers(organization)
        and not provider.shares(name)
    )


def connector_may_be_enabled(rules: RuleSet, organization: int, connector: Connector) -> bool:
    """Whether a disabled connector of the organization may be enabled: no address is another organization's.

    A look at every enabled address: only for connectors that would match otherwise.
    """
    return not any(
        mine.overlaps(other)
        for number, enabled in enumerate(rules.connectors)
        if rules.owners[number] != organization
        for other in enabled.addresses
        for mine in connector.addresses
    )


def organization_may_accept(rules: RuleSet, organization: int, name: str) -> bool:
    """Whether the organization may list an exact accepted domain (canonical) that it does not list yet."""
    return (
        is_host_name(name)
        and not is_public_suffix(Pattern(name))
        and all(pattern.name != name for pattern in rules.organizations[organization].outside_domains)
        and all(
            domain != name and delegates(rules.organizations[holder].delegated_names, name)
            for domain, (holder, _) in upwards_in(rules.accepted, name)
            if holder != organization
        )
        and not _taken_from_others(rules, organization, name)
    )


class _With(Zones):
    """The rules' zones with one accepted domain more."""

    def __init__(self, rules: RuleSet, organization: int, name: str) -> None:
        self.accepted = {**rules.accepted, name: (organization, False)}
        self.cuts = rules.cuts


def _taken_from_others(rules: RuleSet, organization: int, name: str) -> bool:
    """Whether domains, folds, certificate names or hosts of others would come to lie in the name's zone, or its fold
    in theirs.

    A look at every domain and name: only where a domain is about to be proposed.
    """
    zones = _With(rules, organization, name)
    if zones.zone(fold(name) or name) not in (NOBODY, organization):
        return True
    delegated = rules.organizations[organization].delegated_names
    for number, other in enumerate(rules.organizations):
        if number == organization:
            continue
        for pattern in other.accepted_domains:
            if is_below(pattern.name, name) and not delegates(delegated, pattern.name):
                return True
            if "xn--" in pattern.name and zones.zone(fold(pattern.name) or pattern.name) == organization:
                return True
        for connector in other.connectors:
            if any(zones.place(pattern.name).is_anothers(number) for pattern in connector.certificate_names):
                return True
            if any(zones.zone(without_service_labels(host)) == organization for host in connector.tlsa):
                return True
    return False
