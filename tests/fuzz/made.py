"""Requests made of bytes and of what a configuration names: near to it, and spelt oddly.

For the fuzzer, whose bytes they are made of, and for the soak, which takes random ones. Knows no rule of policyd, and
of its code only the tuple `Request`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyd.protocol.request import Request

Pools = Mapping[str, list[str]]


class Bytes:
    """Numbers and pieces out of the fuzzer's bytes; zeros and nothing when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, below: int) -> int:
        """A number from 0 to `below` - 1, of one byte."""
        octet = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        return octet % below

    def rest(self) -> bytes:
        """All that is left."""
        rest, self._at = self._data[self._at :], len(self._data)
        return rest

    def piece(self) -> bytes:
        """Up to 255 bytes behind their length."""
        length = self.number(256)
        piece = self._data[self._at : self._at + length]
        self._at += length
        return piece


def text_of(data: bytes) -> str:
    """Text as it comes off the wire."""
    return data.decode("utf-8", "surrogateescape")


def pools_of(raw: Mapping[str, Any], fingerprints: list[str]) -> Pools:
    """Texts that mean something to a configuration. `fingerprints` are those of its certificate files."""
    domains: list[str] = ["elsewhere.example", "example", "xn--bcher-kva.example", "bücher.example", ""]
    cns, prints, addresses = [""], [""], ["", "unknown", "::ffff:203.0.113.9", "2001:db8::1", "192.0.2.1"]
    for organization in raw.get("organizations", {}).values():
        for key in ("accepted_domains", "pending_domains", "delegated_domains"):
            domains += organization.get(key, [])
        for kind in ("connectors", "partners"):
            for table in organization.get(kind, {}).values():
                domains += table.get("sender_domains", [])
                cns += table.get("certificate_names", [])
                prints += table.get("certificate_fingerprints", []) + table.get("public_key_fingerprints", [])
                for network in table.get("addresses", []):
                    addresses += network.replace("/", "-").split("-")[:1]
    domains = [domain.removeprefix("*.") for domain in domains]
    return {"domain": domains, "cn": cns + domains, "print": prints + fingerprints, "address": addresses}


def _spelt(take: Bytes, domain: str) -> str:
    how = take.number(16)
    if how < 6:
        return domain
    if how < 8:
        return f"{text_of(take.piece())}.{domain}"
    if how == 8:
        return domain.upper()
    if how == 9:
        return domain + "."
    if how == 10:  # full-width letters
        return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" and c != "." else c for c in domain)
    at = take.number(len(domain) + 1)
    middle = ("\u00ad", "\u200d", "\u3002", ".", text_of(take.piece()))[how - 11]
    return domain[:at] + middle + domain[at:]


def _address(take: Bytes, pools: Pools) -> str:
    how = take.number(16)
    if how == 0:
        return ""
    if how == 1:
        return text_of(take.piece())
    local_part = ("a", "a", "a%b", "a!b", "a@b", "", text_of(take.piece()))[take.number(7)]
    return f"{local_part}@{_spelt(take, pools['domain'][take.number(len(pools['domain']))])}"


def made_request(take: Bytes, pools: Pools, instance: str = "1f3.65") -> Request:
    """A request in state RCPT, most of the time."""

    def pick(pool: str) -> str:
        return pools[pool][take.number(len(pools[pool]))]

    cn = ("", pick("cn"), _spelt(take, pick("cn")), "*." + pick("domain"))[take.number(4)]
    subject = "".join(
        chr(octet) if 33 <= octet <= 126 and octet != 0x2B else f"+{octet:02X}"
        for octet in cn.encode("utf-8", "surrogateescape")
    )
    if take.number(8) == 7:
        subject = text_of(take.piece())
    odd = take.number(32)
    fingerprint, key = pick("print"), pick("print")
    if odd == 1:
        fingerprint = text_of(take.piece())
    if odd == 7:
        fingerprint, key = fingerprint.replace("F", "\uff26"), key.replace("FF", "\ufb00")
    asked = Request(
        protocol_state="RCPT" if odd != 2 else text_of(take.piece()),
        client_address=pick("address") if odd != 3 else text_of(take.piece()),
        sender=_address(take, pools),
        recipient=_address(take, pools),
        instance=instance if odd != 4 else text_of(take.piece()),
        queue_id="" if odd != 5 else text_of(take.piece()),
        ccert_subject=subject,
        ccert_issuer=("", "CA", text_of(take.piece()))[take.number(3)],
        ccert_fingerprint=fingerprint,
        ccert_pubkey_fingerprint=key.lower() if odd == 6 else key,
        encryption_protocol=("TLSv1.3", "")[take.number(2)],
    )
    if any("\n" in value or "\0" in value for value in asked):  # no value of a request can hold these
        asked = Request(*(value.replace("\n", " ").replace("\0", " ") for value in asked))
    return asked
