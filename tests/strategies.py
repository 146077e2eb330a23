"""Hypothesis strategies for valid configurations and for requests that hit them.

`configurations()` gives what tomllib would give for a policyd.toml without any of the errors of SPEC 4 (warnings there
may be): it is built to be valid, not filtered. All names come from a small pool, so that organizations have domains
below one another's, share certificate names, and meet in requests; some fold into one another (`faß`, `fass`), have a
symbol, or a label that begins with `xn--` and is nothing's Punycode. `requests(config)` gives the attributes that
Postfix sends, in its order, most of them near something that the configuration names, many spelt oddly.
`to_toml(config)` writes such a dict as TOML, `wire(attributes)` a request as Postfix sends it.

Knows nothing of policyd. Values that are not UTF-8 on the wire are str with surrogates (`surrogateescape`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.make_certs import CERTIFICATES

Config = dict[str, Any]
Attributes = dict[str, str]
Draw = Callable[[st.SearchStrategy[Any]], Any]
T = TypeVar("T")

CERTIFICATE_FOLDER = Path(__file__).resolve().parent / "certs"
DIGESTS = ("md5", "sha1", "sha256", "sha384", "sha512")

# Lower case, U-labels. Any organization may have any of them, so parents and children meet.
OWNABLE = (
    "contoso.com",
    "dept.contoso.com",
    "a.dept.contoso.com",
    "mail.contoso.com",
    "contoso.net",
    "lab.contoso.net",
    "deep.lab.contoso.net",
    "x.deep.lab.contoso.net",
    "fabrikam.com",
    "eu.fabrikam.com",
    "b.fabrikam.com",
    "bücher.example",
    "post.bücher.example",
    "faß.example",
    "пример.example",
    "under_score.example",
    "lan",
    "host.lan",
    "fass.example",
    "straße.example",
    "strasse.example",
    "βόλος.example",
    "βόλοσ.example",
    "☃.example",
    "xn--odd.example",
)
# Nobody's, ever: a sender's, a shared service's, a partner's.
FOREIGN = ("elsewhere.example", "signatures.example", "hosting.example", "bank.example", "example")
SHARED_NAMES = ("relay.signatures.example", "*.hosting.example", "scanner.devices.example", "mx.hosting.example")
ORGANIZATIONS = (
    "contoso",
    "fabrikam",
    "tailspin",
    "adatum",
    "a.b_c-d",
    "0",
    "zz",
    "north.wind",
    "m",
    "woodgrove",
    "litware",
    "proseware",
)
CONNECTORS = ("cert", "ip", "both", "pin", "edge-1", "0")
PARTNERS = ("bank", "a", "z-9", "notary")

ATTRIBUTES = (
    "request",
    "protocol_state",
    "protocol_name",
    "client_address",
    "client_name",
    "client_port",
    "reverse_client_name",
    "server_address",
    "server_port",
    "helo_name",
    "sender",
    "recipient",
    "recipient_count",
    "queue_id",
    "instance",
    "size",
    "etrn_domain",
    "stress",
    "sasl_method",
    "sasl_username",
    "sasl_sender",
    "ccert_subject",
    "ccert_issuer",
    "ccert_fingerprint",
    "ccert_pubkey_fingerprint",
    "encryption_protocol",
    "encryption_cipher",
    "encryption_keysize",
    "policy_context",
)
OTHER_STATES = (
    "DATA",
    "END-OF-MESSAGE",
    "CONNECT",
    "EHLO",
    "HELO",
    "MAIL",
    "VRFY",
    "ETRN",
    "",
    "rcpt",
    "RCPT ",
    "UNKNOWN",
)


# --- fingerprints ---------------------------------------------------------------------------------------------------


def _file_digests(file: str) -> dict[str, tuple[str, str]]:
    """digest name -> (certificate, public key) of the first certificate in the file, in lower-case hex."""
    certificate = x509.load_pem_x509_certificates((CERTIFICATE_FOLDER / file).read_bytes())[0]
    der = certificate.public_bytes(Encoding.DER)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        name: tuple(hashlib.new(name, data, usedforsecurity=False).hexdigest() for data in (der, key))  # type: ignore[misc]
        for name in DIGESTS
    }


FILE_DIGESTS = {file: _file_digests(file) for file in CERTIFICATES}
# Of certificates that no file holds: (certificate, public key) in every length that a digest can have.
LOOSE_DIGESTS = tuple(
    (bytes([seed] * size).hex(), bytes([seed + 1] * size).hex())
    for seed in (0xA0, 0xB0)
    for size in (16, 20, 32, 48, 64)
)
ALL_DIGESTS = tuple(pair for digests in FILE_DIGESTS.values() for pair in digests.values()) + LOOSE_DIGESTS


def _colons(hexadecimal: str) -> str:
    return ":".join(hexadecimal[i : i + 2] for i in range(0, len(hexadecimal), 2))


# --- names ----------------------------------------------------------------------------------------------------------


BELOW = ("mail.", "x.y.", "_h.", "lab.", "bücher.", "news.", "spare.", "weiß.", "☃.", "xn--x.")


def _a_label(label: str) -> str:
    """Of a label as UTS 46 leaves it, a symbol included."""
    return label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")


def _a_form(name: str) -> str:
    """The A-label form of a pool name (with `*.` kept)."""
    return ".".join(_a_label(label) for label in name.split("."))


U_LABELS = {_a_label(label): label for name in (*OWNABLE, *BELOW) for label in name.split(".") if not label.isascii()}


def _is_below(name: str, base: str) -> bool:
    return name.endswith("." + base)


def _zone(name: str, holders: Mapping[str, str]) -> str | None:
    """The organization of the nearest pool domain at or above the name (SPEC 3.1), over lower-case U-label text."""
    labels = name.split(".")
    for i in range(len(labels)):
        if ".".join(labels[i:]) in holders:
            return holders[".".join(labels[i:])]
    return None


def _chance(draw: Draw, one_in: int) -> bool:
    """True once in so many; shrinks to False."""
    return bool(draw(st.integers(0, one_in - 1)) == one_in - 1)


def _pick(draw: Draw, choices: Sequence[T]) -> T:
    picked: T = draw(st.sampled_from(choices))
    return picked


def _some(draw: Draw, choices: Sequence[T], least: int, most: int) -> list[T]:
    """A few different ones of the choices (which differ among themselves)."""
    most = min(most, len(choices))
    return list(draw(st.lists(st.sampled_from(choices), min_size=min(least, most), max_size=most, unique=True)))


def _written(draw: Draw, name: str) -> str:
    """A name as an administrator may write it: U-labels or A-labels, any letter case, a final dot."""
    style = draw(st.integers(0, 15))
    if style in (12, 13):
        return _a_form(name)
    if style == 14:
        return name.upper() if name.isascii() else name
    if style == 15:
        return name + "."
    return name


# --- configurations -------------------------------------------------------------------------------------------------


def _addresses_of(number: int) -> tuple[str, ...]:
    """Addresses for the organization of this number, that overlap with each other but never with another number's."""
    base = 16 * number
    v4, ten, v6 = "203.0.113.", f"10.{number}.", f"2001:db8:{number:x}:"
    return (
        f"{v4}{base}/28",
        f"{v4}{base + 5}",
        f"{v4}{base + 2}-{v4}{base + 9}",
        f"{v4}{base + 4}/30",
        f"{v4}{base + 6}/29",  # host bits set
        f"::ffff:{v4}{base + 5}",
        f"::ffff:{v4}{base + 8}/125",
        f"::FFFF:{v4}{base}-::ffff:{v4}{base + 7}",
        f"{ten}0.0/16",
        f"{ten}3.0-{ten}7.255",
        f"{ten}4.0/22",
        f"{v6}:/48",
        f"{v6}0:0:0:0:5".upper() if number % 2 else f"{v6}:5",
        f"{v6}:5-{v6}:ff",
        f"{v6}1::/64",
    )


