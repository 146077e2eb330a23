"""Where a connector or partner fails to recognise a client: every failure, in the order in which it is looked for.

`identity` says whether there is a match; this says why there is none, by the same tests (SPEC 3.2). Postfix's
certificate cases are told apart by what it leaves empty: see `_certificate_failure`. Decides nothing.
"""

from __future__ import annotations

from enum import StrEnum

from policyd.policy.identity import Client, comes_from, name_matches, shows_certificate
from policyd.policy.model import Connector, Evidence
from policyd.protocol.request import Request


class Failure(StrEnum):
    """What stood between a request and an OK. The values are stable: `explain --json` carries them."""

    # evidence of a connector or partner
    DISABLED = "disabled"
    NO_TLS = "no-tls"  # a certificate is asked for, and the session is not encrypted
    NO_CERTIFICATE = "no-certificate"  # encrypted, but none was shown
    NOT_VERIFIED = "certificate-not-verified"
    NO_NAME = "certificate-without-name"
    NO_HOST_NAME = "certificate-name-is-no-host-name"
    OTHER_NAME = "certificate-name"
    FOREIGN_NAME = "certificate-name-of-another-organization"
    OTHER_DIGEST = "fingerprint-digest"
    OTHER_FINGERPRINT = "fingerprint"
    NOT_GIVEN = "fingerprint-not-given"  # only a request rebuilt from a log has a key without a certificate
    ADDRESS = "address"
    REQUIRE_TLS = "require-tls"
    LEFT_OUT = "suspended-and-left-out"  # by its name alone, which another organization's connector recognises, too
    # whose mail it is
    PENDING_DOMAIN = "pending-domain"
    SENDER_DOMAIN = "sender-domain"
    RECIPIENT_DOMAIN = "recipient-domain"
    RECIPIENT_SPELLING = "recipient-spelling"
    # nobody to compare with
    NO_CONNECTOR = "no-connector"
    NO_PARTNER = "no-partner"
    # addresses that row 0 refuses
    RECIPIENT_WITHOUT_DOMAIN = "recipient-without-domain"
    AMBIGUOUS_RECIPIENT = "ambiguous-recipient"
    ROUTED_RECIPIENT = "routed-recipient"
    SENDER_WITHOUT_DOMAIN = "sender-without-domain"


TEXTS: dict[Failure, str] = {
    Failure.DISABLED: "disabled (enabled = false)",
    Failure.NO_TLS: "asks for a certificate, and the client showed none: the session is not encrypted",
    Failure.NO_CERTIFICATE: "asks for a certificate, and the client showed none (it sent none, or was not asked for "
    "one)",
    Failure.NOT_VERIFIED: "asks for a certificate by name, and Postfix did not verify the client's "
    "(unknown CA, a missing intermediate, expired, or not for clients)",
    Failure.NO_NAME: "asks for a certificate by name, and the client's has no CN (Postfix passes no subjectAltName on)",
    Failure.NO_HOST_NAME: "asks for a certificate by name, and the CN of the client's is no host name",
    Failure.OTHER_NAME: "asks for another certificate: the client's has another name",
    Failure.FOREIGN_NAME: "the certificate's name lies in another organization's domain: names do not match, pins "
    "would",
    Failure.OTHER_DIGEST: "its pins are in another digest than the fingerprints that Postfix sends",
    Failure.OTHER_FINGERPRINT: "asks for another certificate: the client's is not the pinned one",
    Failure.NOT_GIVEN: "pins a certificate whose fingerprint cannot be compared: a decision log holds the key's only",
    Failure.ADDRESS: "the client's address is none of its addresses",
    Failure.REQUIRE_TLS: "asks for TLS (require_tls), and the session has none",
    Failure.LEFT_OUT: "suspended, and left out: another organization's connector recognises this certificate, too, and "
    "a name alone suspends only its own",
    Failure.PENDING_DOMAIN: "recognises the client; the domain is pending for its organization, so it does not count "
    "yet",
    Failure.SENDER_DOMAIN: "recognises the client; the sender's domain is not its organization's",
    Failure.RECIPIENT_DOMAIN: "recognises the client; the recipient's domain is not its organization's",
    Failure.RECIPIENT_SPELLING: "the recipient's domain is the organization's, but spelt in a way that Postfix's own "
    "tables do not know",
    Failure.NO_CONNECTOR: "no connector of the organization recognises this client",
    Failure.NO_PARTNER: "no partner of the organization speaks for this sender and client",
    Failure.RECIPIENT_WITHOUT_DOMAIN: "the recipient has no valid domain",
    Failure.AMBIGUOUS_RECIPIENT: "Postfix folds the letter case of the recipient's domain and reads another one",
    Failure.ROUTED_RECIPIENT: "the recipient names a route, which Postfix would follow after it has asked",
    Failure.SENDER_WITHOUT_DOMAIN: "the sender has no domain, and Postfix would add one of its own",
}


