"""One refused request, and who might have taken it: what the searches for near misses share.

`Case` is what is known of the request, worked out once; a `Candidate` is a near miss that has not been tried yet.
SPEC 7, explain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from policyd.explain.failures import Failure
from policyd.explain.proposals import Proposal
from policyd.explain.third_parties import ThirdParties
from policyd.policy.attribution import decide
from policyd.policy.identity import client_of, identity_of, listed_of
from policyd.policy.model import Connector, Provider
from policyd.policy.ruleset import NOBODY, RuleSet
from policyd.policy.zones import NOWHERE
from policyd.protocol.request import Request

MOST_ORGANIZATIONS = 40  # that are looked at for one request


class Nearness(IntEnum):
    """How near a candidate is: the lower, the sooner it is told. The order is a matter of what is most likely meant."""

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
    """Who nearly took the mail, and the possible proposals, the best first, none of them tried yet."""

    nearness: tuple[int, ...]
    organization: str  # or NOBODY
    failed_at: Failure
    proposals: tuple[Proposal, ...]
    connector: Connector | None = None  # the existing one in question
    partner: str = ""

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts by nearness, then by name."""
        name = self.connector.name if self.connector is not None else self.partner
        return self.nearness, self.organization, self.partner != "", name


class Case:
    """One request: its decision, and what is known of its client and of its domains."""

    def __init__(self, rules: RuleSet, provider: Provider, request: Request, *, verifiable: bool = True) -> None:
        self.rules = rules
        self.provider = provider
        self.request = request
        self.verifiable = verifiable  # whether a CA more can make Postfix verify the certificate
        self.decision = decide(rules, request)
        self.client = client_of(request)
        self.identity = identity_of(rules, request)
        self.sender = rules.domain_of(request.sender)
        self.recipient = rules.domain_of(request.recipient)
        self.place = NOWHERE if self.client.name is None else rules.place(self.client.name)  # of the certificate's name

    @cached_property
    def third_parties(self) -> ThirdParties:
        """What stands against a change; only a refused request asks."""
        return ThirdParties(self.rules, self.provider)

    def is_foreign(self, name: str) -> bool:
        """Whether the certificate's name is another organization's than this one, or given away (SPEC 3.1)."""
        return self.place.is_foreign(name)

    def owns_certificate(self, name: str) -> bool:
        """Whether the certificate's verified name speaks for the organization (SPEC 3.3, D)."""
        return self.client.name is not None and self.rules.belongs(self.client.name, name)

    def speaks_as_sender(self, name: str) -> bool:
        """Whether sender or certificate say that the mail is the organization's own."""
        return name == self.sender.zone or self.owns_certificate(name)

    def spoken_for(self) -> list[str]:
        """The organizations whose domains stand in the mail's addresses or in the certificate; NOBODY may be there."""
        domains = [self.sender.zone, *sorted(self.sender.pending), self.recipient.zone]
        return [*domains, *sorted(self.recipient.pending), self.place.zone]

    def concerned(self) -> list[str]:
        """The organizations that this mail concerns, then those near in evidence; bounded, each once."""
        recognised = [match.organization for match in self.identity.matches]
        names = dict.fromkeys((*self.spoken_for(), *recognised, *self._near_in_evidence()))
        return [name for name in names if name != NOBODY][:MOST_ORGANIZATIONS]

    def _near_in_evidence(self) -> Iterable[str]:
        """Organizations with a connector that one clue fits: a pin, a name, the address, or a disabled one."""
        rules, client = self.rules, self.client
        listed = listed_of(rules.lookups, client)
        found = [name for name, _ in (*listed.certificates, *listed.keys)]
        if client.name is not None:
            found += rules.certificate_names(client.name).exactly
        found += [name for name, _ in listed.at]
        if client.address is not None:
            found += [name for name, _ in rules.disabled.at_address(client.address)]
        yield from (organization for organization, _ in found)
