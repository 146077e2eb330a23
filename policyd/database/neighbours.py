"""Whom a change of some organizations can concern, by the indexes of the rules in force (SPEC 9).

The checks that concern two organizations (`policyd.config.conflicts`) are about domains that are equal or lie below one
another, as they stand or folded, addresses that overlap, and certificate names and TLSA hosts that lie in a domain or
are the same. Those who can be in such a relation with an organization are found here, and perhaps some more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from policyd.policy.lookups import Lookups
from policyd.policy.model import Organization
from policyd.policy.names import fold, upwards, without_service_labels


def neighbours(rules: Lookups, organizations: Iterable[Organization], most: int) -> set[str] | None:
    """Names of organizations in force that these may be in conflict with; None where there are more than `most`."""
    found: set[str] = set()
    for organization in organizations:
        for name in _of(rules, organization):
            found.add(name)
            if len(found) > most:
                return None
    return found


def _of(rules: Lookups, organization: Organization) -> Iterator[str]:
    accepted = {pattern.name for pattern in organization.accepted_domains}
    for name in accepted:
        yield from rules.concerned_below(name)
    names = accepted | {fold(name) or name for name in accepted}
    for connector in organization.connectors:
        names.update(pattern.name for pattern in connector.certificate_names)
        for host in map(without_service_labels, connector.tlsa):
            names.add(host)
            yield from (name for name, _ in rules.tlsa_hosts(host))
            yield from (name for name, _ in rules.disabled.tlsa_hosts(host))
        for network in connector.addresses:
            yield from (name for name, _ in rules.overlapping(network))
            yield from (name for name, _ in rules.disabled.overlapping(network))
    for up in {up for name in names for up in upwards(name)}:
        claims = rules.claims(up)
        if claims is not None and claims.accepted is not None:
            yield claims.accepted[0]
