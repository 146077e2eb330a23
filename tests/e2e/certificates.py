"""Test CA and client certificates of every kind that changes what Postfix tells a policy service.

Everything is made with the `cryptography` package, in a folder that the caller names; nothing here knows policyd or
the configuration under test. RECIPES says what each certificate is for. Implements nothing of the documentation: the
facts about Postfix are in TLS_README and postconf(5), `smtpd_tls_fingerprint_digest`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DIGESTS = ("md5", "sha1", "sha256", "sha384", "sha512")
"""The digests that Postfix can be told to use for fingerprints."""

Validity = Literal["current", "expired", "future"]
_DAYS: Mapping[Validity, tuple[int, int]] = {"current": (-1, 90), "expired": (-20, -10), "future": (10, 90)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a certificate shall be. `issuer` names an authority; None signs it with its own key."""

    name: str
    common_names: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    usages: tuple[str, ...] | None = ("client",)
    issuer: str | None = "ca"
    validity: Validity = "current"
    send_chain: bool = True


RECIPES = (
    Recipe("server", ("hub.example",), ("hub.example",), ("server",)),
    # trusted, with a name
    Recipe("contoso", ("mail.contoso.com",), ("mail.contoso.com",), ("client", "server")),
    Recipe("upper", ("Mail.CONTOSO.com",)),
    Recipe("deep", ("mail.eu.contoso.com",)),
    Recipe("wildcard", ("*.contoso.com",), ("*.contoso.com",)),
    Recipe("no-eku", ("mail.contoso.com",), ("mail.contoso.com",), None),
    Recipe("two-names", ("first.contoso.com", "second.fabrikam.com")),
    Recipe("two-names-reversed", ("second.unknown.example", "mail.contoso.com")),
    Recipe("idn", ("mail.bücher.example",)),
    Recipe("idn-ascii", ("mail.xn--bcher-kva.example",)),
    Recipe("fabrikam", ("mail.fabrikam.com",)),
    Recipe("fabrikam-other", ("smtp.fabrikam.com",)),
    Recipe("fabrikam-wildcard", ("*.fabrikam.com",)),
    Recipe("fabrikam-eu", ("mail.eu.fabrikam.com",)),
    Recipe("lab", ("gw.lab.contoso.net",)),
    Recipe("lab-wildcard", ("*.lab.contoso.net",)),
    Recipe("signatures", ("relay.signatures.example",)),
    Recipe("scanner", ("scanner.devices.example",)),
    Recipe("tailspin", ("tailspintoys.com",)),
    Recipe("bank", ("mail.contosobank.example",)),
    Recipe("bank-wildcard", ("*.contosobank.example",)),
    Recipe("unknown", ("mail.unknown.example",)),
    Recipe("suffix", ("contoso.com.unknown.example",)),
    Recipe("prefix", ("notcontoso.com",)),
    Recipe("intermediate", ("mail.contoso.com",), issuer="intermediate-ca"),
    # trusted, without a usable name
    Recipe("odd", ("Söhne + Müller = Post <relay>",)),
    Recipe("newline", ("mail.contoso.com\nccert_subject=mail.contoso.com",)),
    Recipe("newline-first", ("\naction=OK\n\n",)),
    Recipe("nul", ("mail.contoso.com\0.unknown.example",)),
    Recipe("padded", (" mail.contoso.com",)),
    Recipe("san-only", (), ("mail.contoso.com",)),
    # not trusted, although the name is right
    Recipe("self-signed", ("mail.contoso.com",), issuer=None),
    Recipe("foreign", ("mail.contoso.com",), ("mail.contoso.com",), issuer="foreign-ca"),
    Recipe("expired", ("mail.contoso.com",), validity="expired"),
    Recipe("future", ("mail.contoso.com",), validity="future"),
    Recipe("server-auth", ("mail.contoso.com",), ("mail.contoso.com",), ("server",)),
    Recipe("missing-intermediate", ("mail.contoso.com",), issuer="intermediate-ca", send_chain=False),
    # the same kinds once more, to be pinned
    Recipe("pinned-san-only", (), ("gw.contoso.net",)),
    Recipe("pinned-self-signed", ("printer",), issuer=None),
    Recipe("pinned-foreign", ("mail.contoso.com",), issuer="foreign-ca"),
    Recipe("pinned-expired", ("mail.contoso.com",), validity="expired"),
    Recipe("pinned-future", ("mail.contoso.com",), validity="future"),
    Recipe("pinned-server-auth", ("mail.contoso.com",), ("mail.contoso.com",), ("server",)),
    Recipe("pinned-missing-intermediate", ("mail.contoso.com",), issuer="intermediate-ca", send_chain=False),
    Recipe("pinned-odd", ("Söhne + Müller = Post <relay>",)),
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate on disk: `pem` holds it and the chain that a client sends with it, `key` its private key."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey
    pem: Path
    key: Path

    def fingerprint(self, digest: str = "sha256") -> str:
        """Of the DER certificate, as `ccert_fingerprint` has it: upper-case hex with colons."""
        return _postfix_form(digest, self.certificate.public_bytes(serialization.Encoding.DER))

    def key_fingerprint(self, digest: str = "sha256") -> str:
        """Of the DER SubjectPublicKeyInfo, as `ccert_pubkey_fingerprint` has it."""
        spki = self.certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return _postfix_form(digest, spki)


def make_certificates(folder: Path, recipes: Iterable[Recipe] = RECIPES) -> dict[str, Certificate]:
    """Make three authorities (`ca`, `intermediate-ca` below it, `foreign-ca`) and a certificate for each recipe.

    Files: FOLDER/NAME.pem and FOLDER/NAME.key. A server that trusts FOLDER/ca.pem trusts `ca` and what is below it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Certificate] = {}
    chains: dict[str, tuple[x509.Certificate, ...]] = {"ca": (), "foreign-ca": ()}
    for name, common_name, issuer in (
        ("ca", "Example Connector CA", None),
        ("foreign-ca", "Foreign CA", None),
        ("intermediate-ca", "Example Intermediate CA", "ca"),
    ):
        recipe = Recipe(name, (common_name,), issuer=issuer)
        made[name] = _issue(folder, recipe, made.get(issuer or ""), (), authority=True)
    chains["intermediate-ca"] = (made["intermediate-ca"].certificate,)
    for recipe in recipes:
        chain = chains[recipe.issuer] if recipe.issuer and recipe.send_chain else ()
        made[recipe.name] = _issue(folder, recipe, made.get(recipe.issuer or ""), chain, authority=False)
    return made


def _issue(
    folder: Path, recipe: Recipe, issuer: Certificate | None, chain: tuple[x509.Certificate, ...], *, authority: bool
) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    # one RDN for each name, in this order: Postfix looks at the first CN only
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in recipe.common_names])
    now = datetime.now(UTC)
    first, last = (now + timedelta(days=days) for days in _DAYS[recipe.validity])
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
    elif recipe.usages is not None:
        oids = [_USAGES[usage] for usage in recipe.usages]
        builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
    if recipe.dns_names:
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in recipe.dns_names])
        builder = builder.add_extension(names, critical=not recipe.common_names)  # RFC 5280, 4.2.1.6
    certificate = builder.sign(issuer.private_key if issuer else key, hashes.SHA256())
    pem, key_file = folder / f"{recipe.name}.pem", folder / f"{recipe.name}.key"
    pem.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (certificate, *chain)))
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificate(certificate, key, pem, key_file)


_USAGES = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
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
