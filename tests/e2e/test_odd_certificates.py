"""Certificates with odd names, and what a CA that is constrained to its own domain can still sign.

policyd sees of a certificate what Postfix tells: the first CN, if OpenSSL trusts the chain. Which names count is in
the tables; the last test is a warning that the documentation repeats, not a promise.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.e2e.certificates import Certificate
from tests.e2e.hub import Hub, Mail

if TYPE_CHECKING:
    from tests.conftest import PolicydServer

KATE, OUTSIDE = "kate@contoso.com", "x@other.example"
OK, NO = "250 2.1.5", "554 5.7.1 "

# CNs signed by a trusted CA that are no name of a connector, though one can be read into them
NO_NAMES = (
    "mail.contoso.com,mail.fabrikam.com", "mail.contoso.com, CN=x", "CN=mail.contoso.com", "/CN=mail.contoso.com",
    "mail.contoso.com/x", "mail.contoso.com:25", "mail.contoso.com+", "mail+2Econtoso+2Ecom", "mail%2econtoso.com",
    "*", "*.", "*.com", "**.contoso.com", "*.*.contoso.com", "mail.*.contoso.com", "m*.contoso.com", "*.mail.*",
    ".contoso.com", "mail..contoso.com", "mail.contoso.com..", "mail.contoso.com.fabrikam.com", "mail,contoso.com",
    "mail.contoso.com\t", "mail.contoso.com\x7f", "mail.contoso.com\u2028", "mail.\u202econtoso.com",
    "[203.0.113.5]", "203.0.113.5", "::ffff:203.0.113.5", "contoso", "com", "mail.contoso.com ", "x" * 64,
    "kate@contoso.com", "mail.xn--.com", "mail.c\u043entoso.com",
)  # fmt: skip
# and those that are one all the same: case and one trailing dot do not count
NAMES = ("MAIL.Contoso.COM.", "_x.contoso.com", "*.CONTOSO.com")

# What a tenant's CA signs that may sign names of fabrikam.com only: common name, names in subjectAltName.
CONSTRAINED_REFUSED = (
    ("mail.contoso.com", ()),
    ("mail.contoso.com", ("mail.contoso.com",)),
    ("mail.fabrikam.com", ("mail.fabrikam.com", "mail.contoso.com")),
)
CONSTRAINED_TRUSTED = (
    ("mail.contoso.com", ("mail.fabrikam.com",)),
    ("*.contoso.com", ()),
    ("mail.contoso.com.", ()),
)


class Signing:
    """Makes certificates below one authority, in a folder."""

    def __init__(self, folder: Path, authority: Certificate, chain: tuple[x509.Certificate, ...] = ()) -> None:
        self._folder, self._authority, self._chain = folder, authority, chain
        self._made = 0

    def sign(self, common_name: str, dns_names: tuple[str, ...] = (), permitted: str = "") -> Certificate:
        """A client's certificate; with `permitted` an authority for names of that domain."""
        self._made += 1
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self._authority.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=bool(permitted), path_length=None), critical=True)
        )
        if permitted:
            builder = builder.add_extension(x509.NameConstraints([x509.DNSName(permitted)], None), critical=True)
        else:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(usage, critical=False)
        if dns_names:
            names = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns_names])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._authority.private_key, hashes.SHA256())
        pem, key_file = (self._folder / f"{permitted or 'leaf'}-{self._made}.{end}" for end in ("pem", "key"))
        encoding = serialization.Encoding.PEM
        pem.write_bytes(b"".join(each.public_bytes(encoding) for each in (certificate, *self._chain)))
        key_file.write_bytes(
            key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return Certificate(certificate, key, pem, key_file)


@pytest.fixture
def trusted(hub: Hub, tmp_path: Path) -> Signing:
    """Signs whatever it is asked."""
    return Signing(tmp_path, hub.certificates["ca"])


@pytest.fixture
def constrained(trusted: Signing, tmp_path: Path) -> Signing:
    """A tenant's own CA below it, for names of fabrikam.com."""
    authority = trusted.sign("Tenant CA", permitted="fabrikam.com")
    return Signing(tmp_path, authority, (authority.certificate,))


def reply(hub: Hub, certificate: Certificate, policyd: PolicydServer) -> tuple[str, str]:
    """The reply to mail of contoso's for the outside, and policyd's reason."""
    shown = Hub(hub.postfix, hub.sink, {"shown": certificate})
    delivery = shown.deliver("inet", Mail(KATE, (OUTSIDE,), "shown"), policyd)
    (decision,) = delivery.decisions
    assert bool(delivery.relayed) == delivery.reply.startswith(OK), delivery.transcript
    return delivery.reply, f"{decision['reason']} {decision['organization']}"


def test_names_that_only_look_like_a_connectors(hub: Hub, policyd: PolicydServer, trusted: Signing) -> None:
    for common_name in NO_NAMES:
        text, reason = reply(hub, trusted.sign(common_name), policyd)
        assert text.startswith(NO), (common_name, text)
        assert reason == "certificate-unknown ", (common_name, reason)
    for common_name in NAMES:
        text, reason = reply(hub, trusted.sign(common_name), policyd)
        assert text.startswith(OK), (common_name, text)
        assert reason == "certificate-domain contoso", (common_name, reason)


def test_constrained_ca_is_held_to_subject_alt_names(hub: Hub, policyd: PolicydServer, constrained: Signing) -> None:
    """What OpenSSL does look at: DNS names in subjectAltName, and without any a CN that is a host name."""
    own = constrained.sign("mail.fabrikam.com", ("mail.fabrikam.com",))
    assert reply(hub, own, policyd)[1] == "certificate-domain fabrikam"
    for common_name, dns_names in CONSTRAINED_REFUSED:
        text, reason = reply(hub, constrained.sign(common_name, dns_names), policyd)
        assert text.startswith(NO), (common_name, dns_names)
        assert reason == "certificate-untrusted ", (common_name, dns_names)


def test_constrained_ca_signs_any_common_name(hub: Hub, policyd: PolicydServer, constrained: Signing) -> None:
    """Kept as a warning: the CN beside a DNS name, and one that is no host name, is not held to the constraint.

    So such a CA does not belong into smtpd_tls_CAfile; keys of its certificates can be pinned. When this begins to
    fail, the documentation may stop warning.
    """
    for common_name, dns_names in CONSTRAINED_TRUSTED:
        text, reason = reply(hub, constrained.sign(common_name, dns_names), policyd)
        assert text.startswith(OK), (common_name, dns_names)
        assert reason == "certificate-domain contoso", (common_name, dns_names)
