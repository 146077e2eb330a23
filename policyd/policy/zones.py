"""Whose a name is: zone, owner and belongs (SPEC 3.1 and 3.3), the only place of these rules.

Asked of accepted domains, whoever holds them: the compiled rules, or organizations that were just read and may still be
in conflict. Names are canonical; an organization is known by its name, and by nothing else here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

from policyd.policy.names import Pattern, upwards

NOBODY = ""  # in place of an organization's name


class Place(NamedTuple):
    """Whose a name is."""

    zone: str = NOBODY
    owner: str = NOBODY
    covering: str = ""  # the accepted domain that gives the ownership, without `*.`; empty where nobody owns the name
    given_away: bool = False  # to whoever accepts it: a delegated domain of the zone lies between

    def is_anothers(self, organization: str) -> bool:
        """Whether it is another organization's: then this one's connectors may not list it (SPEC 4)."""
        return self.zone not in (NOBODY, organization) and not self.given_away

    def is_foreign(self, organization: str) -> bool:
        """Whether a certificate of this name matches no name of the organization's connectors (SPEC 3.1)."""
        return self.given_away or self.zone not in (NOBODY, organization)


NOWHERE = Place()


class Claims(NamedTuple):
    """What organizations say of one name."""

    accepted: tuple[str, bool] | None = None  # by whom it is accepted, and whether it stands there with `*.`
    cuts: Sequence[tuple[str, bool]] = ()  # who delegates it, or (True) has it hosted elsewhere
    pending: Sequence[tuple[str, bool]] = ()  # who awaits its verification, and whether with `*.`


class Zones(ABC):
    """What can be asked of accepted domains and of what is cut out of them."""

    __slots__ = ()

    @abstractmethod
    def claims(self, name: str) -> Claims | None:
        """What is said of exactly that name; None where nothing is."""

    def place(self, name: str) -> Place:
        """zone(name) and owner(name) of SPEC 3.1, in one walk up.

        The zone is the organization of the nearest accepted domain that equals `name` or lies above it; the owner is
        the same where the first such domain that covers `name` comes before any other organization's, and before what
        the organization cuts out. What it cuts out below the nearest one is given away, or hosted elsewhere and then in
        no zone; both at once is given away, so that the lock stays (docs/decisions/013).
        """
        zone = NOBODY
        below: list[tuple[str, bool]] = []  # the cuts so far
        up, dot = name, "."
        while dot:  # as `upwards` does, without a generator: each name of a request and of a configuration comes by
            claims = self.claims(up)
            if claims is not None and claims.accepted is not None:
                organization, wildcard = claims.accepted
                if zone == NOBODY:
                    zone = organization
                    if below and (zone, False) in below:
                        return Place(zone, given_away=True)
                    if below and (zone, True) in below:
                        return NOWHERE
                elif organization != zone or (zone, False) in below or (zone, True) in below:
                    break
                if wildcard or up == name:
                    return Place(zone, zone, up)
            elif claims is not None:
                below += claims.cuts
            _, dot, up = up.partition(".")
        return Place(zone)

    def accepted_above(self, name: str) -> Iterator[tuple[str, str]]:
        """The accepted domains that equal `name` or lie above it, nearest first, each with whose it is."""
        for up in upwards(name):
            claims = self.claims(up)
            if claims is not None and claims.accepted is not None:
                yield up, claims.accepted[0]

    def zone(self, name: str) -> str:
        """The organization in whose zone `name` lies (SPEC 3.1)."""
        return self.place(name).zone

    def owner(self, name: str) -> str:
        """The organization that owns `name` (SPEC 3.1)."""
        return self.place(name).owner

    def belongs(self, name: str, organization: str, for_domains: Sequence[Pattern] = ()) -> bool:
        """SPEC 3.3, D: `name` is the organization's, or one host label below a domain that is, and not given away.

        With `for_domains` only the ownership that one of these gives counts.
        """
        place = self.place(name)
        if place.owner == organization and speaks_for(for_domains, name, place.covering):
            return True
        _, dot, parent = name.partition(".")
        if not dot or place.zone != organization or place.given_away:
            return False
        above = self.place(parent)
        return above.owner == organization and speaks_for(for_domains, parent, above.covering)


def speaks_for(for_domains: Sequence[Pattern], name: str, covering: str) -> bool:
    """Whether a connector with these `for_domains` speaks for a name that it owns by the accepted domain `covering`."""
    return not for_domains or any(
        pattern.name == covering and (pattern.wildcard or name == covering) for pattern in for_domains
    )


def delegates(delegated: Set[str], name: str) -> bool:
    """Whether who delegates these names lets others have `name`: it is one of them, or lies below one (SPEC 4)."""
    return not delegated.isdisjoint(upwards(name))