def failures(evidence: Evidence, request: Request, client: Client, foreign: bool) -> tuple[Failure, ...]:
    """Everywhere that the evidence fails, in order; empty when it recognises the client.

    `foreign`: the certificate's name lies in another organization's zone, so that names do not count (SPEC 3.1);
    never so for partners.
    """
    failed = [] if evidence.enabled else [Failure.DISABLED]
    certificate = _certificate_failure(evidence, request, client, foreign)
    if certificate is not None:
        failed.append(certificate)
    if evidence.addresses and not comes_from(evidence, client):
        failed.append(Failure.ADDRESS)
    if evidence.require_tls and not client.tls and certificate is not Failure.NO_TLS:
        failed.append(Failure.REQUIRE_TLS)
    return tuple(failed)


def _certificate_failure(evidence: Evidence, request: Request, client: Client, foreign: bool) -> Failure | None:
    """Why the certificate evidence does not hold; None where it does, or none is asked for."""
    if not evidence.asks_for_certificate:
        return None
    if shows_certificate(without_names(evidence) if foreign else evidence, client):
        return None
    if not shows_any(request):
        return Failure.NO_CERTIFICATE if client.tls else Failure.NO_TLS
    if foreign and any(name_matches(entry.name, entry.wildcard, client) for entry in evidence.certificate_names):
        return Failure.FOREIGN_NAME
    if _pins_are_of_another_digest(evidence, client):
        return Failure.OTHER_DIGEST
    if not evidence.certificate_names:
        unknown = evidence.certificate_fingerprints and not client.fingerprint
        return Failure.NOT_GIVEN if unknown else Failure.OTHER_FINGERPRINT
    if client.name is not None:
        return Failure.OTHER_NAME
    if request.ccert_subject:
        return Failure.NO_HOST_NAME
    return Failure.NO_NAME if request.ccert_issuer else Failure.NOT_VERIFIED


def shows_any(request: Request) -> bool:
    """Whether the client showed a certificate at all."""
    return bool(
        request.ccert_fingerprint or request.ccert_pubkey_fingerprint or request.ccert_subject or request.ccert_issuer
    )


def _pins_are_of_another_digest(evidence: Evidence, client: Client) -> bool:
    """Whether there are bare pins, and none of them can ever equal what Postfix sends: their length differs.

    Certificate files are compared in every digest, so beside one this cannot be the failure.
    """
    pairs = [(pin, client.fingerprint) for pin in evidence.certificate_fingerprints]
    pairs += [(pin, client.key) for pin in evidence.public_key_fingerprints]
    comparable = [len(pin) == len(sent) for pin, sent in pairs if sent]
    return bool(comparable) and not evidence.stored_certificates and not any(comparable)


def without_names(evidence: Evidence) -> Evidence:
    """The same pins, and nothing else."""
    return Connector(
        name=evidence.name,
        stored_certificates=evidence.stored_certificates,
        certificate_fingerprints=evidence.certificate_fingerprints,
        public_key_fingerprints=evidence.public_key_fingerprints,
    )
