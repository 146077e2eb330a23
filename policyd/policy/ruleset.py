"""The rules of one moment, asked by those who decide: look-ups, and bounded memos of what was worked out from them.

Whose a name is (SPEC 3.1) and what there is to know of an address's domain is answered here; who is identified is in
`identity`, what follows in `attribution`. A RuleSet never changes: its memos hold nothing that could not be worked out
again, and end with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

from policyd.policy.lookups import ConnectorName, ConnectorTraits, Lookups, OrganizationTraits
from policyd.policy.model import Connector, Organization, Partner
from policyd.policy.names import canonical, is_plain, upwards, usable_suffix
from policyd.policy.zones import NOBODY as NOBODY
from policyd.policy.zones import Claims, Zones

_MEMO_LIMIT = 32768  # entries; then a memo starts anew
# Characters; what is longer is no usual request and is worked out each time.
_DOMAIN_KEY_LIMIT = 255
_IDENTITY_KEY_LIMIT = 1024
_MATCHES_LIMIT = 131072  # connectors in all remembered identities together

_NONE: frozenset[str] = frozenset()
_UNKNOWN = Claims()  # what is not in the memo


class Reading(NamedTuple):
    """One way to read the domain of an address: as it stands, or with its case folded as Postfix does (SPEC 3.1)."""

    name: str  # canonical
    zone: str
    is_suffix: bool  # only this much of it is usable: it counts for what is taken back, never for a grant


class Domain(NamedTuple):
    """What there is to know of the domain of an address. Organizations are names, or NOBODY."""

    name: str | None  # canonical; None: no domain
    zone: str = NOBODY
    owner: str = NOBODY
    covering: str = ""  # as in Place, like the two before and the one below
    given_away: bool = False
    plain: bool = False
    pending: frozenset[str] = _NONE  # the organizations that claim it
    readings: tuple[Reading, ...] = ()  # those that are not the same: as it stands, then folded
    is_ambiguous: bool = False  # the zones of its readings differ
    is_null: bool = False  # the address is empty


NO_DOMAIN = Domain(None)
NULL_SENDER = Domain(None, is_null=True)


class RuleSet(Zones):
    """The rules that `lookups` finds."""

    __slots__ = (
        "_claims",
        "_connectors",
        "_domains",
        "_remembered",
        "_traits",
        "at_address",
        "certificate_names",
        "certificates",
        "disabled",
        "generation",
        "identities",
        "incoming",
        "keys",
        "lookups",
        "organization",
        "representatives",
    )

    def __init__(self, lookups: Lookups) -> None:
        self.lookups = lookups
        self.generation = lookups.generation
        self.incoming = lookups.incoming
        self.disabled = lookups.disabled
        self.organization = lookups.organization
        self.certificate_names = lookups.certificate_names
        self.certificates = lookups.certificates
        self.keys = lookups.keys
        self.at_address = lookups.at_address
        self._claims: dict[str, Claims | None] = {}
        self._connectors: dict[ConnectorName, ConnectorTraits] = {}
        self._traits: dict[str, OrganizationTraits] = {}
        self._domains: dict[str, Domain] = {}
        self._remembered = 0  # connectors in all of them together
        self.identities: dict[tuple[str, ...], object] = {}  # identity's memo
        # shared_evidence's: by the id of a crowd, which it keeps so that the id stays its own
        self.representatives: dict[int, tuple[object, tuple[ConnectorName, ...]]] = {}

    def claims(self, name: str) -> Claims | None:
        """What is said of exactly that domain."""
        known = self._claims.get(name, _UNKNOWN)
        if known is _UNKNOWN:
            if len(self._claims) >= _MEMO_LIMIT:
                self._claims.clear()
            known = self._claims[name] = self.lookups.claims(name)
        return known

    def connector(self, name: ConnectorName) -> ConnectorTraits:
        """What a decision needs to know of an enabled connector."""
        known = self._connectors.get(name)
        if known is None:
            if len(self._connectors) >= _MEMO_LIMIT:
                self._connectors.clear()
            known = self._connectors[name] = self.lookups.connector(name)
        return known

    def traits(self, organization: str) -> OrganizationTraits:
        """What an organization asks for beyond the rows."""
        known = self._traits.get(organization)
        if known is None:
            if len(self._traits) >= _MEMO_LIMIT:
                self._traits.clear()
            known = self._traits[organization] = self.lookups.traits(organization)
        return known

    def organizations(self) -> Iterator[Organization]:
        """All of them, by name."""
        return self.lookups.organizations()

    def partners(self, organization: str) -> tuple[Partner, ...]:
        """An organization's enabled partners, by name."""
        partners = self.organization(organization).partners
        return tuple(sorted((partner for partner in partners if partner.enabled), key=attrgetter("name")))

    def connector_as_written(self, organization: str, name: str) -> Connector:
        """All of a connector."""
        return next(one for one in self.organization(organization).connectors if one.name == name)

    def domain_of(self, address: str) -> Domain:
        """The domain of an address as Postfix sends it (SPEC 3.1)."""
        _, at, text = address.rpartition("@")  # as names.domain_text has it, without a call
        if not at:
            return NO_DOMAIN if address else NULL_SENDER
        known = self._domains.get(text)
        if known is None:
            known = self._look_up(text)
            if len(text) <= _DOMAIN_KEY_LIMIT:
                if len(self._domains) >= _MEMO_LIMIT:
                    self._domains.clear()
                self._domains[text] = known
        return known

    def _look_up(self, text: str) -> Domain:
        name, folded = canonical(text), text.casefold()
        if name is not None and (text.isascii() or canonical(folded) == name):  # by far the most
            place = self.place(name)
            plain = text == name or is_plain(text, name)
            return Domain(name, *place, plain, self._claimed(name), (Reading(name, place.zone, False),))
        readings = [self._reading(text, name), self._reading(folded, canonical(folded))]
        usable = tuple(dict.fromkeys(reading for reading in readings if reading is not None))
        if name is None:
            return Domain(None, readings=usable)
        place = self.place(name)
        folded_owner = NOBODY if readings[1] is None else self.owner(readings[1].name)
        plain = folded_owner == place.owner and is_plain(text, name)
        is_ambiguous = len({NOBODY if reading is None else reading.zone for reading in readings}) > 1
        return Domain(name, *place, plain, self._claimed(name), usable, is_ambiguous)

    def _reading(self, text: str, name: str | None) -> Reading | None:
        """What is usable of one reading of a domain; None where nothing is."""
        usable = usable_suffix(text) if name is None else name
        return None if usable is None else Reading(usable, self.place(usable).zone, name is None)

    def _claimed(self, name: str) -> frozenset[str]:
        """The organizations for which the name is pending."""
        found: set[str] = set()
        for up in upwards(name):
            claims = self.claims(up)
            if claims is not None:
                found.update(organization for organization, wildcard in claims.pending if wildcard or up == name)
        return frozenset(found) if found else _NONE

    def remember_identity(self, key: tuple[str, ...], identity: object, size: int) -> None:
        """Keeps what `identity` worked out for a client: `size` connectors that match it."""
        if sum(map(len, key)) > _IDENTITY_KEY_LIMIT:
            return
        self._remembered += size
        if len(self.identities) >= _MEMO_LIMIT or self._remembered > _MATCHES_LIMIT:
            self.identities.clear()
            self._remembered = size
        self.identities[key] = identity
