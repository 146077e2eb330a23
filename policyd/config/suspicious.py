"""What is allowed and probably not meant: the warnings of SPEC 4 about organizations, one or several.

Warnings about single values are in `suspicious_values`. None of them changes what is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

from policyd.config.conflicts import (
    Conflict,
    Entry,
    about,
    accepted_entry,
    between,
    certificate_entry,
    tlsa_entry,
)
from policyd.config.messages import Message
from policyd.config.owners import DomainIndex
from policyd.config.parsed import Parsed
from policyd.config.problems import KeyPath, Problem, Report, subject
from policyd.config.text import quoted
from policyd.policy.fingerprints import parse_fingerprint
from policyd.policy.model import Connector, RelayLimit
from policyd.policy.names import Pattern, canonical, fold, parse_pattern, upwards, upwards_in, without_service_labels
from policyd.policy.zones import NOBODY

_WIDTHS = ("refuse", "bounces", "allow")  # of foreign_senders
_WINDOWS = ("minute", "hour", "day")

# What finds an entry of a list again; of the others it is the text.
_PARSERS: dict[str, Callable[[str], Hashable]] = {
    "certificate_names": parse_pattern,
    "certificate_fingerprints": parse_fingerprint,
    "public_key_fingerprints": parse_fingerprint,
    "tlsa": canonical,
}

# --- one organization


def within(parsed: Parsed, domains: DomainIndex, limits: tuple[RelayLimit, ...] = ()) -> list[Problem]:
    """What is odd about one organization of `domains`; `limits` are the policy's."""
    report, organization = Report(parsed.report.source, parsed.report.now), parsed.organization
    name = organization.name
    if not organization.accepted_domains:
        report.warning(parsed.path, Message.NO_DOMAINS)
    _connectors(parsed, report)
    for pattern in organization.accepted_domains:
        if "." not in pattern.name:
            path, text = domains.element(name, pattern.name)
            report.warning(path, Message.SINGLE_LABEL, value=quoted(text))
    _folds(parsed, domains, report)
    for pattern in organization.pending_domains:
        holder, wildcard = domains.accepted.get(pattern.name, (NOBODY, False))
        if holder == name and (wildcard or not pattern.wildcard):
            path, text = parsed.element(("pending_domains",), parse_pattern, pattern)
            place = report.place(domains.element(name, pattern.name)[0])
            report.warning(path, Message.ACCEPTED_AND_PENDING, value=quoted(text), place=place)
    above: set[str] = set()
    if organization.delegated_domains:
        above.update(up for accepted in organization.accepted_domains for up in upwards(accepted.name))
    for pattern in organization.delegated_domains:
        holders = (holder for _, holder in domains.accepted_above(pattern.name))
        if pattern.name not in above and name not in holders:
            path, text = parsed.element(("delegated_domains",), parse_pattern, pattern)
            report.warning(path, Message.DELEGATES_NOTHING, value=quoted(text))
    for connector in organization.connectors:
        _names(parsed, connector, domains, report)
        _limits(parsed, connector, limits, report)
        _wider_beside(parsed, connector, report)
    return report.problems


def _folds(parsed: Parsed, domains: DomainIndex, report: Report) -> None:
    name = parsed.organization.name
    for pattern in parsed.organization.accepted_domains:
        folded = fold(pattern.name)
        if folded is None or folded == pattern.name:
            continue
        place = domains.place(folded)
        if place.owner != name and place.zone in (NOBODY, name):
            path, text = domains.element(name, pattern.name)
            report.warning(path, Message.FOLD_NOT_ACCEPTED, value=quoted(text), fold=quoted(folded))


