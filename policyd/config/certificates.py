"""Certificates in PEM files: their names, dates and fingerprints.

`read_certificate` serves `certificate_files` (SPEC 3.2 and 4) and `policyd certificate` (SPEC 7). Whatever a file
holds, it gives a CertificateFile or raises CertificateRefused with a text for the administrator.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from policyd.config.not_pem import PRIVATE_KEY, what_it_holds
from policyd.config.regular_file import FileRefused, Why, read_regular
from policyd.policy.fingerprints import DIGESTS, colons
from policyd.policy.model import StoredCertificate
from policyd.policy.names import Pattern, is_host_name, parse_pattern

LARGEST_FILE = 64 * 1024  # octets (SPEC 4)

_MARK = b"-----BEGIN CERTIFICATE-----"
_USAGES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}


_REFUSALS: dict[Why, str] = {
    "missing": "no such file; relative names start from the folder of the file they stand in",
    "broken link": "a symbolic link to a file that does not exist; mend it",
    "folder": "this is a folder; name the PEM file in it",
    "not regular": "this is no regular file; name a PEM file",
    "permission": "permission denied; the user that policyd runs as must be able to read it",
    "no name": "this is no file name",
    "too large": "larger than 64 KiB; name a PEM file with the client's certificate alone",
}


class CertificateRefused(ValueError):
    """The file holds nothing that can be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """The first certificate of a file, as people and rules want to see it."""

    stored: StoredCertificate
    subject: str  # RFC 4514
    issuer: str  # RFC 4514
    common_names: tuple[str, ...]  # as written, in the certificate's order
    alternative_names: tuple[str, ...]  # DNS names as written
    not_before: datetime  # UTC
    not_after: datetime  # UTC
    extended_key_usage: tuple[str, ...] | None  # names or dotted numbers; None: no such extension
    certificate_fingerprints: dict[str, str]  # digest -> as Postfix writes it: upper-case hex with colons
    public_key_fingerprints: dict[str, str]  # the same of the DER SubjectPublicKeyInfo
    certificates: int  # how many the file holds
    self_signed: bool  # it is its own issuer
    authority: bool  # it may sign others
    is_ca: bool  # and is not a server's own: clients show one that it issued
    private_key: bool  # whether the file holds one, too

    @property
    def common_name(self) -> str | None:
        """The first CN as written: what Postfix sends; None without one."""
        return self.common_names[0] if self.common_names else None

    @property
    def for_clients(self) -> bool:
        """Whether Postfix would take it for a client's: no EKU, or one with clientAuth (or any)."""
        usage = self.extended_key_usage
        return usage is None or "clientAuth" in usage or "anyExtendedKeyUsage" in usage


def read_certificate(path: str, source: str) -> CertificateFile:
    """The certificate in the PEM file at `path`; `source` is its name as the administrator wrote it.

    Raises CertificateRefused.
    """
    return certificate_of(_content(path), path, source)


def read_certificate_text(text: str) -> CertificateFile:
    """The certificate in a PEM text that stands in the configuration itself. Raises CertificateRefused."""
    try:
        content = text.encode("ascii")
    except UnicodeEncodeError:
        raise CertificateRefused("it holds other characters than PEM has; copy it again") from None
    if len(content) > LARGEST_FILE:
        raise CertificateRefused("larger than 64 KiB; give the client's certificate alone")
    certificate = certificate_of(content, "", "")
    return replace(certificate, stored=replace(certificate.stored, path="", pem=text))


def pem_of(stored: StoredCertificate) -> str:
    """The certificate as PEM text, and nothing else that may stand beside it. Raises CertificateRefused."""
    content = stored.pem.encode("ascii") if stored.pem else _content(stored.path)
    certificate_of(content, stored.path, stored.source)
    return x509.load_pem_x509_certificates(content)[0].public_bytes(Encoding.PEM).decode("ascii")


def certificate_of(content: bytes, path: str, source: str) -> CertificateFile:
    """As read_certificate, for what a file holds. Raises CertificateRefused."""
    if _MARK not in content:
        raise CertificateRefused(f"holds {what_it_holds(content, path)}")
    try:
        with warnings.catch_warnings():  # about odd certificates: they are the administrator's, not ours to lecture on
            warnings.simplefilter("ignore")
            described = _describe(x509.load_pem_x509_certificates(content), path, source)
    except Exception as error:  # noqa: BLE001  # errors of many classes that have no other base in common
        reason = str(error).split("\n", 1)[0][:100] or "it is damaged"
        raise CertificateRefused(f"the certificate cannot be read ({reason}); export it again as PEM") from None
    return replace(described, private_key=PRIVATE_KEY in content)


def _content(path: str) -> bytes:
    try:
        return read_regular(path, LARGEST_FILE)
    except FileRefused as refused:
        raise CertificateRefused(_REFUSALS.get(refused.why, f"cannot be read: {refused.reason}")) from None


