"""Files that people bring in place of a certificate in PEM: what each is, and the one command that makes PEM of it.

Only texts, and how such a file is recognised; `certificates` asks when a file holds no certificate in PEM. Nothing is
converted here: what counts is a file that its owner has seen. SPEC 7, certificate.
"""

from __future__ import annotations

import base64
import binascii
import re
import shlex
from pathlib import PurePath

from cryptography import x509

PRIVATE_KEY = b"PRIVATE KEY-----"

_LENGTH = rb"(?:[\x00-\x80]|\x81.|\x82..|\x83...|\x84....)"  # of a DER or BER element
_PKCS12 = re.compile(rb"\x30" + _LENGTH + rb"\x02\x01\x03\x30", re.DOTALL)  # PFX: version 3 (RFC 7292, 4)
_PKCS7 = re.compile(rb"\x30" + _LENGTH + rb"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", re.DOTALL)  # signedData
_UTF16 = re.compile(rb"(?:\xff\xfe|\xfe\xff|-\x00-\x00|\x00-\x00-)")
_JAVA_KEY_STORE = b"\xfe\xed\xfe\xed"
_LABELS: tuple[tuple[bytes, str], ...] = (  # of PEM (RFC 7468)
    (
        b"BEGIN TRUSTED CERTIFICATE-----",
        "a certificate with OpenSSL's trust settings: openssl x509 -in {file} -out {new}",
    ),
    (b"BEGIN X509 CERTIFICATE-----", "a certificate under an old name: openssl x509 -in {file} -out {new}"),
    (b"BEGIN PKCS7-----", "PKCS #7 (.p7b) in PEM: openssl pkcs7 -in {file} -print_certs -out {new}"),
    (b"BEGIN CMS-----", "PKCS #7 (CMS) in PEM: openssl pkcs7 -in {file} -print_certs -out {new}"),
    (PRIVATE_KEY, "a private key and no certificate; name the certificate's file (the key is not needed here)"),
    (b"CERTIFICATE REQUEST-----", "a certificate request; name the certificate that was issued for it"),
    (
        b"BEGIN PUBLIC KEY-----",
        "a public key and no certificate; put the key's fingerprint into public_key_fingerprints",
    ),
)
_PKCS12_TEXT = (
    "PKCS #12 (.pfx), a certificate with its private key: openssl pkcs12 -in {file} -clcerts -nokeys -out {new}"
)


def what_it_holds(content: bytes, path: str) -> str:
    """What stands behind "holds ": the kind of a file without a PEM certificate, and what to do."""
    file = shlex.quote(path) if path not in ("", "-") else "FILE"
    new = shlex.quote(str(PurePath(path).with_suffix(".pem"))) if path not in ("", "-") else "NEW.pem"
    return _kind(content).format(file=file, new=new if new != file else "NEW.pem")


def _kind(content: bytes) -> str:
    if not content.strip():
        return "nothing; export the certificate again as PEM"
    if _UTF16.match(content):
        return "UTF-16, not PEM: iconv -f UTF-16 -t ASCII {file} >{new}"
    if content.startswith(_JAVA_KEY_STORE):
        return "a Java keystore: keytool -exportcert -rfc -keystore {file} -alias ALIAS -file {new}"
    for label, kind in _LABELS:
        if label in content:
            return kind
    if _PKCS12.match(content):
        return _PKCS12_TEXT
    if _PKCS7.match(content):
        return "PKCS #7 (.p7b), not PEM: openssl pkcs7 -inform DER -in {file} -print_certs -out {new}"
    if content[:1] == b"\x30":
        return _kind_of_der(content)
    if _is_bare_base64(content):
        return "base64 without PEM's first and last line: base64 -d {file} | openssl x509 -inform DER -out {new}"
    return "no PEM certificate (-----BEGIN CERTIFICATE-----)"


def _kind_of_der(content: bytes) -> str:
    if _is_certificate(content):
        return "DER, not PEM; convert it: openssl x509 -inform DER -in {file} -out {new}"
    return "DER that is no certificate (a key, a request, a list of revocations?); export the certificate as PEM"


def _is_bare_base64(content: bytes) -> bool:
    try:
        return _is_certificate(base64.b64decode(b"".join(content.split()), validate=True))
    except binascii.Error:
        return False


def _is_certificate(der: bytes) -> bool:
    try:
        x509.load_der_x509_certificate(der)
    except Exception:  # noqa: BLE001  # errors of many classes that have no other base in common
        return False
    return True
