"""What a decision log says to the people who run the hub: who was refused, who looks forgotten, what nobody uses.

Collects in one pass over the log, in bounded memory. Knows no output; `cli.report` prints it. SPEC 7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from policyd.explain.change import Change
from policyd.explain.clues import new_clues, new_connector
from policyd.explain.failures import shows_any
from policyd.explain.third_parties import ThirdParties, unusable_address
from policyd.policy.decision import refuses
from policyd.policy.identity import ADDRESS_ONLY, Client, Identity, client_of, identity_of
from policyd.policy.model import Provider
from policyd.policy.networks import parse_address
from policyd.policy.ruleset import NOBODY, RuleSet
from policyd.protocol.request import Request
from policyd.records.decision_line import LoggedDecision, time_of

# Different addresses, or certificates, that are told apart, of one organization and of all. When there are too many,
# the rarest half of the organization's goes: who comes again and again stays, whatever forgers send once each.
MOST_OF_ONE = 2_000
MOST_OF_ALL = 200_000
MOST_ADDRESSES = 5  # of one certificate that are named


@dataclass(slots=True)
class Seen:
    """How often something was seen, and when last."""

    count: int = 0
    refused: int = 0
    last: datetime | None = None

    def add(self, logged: LoggedDecision, at: datetime | None) -> None:
        """One more decision."""
        self.count += 1
        self.refused += refuses(logged.action)
        if at is not None and (self.last is None or at > self.last):
            self.last = at


@dataclass(slots=True)
class UnknownCertificate(Seen):
    """A certificate that no connector knows."""

    name: str = ""  # the CN; empty: not verified, or none
    issuer: str = ""
    key: str = ""  # as Postfix sends it
    addresses: list[str] = field(default_factory=list)
    change: Change | None = None  # that would register it
    barrier: str = ""  # why there is none, where that is for others' sake

    @property
    def verified(self) -> bool:
        """Whether Postfix had verified it."""
        return bool(self.name or self.issuer)


K = TypeVar("K")
S = TypeVar("S", bound=Seen)


@dataclass(slots=True)
class About:
    """What there is to tell of one organization."""

    name: str
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    addresses: dict[str, Seen] = field(default_factory=dict)
    certificates: dict[tuple[str, str], UnknownCertificate] = field(default_factory=dict)
    unused: list[tuple[str, datetime | None]] = field(default_factory=list)  # connector, last use in the log


class Digest:
    """All of it. `days` without use make a connector one that is not used."""

    def __init__(self, rules: RuleSet, provider: Provider, days: int, now: datetime) -> None:
        self._rules = rules
        self._provider = provider
        self._third_parties = ThirdParties(rules, provider)
        self._days = days
        self._now = now
        self._distinct = 0
        self._used: dict[tuple[str, str], Seen] = {}
        self.decisions = 0
        self.accepted = 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.not_told_apart = 0  # sightings beyond these limits
        self._clients: Counter[str] = Counter()  # decisions of each address
        self.strangers: Counter[str] = Counter()  # refusals that concern no organization, by reason
        self.organizations: dict[str, About] = {}

    def add(self, logged: LoggedDecision) -> None:
        """Takes one decision in."""
        at = time_of(logged.prefix, self._now)
        if at is not None:
            self.first = at if self.first is None else min(self.first, at)
            self.last = at if self.last is None else max(self.last, at)
        if logged.action == "PREPEND":
            return
        self.decisions += 1
        self.accepted += not refuses(logged.action)
        if logged.client in self._clients or len(self._clients) < MOST_OF_ALL:
            self._clients[logged.client] += 1
        if logged.connector:
            self._used.setdefault((logged.organization, logged.connector), Seen()).add(logged, at)
        request = logged.request()
        identity = identity_of(self._rules, request)
        if refuses(logged.action):
            name = logged.organization or self._concerned(request)
            (self._about(name).refused if name else self.strangers)[logged.reason] += 1
        self._look_at_address(logged, identity, at)
        self._look_at_certificate(logged, request, identity, at)

    def _about(self, name: str) -> About:
        return self.organizations.setdefault(name, About(name))

    def _concerned(self, request: Request) -> str:
        """The organization that mail would be of if anybody's: by sender, certificate, recipient."""
        sender, recipient = self._rules.domain_of(request.sender), self._rules.domain_of(request.recipient)
        zones = [*self._senders(request), min(sender.pending, default=NOBODY)]
        zones += [recipient.zone, min(recipient.pending, default=NOBODY)]
        return next((zone for zone in zones if zone != NOBODY), "")

    def _look_at_address(self, logged: LoggedDecision, identity: Identity, at: datetime | None) -> None:
        """An address that uses an organization's sender domain and that the organization does not know."""
        zone = self._rules.domain_of(logged.sender).zone
        if zone == NOBODY or zone in identity.organizations:
            return
        addresses = self._about(zone).addresses
        seen = addresses.get(logged.client)
        if seen is None:
            if not self._has_room(addresses):
                return
            seen = addresses[logged.client] = Seen()
        seen.add(logged, at)

    def _look_at_certificate(
        self, logged: LoggedDecision, request: Request, identity: Identity, at: datetime | None
    ) -> None:
        """A certificate that no connector knows, with mail that concerns an organization."""
        if not shows_any(request) or any(match.kind != ADDRESS_ONLY for match in identity.matches):
            return
        concerned = (min(identity.organizations, default=NOBODY), *self._senders(request))
        name = next((name for name in concerned if name != NOBODY), NOBODY)
        if name == NOBODY:
            return
        certificates = self._about(name).certificates
        key = (logged.certificate, logged.key)
        seen = certificates.get(key)
        if seen is None:
            if not self._has_room(certificates):
                return
            client = client_of(request)
            barrier = self._third_parties.barrier(name, client) or self._third_parties.kept_out(name, client)
            seen = certificates[key] = UnknownCertificate(
                name=logged.certificate,
                issuer=logged.issuer,
                key=logged.key,
                change=None if barrier else self._new_connector(name, client),
                barrier=barrier,
            )
        seen.add(logged, at)
        if logged.client not in seen.addresses and len(seen.addresses) < MOST_ADDRESSES:
            seen.addresses.append(logged.client)

    def _senders(self, request: Request) -> tuple[str, str]:
        """By sender and by the certificate's name: a stranger's certificate with mail to us is no matter."""
        name = client_of(request).name
        return self._rules.domain_of(request.sender).zone, NOBODY if name is None else self._rules.zone(name)

    def _new_connector(self, name: str, client: Client) -> Change | None:
        """The certificate as a new connector: by name where Postfix verified one, else by its key."""
        foreign = client.name is not None and self._rules.place(client.name).is_foreign(name)
        for clue in new_clues(self._rules, self._provider, name, client, foreign):
            if clue.key != "addresses":
                return new_connector(self._rules.organization(name), client, clue)
        return None

    def _has_room(self, table: dict[K, S]) -> bool:
        if len(table) >= MOST_OF_ONE:
            in_order = sorted(table.items(), key=lambda item: item[1].count)  # of equals, the one seen first goes first
            for key, seen in in_order[: (len(in_order) + 1) // 2]:
                self.not_told_apart += seen.count
                self._distinct -= 1
                del table[key]
        if self._distinct >= MOST_OF_ALL:
            self.not_told_apart += 1
            return False
        self._distinct += 1
        return True

    # --------------------------------------------------------------------------------------- the end

    @property
    def gateway(self) -> tuple[str, int, str] | None:
        """An address that says nothing about who connects and has most decisions, how many, and why it says nothing."""
        for address, count in self._clients.most_common(1):
            if count > 1 and 2 * count > self.decisions and (why := unusable_address(parse_address(address))):
                return address, count, why
        return None

    @property
    def covered(self) -> timedelta | None:
        """How long the log reaches back; None without times."""
        return None if self.first is None or self.last is None else self.last - self.first

    def finish(self) -> Iterable[About]:
        """All organizations with something to tell, by name."""
        since = None if self.last is None else self.last - timedelta(days=self._days)
        for organization in self._rules.organizations():
            for connector in organization.connectors:
                used = self._used.get((organization.name, connector.name))
                recently = used is not None and (since is None or used.last is None or used.last >= since)
                if connector.enabled and not recently:
                    last = None if used is None else used.last
                    self._about(organization.name).unused.append((connector.name, last))
        return [self.organizations[name] for name in sorted(self.organizations)]
