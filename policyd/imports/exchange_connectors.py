"""Inbound connectors of Exchange Online as connectors and partners (SPEC 7, import).

May not make a connector wider or a partner's demands weaker without a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from policyd.config.toml.writing import basic_string
from policyd.config.unusable_addresses import why_unusable
from policyd.imports.found import Names, Section, Table, about, description
from policyd.imports.powershell import Entry
from policyd.policy.names import parse_pattern
from policyd.policy.networks import parse_network

TYPES = {1: "OnPremises", 2: "Partner"}

# The fields that a rule below reads.
READ = frozenset(
    {
        *("Name", "Comment", "Enabled", "ConnectorType", "SenderIPAddresses", "SenderDomains", "RequireTls"),
        *("RestrictDomainsToIPAddresses", "RestrictDomainsToCertificate", "TlsSenderCertificateName"),
        "AssociatedAcceptedDomains",
    }
)

_NO_COUNTERPART = {
    "CloudServicesMailEnabled": "hybrid headers are a matter between Exchange servers; policyd leaves headers alone",
    "TreatMessagesAsInternal": "policyd says whether mail may pass, not whether it counts as internal",
    "TrustedOrganizations": "other tenants of Exchange Online have no counterpart: a connector is one organization's",
    "ScanAndDropRecipients": "what is scanned and dropped is the content filter's matter",
    "ClientHostNames": "a client's host name proves nothing: write its addresses or its certificate's name",
}
_ENHANCED_FILTERING = (
    "enhanced filtering looks for the sender behind a gateway; policyd judges the client that connects"
)
_MAPPED_CERTIFICATE = re.compile(r"<S>(.*)", re.IGNORECASE | re.DOTALL)
_RELATIVE_NAME = re.compile(r'(?:"(?:[^"\\]|\\.)*"|\\.|[^,;+"\\])+', re.DOTALL)
_BETWEEN = re.compile(r"[\s,]+")  # ConvertTo-Json makes one text of a list that lies deeper than its -Depth
_SENDER_DOMAIN = re.compile(r"(?:smtp:)?([^;]*)(?:;\d+)?", re.IGNORECASE)


def why_not_imported(field: str) -> str:
    """Why a field has no counterpart; empty for one that a rule reads and for one that never had an effect."""
    return _NO_COUNTERPART.get(field) or (_ENHANCED_FILTERING if field.startswith("EF") else "")


def sections(entry: Entry, names: Names) -> list[Section]:
    """What an inbound connector becomes: one or two connectors, a partner, or nothing and a note."""
    if {"SmartHosts", "RecipientDomains"} & entry.fields.keys():
        entry.note("left out", "", "this is an outbound connector; policyd decides on mail that comes in")
        return []
    match entry.choice("ConnectorType", TYPES):
        case "OnPremises":
            return _on_premises(entry, names)
        case "Partner":
            return _partner(entry, names)
    entry.note("left out", "ConnectorType", "it is neither OnPremises (1) nor Partner (2)")
    return []


def _on_premises(entry: Entry, names: Names) -> list[Section]:
    certificates = _certificate_names(entry)
    addresses = _addresses(entry)
    for field in ("RestrictDomainsToIPAddresses", "RestrictDomainsToCertificate"):
        if entry.flag(field, doubtful=True):
            entry.note("warning", field, "dropped: it works for connectors of type Partner only")
    if any(_sender_domain(text) != "*" for text in entry.texts("SenderDomains")):
        entry.note("note", "SenderDomains", "dropped: the accepted domains decide whose mail it is")
    require_tls = entry.flag("RequireTls", doubtful=True)
    enabled = entry.flag("Enabled", absent=True, doubtful=False)
    limited = _is_limited(entry)
    if not certificates and not addresses:
        entry.note("left out", "", "it has no certificate name and no addresses that can be used")
        return []
    if require_tls:
        message = "require_tls = true: Exchange Online enforces it for Partner only, policyd here too"
        entry.note("note", "RequireTls", message)
    if certificates and addresses:
        message = (
            "it has a certificate and addresses: two connectors, since within one of policyd's both would have to match"
        )
        entry.note("warning", "", message)
    switches: dict[str, object] = {"require_tls": True} if require_tls else {}
    if limited or not enabled:
        switches["enabled"] = False
    made = []
    if certificates:
        made.append(_section(entry, names, "connectors", {"certificate_names": certificates, **switches}))
    if addresses:
        ending = "-addresses" if certificates else ""
        made.append(_section(entry, names, "connectors", {"addresses": addresses, **switches}, ending))
    return made


def _partner(entry: Entry, names: Names) -> list[Section]:
    if not entry.flag("Enabled", absent=True, doubtful=True):
        entry.note("left out", "Enabled", "a disabled partner is not carried over")
        return []
    require_tls = entry.flag("RequireTls", doubtful=True)
    demands: dict[str, object] = {}
    for key, field, switch, read in (
        ("certificate_names", "TlsSenderCertificateName", "RestrictDomainsToCertificate", _certificate_names),
        ("addresses", "SenderIPAddresses", "RestrictDomainsToIPAddresses", _addresses),
    ):
        if not entry.flag(switch, doubtful=entry.has(field)):
            if entry.has(field):
                entry.note("note", field, f"not imported: without effect, since {switch} is not true")
        elif values := read(entry):
            demands[key] = values
        else:
            entry.note("warning", switch, f"without effect: {field} holds nothing that can be used")
    if require_tls:
        demands["require_tls"] = True
    senders = _sender_domains(entry)
    limited = _is_limited(entry)
    if not demands or not senders:
        why = (
            "it demands nothing: neither TLS nor a certificate or addresses" if senders else "it names no sender domain"
        )
        entry.note("left out", "", why)
        return []
    switches = {"enabled": False} if limited else {}
    return [_section(entry, names, "partners", {"sender_domains": senders} | demands | switches)]


def _is_limited(entry: Entry) -> bool:
    """Whether it held for some accepted domains only: then it comes in disabled, since those may be pending still."""
    field = "AssociatedAcceptedDomains"
    if not entry.has(field):
        return False
    domains = ", ".join(basic_string(text.rpartition("/")[2]) for text in entry.texts(field))
    message = (
        f"disabled: it held for {domains or 'certain accepted domains'} only. When these are accepted, list them in "
        "its for_domains, spelt as in accepted_domains, and enable it"
    )
    entry.note("warning", field, message)
    return True


def _section(entry: Entry, names: Names, table: Table, values: Mapping[str, object], ending: str = "") -> Section:
    name = names.take(table, entry.name, ending)
    described = description(name, entry.name, entry.text("Comment"))
    return Section(table, name, entry.name, described | dict(values))


def _certificate_names(entry: Entry) -> list[str]:
    """TlsSenderCertificateName as entries of `certificate_names`; empty where there is none that can be used."""
    field = "TlsSenderCertificateName"
    found = []
    for text in entry.texts(field):
        name = text
        if mapped := _MAPPED_CERTIFICATE.search(text):
            name = _common_name(mapped[1])
            message = (
                f"{basic_string(text)} is of an on-premises server: its subject's CN {basic_string(name)} was read"
            )
            entry.note("warning", field, f"{message}; policyd never matches the issuer")
        if parse_pattern(name) is None:
            entry.note("left out", field, f"{basic_string(name)} is no host name")
        else:
            found.append(name)
    return found


def _common_name(subject: str) -> str:
    """The first CN of a distinguished name (RFC 4514, or in quotes as Windows writes it); empty where there is none."""
    for part in _RELATIVE_NAME.findall(subject):
        kind, _, value = part.partition("=")
        if kind.strip().upper() == "CN":
            value = value.strip()
            bare = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
            return re.sub(r"\\(.)", r"\1", bare, flags=re.DOTALL)
    return ""


def _addresses(entry: Entry) -> list[str]:
    """SenderIPAddresses as entries of `addresses`; where host bits are set, the network."""
    field = "SenderIPAddresses"
    found = []
    for text in dict.fromkeys(part for listed in entry.texts(field) for part in _BETWEEN.split(listed)):
        try:
            network, host_bits = parse_network(text)
        except ValueError as error:
            entry.note("left out", field, about(text, str(error)))
            continue
        if unusable := why_unusable(network):
            entry.note("left out", field, unusable)
            continue
        if host_bits:
            entry.note("warning", field, f"{basic_string(text)} has host bits set: the network {network} was read")
        found.append(str(network) if host_bits else text)
    return list(dict.fromkeys(found))


def _sender_domain(text: str) -> str | None:
    """A sender domain without `smtp:` and `;cost`: a name, a `*.` name, or `*`; None where it is none of these."""
    match = _SENDER_DOMAIN.fullmatch(text)
    domain = match[1].strip() if match else ""
    return domain if domain == "*" or parse_pattern(domain) else None


def _sender_domains(entry: Entry) -> list[str]:
    """A partner's SenderDomains as entries of `sender_domains`."""
    found = []
    for text in entry.texts("SenderDomains"):
        domain = _sender_domain(text)
        if domain is None:
            entry.note("left out", "SenderDomains", f"{basic_string(text)} names no domain")
        else:
            found.append(domain)
    if "*" in found:
        message = "every sender: all mail to the organization must meet the demands; a partner never grants relaying"
        entry.note("note", "SenderDomains", message)
        return ["*"]
    for domain in found:
        if domain.startswith("*.") and domain[2:] not in found:
            message = f"{basic_string(domain)} covers {basic_string(domain[2:])} itself too in policyd"
            entry.note("note", "SenderDomains", message)
    return list(dict.fromkeys(found))