def _names(parsed: Parsed, connector: Connector, domains: DomainIndex, report: Report) -> None:
    """Names and hosts outside the organization's domains."""
    name = parsed.organization.name
    for pattern in connector.certificate_names:
        if domains.belongs(pattern.name, name):
            continue
        place = domains.place(pattern.name)
        entry = certificate_entry(parsed, connector.name, pattern)
        if place.zone in (NOBODY, name):
            report.warning(entry.path, Message.NAME_OUTSIDE, value=quoted(entry.text))
        elif place.given_away:
            organization = subject(domains.by_name[place.zone].path)
            report.warning(entry.path, Message.NAME_GIVEN_AWAY, value=quoted(entry.text), organization=organization)
    for owner_name in connector.tlsa:
        place = domains.place(without_service_labels(owner_name))
        if place.zone == NOBODY or (place.zone == name and place.given_away):
            entry = tlsa_entry(parsed, connector.name, owner_name)
            report.warning(entry.path, Message.TLSA_OUTSIDE, value=quoted(entry.text))


def _limits(parsed: Parsed, connector: Connector, limits: tuple[RelayLimit, ...], report: Report) -> None:
    """A connector's limit that the organization's, in the same or a longer window, never lets it reach."""
    own = parsed.organization.relay_limits
    for limit in connector.relay_limits:
        for above in limits if own is None else own:
            longer = _WINDOWS.index(above.window) >= _WINDOWS.index(limit.window)
            if longer and above.recipients < limit.recipients:
                keys = ("connectors", connector.name, "relay_limits")
                path, _ = parsed.element(keys, str, str(limit))
                report.warning(path, Message.LIMIT_ABOVE, value=quoted(str(limit)), limit=quoted(str(above)))
                break


def _wider_beside(parsed: Parsed, connector: Connector, report: Report) -> None:
    """What one connector does not take of a server, another that knows the same server does (SPEC 3.7)."""
    width = _WIDTHS.index(connector.foreign_senders)
    if not connector.enabled or width == len(_WIDTHS) - 1:
        return
    for other in parsed.organization.connectors:
        if not other.enabled or _WIDTHS.index(other.foreign_senders) <= width or not _meet(connector, other):
            continue
        for kind, stated in _same_evidence(connector, other):
            parse = _PARSERS.get(kind, str)
            _, text = parsed.element(("connectors", connector.name, kind), parse, stated)
            report.warning(
                (*parsed.path, "connectors", connector.name, "foreign_senders"),
                Message.WIDER_BESIDE,
                value=quoted(text),
                other=quoted(other.name),
                wider=quoted(other.foreign_senders),
            )
            break


def _meet(one: Connector, other: Connector) -> bool:
    """Whether one client can come from the addresses of both."""
    if not one.addresses or not other.addresses:
        return True
    return any(mine.overlaps(theirs) for mine in one.addresses for theirs in other.addresses)


def _same_evidence(connector: Connector, other: Connector) -> Iterator[tuple[str, Hashable]]:
    """The certificate evidence of a connector that another matches, too: its list, and what it is looked up by."""
    for pattern in connector.certificate_names:
        if any(pattern.covers(theirs.name) or theirs.covers(pattern.name) for theirs in other.certificate_names):
            yield "certificate_names", pattern
    pinned = {fingerprint for _, _, fingerprints in _pins(other) for fingerprint in fingerprints}
    for kind, stated, fingerprints in _pins(connector):
        if not pinned.isdisjoint(fingerprints):
            yield kind, stated
    yield from (("tlsa", owner_name) for owner_name in connector.tlsa if owner_name in other.tlsa)


def _connectors(parsed: Parsed, report: Report) -> None:
    connectors = parsed.organization.connectors
    enabled = [connector for connector in connectors if connector.enabled]
    if not connectors:
        report.warning(parsed.path, Message.NO_CONNECTORS)
    elif not enabled:
        report.warning(parsed.path, Message.CONNECTORS_DISABLED)
    elif not any(connector.asks_for_certificate for connector in enabled):
        report.warning(parsed.path, Message.ADDRESSES_ONLY)


# --- several organizations


