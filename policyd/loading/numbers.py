"""The numbers of organizations and connectors, while some of them are exchanged for `patch` (SPEC 9).

Numbers are places in two lists in the order of names, as the decision needs it. A free place repeats the organization
or connector before it, and no index names it; new ones take free places where their names belong.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter

from policyd.policy.model import Connector, Organization
from policyd.policy.ruleset import NOBODY, RuleSet

NO_ORGANIZATION = Organization(name="")  # at a free place before all others
NO_CONNECTOR = Connector(name="")
NAME = attrgetter("name")  # what organizations, connectors and partners are sorted by


class NoRoom(Exception):
    """The numbers between two neighbours are used up."""


class Numbers:
    """Organizations and connectors by number, while they are being exchanged."""

    def __init__(self, base: RuleSet) -> None:
        self.organizations = list(base.organizations)
        self.connectors = list(base.connectors)
        self.owners = list(base.owners)
        self.partners = list(base.partners)

    def number(self, name: str) -> int:
        """The organization's; NOBODY where there is none."""
        at = bisect_left(self.organizations, name, key=NAME)
        return at if at < len(self.organizations) and self.organizations[at].name == name else NOBODY

    def take_out(self, number: int) -> None:
        """Frees the place of an organization, and those of its connectors."""
        before = self.organizations[number - 1] if number else NO_ORGANIZATION
        end = bisect_right(self.organizations, self.organizations[number].name, key=NAME)
        self.organizations[number:end] = [before] * (end - number)
        self.partners[number] = ()
        begin, end = self._range(number)
        self._free(begin, end)

    def put_in(self, organization: Organization) -> int:
        """A number for a new organization, in the order of names."""
        end = bisect_left(self.organizations, organization.name, key=NAME)
        begin = end
        while begin > 1 and self.organizations[begin - 1] is self.organizations[begin - 2]:
            begin -= 1
        if begin == 1 and self.organizations[0] is NO_ORGANIZATION:
            begin = 0
        if begin == end:
            raise NoRoom
        number = (begin + end) // 2
        self.organizations[number:end] = [organization] * (end - number)
        return number

    def exchange(self, number: int, organization: Organization) -> list[tuple[int, Connector]]:
        """Puts the organization's present connectors and partners in; the connectors with their numbers."""
        name = self.organizations[number].name
        end = bisect_right(self.organizations, name, key=NAME)
        self.organizations[number:end] = [organization] * (end - number)
        enabled = (partner for partner in organization.partners if partner.enabled)
        self.partners[number] = tuple(sorted(enabled, key=NAME))
        connectors = sorted((c for c in organization.connectors if c.enabled), key=NAME)
        begin, end = self._range(number)
        if not connectors:
            self._free(begin, end)
            return []
        if len(connectors) > end - begin:  # the places that are free before them
            while begin > 1 and self.connectors[begin - 1] is self.connectors[begin - 2]:
                begin -= 1
        room = end - begin
        if len(connectors) > room:
            raise NoRoom
        first = begin if self.owners[begin:end][:1] == [number] else begin + (room - len(connectors)) // 2
        room = end - first
        numbered = [(first + n * room // len(connectors), connector) for n, connector in enumerate(connectors)]
        stops = [*(start for start, _ in numbered[1:]), end]
        for (start, connector), stop in zip(numbered, stops, strict=True):
            self.connectors[start:stop] = [connector] * (stop - start)
        self.owners[first:end] = [number] * room
        return numbered

    def _range(self, number: int) -> tuple[int, int]:
        return bisect_left(self.owners, number), bisect_right(self.owners, number)

    def _free(self, begin: int, end: int) -> None:
        if begin == end:
            return
        before = self.connectors[begin - 1] if begin else NO_CONNECTOR
        self.connectors[begin:end] = [before] * (end - begin)
        self.owners[begin:end] = [self.owners[begin - 1] if begin else 0] * (end - begin)