PARTNER_ADDRESSES = (
    "198.51.100.200",
    "198.51.100.64/26",
    "2001:db8:ffff::/64",
    "198.18.0.7-198.18.0.20",
    *_addresses_of(0)[:4],
    *_addresses_of(1)[10:],
)


def _fingerprints(draw: Draw, side: int) -> list[str]:
    """Pins of certificates (side 0) or keys (side 1), each in one of the ways to write it."""
    pins = {}
    for pair in _some(draw, ALL_DIGESTS, 1, 2):
        style = _pick(draw, ("colons", "upper", "lower"))
        pins[pair[side]] = {
            "colons": _colons(pair[side].upper()),
            "upper": pair[side].upper(),
            "lower": _colons(pair[side]),
        }[style]
    return list(pins.values())


def _evidence(draw: Draw, names: Sequence[str], addresses: Sequence[str], *, partner: bool) -> Config:
    """The evidence keys of a connector or partner: at least one for a connector, for a partner perhaps TLS alone."""
    table: Config = {}
    kind = _pick(
        draw, ("names", "addresses", "file", "key", "fingerprint", "mixed", "both", "names", "addresses", "both")
    )
    if partner and _chance(draw, 5):
        kind = "tls"
    if kind in ("names", "mixed", "both"):
        table["certificate_names"] = [_written(draw, name) for name in _some(draw, names, 1, 3)]
    if kind == "file" or (kind in ("mixed", "both") and _chance(draw, 3)):
        files = _some(draw, tuple(CERTIFICATES), 1, 2)
        table["certificate_files"] = [str(CERTIFICATE_FOLDER / file) for file in files]
    if kind == "fingerprint" or (kind == "mixed" and _chance(draw, 2)):
        table["certificate_fingerprints"] = _fingerprints(draw, 0)
    if kind == "key" or (kind == "mixed" and _chance(draw, 2)):
        table["public_key_fingerprints"] = _fingerprints(draw, 1)
    if kind in ("addresses", "both"):
        table["addresses"] = _some(draw, addresses, 1, 4)
    if kind == "tls" or _chance(draw, 4):
        table["require_tls"] = True
    elif _chance(draw, 8):
        table["require_tls"] = False
    if _chance(draw, 8):
        table["enabled"] = False
    elif _chance(draw, 8):
        table["enabled"] = True
    return table


