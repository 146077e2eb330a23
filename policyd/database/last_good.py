"""What is in force of an organization whose latest rows are left out (SPEC 9): pure functions.

`remaining`: its last good rows less all that the latest no longer have, and with every lock of either. `held`: where
there are no good ones, its domains and locks. Neither grants what the latest rows do not grant, so a slip of a tenant
never keeps what the operator took away; and neither uses evidence that the latest rows do not have, which may be
another's by now. A value of the latest rows that cannot be read is taken for what grants least.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import Any, TypeVar, get_args

from policyd.config.parsed import Parsed
from policyd.policy.model import Connector, ForeignSenders, Organization, Partner, RelayLimit
from policyd.policy.names import Pattern, upwards
from policyd.policy.networks import Network

E = TypeVar("E", Connector, Partner)
T = TypeVar("T")

_NEVER = "00"  # what no client can show: no digest has 1 octet
_CERTIFICATE = ("certificate_names", "certificates", "certificate_fingerprints", "public_key_fingerprints", "tlsa")
_UNREADABLE = "it cannot be read why"  # in place of a reason for suspension
_NARROWEST_LAST: tuple[ForeignSenders, ...] = get_args(ForeignSenders)


# ------------------------------------------------------------------------------------------- the organization


def held(latest: Parsed) -> Organization:
    """The organization without connectors, and with every restriction that may be meant."""
    found, raw = latest.organization, latest.raw
    return replace(
        found,
        protect_sender_domains=found.protect_sender_domains or _may_be_on(raw, "protect_sender_domains"),
        connectors_only=found.connectors_only or _may_be_on(raw, "connectors_only"),
        suspended=_reason(found.suspended, raw),
        connectors=(),
        partners=tuple(_strict(partner, _table(raw, "partners", partner.name)) for partner in found.partners),
    )


def remaining(good: Organization, latest: Parsed) -> Organization:
    """The last good rows less what the latest ones no longer have, with every lock of either."""
    new = held(latest)
    connectors_only = good.connectors_only or new.connectors_only
    outside = _common(good.outside_domains, new.outside_domains)
    # What only one of them has hosted elsewhere belongs to nobody, and stays locked: as what is given away.
    once_outside = [p for p in (*good.outside_domains, *new.outside_domains) if not _lies_in(p, outside)]
    return replace(
        new,
        accepted_domains=tuple(_accepted(good, new)),
        delegated_domains=tuple(dict.fromkeys((*good.delegated_domains, *new.delegated_domains, *once_outside))),
        outside_domains=outside,
        protect_sender_domains=good.protect_sender_domains or new.protect_sender_domains,
        connectors_only=connectors_only,
        relay_limits=_organization_limits(good.relay_limits, new.relay_limits),
        suspended=new.suspended or good.suspended,
        connectors=tuple(_connectors(good.connectors, latest)),
        partners=tuple(_partners(good.partners, new.partners, connectors_only)),
    )


def _accepted(good: Organization, latest: Organization) -> Iterator[Pattern]:
    """What both own: what a wider entry of one covers, and it has not cut out."""
    for pattern in _common(good.accepted_domains, latest.accepted_domains):
        if all(
            pattern in one.accepted_domains or not _lies_in(pattern, (*one.delegated_domains, *one.outside_domains))
            for one in (good, latest)
        ):
            yield pattern


def _lies_in(pattern: Pattern, cuts: Iterable[Pattern]) -> bool:
    names = {cut.name for cut in cuts}
    return not names.isdisjoint(upwards(pattern.name))


def _organization_limits(
    good: tuple[RelayLimit, ...] | None, latest: tuple[RelayLimit, ...] | None
) -> tuple[RelayLimit, ...] | None:
    """None, the policy's, is stricter than (), which exempts."""
    if not good or not latest:
        return good or latest or (None if None in (good, latest) else ())
    return _limits(good, latest)


# ------------------------------------------------------------------------------------------- connectors