def across(all_parsed: Sequence[Parsed], domains: DomainIndex) -> Iterator[Conflict]:
    """What two organizations have in common and may, but should not."""
    yield from _pending_elsewhere(all_parsed, domains)
    yield from _same_names(all_parsed)
    yield from _same_keys(all_parsed)


def _pending_elsewhere(all_parsed: Sequence[Parsed], domains: DomainIndex) -> Iterator[Conflict]:
    for parsed in all_parsed:
        name = parsed.organization.name
        for pattern in parsed.organization.pending_domains:
            holder, _ = domains.accepted.get(pattern.name, (name, False))
            if holder == name:
                continue
            pending = Entry(parsed, *parsed.element(("pending_domains",), parse_pattern, pattern))
            accepted = accepted_entry(domains, holder, pattern.name)
            yield about(
                "warning",
                *between(pending, accepted),
                Message.PENDING_ELSEWHERE,
                name=quoted(pending.text),
                pending=subject(parsed.path),
                accepted=subject(accepted.parsed.path),
            )


def _same_names(all_parsed: Sequence[Parsed]) -> Iterator[Conflict]:
    """Entries of two organizations that one certificate can match: the same, or one below the other's `*.`."""
    holders: dict[str, tuple[int, str, Pattern]] = {}
    wildcards: dict[str, tuple[int, str, Pattern]] = {}
    named = [
        (index, connector.name, pattern)
        for index, parsed in enumerate(all_parsed)
        for connector in parsed.organization.connectors
        if connector.enabled
        for pattern in connector.certificate_names
    ]
    for item in named:
        holders.setdefault(item[2].name, item)
        if item[2].wildcard:
            wildcards.setdefault(item[2].name, item)
    for item in named:
        name = item[2].name
        candidates = [holders[name], *(wildcard for _, wildcard in upwards_in(wildcards, name))]
        other = next((other for other in candidates if other[0] != item[0]), None)
        if other is not None:
            mine, theirs = (
                certificate_entry(all_parsed[index], connector, pattern) for index, connector, pattern in (item, other)
            )
            yield about("warning", *between(mine, theirs), Message.SAME_NAME)


def _same_keys(all_parsed: Sequence[Parsed]) -> Iterator[Conflict]:
    """Pins of two organizations that one certificate matches."""
    seen: dict[tuple[str, str], tuple[int, KeyPath, str]] = {}
    for index, parsed in enumerate(all_parsed):
        for connector in parsed.organization.connectors:
            if not connector.enabled:
                continue
            for kind, stated, fingerprints in _pins(connector):
                pin = (index, ("connectors", connector.name, kind), stated)
                others = [seen.setdefault(fingerprint, pin) for fingerprint in fingerprints]
                other = next((other for other in others if other[0] != index), None)
                if other is not None:
                    both = between(_pin_entry(all_parsed, pin), _pin_entry(all_parsed, other))
                    yield about("warning", *both, Message.SAME_KEY)


def _pins(connector: Connector) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Each entry that pins: its list, what it is looked up by, and the fingerprints (of what, which)."""
    for text in connector.certificate_fingerprints:
        yield "certificate_fingerprints", text, [("certificate", text)]
    for text in connector.public_key_fingerprints:
        yield "public_key_fingerprints", text, [("key", text)]
    for stored in connector.stored_certificates:
        prints = [("certificate", text) for text in sorted(stored.certificate_fingerprints)]
        key, stated = ("certificates", stored.pem) if stored.pem else ("certificate_files", stored.source)
        yield key, stated, prints + [("key", text) for text in sorted(stored.public_key_fingerprints)]


def _pin_entry(all_parsed: Sequence[Parsed], pin: tuple[int, KeyPath, str]) -> Entry:
    index, keys, stated = pin
    return Entry(all_parsed[index], *all_parsed[index].element(keys, _PARSERS.get(str(keys[-1]), str), stated))