@st.composite
def configurations(draw: Draw, most_organizations: int = 12) -> Config:
    """A valid configuration with up to a dozen organizations, `certificate_files` as absolute paths.

    It holds `policy` and `organizations` only; either may be missing. Add `service` and the like as a test needs.
    """
    size = min(_pick(draw, (2, 1, 3, 0, 2, 4, 3, 5, 8, 12)), most_organizations)
    names = list(draw(st.permutations(ORGANIZATIONS)))[:size]
    config: Config = {}
    policy = _policy(draw)
    if policy:
        config["policy"] = policy
    if not names:
        return config

    holders = _holders(draw, names)
    tables: dict[str, Config] = {name: {} for name in names}
    for name, table in tables.items():
        own = [domain for domain, holder in holders.items() if holder == name]
        if own or _chance(draw, 2):
            table["accepted_domains"] = [text for domain in own for text in _accepted(draw, domain)]
        delegated = _delegated(draw, name, own, holders)
        if delegated:
            table["delegated_domains"] = delegated
    given = _plain_names(text for table in tables.values() for text in table.get("delegated_domains", []))
    for name, table in tables.items():
        outside = _outside(draw, name, holders, given)
        if outside:
            table["outside_domains"] = outside
    elsewhere = _plain_names(text for table in tables.values() for text in table.get("outside_domains", []))
    nobodys = [domain for domain in given if domain not in holders] + elsewhere
    for name, table in tables.items():
        if _chance(draw, 16):
            table["suspended"] = "unpaid"
        if _chance(draw, 2):
            table["pending_domains"] = _pending(draw)
        for flag in ("protect_sender_domains", "connectors_only"):
            if _chance(draw, 3):
                table[flag] = True
        connectors = _connectors(draw, name, names, holders, nobodys)
        for connector in connectors.values():
            _narrow(draw, connector, table.get("accepted_domains", []))
        if connectors:
            table["connectors"] = connectors
        partners = _partners(draw)
        if partners:
            table["partners"] = partners
    config["organizations"] = tables
    return config


def _holders(draw: Draw, names: Sequence[str]) -> dict[str, str]:
    """Pool domain -> organization. What folds into a name of an organization's zone is that organization's."""
    holders: dict[str, str] = {}
    for domain in OWNABLE:
        holder = draw(st.one_of(st.none(), st.sampled_from(names)))
        if holder is not None:
            holders[domain] = holder
    for domain in list(holders):
        holders[domain] = _zone(domain.casefold(), holders) or holders[domain]
    return holders


def _policy(draw: Draw) -> Config:
    policy: Config = {}
    incoming = _pick(draw, (None, "OK", "OK", "DUNNO", "REJECT"))
    if incoming is not None:
        policy["incoming"] = incoming
    if _chance(draw, 3):
        policy["provider_networks"] = ["198.18.0.0/15"]
    if _chance(draw, 3):
        policy["provider_certificate_names"] = ["mail.protection.outlook.com"]
    return policy


def _accepted(draw: Draw, domain: str) -> list[str]:
    """`x`, `*.x`, or both; never `*.` before a single label."""
    forms = [[domain]] if "." not in domain else [[domain], ["*." + domain], [domain, "*." + domain]]
    return [_written(draw, text) for text in _pick(draw, forms)]


def _delegated(draw: Draw, name: str, own: Sequence[str], holders: Mapping[str, str]) -> list[str]:
    """Every domain of others below ours, or a name between the two; often one that nobody has taken yet."""
    delegated: dict[str, str] = {}
    for domain, holder in holders.items():
        for base in own:
            if holder != name and _is_below(domain, base):
                above = domain.split(".", 1)[1]
                through = (
                    above if _zone(above, holders) == name and above not in holders and _chance(draw, 3) else domain
                )
                delegated[through] = _written(draw, through)
    if own and _chance(draw, 3):
        spare = _pick(draw, _free(name, "spare.", holders))
        delegated[spare] = _written(draw, spare)
    return list(delegated.values())


def _free(name: str, prefix: str, holders: Mapping[str, str]) -> list[str]:
    """Names in the organization's zone that nobody has accepted: with the prefix, and those of the pool."""
    own = [domain for domain, holder in holders.items() if holder == name]
    free = [domain for domain in OWNABLE if domain not in holders and _zone(domain, holders) == name]
    return [prefix + domain for domain in own] + free