def _connectors(goods: Iterable[Connector], latest: Parsed) -> Iterator[Connector]:
    """Those that both have, where anything is left that they are recognised by and speak for."""
    by_name = {connector.name: connector for connector in latest.organization.connectors}
    for good in goods:
        if good.name in by_name:
            left = _connector(good, by_name[good.name], _table(latest.raw, "connectors", good.name))
            if left is not None:
                yield left


def _connector(good: Connector, latest: Connector, raw: Mapping[str, Any]) -> Connector | None:
    left = _evidence(good, latest, raw)
    for_domains = good.for_domains or latest.for_domains
    if good.for_domains and raw.get("for_domains"):
        for_domains = _common(good.for_domains, latest.for_domains)
    speaks_for_all = not for_domains and bool(good.for_domains or raw.get("for_domains"))
    suspended = _reason(latest.suspended, raw) or good.suspended
    if not suspended and (speaks_for_all or _is_wider(left, good, latest, raw)):
        return None  # one that is suspended grants nothing, and whoever it matches is to hear of it
    return replace(
        left,
        for_domains=for_domains,
        foreign_senders=max(good.foreign_senders, _foreign_senders(latest, raw), key=_NARROWEST_LAST.index),
        relay_limits=_limits(good.relay_limits, latest.relay_limits),
        suspended=suspended,
    )


def _foreign_senders(latest: Connector, raw: Mapping[str, Any]) -> ForeignSenders:
    return latest.foreign_senders if raw.get("foreign_senders", "allow") in _NARROWEST_LAST else "refuse"


def _limits(good: Iterable[RelayLimit], latest: Iterable[RelayLimit]) -> tuple[RelayLimit, ...]:
    """The lower one of each window."""
    lowest: dict[str, RelayLimit] = {}
    for limit in sorted((*good, *latest), reverse=True):
        lowest[limit.window] = limit
    return tuple(lowest.values())


# ------------------------------------------------------------------------------------------- partners


def _partners(goods: Sequence[Partner], latests: Sequence[Partner], connectors_only: bool) -> Iterator[Partner]:
    """What either demands; and past `connectors_only` nobody whom not both let past."""
    old, new = ({one.name: one for one in of if one.enabled} for of in (goods, latests))
    for name in dict.fromkeys((*old, *new)):
        good, latest = old.get(name), new.get(name)
        if good is not None and latest is not None and replace(good, description=latest.description) == latest:
            yield latest
        elif connectors_only:
            yield _both_partners(good, latest)
        else:
            if latest is not None:
                yield latest
            if good is not None:
                yield good if latest is None else replace(good, name=f"{name[:54]}.last-good")


def _both_partners(good: Partner | None, latest: Partner | None) -> Partner:
    """One partner with both demands, for the senders of both; one that nobody satisfies where it cannot be said."""
    if good is not None and latest is not None:
        both = _evidence(good, latest, {})
        if _senders(good) == _senders(latest) and not _is_wider(both, good, latest, {}):
            return both
    one = latest or good
    assert one is not None
    senders = chain.from_iterable(other.sender_domains for other in (good, latest) if other is not None)
    every = any(other.every_sender for other in (good, latest) if other is not None)
    return _impossible(replace(one, sender_domains=tuple(dict.fromkeys(senders)), every_sender=every))


def _senders(partner: Partner) -> tuple[bool, frozenset[Pattern]]:
    return partner.every_sender, frozenset(partner.sender_domains)


def _strict(partner: Partner, raw: Mapping[str, Any]) -> Partner:
    """The partner; where a whole list of what it asks for could not be read, one that nobody can satisfy."""
    read = {
        "certificate_names": partner.certificate_names,
        "certificates": partner.stored_certificates,
        "certificate_fingerprints": partner.certificate_fingerprints,
        "public_key_fingerprints": partner.public_key_fingerprints,
        "tlsa": partner.tlsa,
        "addresses": partner.addresses,
    }
    strict = replace(partner, require_tls=partner.require_tls or _may_be_on(raw, "require_tls"))
    return strict if all(found or not raw.get(key) for key, found in read.items()) else _impossible(strict)


def _impossible(partner: Partner) -> Partner:
    return replace(
        partner,
        certificate_names=(),
        stored_certificates=(),
        public_key_fingerprints=(),
        tlsa=(),
        certificate_fingerprints=(_NEVER,),
    )


