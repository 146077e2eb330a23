"""Made-up organizations with connectors, and requests about them whose answer is known from how they were made.

`configuration(n)` is valid TOML for n connectors; `requests(n, count)` are requests as Postfix 3.7 (29 attributes) and
3.8 (31) send them at RCPT, each with the action it must get. Nothing here decides anything: the right answer follows
from the case a request was made for, never from the code under test. All is reproducible from the seed.

Connector i belongs to organization i // 5 and is, by i % 5: an IPv4 network, a certificate name, an address list (one
address, a range, an IPv6 network, or IPv6 addresses and a range), a certificate wildcard, a pinned public key. Each
organization has 64 addresses of 10.0.0.0/8 and a /64 of 2001:db8::/32, so no two overlap; strangers come from
198.18.0.0/15 and 2001:db8:ffff::/48.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

PER_ORGANIZATION = 5
MOST = (1 << 24) // 64 * PER_ORGANIZATION  # 10.0.0.0/8 is full then: 1,310,720

_LOCAL_PARTS = ("info", "sales", "no-reply", "newsletter", "accounts.payable", "jane.doe", "john.smith", "hr", "maria")
_ISSUERS = ("R11", "E6", "GTS+20CA+201P5", "DigiCert+20TLS+20RSA+20SHA256+202020+20CA1")
_TLS = (
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256),
    ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256", 256),
    ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", 256),
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, with its empty line, and the first word of the answer it must get."""

    text: str
    action: str


@dataclass(frozen=True, slots=True)
class _Client:
    """What Postfix knows of an SMTP client. subject, issuer: xtext. key: what its fingerprints are made of."""

    address: str
    host: str
    subject: str = ""
    issuer: str = ""
    key: str = ""


