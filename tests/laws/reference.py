"""A slow second reading of the rules of SPEC 3.1-3.4 and of what 3.7 adds to them, to compare the production code with.

What it is for: tests decide the same request here and in `policyd` and compare. It is written for obviousness beside
the table of the specification: no indexes, no caches, a loop over everything for each question, and each function
quotes the sentence that it carries out.
What it may not do: import policyd, raise on any request, look at a clock or a network. It reads the certificate files
that the configuration names, once. The configuration is taken to be valid (SPEC 4); SPEC 3.5, the service mode and the
keys `relay_limits`, `tlsa` and `until` are no concern of it.
Where the specification leaves something open, the reading that grants less is taken, and "Open:" says so.

`Reference(config, base).decide(attributes)` gives a `Verdict`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import idna
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from idna.core import (
    check_bidi,
    check_hyphen_ok,
    check_initial_combiner,
    check_nfc,
    valid_contextj,
    valid_contexto,
)
from idna.idnadata import codepoint_classes
from idna.intranges import intranges_contain

LONGEST_DOMAIN_TEXT = 1000  # characters, one trailing dot not counted; anything longer is no domain, unmapped
DOTS = "[.\u3002\uff0e\uff61]"  # what UTS 46 has as a dot
DIGESTS = ("md5", "sha1", "sha256", "sha384", "sha512")  # "whatever digest Postfix uses" (SPEC 3.2)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Verdict:
    """action: the bare OK, REJECT, DEFER or DUNNO; reason: one of SPEC 3.4, empty outside RCPT; others may be empty."""

    action: str
    reason: str
    organization: str
    connector: str


# --- SPEC 3.1: domains and names ------------------------------------------------------------------------------------


def canonical(text: str) -> str | None:
    """The lower-case A-label form of a domain name or host name, or None for "no domain" (SPEC 3.1, dom).

    "One trailing dot is dropped."
    """
    return canonical_labels(text.removesuffix("."))


def canonical_labels(text: str) -> str | None:
    """ "An address literal, an empty label, a label over 63 or a name over 253 octets (as A-labels), or bytes that are
    not UTF-8: no domain."
    """
    if len(text) > LONGEST_DOMAIN_TEXT:
        return None
    if any("\ud800" <= character <= "\udfff" for character in text):
        return None  # bytes that are not UTF-8 arrive as surrogates
    if not text.isascii():
        # "A name with other characters is first mapped by UTS 46 (non-transitional)"; what that forbids "is no domain"
        try:
            text = idna.uts46_remap(text, std3_rules=False)
        except ValueError:
            return None
    labels = []
    for label in text.split("."):
        a_label = canonical_label(label)
        if a_label is None:
            return None
        labels.append(a_label)
    name = ".".join(labels)
    return name if len(name) <= 253 else None


def canonical_label(label: str) -> str | None:
    """One label, mapped. "ASCII labels are letters, digits, hyphen and underscore in any place, lower-cased and
    otherwise as they stand: one that begins with `xn--` is a name like any other, it is not decoded."
    """
    if not label:
        return None
    if label.isascii():
        label = label.lower()
        if not all(character in "abcdefghijklmnopqrstuvwxyz0123456789-_" for character in label):
            return None
    elif is_encodable(label):
        label = "xn--" + label.encode("punycode").decode("ascii")
    else:
        return None
    return label if len(label) <= 63 else None


def is_encodable(label: str) -> bool:
    """Of a label with characters outside ASCII: "encoded by IDNA 2008, and where that refuses only because of a code
    point outside ASCII that UTS 46 has as valid (an emoji), by Punycode all the same (its other rules hold: NFC,
    hyphens, first mark, context, direction)".
    """
    try:
        check_nfc(label)
        check_hyphen_ok(label)
        check_initial_combiner(label)
        check_bidi(label)
        return all(is_usable(label, position) for position in range(len(label)))
    except ValueError:  # the checks' own, and a joiner beside a character that has no name
        return False


def is_usable(label: str, position: int) -> bool:
    """Is this code point one of IDNA 2008's, and in its place, or else outside ASCII and valid by UTS 46?"""
    code_point = ord(label[position])
    if intranges_contain(code_point, codepoint_classes["PVALID"]):
        return True
    if intranges_contain(code_point, codepoint_classes["CONTEXTJ"]):
        return valid_contextj(label, position)
    if intranges_contain(code_point, codepoint_classes["CONTEXTO"]):
        return valid_contexto(label, position)
    return code_point > 127 and idna.uts46_remap(label[position], std3_rules=False) == label[position]


