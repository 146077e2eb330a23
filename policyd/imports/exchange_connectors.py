"""Inbound connectors of Exchange Online as connectors and partners (SPEC 7, import).

May not make a connector wider or a partner's demands weaker without a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from policyd.config.toml.writing import basic_string
from policyd.config.unusable_addresses import why_unusable
from policyd.imports.exchange_domains import Domains
from policyd.imports.found import Names, Section, Table, about, description
from policyd.imports.powershell import Entry, parts
from policyd.policy.names import parse_pattern
from policyd.policy.networks import parse_network

TYPES = {1: "OnPremises", 2: "Partner"}

# The fields that a rule below reads.
READ = frozenset(
    {
        *("Name", "Comment", "Enabled", "ConnectorType", "SenderIPAddresses", "SenderDomains", "RequireTls"),
        *("RestrictDomainsToIPAddresses", "RestrictDomainsToCertificate", "TlsSenderCertificateName"),
        *("AssociatedAcceptedDomains", "RemoteIPRanges", "AuthMechanism", "PermissionGroups"),
    }
)
ON_PREMISES = ("RemoteIPRanges", "PermissionGroups", "Bindings")  # only an Exchange server's receive connectors have
OUTBOUND = ("SmartHosts", "RecipientDomains", "AddressSpaces")  # only connectors that send have

_NO_COUNTERPART = {
    "CloudServicesMailEnabled": "hybrid headers are a matter between Exchange servers; policyd leaves headers alone",
    "TreatMessagesAsInternal": "policyd says whether mail may pass, not whether it counts as internal",
    "TrustedOrganizations": "other tenants of Exchange Online have no counterpart: a connector is one organization's",
    "ScanAndDropRecipients": "what is scanned and dropped is the content filter's matter",
    "ClientHostNames": "a client's host name proves nothing: write its addresses or its certificate's name",
}
FIELDS = (
    *READ,
    *_NO_COUNTERPART,
    *("EFSkipLastIP", "EFSkipIPs", "EFSkipMailGateway", "EFUsers", "EFTestMode"),
)
_ENHANCED_FILTERING = (
    "enhanced filtering looks for the sender behind a gateway; policyd judges the client that connects"
)
_MAPPED_CERTIFICATE = re.compile(r"<S>(.*)", re.IGNORECASE | re.DOTALL)
_RELATIVE_NAME = re.compile(r'(?:"(?:[^"\\]|\\.)*"|\\.|[^,;+"\\])+', re.DOTALL)
_LIMIT = "AssociatedAcceptedDomains"
_EVERYBODY = ("0.0.0.0-255.255.255.255", "0.0.0.0/0", "::-" + ":".join(["ffff"] * 8), "::/0")
_COST = re.compile(r"[0-9]+")  # of `smtp:x;1`, where a list came as one text that `;` joins
_SENDER_DOMAIN = re.compile(r"(?:smtp:)?(.*)", re.IGNORECASE)


def why_not_imported(field: str) -> str:
    """Why a field has no counterpart; empty for one that a rule reads and for one that never had an effect."""
    return _NO_COUNTERPART.get(field) or (_ENHANCED_FILTERING if field.upper().startswith("EF") else "")


def sections(entry: Entry, names: Names, domains: Domains) -> list[Section]:
    """What a connector becomes: one or two connectors, a partner, or nothing and a note."""
    if set(OUTBOUND) & entry.fields.keys():
        entry.note("left out", "", "this is an outbound connector; policyd decides on mail that comes in")
        return []
    match entry.choice("ConnectorType", TYPES):
        case "OnPremises":
            return _on_premises(entry, names, domains)
        case "Partner":
            return _partner(entry, names, domains)
    if set(ON_PREMISES) & entry.fields.keys():
        return _receive_connector(entry, names)
    entry.note("left out", "ConnectorType", "it is neither OnPremises (1) nor Partner (2)")
    return []


def _receive_connector(entry: Entry, names: Names) -> list[Section]:
    """An Exchange server's own: only its addresses, disabled, since what they may do is written elsewhere there."""
    addresses = _addresses(entry, "RemoteIPRanges")
    if not addresses:
        entry.note("left out", "", "a receive connector of an Exchange server, without addresses that can be used")
        return []
    allowed = "; ".join(
        f"{field} {', '.join(texts)}"
        for field in ("PermissionGroups", "AuthMechanism")
        if (texts := entry.texts(field))
    )
    message = (
        "disabled: a receive connector of an Exchange server. Whether it let its clients relay is in permissions that "
        f"the export does not have (Get-ADPermission){f': it has {allowed}' if allowed else ''}. Enable it where each "
        "of its addresses is one server of this organization that sends out through it"
    )
    entry.note("warning", "RemoteIPRanges", message)
    require_tls = {"require_tls": True} if entry.flag("RequireTls", doubtful=True) else {}
    return [_section(entry, names, "connectors", {"addresses": addresses, **require_tls, "enabled": False})]


def _on_premises(entry: Entry, names: Names, domains: Domains) -> list[Section]:
    certificates = _certificate_names(entry)
    addresses = _addresses(entry)
    for field in ("RestrictDomainsToIPAddresses", "RestrictDomainsToCertificate"):
        if entry.flag(field, doubtful=True):
            entry.note("warning", field, "dropped: it works for connectors of type Partner only")
    if any(_sender_domain(text) != "*" for text in _sender_texts(entry)):
        entry.note("note", "SenderDomains", "dropped: the accepted domains decide whose mail it is")
    require_tls = entry.flag("RequireTls", doubtful=True)
    enabled = entry.flag("Enabled", absent=True, doubtful=False)
    limit = _limit(entry, domains)
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
    switches |= limit if enabled else limit | {"enabled": False}
    made = []
    if certificates:
        made.append(_section(entry, names, "connectors", {"certificate_names": certificates, **switches}))
    if addresses:
        ending = "-addresses" if certificates else ""
        made.append(_section(entry, names, "connectors", {"addresses": addresses, **switches}, ending))
    return made


