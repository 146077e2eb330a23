"""Connectors and accepted domains of Exchange as an organization of policyd, with a report.

Reads what `Get-InboundConnector` and `Get-AcceptedDomain` give, in whatever form it was kept, and of an Exchange
server's `Get-ReceiveConnector` what can be read. Every field is carried over or noted with the reason, and nothing
becomes wider than it was. Implements `policyd import exchange` (SPEC 7); files and encodings are `export_files`', the
rules for connectors `exchange_connectors`', those for domains `exchange_domains`', the check of the result `proof`'s.
"""

from __future__ import annotations

import filecmp
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from policyd.config.toml.writing import basic_string
from policyd.imports import exchange_connectors, exchange_domains
from policyd.imports.export_files import read_objects
from policyd.imports.found import Found, Imported, ImportFailedError, Kind, Names, Note
from policyd.imports.powershell import AddNote, Entry, name_of_type
from policyd.imports.proof import made_to_pass

_PLURAL = {"connector": "inbound connectors", "domain": "accepted domains"}
_RULES = {"connector": exchange_connectors, "domain": exchange_domains}
_COMMANDS = {
    "connector": "Get-InboundConnector | ConvertTo-Json -Depth 4 > connectors.json",
    "domain": "Get-AcceptedDomain | ConvertTo-Json -Depth 4 > domains.json",
}
_RESOURCES: dict[str, Kind] = {"exoinboundconnector": "connector", "exoaccepteddomain": "domain"}  # Microsoft365DSC's
_OF_CONNECTORS = {"ConnectorType", *exchange_connectors.ON_PREMISES, *exchange_connectors.OUTBOUND}
_OF_DOMAINS = {"DomainType", *exchange_domains.REMOTE}
_OF_ALL = ("Ensure", "ResourceName")
_TENANT = ("OrganizationId", "OrganizationalUnitRoot")  # what names an object's tenant
# PowerShell takes no account of letter case in the names of fields, so neither do we: as Exchange writes them.
_FIELDS = {
    field.lower(): field
    for field in (
        *(field for rules in _RULES.values() for field in rules.FIELDS),
        *(_OF_CONNECTORS | _OF_DOMAINS),
        *("Identity", *_OF_ALL, *_TENANT),
    )
}


def import_exchange(
    organization: str, *, connectors: Path | None, domains: Path | None, trust_verified: bool = False
) -> Imported:
    """The exports as one organization that passes the check, and the report.

    `trust_verified` takes Microsoft's word that the domains are the organization's. Raises ImportFailedError for
    files that are no exports.
    """
    notes: list[Note] = []
    entries: list[Entry] = []
    files: list[tuple[Path, str]] = [
        (path, kind) for path, kind in ((connectors, "connector"), (domains, "domain")) if path
    ]
    if len(files) == 2 and _is_one_file(files[0][0], files[1][0]):
        files = [(files[0][0], "")]
    for path, given_as in files:
        entries.extend(_entries(path, given_as, notes.append))
    _refuse_two_tenants(entries)
    of_kind = {kind: [entry for entry in entries if entry.kind == kind] for kind in _RULES}
    found = exchange_domains.split(of_kind["domain"], trust_verified=trust_verified)
    names = Names()
    sections = [
        section for entry in of_kind["connector"] for section in exchange_connectors.sections(entry, names, found)
    ]
    notes.sort(key=lambda note: note.kind == "domain")  # after the connectors, though theirs must be known first
    imported = made_to_pass(Found(organization, found.accepted, found.pending, tuple(sections)), notes)
    if trust_verified or not imported.found.pending_domains:
        return imported
    message = (
        "all accepted domains come in as pending_domains, which count nowhere: that Microsoft verified them is no "
        "proof to you. Move each to accepted_domains when you have verified it, or import with --trust-verified"
    )
    note = Note("warning", "organization", organization, "pending_domains", message)
    return replace(imported, notes=(*imported.notes, note))