def u_form(name: str) -> str:
    """The U-label form of a canonical name. A label that is nothing's Punycode has none other than itself."""
    return ".".join(u_label(label) for label in name.split("."))


def u_label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        decoded = label.removeprefix("xn--").encode("ascii").decode("punycode")
    except UnicodeError:
        return label
    return decoded if canonical_label(decoded) == label else label


def domain_text(address: str) -> str | None:
    """ "The text after the last `@`; without `@`, no domain" (SPEC 3.1)."""
    return address.rsplit("@", 1)[1] if "@" in address else None


def dom(address: str) -> str | None:
    """SPEC 3.1, dom(address)."""
    text = domain_text(address)
    return None if text is None else canonical(text)


def fold(address: str) -> str | None:
    """ "fold(), dom() of it casefolded" (SPEC 3.1): what Postfix looks up."""
    return dom(address.casefold())


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of an address (SPEC 3.1). name: None where there is neither a domain nor a usable suffix."""

    name: str | None
    is_suffix: bool


def readings(address: str) -> tuple[Reading, Reading]:
    """ "The readings are dom() of the address as it stands and fold(), dom() of it casefolded; where one has no domain,
    its usable suffix stands for it, marked as suffix"."""
    return reading(address), reading(address.casefold())


def reading(address: str) -> Reading:
    name = dom(address)
    return Reading(usable_suffix(address), True) if name is None else Reading(name, False)


def usable_suffix(address: str) -> str | None:
    """ "The longest run of labels from the right without the label that is none" (SPEC 3.1); None where it is empty.

    Of a name over 253 octets, in which no label is none, it is what is left of 253. Where the last label is none (a
    literal) there is no run; empty ones at the end are passed over, since `x..` may well be read as x.
    """
    labels = re.split(DOTS, domain_text(address) or "")
    while labels and not labels[-1]:
        labels.pop()
    suffix = ""
    for label in reversed(labels):
        a_label = canonical_labels(label)
        if a_label is None or len(a_label) + len(suffix) > 253:
            break
        suffix = f".{a_label}{suffix}"
    return suffix.removeprefix(".") or None


def ascii_lower(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def is_plain(address: str) -> bool:
    """ "Casefolded (Unicode) and without one final dot it equals its casefolded A-label or U-label form" (SPEC 3.3, R).

    The other half of plain, "owner(fold) is owner(dom)", is `Reference.is_plain`.
    """
    text, name = domain_text(address), dom(address)
    if text is None or name is None:
        return False
    return text.casefold().removesuffix(".") in (name.casefold(), u_form(name).casefold())


def upwards(name: str) -> Iterator[str]:
    """The name itself, then each of its ancestors: "go up label by label"."""
    labels = name.split(".")
    for i in range(len(labels)):
        yield ".".join(labels[i:])


def is_below(name: str, base: str) -> bool:
    return name.endswith("." + base)


@dataclass(frozen=True, slots=True)
class Pattern:
    """`x` (wildcard False) or `*.x`: an accepted, pending or sender domain, or a certificate name."""

    base: str
    wildcard: bool

    @classmethod
    def parse(cls, text: str) -> Pattern:
        base = canonical(text.removeprefix("*."))
        if base is None:
            raise ValueError(f"the reference takes valid configurations only: {text!r}")
        return cls(base, text.startswith("*."))

    def covers(self, name: str) -> bool:
        """ "`*.x` covers `x` and every name below it, at any depth" (SPEC 2)."""
        return name == self.base or (self.wildcard and is_below(name, self.base))


@dataclass(frozen=True, slots=True)
class CertificateName:
    """cn of SPEC 3.1: `name` without `*.`; wildcard says whether the certificate had one."""

    name: str
    wildcard: bool


def xtext_decode(text: str) -> bytes | None:
    """`+XX` for a byte, every other byte 33..126 for itself; None for anything else: "malformed xtext" (SPEC 3.1)."""
    out = bytearray()
    i = 0
    while i < len(text):
        if not 33 <= ord(text[i]) <= 126:
            return None
        if text[i] != "+":
            out.append(ord(text[i]))
            i += 1
            continue
        digits = text[i + 1 : i + 3]
        if len(digits) != 2 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return None
        out.append(int(digits, 16))
        i += 3
    return bytes(out)


def host_name(text: str) -> CertificateName | None:
    """ "Anything that is not a host name (optionally with one leading `*.`): no name" (SPEC 3.1)."""
    name = canonical(text.removeprefix("*."))
    return None if name is None else CertificateName(name, text.startswith("*."))


def certificate_name(ccert_subject: str) -> CertificateName | None:
    """cn: "`ccert_subject`, xtext-decoded. Malformed xtext, invalid UTF-8, blanks, ...: no name" (SPEC 3.1)."""
    octets = xtext_decode(ccert_subject)
    if octets is None:
        return None
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return host_name(text)


def entry_matches(entry: Pattern, cn: CertificateName) -> bool:
    """ "Entry `x` matches `x` only; entry `*.x` matches `x`, every name below it, and the wildcard certificates `*.x`,
    `*.y.x`. A wildcard certificate never matches an exact entry" (SPEC 3.1)."""
    if cn.wildcard and not entry.wildcard:
        return False
    return entry.covers(cn.name)


# --- what the configuration says ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A `certificate_files` entry: all digests of the certificate and of its public key, and its names without `*.`."""

    certificate_digests: frozenset[str]
    key_digests: frozenset[str]
    names: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> StoredCertificate:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]  # "the first counts" (SPEC 4)
        der = certificate.public_bytes(Encoding.DER)
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        texts = [str(a.value) for a in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)][:1]
        try:
            san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            texts += san.get_values_for_type(x509.DNSName)
        except x509.ExtensionNotFound:
            pass
        names = [host_name(text) for text in texts]
        return cls(
            frozenset(hashlib.new(d, der, usedforsecurity=False).hexdigest() for d in DIGESTS),
            frozenset(hashlib.new(d, key, usedforsecurity=False).hexdigest() for d in DIGESTS),
            tuple(n.name for n in names if n is not None),
        )


