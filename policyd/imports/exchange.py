"""Inbound connectors and accepted domains of Exchange Online as an organization of policyd, with a report.

Reads what `Get-InboundConnector | ConvertTo-Json` and `Get-AcceptedDomain | ConvertTo-Json` wrote. Every field is
carried over or noted with the reason, and nothing becomes wider than it was. Implements `policyd import exchange`
(SPEC 7); shapes and encodings are `powershell`'s, the rules for connectors `exchange_connectors`', those for
domains `exchange_domains`', the check of the result `proof`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from policyd.config.toml.writing import basic_string
from policyd.imports import exchange_connectors, exchange_domains
from policyd.imports.found import Found, Imported, ImportFailedError, Kind, Names, Note
from policyd.imports.powershell import AddNote, Entry, read_objects
from policyd.imports.proof import made_to_pass

_PLURAL = {"connector": "inbound connectors", "domain": "accepted domains"}
_RULES = {"connector": exchange_connectors, "domain": exchange_domains}


def import_exchange(
    organization: str, *, connectors: Path | None, domains: Path | None, trust_verified: bool = False
) -> Imported:
    """The exports as one organization that passes the check, and the report.

    `trust_verified` takes Microsoft's word that the domains are the organization's. Raises ImportFailedError for
    files that are no exports.
    """
    notes: list[Note] = []
    entries: list[Entry] = []
    for path, given_as in ((connectors, "connector"), (domains, "domain")):
        if path is not None:
            entries.extend(_entries(path, given_as, notes.append))
    names, of_kind = Names(), {kind: [entry for entry in entries if entry.kind == kind] for kind in _RULES}
    sections = [section for entry in of_kind["connector"] for section in exchange_connectors.sections(entry, names)]
    accepted, pending = exchange_domains.split(of_kind["domain"], trust_verified=trust_verified)
    imported = made_to_pass(Found(organization, tuple(accepted), tuple(pending), tuple(sections)), notes)
    if trust_verified or not imported.found.pending_domains:
        return imported
    message = (
        "all accepted domains come in as pending_domains, which count nowhere: that Microsoft verified them is no "
        "proof to you. Move each to accepted_domains when you have verified it, or import with --trust-verified"
    )
    note = Note("warning", "organization", organization, "pending_domains", message)
    return replace(imported, notes=(*imported.notes, note))


def _entries(path: Path, given_as: str, note: AddNote) -> list[Entry]:
    """The objects of a file, each as what it is, with notes on those that belong into the other file."""
    objects = read_objects(path)
    if objects and not any({"ConnectorType", "DomainType", "DomainName"} & fields.keys() for fields in objects):
        raise ImportFailedError(f"{path}:1: this is no export: no object in it has a ConnectorType or DomainType")
    entries = [Entry(fields, _kind(fields, given_as), note) for fields in objects]
    for kind, plural in _PLURAL.items():
        of_kind = [entry for entry in entries if entry.kind == kind]
        if of_kind and kind != given_as:
            much = "holds" if len(of_kind) == len(entries) else f"holds beside {_PLURAL[given_as]} also"
            message = f"{much} {plural}: are the two files swapped? Each object was read as what it is"
            note(Note("warning", "file", str(path), "", message))
        _note_other_fields(path, of_kind, note)
    return entries


def _kind(fields: Mapping[str, Any], given_as: str) -> Kind:
    """What an object is: its type tells; where it has both types or none, the option under which the file came."""
    if "ConnectorType" in fields and "DomainType" not in fields:
        return "connector"
    if "DomainType" in fields and "ConnectorType" not in fields:
        return "domain"
    return "connector" if given_as == "connector" else "domain"


def _note_other_fields(path: Path, entries: Iterable[Entry], note: AddNote) -> None:
    """Notes the fields that no rule reads: one by one where one had an effect, the rest by name."""
    others: dict[str, None] = {}
    for entry in entries:
        rules = _RULES[entry.kind]
        for field in entry.fields:
            reason = rules.why_not_imported(field)
            if reason:
                if entry.is_set(field):
                    entry.note("note", field, f"not imported: {reason}")
            elif field not in rules.READ:
                others[field] = None
    if others:
        fields = ", ".join(field if re.fullmatch(r"\w{1,60}", field) else basic_string(field[:60]) for field in others)
        note(Note("note", "file", str(path), "", f"not imported, since they decide nothing in policyd: {fields}"))
