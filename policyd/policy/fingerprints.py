"""Fingerprints of certificates and public keys: as Postfix and people write them, and as the rules compare them.

Everywhere else a fingerprint is upper-case hexadecimal without colons (SPEC 3.2).
"""

from __future__ import annotations

import re

# What smtpd_tls_fingerprint_digest is set to in practice, by the hexadecimal digits of its fingerprints.
DIGESTS = {32: "md5", 40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}
STRONG = 64  # digits of the shortest digest that nobody can forge

_HEX = re.compile(r"[0-9A-F]+")
_HEX_PAIRS = re.compile(r"[0-9A-F]{2}(?::?[0-9A-F]{2})*")


def sent_fingerprint(text: str) -> str:
    """A fingerprint as Postfix sends it, for look-ups; empty where it cannot be one."""
    return text.upper().replace(":", "") if text.isascii() else ""


def parse_fingerprint(text: str) -> str | None:
    """A fingerprint as people write it, in any letter case, with colons or without; None where it is none."""
    upper = text.upper()
    plain = upper.replace(":", "")
    if len(plain) in DIGESTS and plain.isascii() and _HEX_PAIRS.fullmatch(upper):
        return plain
    return None


def is_fingerprint(text: str) -> bool:
    """Whether the configuration takes what a look-up is made with for a fingerprint."""
    return len(text) in DIGESTS and _HEX.fullmatch(text) is not None


def colons(fingerprint: str) -> str:
    """As Postfix writes it: `AA:BB:...`."""
    return ":".join(fingerprint[at : at + 2] for at in range(0, len(fingerprint), 2))


def shortened(fingerprint: str) -> str:
    """The begin of a fingerprint, enough for people to tell it from others."""
    text = colons(fingerprint)
    return text if len(fingerprint) <= 16 else f"{text[:23]}:..."
