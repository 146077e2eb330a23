"""A near miss: who would have taken this mail, where that failed, and the one change that would have let it through.

Also `Case`, the facts of one refused request that all searches for near misses share (`near_misses`), and `Candidate`,
a miss that has not been tried yet. SPEC 7, explain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from policyd.explain.clues import belongs
from policyd.explain.failures import TEXTS, Failure
from policyd.explain.proposals import Proposal
from policyd.policy.attribution import decide
from policyd.policy.identity import RequestShaped, client_of, comes_from, identity_of
from policyd.policy.model import Connector, Provider
from policyd.policy.ruleset import NOBODY, RuleSet

MOST_ORGANIZATIONS = 40  # that are looked at for one request


@dataclass(frozen=True, slots=True)
class NearMiss:
    """What nearly took the mail; connector or partner are empty where the miss concerns none."""

    organization: str
    connector: str
    partner: str
    failed_at: Failure
    proposal: Proposal

    @property
    def text(self) -> str:
        """Where it failed, in a sentence."""
        return TEXTS[self.failed_at]


class Nearness(IntEnum):
    """How near a miss is: the lower, the sooner it is shown. The order is a matter of what is most likely meant."""

    WORDING = 0  # only the spelling of an address
    TLS = 1  # recognised, but for require_tls
    DOMAIN = 2  # recognised, and the domain only waits to be accepted
    DISABLED = 3
    OWN_NAME = 4  # a verified certificate with a name of the organization
    SENDER = 5  # recognised, and another sender would do
    FOREIGN_NAME = 6
    DIGEST = 7
    HALF = 8  # one of certificate and address holds, where both are asked for
    CERTIFICATE = 9  # another certificate than the one asked for
    PARTNER = 10
    NEAR_ADDRESS = 11
    SHOW_CERTIFICATE = 12
    ASK_CERTIFICATE = 13
    TRUST_CA = 14
    FAR_ADDRESS = 15
    ANOTHERS = 16  # another certificate, whose verified name is another organization's
    NEW = 17
    RECIPIENTS_SIDE = 20  # added where only the recipient speaks for the organization, not sender or certificate


@dataclass(frozen=True, slots=True)
class Candidate:
    """A miss and its possible proposals, the best first, none of them tried yet."""

    nearness: tuple[int, ...]
    number: int  # the organization's, or NOBODY
    organization: str
    point: Failure
    proposals: tuple[Proposal, ...]
    connector: Connector | None = None  # the existing one in question
    partner: str = ""

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts by nearness, then by name."""
        name = self.connector.name if self.connector is not None else self.partner
        return self.nearness, self.organization, self.partner != "", name


class Case:
    """One refused request: what is known of its client and of its domains."""

    def __init__(self, rules: RuleSet, provider: Provider, request: RequestShaped) -> None:
        self.rules = rules
        self.provider = provider
        self.request = request
        self.decision = decide(rules, request)
        self.shown = client_of(request)
        self.identity = identity_of(rules, request)
        self.sender = rules.domain_of(request.sender)
        self.recipient = rules.domain_of(request.recipient)
        self.zone = rules.zone(self.shown.name) if self.shown.name is not None else NOBODY

    def name(self, number: int) -> str:
        """An organization's name."""
        return self.rules.organization_name(number)

    def is_foreign(self, number: int) -> bool:
        """Whether the certificate's name is another organization's than this one (SPEC 3.1)."""
        return self.zone not in (NOBODY, number)

    def owns_certificate(self, number: int) -> bool:
        """Whether the certificate's verified name speaks for the organization (SPEC 3.3, D)."""
        return belongs(self.rules, number, self.shown.name)

    def speaks_as_sender(self, number: int) -> bool:
        """Whether sender or certificate say that the mail is the organization's own."""
        return number == self.sender.zone or self.owns_certificate(number)

    def spoken_for(self) -> list[int]:
        """The organizations whose domains stand in the mail's addresses or in the certificate; NOBODY may be there."""
        domains = [self.sender.zone, *sorted(self.sender.pending), self.recipient.zone]
        return [*domains, *sorted(self.recipient.pending), self.zone]

    def concerned(self) -> list[int]:
        """The organizations that this mail concerns, then those near in evidence; bounded, each once."""
        recognised = [match.organization for match in self.identity.matches]
        found: list[int] = []
        for number in (*self.spoken_for(), *recognised, *self._near_in_evidence()):
            if number != NOBODY and number not in found:
                found.append(number)
                if len(found) == MOST_ORGANIZATIONS:
                    break
        return found

    def _near_in_evidence(self) -> Iterable[int]:
        """Organizations with a connector that one clue fits: a pin, a name, the address, or a disabled one."""
        rules, shown = self.rules, self.shown
        for number, _ in (*rules.certificates.get(shown.fingerprint, ()), *rules.keys.get(shown.key, ())):
            yield rules.owners[number]
        if shown.name is not None:
            yield from (rules.owners[number] for number in rules.exact_names.get(shown.name, ()))
        if shown.address is not None:
            yield from (rules.owners[number] for number, _ in rules.addresses.find(shown.address))
        for organization, found in enumerate(rules.organizations):
            if any(not c.enabled and c.addresses and comes_from(c, shown) for c in found.connectors):
                yield organization
