"""One request: the attributes that decisions and the log need, from the lines that Postfix sent.

Implements SPEC 5 for a single request. Odd mail data never raises; what breaks the protocol raises
ProtocolError, and then nothing may be answered on that connection.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class ProtocolError(Exception):
    """The peer does not speak the policy protocol; the text says how, for the log."""


class Request(NamedTuple):
    """The attributes of a request that count; empty where the peer sent none.

    Text is UTF-8; a byte that is not is kept as a surrogate escape. The order of the fields is the
    order in which Postfix sends them.
    """

    protocol_state: str = ""
    client_address: str = ""
    client_port: str = ""
    sender: str = ""
    recipient: str = ""
    recipient_count: str = ""
    queue_id: str = ""
    instance: str = ""
    sasl_username: str = ""
    ccert_subject: str = ""
    ccert_issuer: str = ""
    ccert_fingerprint: str = ""
    ccert_pubkey_fingerprint: str = ""
    encryption_protocol: str = ""

    @property
    def certificate_subject(self) -> str | None:
        """The certificate's first CN, xtext decoded; None where the xtext is malformed."""
        return decode_xtext(self.ccert_subject)


NO_ATTRIBUTE = "a line that is no name=value, or a NUL byte"
POLICY_REQUEST = "smtpd_access_policy"

# All attributes that Postfix 2.1 to 3.12 sends (SMTPD_POLICY_README).
KNOWN_ATTRIBUTES = frozenset(
    "request protocol_state protocol_name client_address client_name client_port reverse_client_name server_address "
    "server_port helo_name sender recipient recipient_count queue_id instance size etrn_domain stress sasl_method "
    "sasl_username sasl_sender ccert_subject ccert_issuer ccert_fingerprint ccert_pubkey_fingerprint "
    "encryption_protocol encryption_cipher encryption_keysize policy_context compatibility_level mail_version "
    "tls_sni".split()
)

_LINES = re.compile(r"(?:[^\n=]*+=.*+\n)*+\n")


def parse_request(data: bytes) -> Request:
    """The request in `data`, which ends with its empty line. Raises ProtocolError."""
    if b"\0" in data:
        raise ProtocolError(NO_ATTRIBUTE)
    return parse_in_any_order(data.decode("utf-8", "surrogateescape"))


def parse_in_any_order(text: str) -> Request:
    """As `parse_request`, of text: the first value of a repeated name counts, unknown names do not."""
    if _LINES.fullmatch(text) is None:
        raise ProtocolError(NO_ATTRIBUTE)
    first: dict[str, str] = {}
    for line in text[:-2].split("\n"):
        name, _, value = line.partition("=")
        first.setdefault(name, value)
    kind = first.get("request")
    if kind is None:
        raise ProtocolError("no request attribute")
    if kind != POLICY_REQUEST:
        raise ProtocolError(f"a request that is not {POLICY_REQUEST}")
    return Request._make([first.get(name, "") for name in Request._fields])


def parse_attributes(lines: str) -> Request:
    """The request of loose `name=value` lines, as people type them: `request` may be missing. Raises ProtocolError."""
    text = "".join(f"{line}\n" for line in lines.split("\n") if line)
    if "\0" in text:
        raise ProtocolError(NO_ATTRIBUTE)
    return parse_in_any_order(f"{text}request={POLICY_REQUEST}\n\n")


_XTEXT = re.compile(r"(?:[!-*,-~]|\+[0-9A-Fa-f]{2})*")
_XTEXT_CODE = re.compile(r"\+([0-9A-Fa-f]{2})")
_NEEDS_NO_CODE = re.compile(r"[!-*,-~]*")


def decode_xtext(text: str) -> str | None:
    """The text that `text` encodes as xtext (RFC 3461, section 4); None where it is malformed or not UTF-8.

    Unlike the RFC, `=` may stand for itself, as Postfix has it, and hexadecimal digits may be lower case.
    """
    if _XTEXT.fullmatch(text) is None:
        return None
    if "+" not in text:
        return text
    octets = _XTEXT_CODE.sub(lambda code: chr(int(code[1], 16)), text).encode("latin-1")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None


def encode_xtext(text: str) -> str:
    """Text as Postfix sends a certificate's name: `+XX` for octets outside 33-126 and for `+` (RFC 3461, section 4)."""
    if _NEEDS_NO_CODE.fullmatch(text):
        return text
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(chr(octet) if 33 <= octet <= 126 and octet != 0x2B else f"+{octet:02X}" for octet in octets)