def _describe(certificates: list[x509.Certificate], path: str, source: str) -> CertificateFile:
    certificate = certificates[0]
    der = certificate.public_bytes(Encoding.DER)
    key = _public_key(certificate)
    attributes = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    common_names = tuple(_text(name.value) for name in attributes)
    alternative = _alternative_names(certificate)
    patterns = [host_pattern(name) for name in (*common_names[:1], *alternative)]
    of_certificate = {digest: _fingerprint(digest, der) for digest in DIGESTS.values()}
    of_key = {digest: _fingerprint(digest, key) for digest in DIGESTS.values()}
    return CertificateFile(
        stored=StoredCertificate(
            source=source,
            names=tuple(dict.fromkeys(pattern.name for pattern in patterns if pattern is not None)),
            certificate_fingerprints=frozenset(of_certificate.values()),
            public_key_fingerprints=frozenset(of_key.values()),
            not_after=int(certificate.not_valid_after_utc.timestamp()),
            path=os.path.abspath(path),
        ),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        common_names=common_names,
        alternative_names=alternative,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        extended_key_usage=_extended_key_usage(certificate),
        certificate_fingerprints={digest: colons(text) for digest, text in of_certificate.items()},
        public_key_fingerprints={digest: colons(text) for digest, text in of_key.items()},
        certificates=len(certificates),
        self_signed=certificate.issuer == certificate.subject,
        authority=_is_authority(certificate),
        is_ca=_is_authority(certificate) and _signs_others(certificate, has_host_name=any(patterns)),
        private_key=False,
    )


def _public_key(certificate: x509.Certificate) -> bytes:
    """The DER SubjectPublicKeyInfo as it stands in the certificate, which is what Postfix digests.

    Cut out rather than decoded and encoded again: that would fail for kinds of keys that cryptography does not
    know, and could come out in other octets.
    """
    der = certificate.tbs_certificate_bytes
    _, at, _ = _element(der, 0)  # TBSCertificate (RFC 5280, 4.1)
    tag, _, end = _element(der, at)
    if tag == 0xA0:  # the version, if there
        at = end
    for _ in ("serialNumber", "signature", "issuer", "validity", "subject"):
        _, _, at = _element(der, at)
    return der[at : _element(der, at)[2]]


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag, the begin of the content and the end of the DER element at `at` (of well-formed DER)."""
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + octets], "big"), begin + octets
    return der[at], begin, begin + length


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def _extended_key_usage(certificate: x509.Certificate) -> tuple[str, ...] | None:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return None
    return tuple(_USAGES.get(usage.dotted_string, usage.dotted_string) for usage in extension.value)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _signs_others(certificate: x509.Certificate, *, has_host_name: bool) -> bool:
    """Whether an authority is there to sign: `openssl req -x509` makes one of every server's self-signed certificate.

    That has a host's name and no key usage.
    """
    if certificate.issuer != certificate.subject:
        return True
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return not has_host_name


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate of a file of CAs."""

    fingerprint: str  # sha256 of the DER
    subject: bytes
    issuer: bytes
    is_ca: bool
    not_before: datetime  # UTC
    not_after: datetime  # UTC

    @property
    def is_root(self) -> bool:
        """Whether it names itself as its issuer."""
        return self.subject == self.issuer


def authorities_of(content: bytes) -> list[Authority]:
    """All certificates of a PEM file, in its order. Raises CertificateRefused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [_authority(certificate) for certificate in x509.load_pem_x509_certificates(content)]
    except Exception as error:  # noqa: BLE001  # as in certificate_of
        raise CertificateRefused(str(error).split("\n", 1)[0][:100]) from None


def _authority(certificate: x509.Certificate) -> Authority:
    subject, issuer = certificate.subject.public_bytes(), certificate.issuer.public_bytes()
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = certificate.version == x509.Version.v1 and subject == issuer
    return Authority(
        fingerprint=_fingerprint("sha256", certificate.public_bytes(Encoding.DER)),
        subject=subject,
        issuer=issuer,
        is_ca=is_ca,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def pair_problem(key: bytes, certificate: bytes) -> str:
    """Why the first private key of one PEM text is none for the first certificate of another; empty where it is."""
    begin = key.find(b"-----BEGIN ")
    while begin >= 0 and b"PRIVATE KEY-----" not in key[begin : key.find(b"\n", begin)]:
        begin = key.find(b"-----BEGIN ", begin + 1)
    if begin < 0:
        return "holds no private key"
    try:
        private = load_pem_private_key(key[begin:], None)
        public = x509.load_pem_x509_certificates(certificate)[0].public_key()
    except TypeError:
        return "holds a private key that is encrypted, which Postfix cannot read"
    except Exception:  # noqa: BLE001  # as in certificate_of
        return "holds a private key or certificate that cannot be read"
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != public.public_bytes(*form):
        return "holds a private key that does not belong to the certificate"
    return ""


def host_pattern(text: str) -> Pattern | None:
    """A name of a certificate; None for what is no host name, as an address in digits."""
    pattern = parse_pattern(text)
    return pattern if pattern is not None and is_host_name(pattern.name) else None


def _fingerprint(digest: str, der: bytes) -> str:
    return hashlib.new(digest, der, usedforsecurity=False).hexdigest().upper()
