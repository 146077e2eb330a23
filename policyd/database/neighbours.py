"""Whom a change of some organizations can concern, by the indexes of the rules in force (SPEC 9).

The checks that concern two organizations (`policyd.config.conflicts`) are about domains that are equal or lie below one
another, as they stand or folded, addresses that overlap, and certificate names and TLSA hosts that lie in a domain or
are the same. Those who can be in such a relation with an organization are found here, and perhaps some more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policyd.policy.model import Organization
from policyd.policy.names import fold, names_below, upwards, without_service_labels
from policyd.policy.ruleset import RuleSet


def neighbours(rules: RuleSet, organizations: Sequence[Organization], most: int) -> set[str] | None:
    """Names of organizations in force that these may be in conflict with; None where there are more than `most`."""
    found: set[int] = set()
    tops: set[str] = set()
    hosts: set[str] = set()
    for organization in organizations:
        names = {pattern.name for pattern in organization.accepted_domains}
        tops |= names
        names.update([fold(name) or name for name in names])
        names.update(pattern.name for connector in organization.connectors for pattern in connector.certificate_names)
        mine = {without_service_labels(host) for connector in organization.connectors for host in connector.tlsa}
        names |= mine
        hosts |= mine
        for name in names:
            found.update(rules.accepted[up][0] for up in upwards(name) if up in rules.accepted)
        for connector in organization.connectors:
            for network in connector.addresses:
                found.update(rules.owners[number] for number in rules.addresses.within(network))
        if len(found) > most:
            return None
    found.update(rules.accepted[name][0] for name in names_below(rules.accepted, tops))
    for index in (rules.exact_names, rules.wildcard_names):
        at_or_below: Iterable[str] = (*names_below(index, tops), *(name for name in tops if name in index))
        found.update(rules.owners[number] for name in at_or_below for number in index[name])
    for name, (holder, _) in rules.accepted.items():
        if "xn--" in name and not tops.isdisjoint(upwards(fold(name) or name)):
            found.add(holder)
    for number, connector in enumerate(rules.connectors):
        for host in map(without_service_labels, connector.tlsa):
            if host in hosts or not tops.isdisjoint(upwards(host)):
                found.add(rules.owners[number])
    if len(found) > most:
        return None
    return {rules.organizations[number].name for number in found}