def _partner(entry: Entry, names: Names, domains: Domains) -> list[Section]:
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
    switches = _partner_limit(entry, domains)
    if not demands or not senders:
        why = (
            "it demands nothing: neither TLS nor a certificate or addresses" if senders else "it names no sender domain"
        )
        entry.note("left out", "", why)
        return []
    return [_section(entry, names, "partners", {"sender_domains": senders} | demands | switches)]


def _associated(entry: Entry, domains: Domains) -> tuple[list[str], list[str]]:
    """AssociatedAcceptedDomains as entries of the organization's domains, and the names that are none of these."""
    found: list[str] = []
    unknown: list[str] = []
    for text in entry.texts(_LIMIT):
        names = [text] if _called(text) in domains.known else parts(text)
        for name in map(_called, names):
            domain = domains.known.get(name)
            if domain is None:
                unknown.append(name)
            elif domain:  # Microsoft's own are left out, so they limit nothing
                found.append(domain)
    return list(dict.fromkeys(found)), unknown


def _called(text: str) -> str:
    """The name of an accepted domain, which a tenant's folders may stand before."""
    return text.rpartition("/")[2].lower()


def _is_no_limit(entry: Entry, domains: Domains, associated: list[str]) -> bool:
    """Whether AssociatedAcceptedDomains limits nothing: empty, or all of the tenant's domains."""
    if not entry.has(_LIMIT):
        return True
    everything = {*domains.accepted, *domains.pending}
    if not everything or not everything <= set(associated):
        return False
    message = "it names all of the tenant's domains, so it limits nothing; one that is accepted later counts, too"
    entry.note("note", _LIMIT, message)
    return True


def _limit(entry: Entry, domains: Domains) -> dict[str, object]:
    """The keys of a connector that held for some accepted domains only: disabled where none of these is accepted."""
    associated, unknown = _associated(entry, domains)
    if _is_no_limit(entry, domains, associated):
        return {}
    accepted = [domain for domain in associated if domain in domains.accepted]
    missing = [*(domain for domain in associated if domain not in accepted), *unknown]
    if accepted:
        if missing:
            message = f"for_domains has only what is accepted; add {_listed(missing)} when they are"
            entry.note("warning", _LIMIT, message)
        return {"for_domains": accepted}
    message = (
        f"disabled: it held for {_listed(missing) or 'certain accepted domains'} only. When these are accepted, write "
        f"for_domains = [{_listed(missing)}], spelt as in accepted_domains, and enable it"
    )
    entry.note("warning", _LIMIT, message)
    return {"enabled": False}


def _partner_limit(entry: Entry, domains: Domains) -> dict[str, object]:
    """The same for a partner, whose demands in policyd hold for all of the organization's domains."""
    associated, unknown = _associated(entry, domains)
    if _is_no_limit(entry, domains, associated):
        return {}
    message = (
        f"disabled: it held for mail to {_listed([*associated, *unknown]) or 'certain accepted domains'} only, and a "
        "partner here holds for all of the organization's domains. Enable it if that is meant, or make these domains "
        "an organization of their own"
    )
    entry.note("warning", _LIMIT, message)
    return {"enabled": False}


def _listed(domains: Iterable[str]) -> str:
    return ", ".join(map(basic_string, domains))


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
            name, *others = _common_names(mapped[1]) or [""]
            message = (
                f"{basic_string(text)} is of an on-premises server: its subject's CN {basic_string(name)} was read"
            )
            entry.note("warning", field, f"{message}; policyd never matches the issuer")
            if others:
                message = (
                    f"of several CNs Postfix sends only {basic_string(others[-1])}, a container's perhaps: pin the key"
                )
                entry.note("warning", field, message)
        pattern = parse_pattern(name)
        if pattern is None:
            entry.note("left out", field, f"{basic_string(name)} is no host name")
        elif "." not in pattern.name and not pattern.wildcard:
            entry.note("left out", field, f"{basic_string(name)} is a single label, which many servers have")
        else:
            found.append(name)
    return found


def _common_names(subject: str) -> list[str]:
    """The CNs of a distinguished name as it is written, the server's first (RFC 4514, or in quotes as Windows does)."""
    found = []
    for part in _RELATIVE_NAME.findall(subject):
        kind, _, value = part.partition("=")
        if kind.strip().upper() == "CN":
            value = value.strip()
            bare = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
            found.append(re.sub(r"\\(.)", r"\1", bare, flags=re.DOTALL))
    return found


def _addresses(entry: Entry, field: str = "SenderIPAddresses") -> list[str]:
    """A list of addresses as entries of `addresses`; where host bits are set, the network."""
    found = []
    for text in entry.items(field):
        if text.lower() in _EVERYBODY:
            entry.note("left out", field, f"{basic_string(text)} is everybody")
            continue
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


def _sender_texts(entry: Entry) -> list[str]:
    """SenderDomains one by one, also where they came as one text: `smtp:a.example;1;smtp:b.example;1`."""
    return [text for text in entry.items("SenderDomains") if not _COST.fullmatch(text)]


def _sender_domain(text: str) -> str | None:
    """A sender domain without `smtp:`: a name, a `*.` name, or `*`; None where it is none of these."""
    match = _SENDER_DOMAIN.fullmatch(text)
    domain = match[1].strip() if match else ""
    return domain if domain == "*" or parse_pattern(domain) else None


def _sender_domains(entry: Entry) -> list[str]:
    """A partner's SenderDomains as entries of `sender_domains`."""
    found = []
    for text in _sender_texts(entry):
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
