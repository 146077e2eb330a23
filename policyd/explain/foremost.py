"""The few things of a whole log that are worth looking at first, for hubs of many organizations (SPEC 7, report).

Ranks what `digest` has collected; knows no output.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from policyd.explain.digest import About
from policyd.policy.decision import Reason

# What strangers and forgers get, too: told by the servers that it happened to, not by its number.
_ANYBODYS = frozenset((Reason.NO_CONNECTOR.value, Reason.CERTIFICATE_UNKNOWN.value, Reason.CERTIFICATE_UNTRUSTED.value))


class Matter(NamedTuple):
    """One thing; the higher its numbers, the more it is worth looking at."""

    refused: int
    seen: int
    organization: str
    text: str


def foremost(organizations: Iterable[About], most: int) -> list[Matter]:
    """The first `most` of them, by refusals."""
    matters = (matter for about in organizations for matter in _of(about))
    return heapq.nlargest(most, matters, key=lambda matter: (matter.refused, matter.seen))


def _of(about: About) -> Iterator[Matter]:
    for reason, count in about.refused.items():
        if reason not in _ANYBODYS:
            yield Matter(count, count, about.name, f"mail refused for {reason}")
    for seen in about.certificates.values():
        shown = seen.name or seen.issuer or f"the key {seen.key}"
        yield Matter(seen.refused, seen.count, about.name, f"a certificate that is not registered: {shown}")
    for address, used in about.addresses.items():
        text = f"an address that uses its sender domains and is not registered: {address}"
        yield Matter(used.refused, used.count, about.name, text)