@dataclass(frozen=True, slots=True)
class Block:
    """What one entry of `addresses` holds: a network, or all the networks that a range falls into."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

    @classmethod
    def parse(cls, text: str) -> Block:
        if "-" in text:
            first, last = (address(part.strip()) for part in text.split("-"))
            if first is None or last is None:
                raise ValueError(f"the reference takes valid configurations only: {text!r}")
            return cls(tuple(ipaddress.summarize_address_range(first, last)))
        network = ipaddress.ip_network(text, strict=False)
        mapped = network.network_address.ipv4_mapped if network.version == 6 else None
        if mapped is not None and network.prefixlen >= 96:
            # "IPv4-mapped IPv6 is IPv4" (SPEC 3.2, 4)
            network = ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)
        return cls((network,))

    def prefix(self, client: Address) -> int | None:
        """The prefix length of the network that holds the client, None when none does."""
        for network in self.networks:
            if network.version == client.version and client in network:
                return network.prefixlen
        return None


def address(text: str) -> Address | None:
    """A client address, or None for `unknown` and other text. "IPv4-mapped IPv6 is IPv4" (SPEC 3.2)."""
    if "%" in text:
        return None  # a scope is no part of an address that Postfix sends
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


def bare_hex(fingerprint: str) -> str:
    """Fingerprints compare as hex without colons, in any letter case."""
    return ascii_lower(fingerprint.replace(":", ""))


@dataclass(frozen=True, slots=True)
class Evidence:
    """A connector, or a partner (then with `sender_domains`): what it asks of a client. `organization` owns it.

    for_domains: None where the key is absent.
    """

    organization: str
    name: str
    enabled: bool
    require_tls: bool
    certificate_names: tuple[Pattern, ...]
    certificate_files: tuple[StoredCertificate, ...]
    certificate_fingerprints: tuple[str, ...]
    public_key_fingerprints: tuple[str, ...]
    addresses: tuple[Block, ...]
    any_sender: bool
    sender_domains: tuple[Pattern, ...]
    for_domains: tuple[Pattern, ...] | None
    foreign_senders: str
    suspended: bool

    @property
    def asks_certificate(self) -> bool:
        return bool(
            self.certificate_names
            or self.certificate_files
            or self.certificate_fingerprints
            or self.public_key_fingerprints
        )


def read_evidence(organization: str, name: str, table: Mapping[str, Any], base: Path) -> Evidence:
    senders = table.get("sender_domains", [])
    for_domains = table.get("for_domains")
    return Evidence(
        organization=organization,
        name=name,
        enabled=table.get("enabled", True),
        require_tls=table.get("require_tls", False),
        certificate_names=tuple(Pattern.parse(text) for text in table.get("certificate_names", [])),
        certificate_files=tuple(StoredCertificate.load(base / file) for file in table.get("certificate_files", [])),
        certificate_fingerprints=tuple(bare_hex(text) for text in table.get("certificate_fingerprints", [])),
        public_key_fingerprints=tuple(bare_hex(text) for text in table.get("public_key_fingerprints", [])),
        addresses=tuple(Block.parse(text) for text in table.get("addresses", [])),
        any_sender="*" in senders,
        sender_domains=tuple(Pattern.parse(text) for text in senders if text != "*"),
        for_domains=None if for_domains is None else tuple(Pattern.parse(text) for text in for_domains),
        foreign_senders=table.get("foreign_senders", "allow"),
        suspended="suspended" in table,
    )


@dataclass(frozen=True, slots=True)
class Client:
    """The attributes of a request that say who the client is, each read once."""

    address: Address | None
    cn: CertificateName | None
    certificate_fingerprint: str
    key_fingerprint: str
    tls: bool
    shows_fingerprint: bool
    shows_subject_or_issuer: bool


def read_client(attributes: Mapping[str, str]) -> Client:
    def value(name: str) -> str:
        return attributes.get(name, "")

    return Client(
        address=address(value("client_address")),
        cn=certificate_name(value("ccert_subject")),
        certificate_fingerprint=bare_hex(value("ccert_fingerprint")),
        key_fingerprint=bare_hex(value("ccert_pubkey_fingerprint")),
        tls=value("encryption_protocol") != "",
        shows_fingerprint=value("ccert_fingerprint") != "" or value("ccert_pubkey_fingerprint") != "",
        shows_subject_or_issuer=value("ccert_subject") != "" or value("ccert_issuer") != "",
    )


# --- SPEC 3.2 in pieces that connectors and partners share ----------------------------------------------------------


def matching_names(evidence: Evidence, client: Client) -> list[Pattern]:
    """The `certificate_names` entries that match; "foreign" is for the caller to judge."""
    if client.cn is None:
        return []
    return [entry for entry in evidence.certificate_names if entry_matches(entry, client.cn)]


def matching_files(evidence: Evidence, client: Client) -> list[StoredCertificate]:
    """ "The PEM's certificate or public key fingerprint equals what Postfix sent, whatever digest" (SPEC 3.2)."""
    return [
        stored
        for stored in evidence.certificate_files
        if client.certificate_fingerprint in stored.certificate_digests or client.key_fingerprint in stored.key_digests
    ]


def matches_pin(evidence: Evidence, client: Client) -> bool:
    """ "`certificate_files`; `certificate_fingerprints`; `public_key_fingerprints`": one kind, called pins."""
    return bool(
        matching_files(evidence, client)
        or client.certificate_fingerprint in evidence.certificate_fingerprints
        or client.key_fingerprint in evidence.public_key_fingerprints
    )


def matching_prefixes(evidence: Evidence, client: Client) -> list[int]:
    """ "`addresses`: `client_address` lies in one of them": the prefix length of each that holds it."""
    if client.address is None:
        return []
    prefixes = [block.prefix(client.address) for block in evidence.addresses]
    return [prefix for prefix in prefixes if prefix is not None]


# --- the reference itself -------------------------------------------------------------------------------------------


class Reference:
    """config: what tomllib makes of a valid policyd.toml. base: where relative `certificate_files` start from."""

    def __init__(self, config: Mapping[str, Any], base: Path) -> None:
        self.incoming: str = config.get("policy", {}).get("incoming", "OK")
        self.accepted: list[tuple[str, Pattern]] = []
        self.pending: list[tuple[str, Pattern]] = []
        self.delegated: list[tuple[str, str]] = []
        self.outside: list[tuple[str, str]] = []
        self.connectors: list[Evidence] = []
        self.partners: list[Evidence] = []
        self.protected: list[str] = []
        self.locked: list[str] = []
        self.suspended: list[str] = []
        for name, organization in config.get("organizations", {}).items():
            self.accepted += [(name, Pattern.parse(text)) for text in organization.get("accepted_domains", [])]
            self.pending += [(name, Pattern.parse(text)) for text in organization.get("pending_domains", [])]
            self.delegated += [(name, Pattern.parse(text).base) for text in organization.get("delegated_domains", [])]
            self.outside += [(name, Pattern.parse(text).base) for text in organization.get("outside_domains", [])]
            for key, table in organization.get("connectors", {}).items():
                self.connectors.append(read_evidence(name, key, table, base))
            for key, table in organization.get("partners", {}).items():
                self.partners.append(read_evidence(name, key, table, base))
            if organization.get("protect_sender_domains", False):
                self.protected.append(name)
            if organization.get("connectors_only", False):
                self.locked.append(name)
            if "suspended" in organization:
                self.suspended.append(name)

    # SPEC 3.1

    def nearest(self, name: str) -> tuple[str, str] | None:
        """ "The nearest accepted domain that equals `d` or is an ancestor of it, with or without its `*.`": its
        organization and itself without `*.`."""
        for ancestor in upwards(name):
            for organization, accepted in self.accepted:
                if accepted.base == ancestor:
                    return organization, ancestor
        return None

    def lies_there(self, name: str, listed: list[tuple[str, str]]) -> bool:
        """Is one of the domains that the organization of the nearest accepted domain lists "strictly below that
        accepted domain and at or above d"?"""
        nearest = self.nearest(name)
        return nearest is not None and any(
            organization == nearest[0] and is_below(domain, nearest[1]) and domain in upwards(name)
            for organization, domain in listed
        )

    def given_away(self, name: str) -> bool:
        """ "One of that organization's `delegated_domains` lies" there."""
        return self.lies_there(name, self.delegated)

    def zone(self, name: str | None) -> str | None:
        """ "The organization of the nearest accepted domain"; "where instead one of its `outside_domains` lies there,
        zone(d) is nobody".

        Open: where a delegated and an outside domain both lie there. "Instead" is taken as "and no delegated one": the
        name stays locked.
        """
        nearest = None if name is None else self.nearest(name)
        if name is None or nearest is None:
            return None
        if self.lies_there(name, self.outside) and not self.given_away(name):
            return None
        return nearest[0]

    def ownership(self, name: str | None) -> list[tuple[str, Pattern]]:
        """ "Go up from `d` label by label; at the first accepted domain of an organization other than zone(d) stop:
        nobody; at the first accepted domain of zone(d) that covers `d`: zone(d)": that organization with that accepted
        domain, "the nearest covering accepted domain, which gives the ownership". Of a name given away "owner(d) is
        nobody".

        Open: where what the organization cuts out lies between an accepted domain below it and one above it that covers
        `d`. The safer reading: a wildcard does not reach across.

        Open: where `x` and `*.x` are both accepted, both cover x and are equally near. Both are given, and either
        counts for `for_domains`: `*.x` there says of itself that it covers x.
        """
        if name is None or self.given_away(name):
            return []
        zone = self.zone(name)
        cut_out = False
        for ancestor in upwards(name):
            there = [(organization, accepted) for organization, accepted in self.accepted if accepted.base == ancestor]
            if any(organization != zone for organization, _ in there):
                return []
            covering = [(organization, accepted) for organization, accepted in there if accepted.covers(name)]
            if covering:
                return [] if cut_out else covering
            cut_out = cut_out or (zone, ancestor) in self.delegated + self.outside
        return []

    def owner(self, name: str | None) -> str | None:
        """SPEC 3.1, owner(d)."""
        ownership = self.ownership(name)
        return ownership[0][0] if ownership else None

    def is_ambiguous(self, address: str) -> bool:
        """ "An address is ambiguous when the zones of its readings differ"."""
        as_it_stands, folded = readings(address)
        return self.zone(as_it_stands.name) != self.zone(folded.name)

    def is_plain(self, address: str) -> bool:
        """ "Plain: ... it equals its casefolded A-label or U-label form, and owner(fold) is owner(dom)" (SPEC 3.3).

        Where the fold is no domain, "its usable suffix stands for it": the grant is dom's, and the suffix only takes it
        back.
        """
        _, folded = readings(address)
        return is_plain(address) and self.owner(folded.name) == self.owner(dom(address))

    def is_foreign(self, connector: Evidence, client: Client) -> bool:
        """ "zone(cn without `*.`) is an organization other than the connector's"; of a name given away: "the name is
        foreign to every connector" (SPEC 3.1)."""
        if client.cn is None:
            return False
        return self.zone(client.cn.name) not in (None, connector.organization) or self.given_away(client.cn.name)

    # SPEC 3.2

    def own_names(self, connector: Evidence, client: Client) -> list[Pattern]:
        """The matching `certificate_names`; none for a foreign name. "Pins and addresses still do"."""
        return [] if self.is_foreign(connector, client) else matching_names(connector, client)

    def identifies(self, connector: Evidence, client: Client, *, whatever_tls: bool = False) -> bool:
        """Does the connector match this client? "Both given: both must match"; "`enabled = false`: never matches"."""
        if not connector.enabled:
            return False
        if connector.require_tls and not client.tls and not whatever_tls:
            return False
        if not connector.asks_certificate and not connector.addresses:
            return False
        if connector.asks_certificate and not self.own_names(connector, client) and not matches_pin(connector, client):
            return False
        return not connector.addresses or bool(matching_prefixes(connector, client))

    # SPEC 3.4, 3.7: suspended

    def identifying(self, client: Client) -> list[Evidence]:
        """The connectors that identify the client, in row 0 as after it, but for those that are "left out as if [they]
        did not match"."""
        found = [connector for connector in self.connectors if self.identifies(connector, client)]
        return [connector for connector in found if not self.is_left_out(connector, client)]

    def is_suspended(self, connector: Evidence) -> bool:
        """ "A suspended connector ... or a connector of a suspended organization"."""
        return connector.suspended or connector.organization in self.suspended

    def is_left_out(self, connector: Evidence, client: Client) -> bool:
        """ "A match by name alone (no pin, no addresses) ... suspends only T: where another organization's connector
        that is not suspended recognises the same certificate by other means (a name counts against a name), T's is left
        out as if it did not match".

        Open: what "recognises the same certificate" asks of the other connector. All that 3.2 asks, by certificate
        evidence: one that asks for an address, too, must see it, and one for which the name is foreign does not.
        """
        by_name_alone = connector.asks_certificate and not matches_pin(connector, client) and not connector.addresses
        return (
            self.is_suspended(connector)
            and by_name_alone
            and any(
                other.organization != connector.organization
                and not self.is_suspended(other)
                and other.asks_certificate
                and self.identifies(other, client)
                for other in self.connectors
            )
        )

    def deferral(self, client: Client) -> Verdict | None:
        """ "A client that a suspended connector identifies ... gets DEFER, reason `suspended`, whoever else identifies
        it; the decision names the first by organization and name"."""
        suspended = [connector for connector in self.identifying(client) if self.is_suspended(connector)]
        if not suspended:
            return None
        first = min(suspended, key=lambda connector: (connector.organization, connector.name))
        return Verdict("DEFER", "suspended", first.organization, first.name)

    # SPEC 3.3

    def is_given(self, connector: Evidence, name: str | None) -> bool:
        """owner(name) is T; with `for_domains` "only where the nearest covering accepted domain, which gives the
        ownership, is one of them (compared as wildcard and A-labels)"."""
        return any(
            organization == connector.organization
            and (connector.for_domains is None or accepted in connector.for_domains)
            for organization, accepted in self.ownership(name)
        )

    def condition_s(self, connector: Evidence, sender: str) -> bool:
        """ "owner(dom(sender)) is T. A null sender, or one without a domain, is never S"."""
        return self.is_given(connector, dom(sender))

    def condition_r(self, connector: Evidence, recipient: str) -> bool:
        """ "owner(dom(recipient)) is T, and the domain is plain"."""
        return self.is_given(connector, dom(recipient)) and self.is_plain(recipient)

    def belongs(self, connector: Evidence, name: str) -> bool:
        """ "owner(N) is T; or N is exactly one host label below a domain that owner() gives to T and zone(N) is T"; of
        a name given away "belongs(d) fails". "For D any way of belonging counts": with `for_domains` it is enough that
        the accepted domain which gives N, or the one which gives the domain above N, is one of them.
        """
        if self.given_away(name):
            return False
        if self.is_given(connector, name):
            return True
        if "." not in name or self.zone(name) != connector.organization:
            return False
        return self.is_given(connector, name.split(".", 1)[1])

    def condition_d(self, connector: Evidence, client: Client) -> bool:
        """The certificate's domain is T's: "the matching `certificate_names` entry without `*.`; the cn without `*.`,
        however the connector was matched; the names of the `certificate_files` entry that matched"."""
        names = [entry.base for entry in self.own_names(connector, client)]
        if client.cn is not None:
            names.append(client.cn.name)
        for stored in matching_files(connector, client):
            names += stored.names
        return any(self.belongs(connector, name) for name in names)

    def takes_sender(self, connector: Evidence, sender: str) -> bool:
        """`foreign_senders`: "which senders that are not S (this connector's, with its for_domains) row 1 takes: any,
        the null sender only, none" (SPEC 3.7)."""
        if self.condition_s(connector, sender) or connector.foreign_senders == "allow":
            return True
        return connector.foreign_senders == "bounces" and sender == ""

    # SPEC 3.4

    def decide(self, attributes: Mapping[str, str]) -> Verdict:
        """One request to one verdict. "Other states: DUNNO. An unknown or missing `protocol_state` is DUNNO too"."""
        if attributes.get("protocol_state", "") != "RCPT":
            return Verdict("DUNNO", "", "", "")
        sender, recipient = attributes.get("sender", ""), attributes.get("recipient", "")
        client = read_client(attributes)

        reason = self.row_0(sender, recipient)
        if reason:
            return self.reject(reason, client)
        deferral = self.deferral(client)
        if deferral is not None:
            return deferral
        answer = self.rows_1_to_5(sender, recipient, client) or self.row_6(recipient)
        if answer is None:
            return self.reject(self.reason_of_row_7(sender, recipient, client), client)
        return self.taken_back(sender, recipient, client) or answer

    def row_0(self, sender: str, recipient: str) -> str | None:
        """The four lines "anybody" of the table, from the top."""
        name = dom(recipient)
        if name is None:
            return "recipient-without-domain"
        if "." not in name and all(accepted.base != name for _, accepted in self.accepted):
            return "recipient-without-domain"  # "or a single label that nobody accepts"
        if self.is_ambiguous(recipient):
            return "ambiguous-recipient"
        local_part = recipient.rsplit("@", 1)[0]
        if any(character in local_part for character in "@%!") or recipient.startswith("@"):
            return "routed-recipient"
        if sender and "@" not in sender:
            return "sender-without-domain"
        return None

    def rows_1_to_5(self, sender: str, recipient: str, client: Client) -> Verdict | None:
        """ "Every connector is judged by itself ... The first row that holds names the owner. Within a row: S before
        not S, R before not R, pin before exact name before wildcard, longer before shorter name, longer prefix first,
        then organization and connector name"."""
        candidates = []
        for connector in self.identifying(client):
            s = self.condition_s(connector, sender)
            r = self.condition_r(connector, recipient)
            d = connector.asks_certificate and self.condition_d(connector, client)
            if d and self.takes_sender(connector, sender):
                row, reason = 1, "certificate-domain"
            elif connector.asks_certificate and s:
                row, reason = 2, "sender-domain"
            elif s:
                row, reason = 3, "sender-domain"
            elif connector.asks_certificate and r:
                row, reason = 4, "recipient-domain"
            elif r:
                row, reason = 5, "recipient-domain"
            else:
                continue
            kind, length = self.best_certificate_evidence(connector, client)
            prefix = max(matching_prefixes(connector, client), default=-1)
            order = (row, not s, not r, kind, -length, -prefix, connector.organization, connector.name)
            candidates.append((order, Verdict("OK", reason, connector.organization, connector.name)))
        return min(candidates, key=lambda candidate: candidate[0])[1] if candidates else None

    def best_certificate_evidence(self, connector: Evidence, client: Client) -> tuple[int, int]:
        """(0, 0): a pin; (1, characters): an exact name; (2, characters of `x`): `*.x`; (3, 0): no certificate.

        All pins are one rank, and a pin has no name: a name that matches beside it does not count.
        """
        if matches_pin(connector, client):
            return 0, 0
        names = self.own_names(connector, client)
        for kind, wildcard in ((1, False), (2, True)):
            lengths = [len(entry.base) for entry in names if entry.wildcard == wildcard]
            if lengths:
                return kind, max(lengths)
        return 3, 0

    def row_6(self, recipient: str) -> Verdict | None:
        """ "owner(dom(recipient)) = U, plain: `policy.incoming`, incoming for U". REJECT is told by row 7."""
        organization = self.owner(dom(recipient))
        if organization is None or not self.is_plain(recipient) or self.incoming == "REJECT":
            return None
        return Verdict(self.incoming, "incoming", organization, "")

    def reason_of_row_7(self, sender: str, recipient: str, client: Client) -> str:
        """ "The reason of row 7 is the first that applies"."""
        identifying = self.identifying(client)
        for connector in identifying:
            for organization, pending in self.pending:
                for name in (dom(recipient), dom(sender)):
                    if organization == connector.organization and name is not None and pending.covers(name):
                        return "pending-domain"
        if identifying:
            return "not-your-domain"
        if any(self.identifies(connector, client, whatever_tls=True) for connector in self.connectors):
            return "tls-required"
        if client.shows_fingerprint and not client.shows_subject_or_issuer:
            return "certificate-untrusted"
        if client.shows_fingerprint or client.shows_subject_or_issuer:
            return "certificate-unknown"
        if self.owner(dom(recipient)) is not None and self.is_plain(recipient) and self.incoming == "REJECT":
            return "incoming-refused"
        return "no-connector"

    def reject(self, reason: str, client: Client) -> Verdict:
        """ "On REJECT the decision names the organization and connector that identified the client when there is
        exactly one, else the organization is empty"."""
        identifying = self.identifying(client)
        if len(identifying) == 1:
            return Verdict("REJECT", reason, identifying[0].organization, identifying[0].name)
        return Verdict("REJECT", reason, "", "")

    # SPEC 3.4, "the answer of rows 1-6 (also a DUNNO) is then taken back by, in this order"

    def taken_back(self, sender: str, recipient: str, client: Client) -> Verdict | None:
        """ "A decision taken back names U or V and no connector". "Partners of U = zone(dom(recipient)), unless the
        client is identified by U (zone, not owner)"; "`connectors_only`: U as for partners"; "V, the zone of any
        reading of the sender".

        Open: whom the decision names where the readings of the sender have two such V. The address as it stands comes
        first.
        """
        u = self.zone(dom(recipient))
        if u is not None and not self.is_identified_by(u, client):
            reason = self.partner_objection(u, sender, client)
            if reason:
                return Verdict("REJECT", reason, u, "")
            if u in self.locked and not self.has_met_partner(u, sender, client):
                return Verdict("REJECT", "connectors-only", u, "")
        for reading in readings(sender):
            v = self.zone(reading.name)
            if v is not None and v in self.protected and not self.is_identified_by(v, client):
                return Verdict("REJECT", "sender-protected", v, "")
        return None

    def is_identified_by(self, organization: str, client: Client) -> bool:
        """ "A connector of T matches the client (3.2), whatever the conditions"."""
        return any(connector.organization == organization for connector in self.identifying(client))

    def partner_objection(self, organization: str, sender: str, client: Client) -> str | None:
        """ "Every enabled partner with a `sender_domains` entry that covers a reading of the sender must have all it
        asks for ... The first unmet one by name gives REJECT"."""
        for partner in sorted(self.partners, key=lambda p: p.name):
            if partner.organization == organization and partner.enabled and self.covers_reading(partner, sender):
                reason = self.unmet(partner, client)
                if reason:
                    return reason
        return None

    def covers_reading(self, partner: Evidence, sender: str) -> bool:
        """ "`*` covers every sender, also the null one; `*.x` covers a usable suffix at or below x"; an exact `x`
        covers no suffix."""
        return partner.any_sender or any(
            pattern.covers(reading.name) and (pattern.wildcard or not reading.is_suffix)
            for reading in readings(sender)
            if reading.name is not None
            for pattern in partner.sender_domains
        )

    def covers_sender(self, partner: Evidence, sender: str) -> bool:
        """ "Covers dom(sender) (a grant: no fold, no suffix ...)".

        A sender without a domain has no dom(sender); "`*` covers every sender" all the same.
        """
        name = dom(sender)
        return partner.any_sender or (name is not None and any(p.covers(name) for p in partner.sender_domains))

    def unmet(self, partner: Evidence, client: Client) -> str | None:
        """ "`require_tls`, certificate evidence (as 3.2), addresses"; foreign names are no matter for partners."""
        if partner.require_tls and not client.tls:
            return "partner-tls"
        if partner.asks_certificate and not matching_names(partner, client) and not matches_pin(partner, client):
            return "partner-certificate"
        if partner.addresses and not matching_prefixes(partner, client):
            return "partner-address"
        return None

    def has_met_partner(self, organization: str, sender: str, client: Client) -> bool:
        """ "[An] enabled partner of U that asks for a certificate or address, covers dom(sender) (... or the sender is
        null) and has all it asks for"."""
        return any(
            partner.organization == organization
            and partner.enabled
            and (partner.asks_certificate or bool(partner.addresses))
            and (sender == "" or self.covers_sender(partner, sender))
            and self.unmet(partner, client) is None
            for partner in self.partners
        )
