"""Accepted domains of Exchange Online as `accepted_domains` and `pending_domains` (SPEC 7, import).

May not accept a domain that nobody said is verified: what is in doubt is pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from policyd.config.toml.writing import basic_string
from policyd.imports.powershell import Entry
from policyd.policy.names import Pattern, is_below, parse_pattern

TYPES = {0: "Authoritative", 1: "ExternalRelay", 2: "InternalRelay"}

# The fields that a rule below reads.
READ = frozenset(
    {
        *("Name", "DomainName", "DomainType", "MatchSubDomains", "InitialDomain", "IsCoexistenceDomain"),
        *("PendingRemoval", "PendingCompletion", "SendingFromDomainDisabled", "SendingToDomainDisabled"),
        "DistinguishedName",
    }
)

_NO_COUNTERPART = {
    "Default": "policyd has no default domain",
    "OutboundOnly": "policyd decides on mail that comes in by SMTP, and has no key for one direction",
    "CatchAllRecipientID": "a catch-all address belongs into Postfix's virtual_alias_maps",
}
FIELDS = (*READ, *_NO_COUNTERPART)
REMOTE = ("TargetDeliveryDomain", "AllowedOOFType", "TrustedMailInboundEnabled")  # only remote domains have them

_MICROSOFTS = ("onmicrosoft.com", "onmicrosoft.us", "onmicrosoft.de", "partner.onmschina.cn")
_MICROSOFTS_OWN = "is Microsoft's, and no mail server of yours has it"
_ON_PREMISES = (",CN=Services,CN=Configuration,", "CN=First Organization,")  # in a DistinguishedName
_NOT_VERIFIED = {
    "PendingCompletion": "pending: its verification is not complete",
    "PendingRemoval": "pending: it is being removed",
    "SendingFromDomainDisabled": "pending: sending from it is switched off, and there is no key for one direction",
    "SendingToDomainDisabled": "pending: sending to it is switched off, and there is no key for one direction",
}


def why_not_imported(field: str) -> str:
    """Why a field has no counterpart; empty for one that a rule reads and for one that never had an effect."""
    return _NO_COUNTERPART.get(field, "")


@dataclass(frozen=True, slots=True)
class Domains:
    """What the domains of an export became.

    `known`: how other objects call a domain, in lower case, and its entry here; empty for one that was left out.
    """

    accepted: tuple[str, ...]
    pending: tuple[str, ...]
    known: Mapping[str, str]


def split(entries: Iterable[Entry], *, trust_verified: bool) -> Domains:
    """The entries of accepted_domains and of pending_domains; what comes twice is pending if one of them is.

    `x` beside `*.x` is one domain, with all below it: here `*.x` covers x, too.
    """
    texts: dict[str, str] = {}  # of the pattern's name
    patterns: dict[str, Pattern] = {}
    pending: dict[str, Entry] = {}
    called: dict[str, str] = {}
    for entry in entries:
        names = {text.lower() for field in ("Name", "Identity", "DomainName") for text in entry.texts(field)}
        called |= dict.fromkeys(names, "")
        text, pattern = _pattern(entry)
        if pattern is None:
            continue
        called |= dict.fromkeys({*names, pattern.name}, pattern.name)
        if pattern.name in texts:
            entry.note("warning", "DomainName", "it comes more than once; it is pending if one of them is")
        if pattern.name not in texts or (pattern.wildcard and not patterns[pattern.name].wildcard):
            texts[pattern.name], patterns[pattern.name] = text, pattern
        if _is_not_verified(entry) or not trust_verified:
            pending[pattern.name] = entry
        _note_type(entry)
    _note_covered(pending, [pattern for name, pattern in patterns.items() if name not in pending])
    return Domains(
        accepted=tuple(text for name, text in texts.items() if name not in pending),
        pending=tuple(text for name, text in texts.items() if name in pending),
        known={name: texts.get(domain, "") for name, domain in called.items()},
    )


def _pattern(entry: Entry) -> tuple[str, Pattern | None]:
    """An accepted domain's entry as text and pattern; None and a note for what is none of the organization's."""
    text = entry.text("DomainName") or entry.text("Name") or entry.text("Identity")
    entry.name = text or entry.name
    if set(REMOTE) & entry.fields.keys():
        entry.note("left out", "", "this is a remote domain, somebody else's; bring what Get-AcceptedDomain gives")
        return text, None
    below = entry.flag("MatchSubDomains", doubtful=False)
    if not text.startswith("*."):
        text = f"*.{text}" if below else text
    elif not below:
        entry.note("note", "DomainName", f"{basic_string(text)} covers {basic_string(text[2:])} itself too in policyd")
    pattern = parse_pattern(text)
    if pattern is None:
        entry.note("left out", "DomainName", f"{basic_string(text)} is no domain name")
        return text, None
    for field, what in (("InitialDomain", "the initial domain"), ("IsCoexistenceDomain", "the domain of coexistence")):
        if entry.flag(field, doubtful=True):
            entry.note("left out", field, f"{what} {_MICROSOFTS_OWN}")
            return text, None
    if any(pattern.name == name or is_below(pattern.name, name) for name in _MICROSOFTS):
        entry.note("left out", "DomainName", f"the domain {_MICROSOFTS_OWN}")
        return text, None
    return text, pattern


def _is_not_verified(entry: Entry) -> bool:
    """Whether a switch makes the domain pending whatever the administrator trusts; notes each that does."""
    fields = [field for field in _NOT_VERIFIED if entry.flag(field, doubtful=True)]
    for field in fields:
        entry.note("warning", field, _NOT_VERIFIED[field])
    on_premises = any(part.lower() in entry.text("DistinguishedName").lower() for part in _ON_PREMISES)
    if on_premises:
        message = "pending: it is of an on-premises server, where nobody verified that the domain is the organization's"
        entry.note("warning", "DistinguishedName", message)
    return on_premises or bool(fields)


def _note_type(entry: Entry) -> None:
    kind = entry.choice("DomainType", TYPES)
    if kind in ("InternalRelay", "ExternalRelay"):
        message = (
            f"{kind} makes no difference here: in Postfix, relay_domains and transport_maps say where its mail goes"
        )
        entry.note("note", "DomainType", message)
    elif not kind:
        entry.note("note", "DomainType", "it is none that policyd knows; it makes no difference here")


def _note_covered(pending: Mapping[str, Entry], accepted: Sequence[Pattern]) -> None:
    """Warns of pending domains that are accepted all the same, since a wildcard above them is."""
    wildcards = [pattern for pattern in accepted if pattern.wildcard]
    for name, entry in pending.items():
        above = next((wildcard for wildcard in wildcards if wildcard.covers(name)), None)
        if above is not None:
            message = f"pending, but {basic_string(str(above))} is accepted and covers it: its mail counts all the same"
            entry.note("warning", "DomainName", message)
