"""Recorded requests without people: what identifies somebody goes, what decisions depend on stays (SPEC 7)."""

from __future__ import annotations

import re

from policyd.policy.names import without_local_part
from policyd.protocol.request import decode_xtext, encode_xtext

_KEPT = frozenset(
    b"request protocol_state protocol_name client_address client_name client_port reverse_client_name server_address "
    b"server_port helo_name recipient_count queue_id instance size etrn_domain stress sasl_method ccert_fingerprint "
    b"ccert_pubkey_fingerprint encryption_protocol encryption_cipher encryption_keysize policy_context "
    b"compatibility_level mail_version tls_sni".split()
)
_ADDRESSES = frozenset((b"sender", b"recipient", b"sasl_username", b"sasl_sender"))
_CERTIFICATE = frozenset((b"ccert_subject", b"ccert_issuer"))
_LINE = re.compile(rb"([^=\n]*)=(.*)\n")


def redacted(data: bytes) -> bytes:
    """A request without local parts, login names, and attributes of unknown meaning; it is decided as before."""
    lines = []
    for name, value in _LINE.findall(data):
        if name in _ADDRESSES:
            value = _encode(without_local_part(_decode(value)))
        elif name in _CERTIFICATE:
            value = _encode(_without_mailbox(_decode(value)))
        elif name not in _KEPT:
            continue
        lines.append(name + b"=" + value + b"\n")
    return b"".join(lines) + b"\n"


def _without_mailbox(xtext: str) -> str:
    """A certificate of a person has a mail address for its name; it is no host name with or without the local part."""
    text = decode_xtext(xtext)
    text = xtext if text is None else text
    return encode_xtext(without_local_part(text)) if "@" in text else xtext


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _encode(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
