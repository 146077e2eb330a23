"""Self-signed certificates with keys and dates that a test chooses. A number for a key makes its fingerprint known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

# The key of contoso's server in the documents, whose fingerprint they show, and of its successor.
CONTOSO_KEY = 0x1D2C3B4A
CONTOSO_NEXT_KEY = 0x1D2C3B4B


def self_signed(
    name: str,
    *,
    key: int = CONTOSO_KEY,
    days: tuple[int, int] = (-1, 365),
    usage: x509.ObjectIdentifier | None = None,
) -> bytes:
    """A certificate in PEM, valid between two days from now; `usage` is the only one it has, if given."""
    secret = ec.derive_private_key(key, ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(secret, hashes.SHA256()).public_bytes(Encoding.PEM)


def private_key(key: int = CONTOSO_KEY) -> bytes:
    """The key in PEM."""
    secret = ec.derive_private_key(key, ec.SECP256R1())
    return secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
