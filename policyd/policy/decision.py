"""A decision, its reasons, and every text that a remote sender can see (SPEC 3.4 and 3.6).

The texts tell the sender what he can fix, and never which names or organizations exist here.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Literal, NamedTuple

Action = Literal["OK", "REJECT", "DUNNO", "PREPEND"]  # PREPEND: only at DATA, see service.attribution_header


class Reason(StrEnum):
    """Why a request got its answer; the values are stable, the log and the metrics carry them."""

    __hash__ = str.__hash__  # enum's own is a call of Python code, for each line and counter

    NOT_ASKED = ""  # any other state than RCPT
    # rows 1 to 6
    CERTIFICATE_DOMAIN = "certificate-domain"
    SENDER_DOMAIN = "sender-domain"
    RECIPIENT_DOMAIN = "recipient-domain"
    INCOMING = "incoming"
    # row 0
    RECIPIENT_WITHOUT_DOMAIN = "recipient-without-domain"
    ROUTED_RECIPIENT = "routed-recipient"
    SENDER_WITHOUT_DOMAIN = "sender-without-domain"
    # row 7
    PENDING_DOMAIN = "pending-domain"
    NOT_YOUR_DOMAIN = "not-your-domain"
    TLS_REQUIRED = "tls-required"
    CERTIFICATE_UNTRUSTED = "certificate-untrusted"
    CERTIFICATE_UNKNOWN = "certificate-unknown"
    INCOMING_REFUSED = "incoming-refused"
    NO_CONNECTOR = "no-connector"
    # taken back
    PARTNER_TLS = "partner-tls"
    PARTNER_CERTIFICATE = "partner-certificate"
    PARTNER_ADDRESS = "partner-address"
    CONNECTORS_ONLY = "connectors-only"
    SENDER_PROTECTED = "sender-protected"


class Decision(NamedTuple):
    """The answer to one request, and whom it is attributed to (empty: nobody)."""

    action: Action
    reason: Reason
    organization: str = ""
    connector: str = ""


# reason: (stable phrase, detail). The phrase is what pflogsumm groups by: no colon, semicolon, comma or data in it.
_TEXTS: dict[Reason, tuple[str, str]] = {
    Reason.RECIPIENT_WITHOUT_DOMAIN: (
        "Recipient address has no valid domain",
        "write the recipient as user@domain with a host name after the @",
    ),
    Reason.ROUTED_RECIPIENT: (
        "Routed recipient address refused",
        "write the recipient as user@domain without a second @ or % or ! before it",
    ),
    Reason.SENDER_WITHOUT_DOMAIN: (
        "Sender address has no domain",
        "let your server send with a full address as user@domain",
    ),
    Reason.PENDING_DOMAIN: (
        "Domain not verified yet",
        "your server is registered but this domain awaits verification by the operator of this mail hub",
    ),
    Reason.NOT_YOUR_DOMAIN: (
        "Domain not accepted for this server",
        "your server is registered but neither sender nor recipient is in a domain of its organization",
    ),
    Reason.TLS_REQUIRED: (
        "TLS required",
        "your server is registered for encrypted connections only so let it use STARTTLS",
    ),
    Reason.CERTIFICATE_UNTRUSTED: (
        "Client certificate not verified",
        "expired or not for clients or without its chain or of a CA unknown here so renew or register it",
    ),
    Reason.CERTIFICATE_UNKNOWN: (
        "Client certificate not registered",
        "it was verified but no server is registered here under its name from this address",
    ),
    Reason.INCOMING_REFUSED: (
        "Server not registered for this recipient",
        "mail is taken from registered servers only by certificate or address",
    ),
    Reason.NO_CONNECTOR: (
        "Relaying denied for this server",
        "its address is not registered and it showed no registered client certificate",
    ),
    Reason.PARTNER_TLS: (
        "TLS required for this sender domain",
        "the recipient takes its mail over encrypted connections only so use STARTTLS",
    ),
    Reason.PARTNER_CERTIFICATE: (
        "Agreed client certificate required for this sender domain",
        "your server showed another one or none or one that was not verified",
    ),
    Reason.PARTNER_ADDRESS: (
        "Agreed server address required for this sender domain",
        "your server connects from another address",
    ),
    Reason.CONNECTORS_ONLY: (
        "Recipient takes mail from registered servers only",
        "your server is not one of them so use the route published for the domain",
    ),
    Reason.SENDER_PROTECTED: (
        "Sender domain is protected",
        "only registered servers of its organization may send with it and yours is not one",
    ),
}

# A bounce that no row let through gets a hint of its own: nothing in its envelope can belong to anybody.
_NULL_SENDER_DETAIL = "a null sender to an outside recipient needs a client certificate named in a domain of yours"

INTERNAL_ERROR = "DEFER 4.3.0 Policy service error: this is not your fault so try again later"

_INSTANCE = re.compile(r"[0-9A-Za-z.]{1,48}")


def refusal(reason: Reason, sender: str, instance: str) -> str:
    """The REJECT action for a reason: ASCII, one line, under 200 octets."""
    text = _refusal(reason, sender == "")
    return f"{text} (ref {instance})" if _INSTANCE.fullmatch(instance) else text


@lru_cache
def _refusal(reason: Reason, null_sender: bool) -> str:
    """All of it but the reference."""
    phrase, detail = _TEXTS[reason]
    if reason is Reason.NOT_YOUR_DOMAIN and null_sender:
        detail = _NULL_SENDER_DETAIL
    status = "5.7.10" if reason in (Reason.TLS_REQUIRED, Reason.PARTNER_TLS) else "5.7.1"
    return f"REJECT {status} {phrase}: {detail}"


def action_text(decision: Decision, sender: str, instance: str) -> str:
    """The access(5) action that carries the decision to Postfix."""
    if decision.action == "REJECT":
        return refusal(decision.reason, sender, instance)
    return decision.action


SENTENCES: dict[Reason, str] = {
    Reason.NOT_ASKED: "Only requests in state RCPT are decided; in all others Postfix goes on by itself.",
    Reason.CERTIFICATE_DOMAIN: "The client's certificate is the organization's, and so is the domain of its name.",
    Reason.SENDER_DOMAIN: "The client is the organization's, and so is the sender's domain.",
    Reason.RECIPIENT_DOMAIN: "The client is the organization's, and so is the recipient's domain.",
    Reason.INCOMING: "The recipient's domain is accepted here, so mail from anybody may come in.",
    Reason.RECIPIENT_WITHOUT_DOMAIN: "The recipient has no valid domain, so it belongs to nobody.",
    Reason.ROUTED_RECIPIENT: "The recipient names a route (@, % or ! in the local part); Postfix would follow it.",
    Reason.SENDER_WITHOUT_DOMAIN: "The sender has no domain; Postfix would add one of its own afterwards.",
    Reason.PENDING_DOMAIN: "The client is identified, but the sender's or recipient's domain is not verified yet.",
    Reason.NOT_YOUR_DOMAIN: "The client is identified, but this mail does not belong to its organization.",
    Reason.TLS_REQUIRED: "A connector would identify the client, but it asks for TLS and this session has none.",
    Reason.CERTIFICATE_UNTRUSTED: "The client showed a certificate that Postfix did not verify, and it is not pinned.",
    Reason.CERTIFICATE_UNKNOWN: "The client showed a verified certificate, but no connector recognises it.",
    Reason.INCOMING_REFUSED: 'The recipient\'s domain is accepted here, but policy.incoming is "REJECT".',
    Reason.NO_CONNECTOR: "No connector recognises the client, and the recipient's domain is not accepted here.",
    Reason.PARTNER_TLS: "The recipient's organization agreed on TLS with this sender domain.",
    Reason.PARTNER_CERTIFICATE: "The recipient's organization agreed on another certificate with this sender domain.",
    Reason.PARTNER_ADDRESS: "The recipient's organization agreed on other addresses with this sender domain.",
    Reason.CONNECTORS_ONLY: "The recipient's organization takes mail over its connectors and partners only.",
    Reason.SENDER_PROTECTED: "The sender's organization lets only its own connectors use its domains.",
}