# ------------------------------------------------------------------------------------------- evidence


def _evidence(good: E, latest: E, raw: Mapping[str, Any]) -> E:
    """The evidence that both have."""
    pinned = {stored.certificate_fingerprints for stored in latest.stored_certificates}
    return replace(
        good,
        enabled=good.enabled and latest.enabled and raw.get("enabled", True) is True,
        require_tls=good.require_tls or latest.require_tls or _may_be_on(raw, "require_tls"),
        until=_until(good.until, latest.until, raw),
        certificate_names=_common(good.certificate_names, latest.certificate_names),
        stored_certificates=tuple(s for s in good.stored_certificates if s.certificate_fingerprints in pinned),
        certificate_fingerprints=_both(good.certificate_fingerprints, latest.certificate_fingerprints),
        public_key_fingerprints=_both(good.public_key_fingerprints, latest.public_key_fingerprints),
        tlsa=_both(good.tlsa, latest.tlsa),
        addresses=tuple(_common_networks(good.addresses, latest.addresses)),
    )


def _is_wider(left: E, good: E, latest: E, raw: Mapping[str, Any]) -> bool:
    """Whether it would match more than one of the two: a list of evidence that is empty asks for less."""
    certificate = good.asks_for_certificate or latest.asks_for_certificate or any(raw.get(key) for key in _CERTIFICATE)
    addresses = good.addresses or latest.addresses or raw.get("addresses")
    return bool((certificate and not left.asks_for_certificate) or (addresses and not left.addresses))


def _until(good: int | None, latest: int | None, raw: Mapping[str, Any]) -> int | None:
    """The earlier end; one that cannot be read is over."""
    ends = [end for end in (good, latest) if end is not None]
    if latest is None and raw.get("until") is not None:
        return 0
    return min(ends, default=None)


def _both(good: Sequence[T], latest: Sequence[T]) -> tuple[T, ...]:
    among = frozenset(latest)
    return tuple(one for one in good if one in among)


def _common(good: Sequence[Pattern], latest: Sequence[Pattern]) -> tuple[Pattern, ...]:
    """The patterns that cover what both cover."""
    return tuple(dict.fromkeys((*_covered(good, latest), *_covered(latest, good))))


def _covered(patterns: Iterable[Pattern], by: Sequence[Pattern]) -> Iterator[Pattern]:
    same, wildcards = frozenset(by), {pattern.name for pattern in by if pattern.wildcard}
    return (one for one in patterns if one in same or not wildcards.isdisjoint(upwards(one.name)))


def _common_networks(good: Sequence[Network], latest: Sequence[Network]) -> Iterator[Network]:
    """The addresses that are in both; of `good` as it is what lies within one of `latest`."""
    ranges: list[Network] = []  # of `latest`, sorted, none overlapping the next
    for network in sorted(latest, key=attrgetter("family", "first", "last")):
        if ranges and ranges[-1].family == network.family and network.first <= ranges[-1].last + 1:
            ranges[-1] = replace(ranges[-1], last=max(ranges[-1].last, network.last))
        else:
            ranges.append(network)
    begins = [(one.family, one.first) for one in ranges]
    for network in good:
        at = max(bisect_right(begins, (network.family, network.first)) - 1, 0)
        for one in ranges[at:]:
            if (one.family, one.first) > (network.family, network.last):
                break
            if one.overlaps(network):
                yield Network(network.family, max(one.first, network.first), min(one.last, network.last))


# ------------------------------------------------------------------------------------------- what cannot be read


def _table(raw: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    tables = raw.get(kind)
    table = tables.get(name) if isinstance(tables, Mapping) else None
    return table if isinstance(table, Mapping) else {}


def _may_be_on(raw: Mapping[str, Any], key: str) -> bool:
    """Whether a flag says anything else than no."""
    return raw.get(key) not in (None, False)


def _reason(read: str, raw: Mapping[str, Any]) -> str:
    return read or ("" if raw.get("suspended") is None else _UNREADABLE)
