"""The table of test_postfix_relay: one message a row, with everything that is expected of it.

Who the clients are and which organization has which domain stands in hub.py; the rules are in the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.e2e.hub import (
    BRANCH,
    BRANCH_IPV6,
    COURIER,
    FABRIKAM_OFFICE,
    NO_CERTIFICATE,
    SCANNER,
    STRANGER,
    TLS_BRANCH,
    TRUSTED_NETWORK,
)

KATE, HANS, SAM, BOB = "kate@contoso.com", "hans@bücher.example", "sam@fabrikam.com", "bob@tailspintoys.com"
JOHN = "john@elsewhere.example"
OUTSIDE = "x@other.example"

OK, NO = "250 2.1.5", "554 5.7.1 "
UNTRUSTED = ("Client certificate not verified", "certificate-untrusted /")
UNKNOWN = ("Client certificate not registered", "certificate-unknown /")
DENIED = ("Relaying denied", "no-connector /")


@dataclass(frozen=True, slots=True)
class Case:
    """A message and its outcome. `decision` is "reason organization/connector" as policyd logs it."""

    id: str
    why: str
    certificate: str | None
    address: str
    sender: str
    recipient: str
    reply: str
    text: str
    decision: str


def by_certificate(
    id: str, why: str, certificate: str, sender: str, recipient: str, reply: str, text: str, decision: str
) -> Case:
    """A client with a certificate, from an address that is nobody's."""
    return Case(id, why, certificate, STRANGER, sender, recipient, reply, text, decision)


def by_address(
    id: str, why: str, address: str, sender: str, recipient: str, reply: str, text: str, decision: str
) -> Case:
    """A client without TLS."""
    return Case(id, why, None, address, sender, recipient, reply, text, decision)


C, A = by_certificate, by_address

