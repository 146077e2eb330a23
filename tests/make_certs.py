"""Makes the certificates of tests/certs/ (self-signed, EC P-256, valid until 2099). Their keys are thrown away.

The files are committed; run `python -m tests.make_certs` only to replace them all (fingerprints change then, and
nothing in the tests may depend on their values). `CERTIFICATES` says what each file holds, for `tests/strategies.py`.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

FOLDER = Path(__file__).resolve().parent / "certs"
NOT_BEFORE = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(2099, 12, 31, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Names:
    """common_name: the subject's CN or None for an empty subject; dns: the DNS names of subjectAltName.

    key: files with the same letter have the same key; followed_by: CN of a second certificate, which must not count.
    """

    common_name: str | None
    dns: tuple[str, ...]
    key: str
    followed_by: str | None = None


CERTIFICATES: dict[str, Names] = {
    "cn-and-san.pem": Names("gw.contoso.net", ("gw.contoso.net", "relay.signatures.example"), "a"),
    "cn-and-san-renewed.pem": Names("gw.contoso.net", ("gw.contoso.net", "relay.signatures.example"), "a"),
    "cn-only.pem": Names("mail.contoso.com", (), "b"),
    "san-only.pem": Names(None, ("mail.fabrikam.com", "fabrikam.com"), "c"),
    "wildcard.pem": Names("*.eu.fabrikam.com", ("*.xn--bcher-kva.example",), "d"),
    "u-label.pem": Names("Mail.bücher.example", (), "e"),
    "no-host-name.pem": Names("Acme Appliance 7", (), "f"),
    "two-deep.pem": Names("a.b.fabrikam.com", (), "g", followed_by="fabrikam.com"),
}


def make_certificate(names: Names, key: ec.EllipticCurvePrivateKey) -> bytes:
    """One self-signed certificate in PEM."""
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, names.common_name)] if names.common_name else []
    subject = x509.Name(attributes)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )
    if names.dns:
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names.dns])
        builder = builder.add_extension(san, critical=names.common_name is None)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def make_all(folder: Path = FOLDER) -> None:
    """Write every file of `CERTIFICATES` anew."""
    folder.mkdir(exist_ok=True)
    keys: dict[str, ec.EllipticCurvePrivateKey] = {}
    for file, names in CERTIFICATES.items():
        key = keys.setdefault(names.key, ec.generate_private_key(ec.SECP256R1()))
        pem = make_certificate(names, key)
        if names.followed_by is not None:
            pem += make_certificate(Names(names.followed_by, (), ""), ec.generate_private_key(ec.SECP256R1()))
        (folder / file).write_bytes(pem)


if __name__ == "__main__":
    make_all()
