"""The one maker of certificates: authorities, and what they or the certificates themselves sign (EC P-256, SHA-256).

`make` gives a `Certificate` in memory, its `write` the two files that a server or client wants, and `self_signed` the
PEM of a certificate whose key is known. Nothing here knows policyd or the configuration under test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
_CURVE = ec.SECP256R1()

# The key of contoso's server in the documents, whose fingerprint they show, and of its successor.
CONTOSO_KEY = ec.derive_private_key(0x1D2C3B4A, _CURVE)
CONTOSO_NEXT_KEY = ec.derive_private_key(0x1D2C3B4B, _CURVE)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, its private key, and the certificates that are sent with it."""

    certificate: x509.Certificate
    private_key: Key
    chain: tuple[x509.Certificate, ...]

    def as_pem(self) -> bytes:
        """It and its chain."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in (self.certificate, *self.chain))

    def key_as_pem(self) -> bytes:
        """The private key, not encrypted."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def fingerprint(self, digest: str = "sha256") -> str:
        """Of the DER certificate, as `ccert_fingerprint` has it: upper-case hex with colons."""
        return _postfix_form(digest, self.certificate.public_bytes(Encoding.DER))

    def key_fingerprint(self, digest: str = "sha256") -> str:
        """Of the DER SubjectPublicKeyInfo, as `ccert_pubkey_fingerprint` has it."""
        spki = self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return _postfix_form(digest, spki)

    def write(self, folder: Path, name: str) -> CertificateFiles:
        """FOLDER/NAME.pem (with the chain) and FOLDER/NAME.key."""
        pem, key = folder / f"{name}.pem", folder / f"{name}.key"
        pem.write_bytes(self.as_pem())
        key.touch(mode=0o600)
        key.write_bytes(self.key_as_pem())
        return CertificateFiles(self.certificate, self.private_key, self.chain, pem, key)


@dataclass(frozen=True, slots=True)
class CertificateFiles(Certificate):
    """One that lies on disk."""

    pem: Path
    key: Path


def in_days(first: float, last: float) -> tuple[datetime, datetime]:
    """The dates of a certificate, in days from now."""
    now = datetime.now(UTC)
    return now + timedelta(days=first), now + timedelta(days=last)


def make(
    *common_names: str,
    dns_names: Sequence[str] = (),
    addresses: Sequence[str] = (),
    usages: Sequence[x509.ObjectIdentifier] = (),
    dates: tuple[datetime, datetime] | None = None,
    key: Key | None = None,
    issuer: Certificate | None = None,
    authority: bool = False,
    permitted: str = "",
) -> Certificate:
    """A certificate with a new key, or `key`, signed by `issuer`, or itself; no usages means that none is named.

    An `authority` may sign others, with `permitted` only for names of that domain. Valid for some months, unless
    `dates` says otherwise. The chain is of all authorities above it but the one that has signed itself.
    """
    key = key or ec.generate_private_key(_CURVE)
    # One RDN for each name, in this order: Postfix looks at the first CN only.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])
    first, last = dates or in_days(-1, 90)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(last)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if authority:
        builder = builder.add_extension(_SIGNING_ONLY, critical=True)
    if permitted:
        builder = builder.add_extension(x509.NameConstraints([x509.DNSName(permitted)], None), critical=True)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if dns_names or addresses:
        names = [*map(x509.DNSName, dns_names), *(x509.IPAddress(ip_address(text)) for text in addresses)]
        critical = not common_names  # RFC 5280, 4.2.1.6
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=critical)
    certificate = builder.sign(issuer.private_key if issuer else key, hashes.SHA256())
    is_below = issuer is not None and issuer.certificate.issuer != issuer.certificate.subject
    return Certificate(certificate, key, (issuer.certificate, *issuer.chain) if issuer and is_below else ())


def self_signed(
    name: str,
    *,
    key: Key = CONTOSO_KEY,
    days: tuple[int, int] = (-1, 365),
    usage: x509.ObjectIdentifier | None = None,
) -> bytes:
    """A certificate for one host in PEM, valid between two days from now; `usage` is the only one it has, if given."""
    usages = () if usage is None else (usage,)
    return make(name, dns_names=(name,), key=key, dates=in_days(*days), usages=usages).as_pem()


_SIGNING_ONLY = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _postfix_form(digest: str, der: bytes) -> str:
    return hashlib.new(digest, der).digest().hex(":").upper()