def _is_one_file(one: Path, other: Path) -> bool:
    """Whether both are the same file, or copies of one."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except (OSError, ValueError):  # reading it will tell
        return False


def _entries(path: Path, given_as: str, note: AddNote) -> list[Entry]:
    """The objects of a file, each as what it is, with notes on those that belong into the other file.

    `given_as` is empty for a file that was given as both.
    """
    command = _COMMANDS[given_as] if given_as else " ; ".join(_COMMANDS.values())
    objects = [_as_written_by_exchange(fields) for fields in read_objects(path, frozenset(_FIELDS), command)]
    if objects and not any({"DomainName", *_OF_CONNECTORS, *_OF_DOMAINS} & fields.keys() for fields in objects):
        raise ImportFailedError(_no_export(path, objects, command))
    objects = _without_other_resources(path, objects, note)
    entries = [Entry(fields, _kind(fields, given_as), note) for fields in objects]
    for kind, plural in _PLURAL.items():
        of_kind = [entry for entry in entries if entry.kind == kind]
        if of_kind and given_as and kind != given_as:
            much = "holds" if len(of_kind) == len(entries) else f"holds beside {_PLURAL[given_as]} also"
            message = f"{much} {plural}: are the two files swapped? Each object was read as what it is"
            note(Note("warning", "file", str(path), "", message))
        for entry in of_kind:
            _refuse_lost_lists(path, entry)
        _note_other_fields(path, of_kind, note)
    return [entry for entry in entries if _is_there(entry)]


def _as_written_by_exchange(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object with its fields' usual names, and without what the admin API says about their types."""
    return {_FIELDS.get(field.lower(), field): value for field, value in fields.items() if "@" not in field}


def _no_export(path: Path, objects: list[Mapping[str, Any]], command: str) -> str:
    message = f"{path}:1: this is no export: no object in it has a ConnectorType or DomainType"
    lists = [key for key, value in objects[0].items() if isinstance(value, list | dict)] if len(objects) == 1 else []
    if not lists:
        return f"{message}. Bring one: {command}"
    parts = ", ".join(basic_string(key[:60]) for key in lists[:5])
    one = lists[0] if re.fullmatch(r"\w{1,60}", lists[0]) else "PART"
    return (
        f"{message}; what it has stands in parts of their own ({parts}). Bring the one of this tenant: "
        f"(Get-Content FILE -Raw | ConvertFrom-Json).{one} | ConvertTo-Json -Depth 4 > NEW.json"
    )


def _without_other_resources(path: Path, objects: list[Mapping[str, Any]], note: AddNote) -> list[Mapping[str, Any]]:
    """The objects without the other resources of a Microsoft365DSC report, which are counted."""
    others = Counter(
        name for fields in objects if (name := str(fields.get("ResourceName") or "")) and name.lower() not in _RESOURCES
    )
    for name, count in others.items():
        message = f"{basic_string(name[:60])} ({count}): neither an inbound connector nor an accepted domain"
        note(Note("left out", "file", str(path), "ResourceName", message))
    return [fields for fields in objects if str(fields.get("ResourceName") or "") not in others]


def _kind(fields: Mapping[str, Any], given_as: str) -> Kind:
    """What an object is: its type tells; where it has both types or none, the option under which the file came."""
    resource = _RESOURCES.get(str(fields.get("ResourceName") or "").lower())
    if resource is not None:
        return resource
    of_connectors, of_domains = _OF_CONNECTORS & fields.keys(), _OF_DOMAINS & fields.keys()
    if of_connectors and not of_domains:
        return "connector"
    if of_domains and not of_connectors:
        return "domain"
    return "domain" if given_as == "domain" or (not given_as and "DomainName" in fields) else "connector"


def _is_there(entry: Entry) -> bool:
    """Whether a resource of Microsoft365DSC is one that shall be: `Ensure` can also say that there shall be none."""
    ensured = entry.text("Ensure")
    if ensured.lower() in ("", "present"):
        return True
    entry.note("left out", "Ensure", f"{basic_string(ensured)}: the resource says that it shall not be there")
    return False


def _refuse_lost_lists(path: Path, entry: Entry) -> None:
    """Raises ImportFailedError where a list that counts came as the name of its type: nobody knows what was in it."""
    for field, value in entry.fields.items():
        if field in _RULES[entry.kind].READ and (lost := name_of_type(value)):
            raise ImportFailedError(
                f"{path}: {entry.kind} {basic_string(entry.name)}: {field} is {basic_string(lost)}, the name of a type "
                "in place of the values, as Export-Csv writes every list. Bring them as JSON: "
                f"{_COMMANDS[entry.kind]}"
            )


def _refuse_two_tenants(entries: Iterable[Entry]) -> None:
    """Raises ImportFailedError where objects say that they are of different tenants: one's servers, other's domains."""
    for field in _TENANT:
        tenants = dict.fromkeys(text for entry in entries if (text := _plain(entry.fields.get(field))))
        if len(tenants) > 1:
            one, other, *_ = (basic_string(tenant[:120]) for tenant in tenants)
            raise ImportFailedError(
                f"the objects are of several tenants ({field} is {one} and {other}): an organization is one of them; "
                "import each tenant's own two files"
            )


def _plain(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


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
            elif field not in rules.READ and field not in _OF_ALL:
                others[field] = None
    if others:
        fields = ", ".join(field if re.fullmatch(r"\w{1,60}", field) else basic_string(field[:60]) for field in others)
        note(Note("note", "file", str(path), "", f"not imported, since they decide nothing in policyd: {fields}"))
