"""What to tell whom: one change, and who can make it (SPEC 7, explain)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from policyd.explain.change import Change
from policyd.policy.fingerprints import shortened
from policyd.policy.model import Evidence

_TLS = ("encryption_protocol", "TLSv1.3")  # any would do
_ISSUER = ("ccert_issuer", "a-trusted-CA")

Kind = Literal["configuration", "sender", "postfix"]  # who is to change something


def show_certificate(connector: Evidence, encrypted: bool, verified: bool = False) -> Iterator[Proposal]:
    """The certificate that the connector knows: by name, by file or by pin."""
    start = "let the server show" if encrypted else "let the server use STARTTLS and show"
    certainly = " that Postfix verifies (not expired, for clients, from a CA in smtpd_tls_CAfile)" if verified else ""
    for entry in connector.certificate_names[:1]:
        shown = (("ccert_subject", entry.name), _ISSUER, _TLS)
        below = " or any name below it" if entry.wildcard else ""
        yield Proposal("sender", f"{start} a certificate named {entry.name}{below}{certainly}", instead=shown)
    for stored in connector.stored_certificates[:1]:
        pin = min(stored.public_key_fingerprints, default="")
        text = f"{start} the certificate of {stored.source}"
        yield Proposal("sender", text, instead=(("ccert_pubkey_fingerprint", pin), _TLS))
    for pin in connector.public_key_fingerprints[:1]:
        text = f"{start} the certificate with the pinned key {shortened(pin)}"
        yield Proposal("sender", text, instead=(("ccert_pubkey_fingerprint", pin), _TLS))
    for pin in connector.certificate_fingerprints[:1]:
        text = f"{start} the pinned certificate {shortened(pin)}"
        yield Proposal("sender", text, instead=(("ccert_fingerprint", pin), _TLS))


@dataclass(frozen=True, slots=True)
class Proposal:
    """One change that would have let the mail through."""

    kind: Kind
    text: str
    change: Change | None = None  # of the configuration; else None
    instead: tuple[tuple[str, str], ...] = ()  # the request's attributes after a change of the sender or of Postfix
