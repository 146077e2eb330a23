"""Who passes the restriction lists of an smtpd without policyd: what they permit, and what falls through (SPEC 7).

For `doors`. A list is read with all that its tables and classes can do, up to where policyd is asked. It claims nothing
about other policy services, and of tables that cannot be looked into it says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal

from policyd.policy.networks import Network
from policyd.postfix.actions import read_action
from policyd.postfix.course import Course
from policyd.postfix.lists import DECIDING, MAIL_LISTS
from policyd.postfix.mails import strangers
from policyd.postfix.networks import Trusted, network_of, network_of_key
from policyd.postfix.restrictions import IMPLIED, PERMITTING_TABLES, Restriction, refusal, starts
from policyd.postfix.tables import kind_and_name


class Reach(IntEnum):
    """To which recipients mail can go."""

    NOWHERE = 0
    OWN = 1  # to Postfix's own domains
    ANYWHERE = 2


# everybody: permit. own: permit_auth_destination. others by name: permit_mx_backup and so on. table: an entry of an
# access table. unknown table: it cannot be looked into. service: somebody else's policy service.
Kind = Literal["everybody", "networks", "certificates", "own", "backup", "names", "table", "unknown table", "service"]

_KINDS: dict[str, Kind] = {
    "permit": "everybody",
    "permit_naked_ip_address": "everybody",
    "permit_mynetworks": "networks",
    "permit_tls_clientcerts": "certificates",
    "permit_tls_all_clientcerts": "certificates",
    "permit_auth_destination": "own",
    "permit_mx_backup": "backup",
    "permit_dnswl_client": "names",
    "permit_rhswl_client": "names",
}
_ONLY_OWN = ("own", "names")  # these never relay


@dataclass(frozen=True, slots=True)
class Grant:
    """Something that lets mail pass a list without policyd."""

    list: str
    kind: Kind
    reach: Reach
    by: Restriction  # that stands in the list itself or in a class of it
    key: str = ""  # of the table that `by` is
    action: str = ""  # what the table says for it
    within: Restriction | None = None  # what permits, where the action is a list of restrictions


@dataclass(slots=True)
class Passage:
    """What a list lets pass without policyd."""

    falls: Reach = Reach.ANYWHERE  # as far as what nothing in it stops can go
    grants: list[Grant] = field(default_factory=list)
    asks: bool = False  # policyd is asked, about some mail or all of it
    asks_at: int | None = None  # the place in the list of what asks it

    def granted(self, reach: Reach, *, networks: bool) -> list[Grant]:
        """What grants mail that reach; `networks`: also by mynetworks, of which `trust` judges what it holds."""
        return [grant for grant in self.grants if grant.reach >= reach and (networks or grant.kind != "networks")]


class Passages:
    """The passages of all lists of one smtpd."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self.lists = course.lists
        self.all = {name: self._of(self.lists.all[name], name, Reach.ANYWHERE) for name in MAIL_LISTS}

    def open_to(self, reach: Reach) -> list[Grant]:
        """What lets strangers' mail with that reach through all lists without policyd; nothing where one stops it."""
        stopping = [passage.granted(reach, networks=False) for passage in self.all.values() if passage.falls < reach]
        return [grant for granted in stopping for grant in granted] if all(stopping) else []

    @property
    def trusts_networks(self) -> bool:
        """Whether permit_mynetworks lets mail to anywhere past policyd."""
        stopping = [
            passage.granted(Reach.ANYWHERE, networks=True)
            for passage in self.all.values()
            if passage.falls < Reach.ANYWHERE
        ]
        return all(stopping) and any(grant.kind == "networks" for granted in stopping for grant in granted)

    @property
    def falls(self) -> Reach:
        """How far mail goes that nothing permits and nobody decides about."""
        return min(passage.falls for passage in self.all.values())

    @property
    def strangers_reach_own(self) -> bool:
        """Whether anybody can send to Postfix's own domains without policyd."""
        if not any(starts(self.lists.all[name]) for name in DECIDING):
            return False
        granted = {grant.kind for grant in self.open_to(Reach.OWN)}
        return self.falls >= Reach.OWN or not granted.isdisjoint(("everybody", "own", "backup"))

    @property
    def asks(self) -> bool:
        """Whether policyd is asked where an OK counts."""
        return bool(self.asked)

    @property
    def asked(self) -> list[str]:
        """The lists in which an OK of policyd counts, and that ask it."""
        return [name for name in DECIDING if self.all[name].asks or self.lists.asks(name)]

    def before(self, name: str) -> list[Restriction]:
        """What stands before policyd in a list."""
        place = self.all[name].asks_at
        return self.lists.all[name][:place] if place is not None else [*self.lists.before(name)]

    def refuses_behind(self, name: str) -> bool:
        """Whether something behind policyd in a list refuses relaying."""
        return bool(refusal(self.lists.all[name][len(self.before(name)) :]))

    def _of(self, restrictions: Sequence[Restriction], name: str, reach: Reach) -> Passage:
        passage = Passage(reach)
        for place, restriction in enumerate(restrictions):
            if passage.falls == Reach.NOWHERE:
                break
            self._step(restriction, name, passage)
            if passage.asks and passage.asks_at is None:
                passage.asks_at = place
        return passage

    def _step(self, restriction: Restriction, name: str, passage: Passage) -> None:
        kind = _KINDS.get(restriction.name)
        if self.lists.is_policyd(restriction):
            passage.asks, passage.falls = True, Reach.NOWHERE
        elif not self.lists.knows(restriction) or restriction.refuses_everything:
            passage.falls = passage.falls if restriction.only_warns else Reach.NOWHERE
        elif restriction.refuses_relaying:
            passage.falls = min(passage.falls, Reach.OWN)
        elif kind is not None:
            if not self._permits_nobody(restriction):
                reach = min(passage.falls, Reach.OWN if kind in _ONLY_OWN else Reach.ANYWHERE)
                passage.grants.append(Grant(name, kind, reach, restriction))
            if restriction.name == "permit":
                passage.falls = Reach.NOWHERE
        elif restriction.service is not None:
            passage.grants.append(Grant(name, "service", passage.falls, restriction))
        elif restriction.name in PERMITTING_TABLES or restriction.name == IMPLIED:
            self._table(restriction, name, passage)

    def _permits_nobody(self, restriction: Restriction) -> bool:
        """Whether what it permits by is empty or not asked for."""
        if not restriction.name.startswith("permit_tls"):
            return False
        known = self.lists.postfix.parameters.get("relay_clientcerts") is not None
        none = known and not self.lists.value("relay_clientcerts") and restriction.name == "permit_tls_clientcerts"
        return none or not self.course.asks_certificates

    def _table(self, restriction: Restriction, name: str, passage: Passage) -> None:
        entries = self.course.tables.entries(restriction.argument)
        if restriction.name == "check_sasl_access" or restriction.braced:
            return  # those who log in; Postfix cannot open the table
        if entries is None:
            if not self.course.tables.missing(restriction.argument):
                passage.grants.append(Grant(name, "unknown table", passage.falls, restriction))
            return
        for key, text in _reached(restriction, entries):
            action = read_action(text, self.lists.classes)
            if action.kind == "permits" and not self._is_own(key):
                passage.grants.append(Grant(name, "table", passage.falls, restriction, key, text))
            elif action.kind == "restrictions":
                inner = self._of(action.restrictions, name, passage.falls)
                passage.asks = passage.asks or inner.asks
                passage.grants += [
                    replace(grant, by=restriction, key=key, action=text, within=grant.within or grant.by, kind=kind)
                    for grant in inner.grants
                    if (kind := grant.kind if grant.kind in ("networks", *_ONLY_OWN) else "table")
                    and not (kind == "table" and self._is_own(key))
                ]
        if passage.asks and self._asks_everybody(restriction, name):
            passage.falls = Reach.NOWHERE

    def _asks_everybody(self, restriction: Restriction, name: str) -> bool:
        outcomes = self.course.of([restriction], name, strangers()).values()
        return all(outcome.end in ("asks", "refuses", "fails") for outcome in outcomes)

    def _is_own(self, key: str) -> bool:
        """Whether a key is an address from which no stranger comes, as permit_mynetworks may permit it, too."""
        try:
            return self.course.own_networks.covers(network_of_key(key))
        except ValueError:
            return False


def _reached(restriction: Restriction, entries: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The entries of a table that some client comes to: in a cidr table the first network that holds it counts."""
    if kind_and_name(restriction.argument)[0] != "cidr":
        yield from entries
        return
    decided: list[Network] = []
    for key, text in entries:
        try:
            network = network_of(key)
        except ValueError:  # a negated network
            yield key, text
            continue
        if not Trusted(tuple(decided)).covers(network):
            yield key, text
        decided.append(network)
