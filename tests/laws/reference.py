"""A slow second reading of the rules of SPEC 3.1-3.4, to compare the production code with.

What it is for: tests decide the same request here and in `policyd` and compare. It is written for obviousness beside
the table of the specification: no indexes, no caches, a loop over everything for each question, and each function
quotes the sentence that it carries out.
What it may not do: import policyd, raise on any request, look at a clock or a network. It reads the certificate files
that the configuration names, once. The configuration is taken to be valid (SPEC 4); SPEC 3.5 and the service mode are
no concern of it.

`Reference(config, base).decide(attributes)` gives a `Verdict`.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import idna
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LONGEST_DOMAIN_TEXT = 1000  # characters, one trailing dot not counted; anything longer is no domain, unmapped
DIGESTS = ("md5", "sha1", "sha256", "sha384", "sha512")  # "whatever digest Postfix uses" (SPEC 3.2)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Verdict:
    """action: the bare OK, REJECT or DUNNO; reason: one of SPEC 3.4, empty outside RCPT; the rest may be empty."""

    action: str
    reason: str
    organization: str
    connector: str


# --- SPEC 3.1: domains and names ------------------------------------------------------------------------------------


def canonical(text: str) -> str | None:
    """The lower-case A-label form of a domain name or host name, or None for "no domain" (SPEC 3.1, dom).

    "One trailing dot is dropped. An address literal, an empty label, a label over 63 or a name over 253 octets (as
    A-labels), or bytes that are not UTF-8: no domain."
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        return None  # bytes that are not UTF-8 arrive as surrogates
    text = text.removesuffix(".")
    if len(text) > LONGEST_DOMAIN_TEXT:
        return None
    if not text.isascii():
        # "A name with other characters is first mapped by UTS 46 (non-transitional)"
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
    """One label. "ASCII labels are letters, digits, hyphen and underscore in any place; a label that begins with `xn--`
    must be a valid A-label ... then each such [other] label is encoded by IDNA 2008; what that refuses is no domain."
    """
    if not label:
        return None
    if not label.isascii():
        try:
            label = idna.alabel(label).decode("ascii")
        except ValueError:
            return None
        return label if len(label) <= 63 else None
    label = label.lower()
    if len(label) > 63:
        return None
    if not all(character in "abcdefghijklmnopqrstuvwxyz0123456789-_" for character in label):
        return None
    if label.startswith("xn--"):
        try:
            if idna.alabel(idna.ulabel(label)).decode("ascii") != label:
                return None
        except ValueError:
            return None
    return label


def u_form(name: str) -> str:
    """The U-label form of a canonical name."""
    return ".".join(idna.ulabel(label) if label.startswith("xn--") else label for label in name.split("."))


def domain_text(address: str) -> str | None:
    """ "The text after the last `@`; without `@`, no domain" (SPEC 3.1)."""
    return address.rsplit("@", 1)[1] if "@" in address else None


def dom(address: str) -> str | None:
    """SPEC 3.1, dom(address)."""
    text = domain_text(address)
    return None if text is None else canonical(text)


