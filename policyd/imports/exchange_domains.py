"""Accepted domains of Exchange Online as `accepted_domains` and `pending_domains` (SPEC 7, import).

May not accept a domain that nobody said is verified: what is in doubt is pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policyd.config.toml.writing import basic_string
from policyd.imports.powershell import Entry
from policyd.policy.names import Pattern, parse_pattern

TYPES = {0: "Authoritative", 1: "ExternalRelay", 2: "InternalRelay"}

# The fields that a rule below reads.
READ = frozenset(
    {
        *("Name", "DomainName", "DomainType", "MatchSubDomains", "InitialDomain", "PendingRemoval"),
        *("PendingCompletion", "SendingFromDomainDisabled", "SendingToDomainDisabled"),
    }
)

_NO_COUNTERPART = {
    "Default": "policyd has no default domain",
    "OutboundOnly": "policyd decides on mail that comes in by SMTP, and has no key for one direction",
    "CatchAllRecipientID": "a catch-all address belongs into Postfix's virtual_alias_maps",
}
_NOT_VERIFIED = {
    "PendingCompletion": "pending: its verification is not complete",
    "PendingRemoval": "pending: it is being removed",
    "SendingFromDomainDisabled": "pending: sending from it is switched off, and there is no key for one direction",
    "SendingToDomainDisabled": "pending: sending to it is switched off, and there is no key for one direction",
}


def why_not_imported(field: str) -> str:
    """Why a field has no counterpart; empty for one that a rule reads and for one that never had an effect."""
    return _NO_COUNTERPART.get(field, "")


def split(entries: Iterable[Entry], *, trust_verified: bool) -> tuple[list[str], list[str]]:
    """The entries of accepted_domains and of pending_domains; what comes twice is pending if one of them is."""
    texts: dict[Pattern, str] = {}
    pending: dict[Pattern, Entry] = {}
    for entry in entries:
        text = entry.text("DomainName") or entry.text("Name")
        entry.name = text or entry.name
        if entry.flag("MatchSubDomains", doubtful=False) and not text.startswith("*."):
            text = f"*.{text}"
        pattern = parse_pattern(text)
        if pattern is None:
            entry.note("left out", "DomainName", f"{basic_string(text)} is no domain name")
            continue
        if entry.flag("InitialDomain", doubtful=True):
            message = "the initial domain is Microsoft's, and no mail server of yours has it"
            entry.note("left out", "InitialDomain", message)
            continue
        if pattern in texts:
            entry.note("warning", "DomainName", "it comes more than once; it is pending if one of them is")
        texts.setdefault(pattern, text)
        if _is_not_verified(entry) or not trust_verified:
            pending[pattern] = entry
        _note_type(entry)
    accepted = [pattern for pattern in texts if pattern not in pending]
    _note_covered(pending, accepted)
    return [texts[pattern] for pattern in accepted], [texts[pattern] for pattern in texts if pattern in pending]


def _is_not_verified(entry: Entry) -> bool:
    """Whether a switch makes the domain pending whatever the administrator trusts; notes each that does."""
    fields = [field for field in _NOT_VERIFIED if entry.flag(field, doubtful=True)]
    for field in fields:
        entry.note("warning", field, _NOT_VERIFIED[field])
    return bool(fields)


def _note_type(entry: Entry) -> None:
    kind = entry.choice("DomainType", TYPES)
    if kind in ("InternalRelay", "ExternalRelay"):
        message = (
            f"{kind} makes no difference here: in Postfix, relay_domains and transport_maps say where its mail goes"
        )
        entry.note("note", "DomainType", message)
    elif not kind:
        entry.note("note", "DomainType", "it is none that policyd knows; it makes no difference here")


def _note_covered(pending: dict[Pattern, Entry], accepted: Sequence[Pattern]) -> None:
    """Warns of pending domains that are accepted all the same, since a wildcard above them is."""
    wildcards = {pattern for pattern in accepted if pattern.wildcard}
    for pattern, entry in pending.items():
        above = next((wildcard for wildcard in wildcards if wildcard.covers(pattern.name)), None)
        if above is not None:
            message = f"pending, but {basic_string(str(above))} is accepted and covers it: its mail counts all the same"
            entry.note("warning", "DomainName", message)
