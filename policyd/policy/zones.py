"""Whose a name is: zone, owner and belongs (SPEC 3.1 and 3.3), the only place of these rules.

Asked of accepted domains, whoever holds them: the compiled rules, or organizations that were just read and may still be
in conflict. Names are canonical, organizations are numbers; nothing else of an organization is known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from policyd.policy.names import upwards

NOBODY = -1  # in place of an organization's number


class Zones:
    """What can be asked of `accepted`: accepted domain -> its organization, and whether it stands there with `*.`."""

    __slots__ = ()

    accepted: Mapping[str, tuple[int, bool]]

    def zone_and_owner(self, name: str) -> tuple[int, int]:
        """SPEC 3.1: the organization of the nearest accepted domain that equals `name` or lies above it, and the one
        that owns `name`: the same where the first such domain that covers it comes before any other organization's."""
        zone = NOBODY
        up, dot = name, "."
        while dot:  # as `upwards` does, without a generator: each name of a request and of a configuration comes by
            entry = self.accepted.get(up)
            if entry is not None:
                organization, wildcard = entry
                if zone == NOBODY:
                    zone = organization
                if organization != zone:
                    break
                if wildcard or up == name:
                    return zone, zone
            _, dot, up = up.partition(".")
        return zone, NOBODY

    def zone(self, name: str) -> int:
        """The organization in whose zone `name` lies (SPEC 3.1)."""
        return self.zone_and_owner(name)[0]

    def owner(self, name: str) -> int:
        """The organization that owns `name` (SPEC 3.1)."""
        return self.zone_and_owner(name)[1]

    def belongs(self, name: str, organization: int) -> bool:
        """SPEC 3.3, D: `name` is the organization's, or one host label below a domain that is."""
        zone, owner = self.zone_and_owner(name)
        _, dot, parent = name.partition(".")
        return owner == organization or (bool(dot) and zone == organization == self.owner(parent))


def delegates(delegated: Set[str], name: str) -> bool:
    """Whether who delegates these names lets others have `name`: it is one of them, or lies below one (SPEC 4)."""
    return not delegated.isdisjoint(upwards(name))