def _outside(draw: Draw, name: str, holders: Mapping[str, str], given: Sequence[str]) -> list[str]:
    """Names below ours that are hosted elsewhere; none that anybody delegates."""
    free = [domain for domain in _free(name, "news.", holders) if domain not in given]
    if not free or not _chance(draw, 3):
        return []
    return [_written(draw, domain) for domain in _some(draw, free, 1, 2)]


def _narrow(draw: Draw, connector: Config, accepted: Sequence[str]) -> None:
    """What takes away from a connector: `for_domains`, `foreign_senders`, `suspended`."""
    if accepted and _chance(draw, 3):
        connector["for_domains"] = _some(draw, accepted, 1, 2)
    if any(key.startswith(("certificate_", "public_key_")) for key in connector) and _chance(draw, 2):
        connector["foreign_senders"] = _pick(draw, ("refuse", "bounces", "refuse", "allow"))
    if _chance(draw, 10):
        connector["suspended"] = "ticket 4711"


def _pending(draw: Draw) -> list[str]:
    domains = _some(draw, (*OWNABLE, "contoso-new.com", "elsewhere.example"), 1, 2)
    return [_written(draw, "*." + name if "." in name and _chance(draw, 3) else name) for name in domains]


def _connectors(
    draw: Draw, organization: str, names: Sequence[str], holders: Mapping[str, str], nobodys: Sequence[str]
) -> dict[str, Config]:
    """Up to four. No name of another organization's zone; addresses are our own, when disabled perhaps anybody's.

    nobodys: names given away that nobody has, and names hosted elsewhere: no organization's.
    """
    candidates = [
        name
        for domain in (*OWNABLE, *FOREIGN)
        for name in (
            (domain, f"mail.{domain}", f"a.b.{domain}", f"*.{domain}") if "." in domain else (f"mail.{domain}",)
        )
        if _zone(name.removeprefix("*."), holders) in (None, organization)
    ]
    ours = [name for name in candidates if _zone(name.removeprefix("*."), holders) == organization]
    left = [text for domain in nobodys for text in (domain, f"mail.{domain}", f"*.{domain}")]
    left = [text for text in left if _zone(text.removeprefix("*."), holders) == organization or _chance(draw, 4)]
    candidates = list(dict.fromkeys([*SHARED_NAMES, *ours, *candidates, *left]))
    near = list(dict.fromkeys([*ours, *SHARED_NAMES, *left]))
    number = ORGANIZATIONS.index(organization)
    connectors = {}
    for connector in _some(draw, CONNECTORS, 0, 4):
        table = _evidence(draw, _pick(draw, (near, near, candidates)), _addresses_of(number), partner=False)
        if table.get("enabled") is False and "addresses" in table and _chance(draw, 2):
            table["addresses"] = _some(draw, _addresses_of(ORGANIZATIONS.index(_pick(draw, names))), 1, 2)
        connectors[connector] = table
    return connectors


def _partners(draw: Draw) -> dict[str, Config]:
    """Up to three, of every kind; their names and addresses may be anybody's."""
    names = list(dict.fromkeys([*SHARED_NAMES, "mail.bank.example", "*.bank.example", *OWNABLE[:10], "*.contoso.net"]))
    senders = (
        "bank.example",
        "*.bank.example",
        "*",
        "elsewhere.example",
        "*.contoso.com",
        "*.strasse.example",
        *OWNABLE,
    )
    partners = {}
    for partner in _some(draw, PARTNERS, 0, 3):
        domains = [name if name == "*" else _written(draw, name) for name in _some(draw, senders, 1, 2)]
        partners[partner] = {"sender_domains": domains, **_evidence(draw, names, PARTNER_ADDRESSES, partner=True)}
    return partners


# --- spellings ------------------------------------------------------------------------------------------------------


def _mixed_case(draw: Draw, text: str) -> str:
    """Some ASCII letters in upper case."""
    mask = draw(st.integers(0, 255))
    return "".join(c.upper() if c.isascii() and mask >> (i % 8) & 1 else c for i, c in enumerate(text))


def _full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" and c not in ".*" else c for c in text)


def _half_a_form(name: str) -> str:
    """U-labels and A-labels in one name, when it has anything to mix: its first non-ASCII label is encoded."""
    labels = (f"büro.{name}").split(".")
    encoded = [i for i, label in enumerate(labels) if not label.isascii()][-1]
    return ".".join(_a_form(label) if i == encoded else label for i, label in enumerate(labels))