def ascii_lower(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def is_plain(address: str) -> bool:
    """ "The domain is plain: lower-cased (ASCII) and without one final dot it equals its A-label form or the U-label
    form of that" (SPEC 3.3, R)."""
    text, name = domain_text(address), dom(address)
    if text is None or name is None:
        return False
    return ascii_lower(text).removesuffix(".") in (name, u_form(name))


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
    """A connector, or a partner (then with `sender_domains`): what it asks of a client. `organization` owns it."""

    organization: str
    name: str
    enabled: bool
    require_tls: bool
    certificate_names: tuple[Pattern, ...]
    certificate_files: tuple[StoredCertificate, ...]
    certificate_fingerprints: tuple[str, ...]
    public_key_fingerprints: tuple[str, ...]
    addresses: tuple[Block, ...]
    any_sender: bool = False
    sender_domains: tuple[Pattern, ...] = ()

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
        self.connectors: list[Evidence] = []
        self.partners: list[Evidence] = []
        self.protected: list[str] = []
        self.locked: list[str] = []
        for name, organization in config.get("organizations", {}).items():
            self.accepted += [(name, Pattern.parse(text)) for text in organization.get("accepted_domains", [])]
            self.pending += [(name, Pattern.parse(text)) for text in organization.get("pending_domains", [])]
            for key, table in organization.get("connectors", {}).items():
                self.connectors.append(read_evidence(name, key, table, base))
            for key, table in organization.get("partners", {}).items():
                self.partners.append(read_evidence(name, key, table, base))
            if organization.get("protect_sender_domains", False):
                self.protected.append(name)
            if organization.get("connectors_only", False):
                self.locked.append(name)

    # SPEC 3.1

    def zone(self, name: str | None) -> str | None:
        """ "The organization of the nearest accepted domain that equals `d` or is an ancestor of it, with or without
        its `*.`"."""
        if name is None:
            return None
        for ancestor in upwards(name):
            for organization, accepted in self.accepted:
                if accepted.base == ancestor:
                    return organization
        return None

    def owner(self, name: str | None) -> str | None:
        """ "Go up from `d` label by label; at the first accepted domain of an organization other than zone(d) stop:
        nobody; at the first accepted domain of zone(d) that covers `d`: zone(d)"."""
        if name is None:
            return None
        zone = self.zone(name)
        for ancestor in upwards(name):
            for organization, accepted in self.accepted:
                if accepted.base == ancestor and organization != zone:
                    return None
                if accepted.base == ancestor and accepted.covers(name):
                    return zone
        return None

    def is_foreign(self, connector: Evidence, client: Client) -> bool:
        """ "zone(cn without `*.`) is an organization other than the connector's" (SPEC 3.1)."""
        if client.cn is None:
            return False
        return self.zone(client.cn.name) not in (None, connector.organization)

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

    # SPEC 3.3

    def condition_s(self, organization: str, sender: str) -> bool:
        """ "owner(dom(sender)) is T. A null sender, or one without a domain, is never S"."""
        return self.owner(dom(sender)) == organization

    def condition_r(self, organization: str, recipient: str) -> bool:
        """ "owner(dom(recipient)) is T, and the domain is plain"."""
        return self.owner(dom(recipient)) == organization and is_plain(recipient)

    def belongs(self, organization: str, name: str) -> bool:
        """ "owner(N) is T; or N is exactly one host label below a domain that owner() gives to T and zone(N) is T"."""
        if self.owner(name) == organization:
            return True
        if "." not in name:
            return False
        parent = name.split(".", 1)[1]
        return self.owner(parent) == organization and self.zone(name) == organization

    def condition_d(self, connector: Evidence, client: Client) -> bool:
        """The certificate's domain is T's: "the matching `certificate_names` entry without `*.`; the cn without `*.`,
        however the connector was matched; the names of the `certificate_files` entry that matched"."""
        names = [entry.base for entry in self.own_names(connector, client)]
        if client.cn is not None:
            names.append(client.cn.name)
        for stored in matching_files(connector, client):
            names += stored.names
        return any(self.belongs(connector.organization, name) for name in names)

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
        answer = self.rows_1_to_5(sender, recipient, client) or self.row_6(recipient)
        if answer is None:
            return self.reject(self.reason_of_row_7(sender, recipient, client), client)
        return self.taken_back(sender, recipient, client) or answer

    def row_0(self, sender: str, recipient: str) -> str | None:
        """The three lines "anybody" of the table, from the top."""
        if dom(recipient) is None:
            return "recipient-without-domain"
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
        for connector in self.connectors:
            if not self.identifies(connector, client):
                continue
            s = self.condition_s(connector.organization, sender)
            r = self.condition_r(connector.organization, recipient)
            if connector.asks_certificate and self.condition_d(connector, client):
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
        if organization is None or not is_plain(recipient) or self.incoming == "REJECT":
            return None
        return Verdict(self.incoming, "incoming", organization, "")

    def reason_of_row_7(self, sender: str, recipient: str, client: Client) -> str:
        """ "The reason of row 7 is the first that applies"."""
        identifying = [connector for connector in self.connectors if self.identifies(connector, client)]
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
        if self.owner(dom(recipient)) is not None and is_plain(recipient) and self.incoming == "REJECT":
            return "incoming-refused"
        return "no-connector"

    def reject(self, reason: str, client: Client) -> Verdict:
        """ "On REJECT the decision names the organization and connector that identified the client when there is
        exactly one, else the organization is empty"."""
        identifying = [connector for connector in self.connectors if self.identifies(connector, client)]
        if len(identifying) == 1:
            return Verdict("REJECT", reason, identifying[0].organization, identifying[0].name)
        return Verdict("REJECT", reason, "", "")

    # SPEC 3.4, "the answer of rows 1-6 (also a DUNNO) is then taken back by, in this order"

    def taken_back(self, sender: str, recipient: str, client: Client) -> Verdict | None:
        """ "A decision taken back names U or V and no connector"."""
        u = self.owner(dom(recipient))
        if u is not None and not self.is_identified_by(u, client):
            reason = self.partner_objection(u, sender, client)
            if reason:
                return Verdict("REJECT", reason, u, "")
            if u in self.locked and not self.has_met_partner(u, sender, client):
                return Verdict("REJECT", "connectors-only", u, "")
        v = self.zone(dom(sender))
        if v is not None and v in self.protected and not self.is_identified_by(v, client):
            return Verdict("REJECT", "sender-protected", v, "")
        return None

    def is_identified_by(self, organization: str, client: Client) -> bool:
        """ "A connector of T matches the client (3.2), whatever the conditions"."""
        return any(c.organization == organization and self.identifies(c, client) for c in self.connectors)

    def partner_objection(self, organization: str, sender: str, client: Client) -> str | None:
        """ "Every enabled partner with a `sender_domains` entry that covers dom(sender) must have all it asks for ...
        The first unmet one by name gives REJECT"."""
        for partner in sorted(self.partners, key=lambda p: p.name):
            if partner.organization == organization and partner.enabled and self.covers_sender(partner, sender):
                reason = self.unmet(partner, client)
                if reason:
                    return reason
        return None

    def covers_sender(self, partner: Evidence, sender: str) -> bool:
        """ "`*` covers every sender, also the null one"."""
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
        """ "[An] enabled partner of U that asks for a certificate or address, covers the sender (or the sender is null)
        and has all it asks for"."""
        return any(
            partner.organization == organization
            and partner.enabled
            and (partner.asks_certificate or bool(partner.addresses))
            and (sender == "" or self.covers_sender(partner, sender))
            and self.unmet(partner, client) is None
            for partner in self.partners
        )