def configuration(connectors: int) -> Iterator[str]:
    """The [organizations] of 1 to `MOST` connectors (else ValueError), as pieces of TOML text."""
    if not 1 <= connectors <= MOST:
        raise ValueError(f"{connectors} is not a number of connectors from 1 to {MOST}")
    for k in range(-(-connectors // PER_ORGANIZATION)):
        yield f'\n[organizations.org{k}]\naccepted_domains = ["{_domain(k)}", "*.{_cloud(k)}"]\n'
        for name, evidence in _connectors(k)[: connectors - k * PER_ORGANIZATION]:
            yield f"\n[organizations.org{k}.connectors.{name}]\n{evidence}\n"


def requests(connectors: int, count: int, seed: int = 1) -> Iterator[Exchange]:
    """`count` requests about the organizations of `configuration(connectors)`; 70 % of them must get OK."""
    rnd = random.Random(seed)
    for case in rnd.choices(list(_CASES), list(_CASES.values()), k=count):
        client, sender, recipient, action = case(connectors, rnd)
        yield Exchange(_request(client, sender, recipient, rnd), action)


def _domain(k: int) -> str:
    return f"org{k}.example"


def _cloud(k: int) -> str:
    return f"cloud{k}.example"


def _v4(k: int, host: int) -> str:
    return str(IPv4Address((10 << 24) + k * 64 + host))


def _v6(k: int, host: int) -> str:
    return str(IPv6Address((0x20010DB8 << 96) + (k << 64) + host))


def _addresses(k: int, role: int) -> tuple[list[str], Callable[[int, int], str], range]:
    """An address connector's entries; and how to make an address, and for which hosts, that lies in one of them."""
    if role == 0:
        length = (27, 28, 29, 30)[k % 4]
        return [f"{_v4(k, 0)}/{length}"], _v4, range(1 << 32 - length)
    return (
        ([_v4(k, 33)], _v4, range(33, 34)),
        ([f"{_v4(k, 34)}-{_v4(k, 45)}"], _v4, range(34, 46)),
        ([f"{_v6(k, 0)}/64"], _v6, range(1, 1 << 32)),
        ([_v6(k, 0x25), f"{_v6(k, 0x100)}-{_v6(k, 0x1FF)}"], _v6, range(0x100, 0x200)),
    )[k % 4]


def _connectors(k: int) -> list[tuple[str, str]]:
    """Name and evidence of an organization's connectors, by role."""
    office, branch = (", ".join(f'"{entry}"' for entry in _addresses(k, role)[0]) for role in (0, 2))
    return [
        ("office", f"addresses = [{office}]"),
        ("mail", f'certificate_names = ["mail.{_domain(k)}"]'),
        ("branch", f"addresses = [{branch}]"),
        ("cloud", f'certificate_names = ["*.{_cloud(k)}"]'),
        ("appliance", f'public_key_fingerprints = ["{_fingerprint(f"appliance {k}")}"]'),
    ]


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).digest().hex(":").upper()


def _member(k: int, role: int, rnd: random.Random) -> _Client:
    """A client that connector `role` of organization k recognises."""
    if role in (0, 2):
        _, make, hosts = _addresses(k, role)
        return _Client(make(k, rnd.choice(hosts[:3])), f"mx.{_domain(k)}")  # a site has a few servers, not hundreds
    address, host = _stranger(random.Random(k * PER_ORGANIZATION + role)).address, f"mail.{_domain(k)}"  # always there
    if role == 4:  # self-signed: Postfix sends its fingerprints and no name
        return _Client(address, host, key=f"appliance {k}")
    subject = f"mail.{_domain(k)}" if role == 1 else f"{('*', 'mx1', 'out.eu')[k % 3]}.{_cloud(k)}"
    return _Client(address, host, subject, _ISSUERS[k % len(_ISSUERS)], f"{subject} {k}")


def _stranger(rnd: random.Random) -> _Client:
    if rnd.random() < 0.85:
        return _Client(str(IPv4Address((198 << 24) + (18 << 16) + rnd.getrandbits(17))), _outside(rnd))
    return _Client(str(IPv6Address((0x20010DB8FFFF << 80) + rnd.getrandbits(80))), "unknown")


def _outside(rnd: random.Random) -> str:
    return f"mail.company{rnd.randrange(20000)}.example"


def _inside(k: int, rnd: random.Random) -> str:
    return _mailbox(rnd.choice((_domain(k), _domain(k), f"eu.{_cloud(k)}")), rnd)


def _mailbox(domain: str, rnd: random.Random) -> str:
    tag = f"+{rnd.getrandbits(32):08x}" if rnd.random() < 0.3 else ""
    return f"{rnd.choice(_LOCAL_PARTS)}{tag}@{domain}"


def _pick(connectors: int, rnd: random.Random, roles: tuple[int, ...] = (0, 1, 2, 3, 4)) -> tuple[int, int]:
    """One existing connector of the given roles, as organization and role. The last organization may lack some.

    An eighth of the organizations sends half of the mail: traffic is never even.
    """
    k, role = int(-(-connectors // PER_ORGANIZATION) * rnd.random() ** 3), rnd.choice(roles)
    return k, role if k * PER_ORGANIZATION + role < connectors else 0


_Case = tuple[_Client, str, str, str]  # client, sender, recipient, action


def _relays_own_sender(connectors: int, rnd: random.Random) -> _Case:
    k, role = _pick(connectors, rnd)
    return _member(k, role, rnd), _inside(k, rnd), _mailbox(_outside(rnd), rnd), "OK"


def _delivers_to_own_recipient(connectors: int, rnd: random.Random) -> _Case:
    k, role = _pick(connectors, rnd)
    sender = "" if rnd.random() < 0.1 else _mailbox(_outside(rnd), rnd)
    return _member(k, role, rnd), sender, _inside(k, rnd), "OK"


def _comes_in(connectors: int, rnd: random.Random) -> _Case:
    k, _ = _pick(connectors, rnd)
    return _stranger(rnd), _mailbox(_outside(rnd), rnd), _inside(k, rnd), "OK"


def _stranger_relays(connectors: int, rnd: random.Random) -> _Case:
    k, _ = _pick(connectors, rnd)
    return _stranger(rnd), _inside(k, rnd), _mailbox(_outside(rnd), rnd), "REJECT"


def _member_relays_for_others(connectors: int, rnd: random.Random) -> _Case:
    """Connectors whose evidence names no domain (address, pin), so that the sender alone decides: foreign or null."""
    k, role = _pick(connectors, rnd, (0, 2, 4))
    sender = "" if rnd.random() < 0.2 else _mailbox(_outside(rnd), rnd)
    return _member(k, role, rnd), sender, _mailbox(_outside(rnd), rnd), "REJECT"


def _unknown_certificate(connectors: int, rnd: random.Random) -> _Case:
    k, _ = _pick(connectors, rnd)
    client, subject = _stranger(rnd), _outside(rnd)
    if rnd.random() < 0.25:  # not trusted: no names
        client = _Client(client.address, client.host, key=subject)
    else:
        client = _Client(client.address, client.host, subject, rnd.choice(_ISSUERS), subject)
    return client, _inside(k, rnd), _mailbox(_outside(rnd), rnd), "REJECT"


_CASES: dict[Callable[[int, random.Random], _Case], int] = {
    _relays_own_sender: 45,
    _delivers_to_own_recipient: 10,
    _comes_in: 15,
    _stranger_relays: 14,
    _member_relays_for_others: 8,
    _unknown_certificate: 8,
}  # percent


def _request(client: _Client, sender: str, recipient: str, rnd: random.Random) -> str:
    """The request as smtpd words it: all attributes, always in this order."""
    encrypts = random.Random(client.address)  # a server either can TLS or cannot
    protocol, cipher, bits = encrypts.choice(_TLS) if client.key or encrypts.random() < 0.75 else ("", "", 0)
    name = "unknown" if rnd.random() < 0.15 else client.host
    attributes: dict[str, str | int] = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "protocol_name": "ESMTP",
        "client_address": client.address,
        "client_name": name,
        "client_port": rnd.randrange(1024, 65536),
        "reverse_client_name": name,
        "server_address": "192.0.2.25",
        "server_port": 25,
        "helo_name": client.host,
        "sender": sender,
        "recipient": recipient,
        "recipient_count": 0,
        "queue_id": f"{rnd.getrandbits(44):011X}" if rnd.random() < 0.25 else "",  # set from the second recipient on
        "instance": f"{rnd.getrandbits(16):x}.6b{rnd.getrandbits(24):06x}.{rnd.randrange(1_000_000):x}.0",
        "size": rnd.randrange(800, 5_000_000),
        "etrn_domain": "",
        "stress": "",
        "sasl_method": "",
        "sasl_username": "",
        "sasl_sender": "",
        "ccert_subject": client.subject,
        "ccert_issuer": client.issuer,
        "ccert_fingerprint": _fingerprint(f"certificate of {client.key}") if client.key else "",
        "ccert_pubkey_fingerprint": _fingerprint(client.key) if client.key else "",
        "encryption_protocol": protocol,
        "encryption_cipher": cipher,
        "encryption_keysize": bits,
        "policy_context": "",
    }
    if rnd.random() < 0.5:
        attributes |= {"compatibility_level": "3.6", "mail_version": "3.8.6"}
    return "".join(f"{name}={value}\n" for name, value in attributes.items()) + "\n"