def _padded(name: str, octets: int) -> str:
    """The name with enough one-letter labels in front to be this long as A-labels."""
    room = octets - len(_a_form(name))
    return "l" * (room % 2) + "l." * (room // 2) + name


ODD_SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda name: name.upper(),
    lambda name: name.casefold(),
    lambda name: name.replace("ss", "ß").replace("σ", "ς"),
    lambda name: name.replace("ss", "ẞ").replace("ß", "ẞ"),
    lambda name: name.replace("s", "ſ", 1).replace("k", "\u212a", 1),  # long s, Kelvin sign: folded, they are s and k
    lambda name: name.split(".")[0],
    lambda name: name + "..",
    lambda name: "." + name,
    lambda name: name.replace(".", "..", 1),
    lambda name: name.replace(".", "。", 1),
    lambda name: name + "。",
    lambda name: name + ".\u00ad",
    _full_width,
    lambda name: _full_width(name[0]) + name[1:],
    lambda name: name[0] + "\u00ad" + name[1:],
    lambda name: unicodedata.normalize("NFD", name),
    lambda name: name.replace("o", "о", 1).replace("a", "а", 1),  # Cyrillic
    _half_a_form,
    lambda name: _a_form(name).upper(),
    lambda name: "xn--zz--9." + name,
    lambda name: "xn--." + name,
    lambda name: "xn--80ak6aa92e." + name,
    lambda name: "xn--x." + name,
    lambda name: "☃." + name,
    lambda name: "i❤\ufe0f." + name,
    lambda name: "☃_." + name,
    lambda name: "👩\u200d🔬." + name,
    lambda name: "क्\u200dष." + name,  # a joiner where it may stand
    lambda name: "a\u200db." + name,
    lambda name: "x.a\u202eb." + name,
    lambda name: "a\u200db.x.a b." + name,
    lambda name: "ß" * 40 + "." + name,  # short enough; folded, it is not
    lambda name: "ß" * 40 + ".ẞ." + name,
    lambda name: "-x." + name,
    lambda name: "_x-." + name,
    lambda name: "a--b." + name,
    lambda name: "bad label." + name,
    lambda name: "\u200d." + name,
    lambda name: name + "\udcff",
    lambda name: "\udcc3." + name,
    lambda name: "l" * 63 + "." + name,
    lambda name: "l" * 64 + "." + name,
    lambda name: "ü" * 57 + "." + name,
    lambda name: "long." * (300 // 5) + name,
    lambda name: _padded(name, 253),
    lambda name: _padded(name, 254),
    lambda name: "\u00ad" * (1000 - len(name)) + name,
    lambda name: "\u00ad" * (1001 - len(name)) + name,
    lambda name: "\u00ad" * 3000 + name,
    lambda name: f"[{name}]",
    lambda name: f"{name}:25",
    lambda name: name + "\x7f",
)


NOT_PLAIN: tuple[Callable[[str], str], ...] = (  # the domain stays what it is, Postfix's tables do not find it
    _full_width,
    lambda name: _full_width(name[0]) + name[1:],
    lambda name: name[0] + "\u00ad" + name[1:],
    lambda name: name.replace(".", "。", 1),
    lambda name: unicodedata.normalize("NFD", name),
    lambda name: name.upper(),  # but that is plain, where no sharp s is in it
)


def _otherwise_folded(draw: Draw, name: str) -> str:
    """Another name that Postfix's tables do not tell from this one; most names have none."""
    if name != name.casefold():
        return name.casefold()
    return name.replace("ss", _pick(draw, ("ß", "ẞ"))).replace("σ", "ς")


def _spelt(draw: Draw, name: str, one_odd_in: int = 8) -> str:
    """A domain as a stranger may spell it: mostly harmless, once in so many odd."""
    if _chance(draw, one_odd_in):
        return _pick(draw, ODD_SPELLINGS)(name)
    style = draw(st.integers(0, 11))
    if style in (5, 6):
        name = _otherwise_folded(draw, name)
    if style in (7, 8):
        name = _a_form(name)
    if style in (9, 10):
        name = _mixed_case(draw, name)
    if style in (10, 11):
        name += "."
    return name


# --- requests -------------------------------------------------------------------------------------------------------


def _plain_names(texts: Iterable[str]) -> list[str]:
    """Configured names back in pool form: lower-case U-labels, without `*.` and final dot; `*` is left out."""
    names = [text.removeprefix("*.").removesuffix(".").lower() for text in texts if text != "*"]
    return [".".join(U_LABELS.get(label, label) for label in name.split(".")) for name in names]


def _tables(config: Config, kind: str) -> list[tuple[str, Config]]:
    """(organization, table) of every connector or partner."""
    return [
        (name, table)
        for name, organization in config.get("organizations", {}).items()
        for table in organization.get(kind, {}).values()
    ]


def _near(draw: Draw, name: str) -> str:
    """The name, something below it, or its parent."""
    step = draw(st.integers(0, 9))
    if step <= 5:
        return name
    if step == 9 and "." in name:
        return name.split(".", 1)[1]
    return _pick(draw, BELOW) + name


def _domain(draw: Draw, config: Config, organization: str | None) -> str:
    """A domain of the organization, of any other one, pending, a partner's, given away, elsewhere, or nobody's."""
    tables = config.get("organizations", {})
    wanted = _pick(draw, "own own own accepted accepted pending pending sender pool foreign nobodys".split())
    if wanted in ("own", "pending") and organization is not None:
        key = "accepted_domains" if wanted == "own" else "pending_domains"
        texts = tables[organization].get(key, [])
    elif wanted == "sender":
        partners = tables.get(organization, {}).get("partners", {}).values() if organization else []
        texts = [text for table in partners for text in table["sender_domains"]]
        texts = texts or [t for _, table in _tables(config, "partners") for t in table["sender_domains"]]
    elif wanted == "accepted":
        texts = [text for table in tables.values() for text in table.get("accepted_domains", [])]
    elif wanted == "nobodys":
        keys = ("delegated_domains", "outside_domains")
        texts = [text for table in tables.values() for key in keys for text in table.get(key, [])]
    else:
        texts = []
    names = _plain_names(texts) or (list(OWNABLE) if wanted == "pool" else list(FOREIGN))
    return _near(draw, _pick(draw, names))


def _sender(draw: Draw, domain: str) -> str:
    style = draw(st.integers(0, 23))
    if style in (19, 20, 21):
        return ""
    if style == 22:
        return _pick(
            draw, ("root", "root.", "a%contoso.com", "MAILER-DAEMON", "@", "a@", "a@.", "\udcff", "a@[192.0.2.1]")
        )
    local = _pick(draw, ("kate", "kate", "SRS0=h=t=x.example=j", "käte", "a b", "\udcfe", "", "k@elsewhere.example"))
    return f"{local}@{_spelt(draw, domain)}"


def _recipient(draw: Draw, domain: str) -> str:
    style = draw(st.integers(0, 23))
    if style == 21:
        return _pick(
            draw,
            (
                "bob",
                "",
                "bob%contoso.com",
                "bob@",
                "@",
                "bob@[203.0.113.1]",
                "bob@[IPv6:2001:db8::1]",
                "x@.",
                "boss@tailspin",
            ),
        )
    if style == 22:
        return (
            _pick(draw, ("x%other.example", "other.example!x", "x@other.example", "@other.example:x", ""))
            + "@"
            + domain
        )
    local = _pick(draw, ("bob", "bob", "bob", "böb", "a=b+c", "a b", "\udcfe"))
    if _chance(draw, 16):
        return f"{local}@{_pick(draw, NOT_PLAIN)(domain)}"
    return f"{local}@{_spelt(draw, domain)}"


UNUSABLE = (
    "a\u200db.",
    "\udcff.",
    "a b.",
    "x.\u202e.",
    "a\u200db.y.a b.",
    "ß" * 40 + ".",
)  # labels, but the last folded


def _scene(draw: Draw, config: Config) -> Attributes:
    """Sender and recipient near a rule that few requests come near by chance.

    A sender that a protected organization or a partner's terms know by another reading only, a recipient below a locked
    domain, names given away or hosted elsewhere, foreign and null senders to foreign recipients.
    """
    tables = config.get("organizations", {})
    accepted = {name: _plain_names(table.get("accepted_domains", [])) for name, table in tables.items()}
    everybodys = [domain for domains in accepted.values() for domain in domains]
    asked = [(accepted[name], _plain_names(table["sender_domains"])) for name, table in _tables(config, "partners")]
    asked = [(own, senders) for own, senders in asked if own and senders]
    protected = [d for name, table in tables.items() if table.get("protect_sender_domains") for d in accepted[name]]
    locked = [d for name, table in tables.items() if table.get("connectors_only") for d in accepted[name]]
    keys = ("delegated_domains", "outside_domains")
    nobodys = _plain_names(text for table in tables.values() for key in keys for text in table.get(key, []))
    kinds = {"partner": asked, "protected": protected, "locked": locked, "nobodys": nobodys, "relay": ["elsewhere"]}
    kind = _pick(draw, [kind for kind, found in kinds.items() if found])
    if kind == "partner":
        own, senders = _pick(draw, asked)
        return {"sender": f"kate@{_misread(draw, senders)}", "recipient": f"bob@{_pick(draw, own)}"}
    if kind == "protected":
        return {"sender": f"kate@{_misread(draw, protected)}", "recipient": f"bob@{_pick(draw, everybodys)}"}
    if kind == "locked":
        return {"recipient": f"bob@{_pick(draw, BELOW)}{_pick(draw, locked)}"}
    if kind == "nobodys":
        name = _pick(draw, ("", "", "mail.")) + _pick(draw, nobodys)
        return {_pick(draw, ("sender", "recipient")): f"kate@{name}"}
    return {"sender": _pick(draw, ("", "kate@elsewhere.example")), "recipient": "bob@elsewhere.example"}


def _misread(draw: Draw, names: Sequence[str]) -> str:
    """One of the names by its fold, or below an unusable label."""
    folding = [name for name in names if _otherwise_folded(draw, name) != name]
    if folding and _chance(draw, 2):
        return _otherwise_folded(draw, _pick(draw, folding))
    return _pick(draw, UNUSABLE) + _pick(draw, names)


def _inside(draw: Draw, entry: str) -> str:
    """An address in or just outside a configured address, network or range, perhaps in a mapped or long spelling."""
    parts = entry.split("-")
    if len(parts) == 2:
        first, last = (ipaddress.ip_address(part) for part in parts)
    else:
        network = ipaddress.ip_network(entry, strict=False)
        first, last = network[0], network[-1]
    kind = type(first)
    step = draw(st.integers(-1, 8))
    number = int(last) + step if step in (1, 2) and _chance(draw, 4) else int(first) + min(step, int(last) - int(first))
    found = kind(max(number, 0))
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    plain = mapped or found
    style = draw(st.integers(0, 7))
    if style == 6:
        return f"::ffff:{plain}" if plain.version == 4 else plain.exploded.upper()
    if style == 7 and plain.version == 4:
        return f"::FFFF:{int(plain) >> 16:x}:{int(plain) & 0xFFFF:x}"
    return str(plain)


def _subject(draw: Draw, config: Config, table: Config | None) -> str:
    """A certificate's CN: one that the table's `certificate_names` match, or any other; spelt as certificates are."""
    texts = (table or {}).get("certificate_names", [])
    if not texts or _chance(draw, 8):
        texts = [
            t
            for kind in ("connectors", "partners")
            for _, c in _tables(config, kind)
            for t in c.get("certificate_names", [])
        ]
    entry = _pick(draw, texts) if texts and not _chance(draw, 8) else _pick(draw, (*SHARED_NAMES, *OWNABLE))
    name = _plain_names([entry])[0]
    if entry.startswith("*."):
        tables = config.get("organizations", {}).values()
        given = _plain_names(text for table in tables for text in table.get("delegated_domains", []))
        below = [domain for domain in (*OWNABLE, *given) if _is_below(domain, name)]
        if below and _chance(draw, 3):  # perhaps another organization's: a foreign name
            name = _pick(draw, [text for domain in below for text in (domain, f"mail.{domain}", f"*.{domain}")])
        else:
            name = _pick(draw, (name, f"mail.{name}", f"a.b.{name}", f"*.{name}", f"*.y.{name}"))
    elif _chance(draw, 6):
        name = _pick(
            draw, (f"*.{name}", f"mail.{name}", f"*.{name.split('.', 1)[-1]}", f"evil{name}", f"{name}.evil.example")
        )
    if name.startswith("*."):
        return "*." + _spelt(draw, name[2:], 12)
    return _spelt(draw, name, 12)


def xtext(text: str) -> str:
    """ccert_subject as Postfix writes it: `+XX` for octets outside 33..126 and for `+`."""
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(chr(o) if 33 <= o <= 126 and o != 0x2B else f"+{o:02X}" for o in octets)


def _as_xtext(draw: Draw, text: str) -> str:
    style = draw(st.integers(0, 23))
    if style == 19:
        return "".join(f"+{octet:02x}" for octet in text.encode("utf-8", "surrogateescape"))
    if style == 20:
        return xtext(text).replace(".", "+2e", 1)
    if style == 21:
        return xtext(text) + _pick(draw, ("+", "+2", "+2G", "+20", "+00", "+C3", "+0A", "+-1"))
    if style == 22:
        return text  # raw, not encoded
    if style == 23:
        return _pick(
            draw, ("Wietse+20Venema", "+20" + xtext(text), " " + text, "*", "*.", "*.*." + text, "a.*." + text, "+")
        )
    return xtext(text)


def _certificate(draw: Draw, config: Config, table: Config | None) -> Attributes:
    """The ccert_* attributes of a client that shows a certificate."""
    table = table or {}
    pair: tuple[str, str] = _pick(draw, LOOSE_DIGESTS)
    if "certificate_files" in table and not _chance(draw, 8):
        pair = FILE_DIGESTS[Path(_pick(draw, table["certificate_files"])).name][_pick(draw, DIGESTS)]
    elif _chance(draw, 8):
        pair = _pick(draw, ALL_DIGESTS)
    certificate, key = pair
    if "certificate_fingerprints" in table and not _chance(draw, 6):
        certificate = _pick(draw, table["certificate_fingerprints"]).replace(":", "").lower()
    if "public_key_fingerprints" in table and not _chance(draw, 6):
        key = _pick(draw, table["public_key_fingerprints"]).replace(":", "").lower()
    if _chance(draw, 12):
        certificate, key = _pick(draw, ((certificate, ""), ("", key), (key, certificate), ("", "")))
    upper = not _chance(draw, 6)
    attributes = {
        "ccert_fingerprint": _colons(certificate.upper() if upper else certificate),
        "ccert_pubkey_fingerprint": _colons(key.upper() if upper else key),
    }
    trust = draw(st.integers(0, 7))
    if trust <= 5 and ("certificate_names" in table or trust <= 3):
        attributes["ccert_subject"] = _as_xtext(draw, _subject(draw, config, table))
        attributes["ccert_issuer"] = "Example+20Issuing+20CA"
    elif trust == 6:
        attributes["ccert_issuer"] = "Example+20Issuing+20CA"  # trusted, its name in subjectAltName only
    return attributes


@st.composite
def requests(draw: Draw, config: Config) -> Attributes:
    """One request. Most imitate the client of a connector or partner, with mail of its organization or of another."""
    connectors, partners = _tables(config, "connectors"), _tables(config, "partners")
    kind = draw(st.integers(0, 9))
    organization: str | None = None
    table: Config | None = None
    if connectors and kind <= 5:
        organization, table = _pick(draw, connectors)
    elif partners and kind in (6, 7):
        organization, table = _pick(draw, partners)
    elif config.get("organizations") and kind <= 8:
        organization = _pick(draw, list(config["organizations"]))

    values: Attributes = {
        "client_address": _pick(draw, ("198.51.100.9", "198.51.100.9", "unknown", "2001:db8:ffff::9", "", "198.18.0.9"))
    }
    everyones = [a for tables in (connectors, partners) for _, t in tables for a in t.get("addresses", [])]
    if table is not None and "addresses" in table and not _chance(draw, 8):
        values["client_address"] = _inside(draw, _pick(draw, table["addresses"]))
    elif everyones and _chance(draw, 6):
        values["client_address"] = _inside(draw, _pick(draw, everyones))
    elif _chance(draw, 24):
        values["client_address"] = _pick(
            draw, ("203.0.113.05", "fe80::1%eth0", "203.0.113.5/32", "::ffff:203.0.113.256", "٢", "\udcff")
        )

    asks_certificate = table is not None and any(key.startswith(("certificate", "public_key")) for key in table)
    shows = not _chance(draw, 6) if asks_certificate else _chance(draw, 4)
    if shows:
        values |= _certificate(draw, config, table)
    if (shows and not _chance(draw, 8)) or _chance(draw, 3):
        values |= {
            "encryption_protocol": "TLSv1.3",
            "encryption_cipher": "TLS_AES_256_GCM_SHA384",
            "encryption_keysize": "256",
        }

    if table is not None and "sender_domains" in table:
        sender = _near(draw, _pick(draw, _plain_names(table["sender_domains"]) or list(FOREIGN)))
        own = _plain_names(config["organizations"][organization].get("accepted_domains", []))
        recipient = _pick(draw, own) if own and not _chance(draw, 6) else _domain(draw, config, organization)
    else:
        sender, recipient = _domain(draw, config, organization), _domain(draw, config, organization)
    values["sender"], values["recipient"] = _sender(draw, sender), _recipient(draw, recipient)
    if _chance(draw, 3):
        values |= _scene(draw, config)
    values["protocol_state"] = _pick(draw, OTHER_STATES) if _chance(draw, 16) else "RCPT"

    defaults = {
        "request": "smtpd_access_policy",
        "protocol_name": "ESMTP",
        "client_name": "unknown",
        "client_port": "40001",
        "reverse_client_name": "unknown",
        "server_address": "192.0.2.25",
        "server_port": "25",
        "helo_name": "mail.contoso.com",
        "recipient_count": "0",
        "instance": "1f3.65.0",
        "size": "0",
        "encryption_keysize": "0",
    }
    attributes = {name: values.get(name, defaults.get(name, "")) for name in ATTRIBUTES}
    if _chance(draw, 24):
        del attributes[_pick(draw, ATTRIBUTES[1:])]
    return attributes


def conversations(most_requests: int = 12) -> st.SearchStrategy[tuple[Config, list[Attributes]]]:
    """A configuration and some requests that hit it: one configuration costs more than many requests."""
    return configurations().flatmap(
        lambda config: st.tuples(st.just(config), st.lists(requests(config), min_size=1, max_size=most_requests))
    )


# For tests of `conversations`, whose examples take long to make.
patient = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def wire(attributes: Mapping[str, str]) -> bytes:
    """The request as it goes over the wire: `name=value` lines and an empty line (SPEC 5)."""
    lines = "".join(f"{name}={value}\n" for name, value in attributes.items())
    return lines.encode("utf-8", "surrogateescape") + b"\n"


# --- TOML -----------------------------------------------------------------------------------------------------------


def to_toml(config: Mapping[str, Any]) -> str:
    """The configuration as TOML text; tomllib reads the same dict from it."""
    lines: list[str] = []
    _write_table(lines, (), config)
    return "\n".join(lines) + "\n"


def _write_table(lines: list[str], path: tuple[str, ...], table: Mapping[str, Any]) -> None:
    """Values before subtables, each subtable under a header of its own: TOML's order."""
    if path:
        lines.append("[" + ".".join(_toml_string(part) for part in path) + "]")
    for key, value in table.items():
        if not isinstance(value, Mapping):
            lines.append(f"{_toml_string(key)} = {_toml_value(value)}")
    for key, value in table.items():
        if isinstance(value, Mapping):
            _write_table(lines, (*path, key), value)


def _toml_value(value: bool | int | str | list[Any]) -> str:
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return str(value).lower()


def _toml_string(text: str) -> str:
    """A basic string; JSON's escapes are TOML's (but DEL, which JSON leaves as it is)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
