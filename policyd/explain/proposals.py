"""What to tell whom: one change, who can make it, and in which words (SPEC 7, explain).

Says nothing of whether it would be enough: `near_misses` has it tried by `what_if` first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from policyd.explain.change import Change
from policyd.explain.clues import Clue, added, new_connector, new_partner
from policyd.policy.fingerprints import DIGESTS, STRONG, is_fingerprint, shortened
from policyd.policy.identity import Client
from policyd.policy.model import Connector, Evidence, Organization, Partner
from policyd.policy.names import Pattern
from policyd.policy.networks import format_address

_TLS = ("encryption_protocol", "TLSv1.3")  # any would do
_ISSUER = ("ccert_issuer", "a-trusted-CA")
_LET = "let the server "
_STARTTLS = "use STARTTLS"
_ADDRESSES_NAMED = 3

Kind = Literal["configuration", "sender", "postfix"]  # who is to change something


@dataclass(frozen=True, slots=True)
class Proposal:
    """One change that would have let the mail through."""

    kind: Kind
    text: str
    change: Change | None = None  # of the configuration; else None
    instead: tuple[tuple[str, str], ...] = ()  # the request's attributes after a change of the sender or of Postfix


# ------------------------------------------------------------------------------------------- to the sender


def use_starttls() -> Proposal:
    """An encrypted session, where no certificate is asked for."""
    return Proposal("sender", f"{_LET}{_STARTTLS}", instead=(_TLS,))


def connect_from(evidence: Evidence) -> Proposal:
    """One of the addresses that the connector or partner has."""
    first = evidence.addresses[0]
    if isinstance(evidence, Partner):
        where = f"an agreed address ({first})"
    else:
        more = ", ..." if len(evidence.addresses) > _ADDRESSES_NAMED else ""
        where = f"a registered address ({', '.join(map(str, evidence.addresses[:_ADDRESSES_NAMED]))}{more})"
    address = format_address((first.family, first.first))
    return Proposal("sender", f"{_LET}connect from {where}", instead=(("client_address", address),))


def show_certificate(evidence: Evidence, encrypted: bool, verified: bool = False) -> Iterator[Proposal]:
    """The certificate that the connector or partner knows: by name, by file or by pin."""
    start = f"{_LET}show" if encrypted else f"{_LET}{_STARTTLS} and show"
    certainly = " that Postfix verifies (not expired, for clients, from a CA in smtpd_tls_CAfile)" if verified else ""
    for entry in evidence.certificate_names[:1]:
        below = " or any name below it" if entry.wildcard else ""
        text = f"{start} a certificate named {entry.name}{below}{certainly}"
        yield Proposal("sender", text, instead=(("ccert_subject", entry.name), _ISSUER, _TLS))
    for stored in evidence.stored_certificates[:1]:
        pin = min(stored.public_key_fingerprints, default="")
        text = f"{start} the certificate of {stored.source}"
        yield Proposal("sender", text, instead=(("ccert_pubkey_fingerprint", pin), _TLS))
    for pin in evidence.public_key_fingerprints[:1]:
        text = f"{start} the certificate with the pinned key {shortened(pin)}"
        yield Proposal("sender", text, instead=(("ccert_pubkey_fingerprint", pin), _TLS))
    for pin in evidence.certificate_fingerprints[:1]:
        text = f"{start} the pinned certificate {shortened(pin)}"
        yield Proposal("sender", text, instead=(("ccert_fingerprint", pin), _TLS))


def as_agreed(partner: Partner, encrypted: bool) -> Proposal:
    """All that a partner is asked for, where more than one thing is missing."""
    asked: list[Proposal] = []
    if partner.asks_for_certificate:
        asked.append(next(show_certificate(partner, encrypted)))
    elif partner.require_tls:
        asked.append(use_starttls())
    if partner.addresses:
        asked.append(connect_from(partner))
    does = ", and ".join(proposal.text.removeprefix(_LET) for proposal in asked)
    instead = tuple(pair for proposal in asked for pair in proposal.instead)
    return Proposal("sender", f"{_LET}{does}: all that was agreed", instead=instead)


# ------------------------------------------------------------------------------------------- in the configuration


def add_clue(organization: str, item: Connector | Partner, clue: Clue, ended: int = 0) -> Proposal:
    """The client as a server of a connector or partner that is there already.

    `ended`: how many pins another digest of Postfix's would end, where that is the other way.
    """
    if isinstance(item, Partner):
        whose, where, warning = "the partner's own", f'partner "{item.name}"', ""
    else:
        whose, where, warning = "the one meant", f'connector "{item.name}"', _digest_warning(clue)
    text = f'if this server is {whose}: add {clue.text} to {clue.key} of {where} of "{organization}"{warning}'
    if ended:
        text += f" (another smtpd_tls_fingerprint_digest would end {ended} other pin{'s' * (ended != 1)})"
    return Proposal("configuration", text, added(organization, item, clue))


def register_connector(organization: Organization, client: Client, clue: Clue) -> Proposal:
    """The client as a connector of its own."""
    text = f'if this server is one of "{organization.name}": register {clue.text} with a new connector'
    taken = {connector.name for connector in organization.connectors}
    change = new_connector(organization.name, client, clue, taken)
    return Proposal("configuration", text + _digest_warning(clue), change)


def register_partner(organization: Organization, sender_domain: str, clue: Clue) -> Proposal:
    """The client as the only server of a sender domain."""
    text = (
        f'if "{organization.name}" wants mail from {sender_domain} over this server: register {clue.text} with a '
        "new partner (its mail is then taken from there only)"
    )
    return Proposal("configuration", text, new_partner(organization, sender_domain, clue))


def _digest_warning(clue: Clue) -> str:
    """A pin in a digest that can be forged should not be the last word."""
    digits = len(str(clue.entries[0]))
    if not clue.key.endswith("_fingerprints") or digits >= STRONG:
        return ""
    digest = DIGESTS[digits]
    return f" ({digest} can be forged: list sha256 with every pin, then set smtpd_tls_fingerprint_digest = sha256)"


# ------------------------------------------------------------------------------------------- in Postfix


def ask_for_certificates(instead: tuple[tuple[str, str], ...]) -> Proposal:
    """What may be missing where no certificate was shown; `instead` is what would be shown then."""
    text = "if the server shows its certificate to others: Postfix asks for it only with smtpd_tls_ask_ccert = yes"
    return Proposal("postfix", text, instead=instead)


def trust_ca(entry: Pattern) -> Proposal:
    """What may be missing where a certificate was shown and not verified."""
    text = (
        f"if its certificate is named {entry}, from a public CA, and nothing else is wrong with it: add that CA to "
        "smtpd_tls_CAfile, never a customer's own (smtpd_tls_loglevel = 1 logs why it was not verified)"
    )
    return Proposal("postfix", text, instead=(("ccert_subject", entry.name), _ISSUER))


def set_digest(connector: Connector, client: Client) -> Iterator[Proposal]:
    """Postfix's digest made that of the connector's pins."""
    for attribute, pins, sent in (
        ("ccert_pubkey_fingerprint", connector.public_key_fingerprints, client.key),
        ("ccert_fingerprint", connector.certificate_fingerprints, client.fingerprint),
    ):
        for pin in pins[:1]:
            if sent and is_fingerprint(pin):
                pinned, digest = DIGESTS[len(pin)], DIGESTS.get(len(sent), f"{len(sent) // 2} octets")
                text = (
                    f"the pin is {pinned}, and Postfix sends {digest}: if it is this server's, "
                    f"set smtpd_tls_fingerprint_digest = {pinned} in Postfix"
                )
                yield Proposal("postfix", text, instead=((attribute, pin),))