CASES = (
    # nobody
    A("stranger-out", "a spoofed sender helps nobody", STRANGER, KATE, OUTSIDE, NO, *DENIED),
    A("stranger-foreign", "relaying between strangers", STRANGER, JOHN, OUTSIDE, NO, *DENIED),
    A("stranger-bounce", "a stranger's bounce", STRANGER, "", OUTSIDE, NO, *DENIED),
    C("tls-without-certificate", "TLS is no identity", NO_CERTIFICATE, KATE, OUTSIDE, NO, *DENIED),
    A("in", "mail to an accepted domain", STRANGER, JOHN, KATE, OK, "Ok", "incoming contoso/"),
    A("in-bounce", "a bounce to an accepted domain", STRANGER, "", KATE, OK, "Ok", "incoming contoso/"),
    A("in-dot", "one trailing dot", STRANGER, JOHN, "kate@contoso.com.", OK, "Ok", "incoming contoso/"),
    A("in-case", "letter case", STRANGER, JOHN, "Kate@CONTOSO.com", OK, "Ok", "incoming contoso/"),
    A("in-below", "*.x covers names below", STRANGER, JOHN, "kate@x.y.contoso.net", OK, "Ok", "incoming contoso/"),
    A("in-star-itself", "*.x covers x", STRANGER, JOHN, "kate@contoso.net", OK, "Ok", "incoming contoso/"),
    A("in-delegated", "delegated to another", STRANGER, JOHN, "sam@lab.contoso.net", OK, "Ok", "incoming fabrikam/"),
    A("in-hub", "the hub's own name", STRANGER, JOHN, "abuse@hub.example", OK, "Ok", "incoming hub/"),
    A("in-idn", "U-label, spelt plainly", STRANGER, JOHN, HANS, OK, "Ok", "incoming contoso/"),
    A("in-idn-ascii", "A-label", STRANGER, JOHN, "hans@xn--bcher-kva.example", OK, "Ok", "incoming contoso/"),
    A("in-unknown", "an OK hides no unknown user", STRANGER, JOHN, "nobody@contoso.com", "550 5.1.1 ",
      "User unknown", "incoming contoso/"),
    A("in-not-covered", "contoso.com covers no subdomain", STRANGER, JOHN, "kate@dept.contoso.com", NO, *DENIED),
    A("in-pending", "pending counts nowhere", STRANGER, JOHN, "a@contoso-new.com", NO, *DENIED),
    A("mynetworks", "never asked", TRUSTED_NETWORK, JOHN, OUTSIDE, OK, "Ok", ""),
    # identified by address
    A("address-out", "sender's domain", BRANCH, KATE, OUTSIDE, OK, "Ok", "sender-domain contoso/branch"),
    A("address-ipv6", "IPv6", BRANCH_IPV6, KATE, OUTSIDE, OK, "Ok", "sender-domain contoso/branch"),
    A("address-beside", "the next address", "203.0.113.16", KATE, OUTSIDE, NO, *DENIED),
    A("address-below", "a name below *.x", BRANCH, "a@x.y.contoso.net", OUTSIDE, OK, "Ok",
      "sender-domain contoso/branch"),
    A("address-sub", "contoso.com covers no subdomain", BRANCH, "a@dept.contoso.com", OUTSIDE, NO,
      "Domain not accepted", "not-your-domain contoso/branch"),
    A("address-delegated", "delegated to another", BRANCH, "a@lab.contoso.net", OUTSIDE, NO, "Domain not accepted",
      "not-your-domain contoso/branch"),
    A("address-tenant", "another tenant's sender", BRANCH, SAM, OUTSIDE, NO, "Domain not accepted",
      "not-your-domain contoso/branch"),
    A("address-forward", "forwarding needs a certificate", BRANCH, JOHN, OUTSIDE, NO, "Domain not accepted",
      "not-your-domain contoso/branch"),
    A("address-bounce", "so does a bounce", BRANCH, "", OUTSIDE, NO, "null sender", "not-your-domain contoso/branch"),
    A("address-bounce-home", "recipient's domain", BRANCH, "", KATE, OK, "Ok", "recipient-domain contoso/branch"),
    A("address-other", "incoming for another tenant", BRANCH, JOHN, SAM, OK, "Ok", "incoming fabrikam/"),
    A("address-pending", "sender's domain is pending", BRANCH, "a@contoso-new.com", OUTSIDE, NO, "not verified yet",
      "pending-domain contoso/branch"),
    A("address-idn", "U-label sender", BRANCH, HANS, OUTSIDE, OK, "Ok", "sender-domain contoso/branch"),
    A("tls-missing", "require_tls", TLS_BRANCH, KATE, OUTSIDE, "554 5.7.10 ", "TLS required", "tls-required /"),
    Case("tls-there", "require_tls, TLS", NO_CERTIFICATE, TLS_BRANCH, KATE, OUTSIDE, OK, "Ok",
         "sender-domain contoso/tls-branch"),
    A("fabrikam-office", "the other tenant", FABRIKAM_OFFICE, SAM, OUTSIDE, OK, "Ok", "sender-domain fabrikam/office"),
    # identified by a trusted certificate
    C("cert-out", "sender and certificate", "contoso", KATE, OUTSIDE, OK, "Ok",
      "certificate-domain contoso/head-office"),
    C("cert-bounce", "a bounce by certificate", "contoso", "", OUTSIDE, OK, "Ok",
      "certificate-domain contoso/head-office"),
    C("cert-forward", "forwarded mail", "contoso", JOHN, OUTSIDE, OK, "Ok", "certificate-domain contoso/head-office"),
    C("cert-upper", "letter case of the CN", "upper", "", OUTSIDE, OK, "Ok", "certificate-domain contoso/head-office"),
    C("cert-deep", "*.x at any depth", "deep", "", OUTSIDE, OK, "Ok", "certificate-domain contoso/head-office"),
    C("cert-wildcard", "a wildcard certificate", "wildcard", "", OUTSIDE, OK, "Ok",
      "certificate-domain contoso/head-office"),
    C("cert-intermediate", "below an intermediate", "intermediate", "", OUTSIDE, OK, "Ok",
      "certificate-domain contoso/head-office"),
    C("cert-no-eku", "no extended key usage", "no-eku", "", OUTSIDE, OK, "Ok",
      "certificate-domain contoso/head-office"),
    C("cert-idn", "U-label in the CN", "idn", "", OUTSIDE, OK, "Ok", "certificate-domain contoso/idn"),
    C("cert-idn-ascii", "A-label in the CN", "idn-ascii", "", OUTSIDE, OK, "Ok", "certificate-domain contoso/idn"),
    C("cert-two", "the first CN counts", "two-names", "", OUTSIDE, OK, "Ok", "certificate-domain contoso/head-office"),
    C("cert-exact", "an exact entry", "fabrikam", "", OUTSIDE, OK, "Ok", "certificate-domain fabrikam/cert"),
    C("cert-exact-other", "matches nothing else", "fabrikam-other", SAM, OUTSIDE, NO, *UNKNOWN),
    C("cert-exact-wildcard", "nor the wildcard", "fabrikam-wildcard", SAM, OUTSIDE, NO, *UNKNOWN),
    C("cert-two-below", "two labels below: no D", "fabrikam-eu", "", OUTSIDE, NO, "null sender",
      "not-your-domain fabrikam/eu"),
    C("cert-two-below-sender", "but S", "fabrikam-eu", SAM, OUTSIDE, OK, "Ok", "sender-domain fabrikam/eu"),
    C("shared-contoso", "the sender picks", "signatures", KATE, OUTSIDE, OK, "Ok",
      "sender-domain contoso/signatures"),
    C("shared-fabrikam", "the sender picks", "signatures", SAM, OUTSIDE, OK, "Ok",
      "sender-domain fabrikam/signatures"),
    C("shared-bounce", "nobody's domain", "signatures", "", OUTSIDE, NO, "null sender", "not-your-domain /"),
    C("cert-unknown", "trusted, registered nowhere", "unknown", KATE, OUTSIDE, NO, *UNKNOWN),
    C("cert-unknown-in", "it may still send to us", "unknown", JOHN, KATE, OK, "Ok", "incoming contoso/"),
    C("cert-san-only", "Postfix sends no SAN", "san-only", KATE, OUTSIDE, NO, *UNKNOWN),
    C("cert-odd", "a CN that is no host name", "odd", KATE, OUTSIDE, NO, *UNKNOWN),
    Case("both", "certificate and address", "scanner", SCANNER, KATE, OUTSIDE, OK, "Ok",
         "sender-domain contoso/scanner"),
    C("both-elsewhere", "the certificate alone", "scanner", KATE, OUTSIDE, NO, *UNKNOWN),
    A("both-bare", "the address alone", SCANNER, KATE, OUTSIDE, NO, *DENIED),
    Case("cert-and-address", "the first row wins", "contoso", BRANCH, KATE, OUTSIDE, OK, "Ok",
         "certificate-domain contoso/head-office"),
    Case("cert-and-other-address", "each tenant for itself", "contoso", FABRIKAM_OFFICE, SAM, OUTSIDE, OK, "Ok",
         "certificate-domain contoso/head-office"),
    # not trusted
    C("untrusted-self-signed", "self-signed", "self-signed", KATE, OUTSIDE, NO, *UNTRUSTED),
    C("untrusted-expired", "expired", "expired", KATE, OUTSIDE, NO, *UNTRUSTED),
    C("untrusted-future", "not yet valid", "future", KATE, OUTSIDE, NO, *UNTRUSTED),
    C("untrusted-server", "serverAuth only", "server-auth", KATE, OUTSIDE, NO, *UNTRUSTED),
    C("untrusted-foreign", "foreign CA", "foreign", KATE, OUTSIDE, NO, *UNTRUSTED),
    C("untrusted-chain", "intermediate not sent", "missing-intermediate", KATE, OUTSIDE, NO, *UNTRUSTED),
    Case("untrusted-address", "harmless beside an address", "expired", BRANCH, KATE, OUTSIDE, OK, "Ok",
         "sender-domain contoso/branch"),
    # pinned
    C("pin-file-san", "the file's names count", "pinned-san-only", "", OUTSIDE, OK, "Ok",
      "certificate-domain contoso/gateway"),
    C("pin-self-signed", "a pinned key", "pinned-self-signed", KATE, OUTSIDE, OK, "Ok",
      "sender-domain contoso/printer"),
    C("pin-bounce", "a bare pin has no name", "pinned-self-signed", "", OUTSIDE, NO, "null sender",
      "not-your-domain contoso/printer"),
    C("pin-home", "recipient's domain", "pinned-self-signed", "", KATE, OK, "Ok", "recipient-domain contoso/printer"),
    C("pin-tenant", "another tenant's sender", "pinned-self-signed", SAM, OUTSIDE, NO, "Domain not accepted",
      "not-your-domain contoso/printer"),
    C("pin-expired", "expired, pinned", "pinned-expired", "", OUTSIDE, OK, "Ok", "certificate-domain contoso/old"),
    C("pin-future", "not yet valid, pinned", "pinned-future", KATE, OUTSIDE, OK, "Ok", "sender-domain contoso/early"),
    C("pin-server", "serverAuth only, pinned", "pinned-server-auth", "", OUTSIDE, OK, "Ok",
      "certificate-domain contoso/public-ca"),
    C("pin-foreign", "foreign CA, pinned", "pinned-foreign", KATE, OUTSIDE, OK, "Ok", "sender-domain contoso/own-ca"),
    C("pin-chain", "chain missing, pinned", "pinned-missing-intermediate", KATE, OUTSIDE, OK, "Ok",
      "sender-domain contoso/half-chain"),
    C("pin-odd", "odd CN, pinned", "pinned-odd", KATE, OUTSIDE, OK, "Ok", "sender-domain contoso/odd"),
    # taken back
    A("only-stranger", "connectors_only", STRANGER, JOHN, BOB, NO, "registered servers only",
      "connectors-only tailspin/"),
    C("only-tenant", "another tenant is a stranger", "contoso", KATE, BOB, NO, "registered servers only",
      "connectors-only tailspin/"),
    C("only-own", "its own server", "tailspin", JOHN, BOB, OK, "Ok", "certificate-domain tailspin/cert"),
    C("only-partner", "a partner passes", "bank", "teller@contosobank.example", BOB, OK, "Ok", "incoming tailspin/"),
    A("partner-plain", "a partner without TLS", STRANGER, "teller@contosobank.example", BOB, "554 5.7.10 ",
      "TLS required", "partner-tls tailspin/"),
    C("partner-certificate", "a partner with another certificate", "unknown", "teller@contosobank.example", BOB, NO,
      "Agreed client certificate", "partner-certificate tailspin/"),
    C("partner-wildcard", "a wildcard is not the exact name", "bank-wildcard", "teller@contosobank.example", BOB, NO,
      "Agreed client certificate", "partner-certificate tailspin/"),
    A("partner-address", "a partner from elsewhere", STRANGER, "a@courier.example", BOB, NO, "Agreed server address",
      "partner-address tailspin/"),
    A("partner-at-home", "a partner from its address", COURIER, "a@courier.example", BOB, OK, "Ok",
      "incoming tailspin/"),
    C("partner-out", "partners never relay", "bank", "teller@contosobank.example", OUTSIDE, NO, *UNKNOWN),
    A("protected", "a protected sender, inbound", STRANGER, BOB, KATE, NO, "protected", "sender-protected tailspin/"),
    C("protected-tenant", "not even by certificate", "contoso", BOB, OUTSIDE, NO, "protected",
      "sender-protected tailspin/"),
    C("protected-own", "its owner may", "tailspin", BOB, OUTSIDE, OK, "Ok", "certificate-domain tailspin/cert"),
)  # fmt: skip
