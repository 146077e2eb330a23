"""Postfix's relay_clientcerts, check_ccert_access tables and mynetworks as connectors of one organization.

Reads the tables that grant relaying, and says what becomes stricter: those clients relayed any sender
to anywhere, a connector relays only mail that belongs to its organization. Implements `policyd import postfix`
(SPEC 7). May not guess: what a table lookup, a host name or an action other than a permission would do is noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from policyd.config.toml.writing import basic_string
from policyd.imports.found import Found, Imported, Kind, Names, Note, Section, description
from policyd.imports.mynetworks import read_networks
from policyd.imports.postfix_grants import Sources
from policyd.imports.postfix_tables import table_lines
from policyd.imports.proof import made_to_pass
from policyd.policy.fingerprints import DIGESTS, colons, parse_fingerprint
from policyd.postfix.text import PostconfError

_PERMISSION = re.compile(r"(?:OK|PERMIT)(?:\s+(?P<text>.*))?", re.IGNORECASE | re.DOTALL)


@dataclass(slots=True)
class _Pins:
    """The fingerprints that may relay, each with a connector's wanted name and description, and those refused."""

    permitted: dict[str, tuple[str, str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # fingerprint -> file:line


def import_postfix(organization: str, sources: Sources) -> Imported:
    """The sources as one organization that passes the check, and the report. Raises ImportFailedError for bad files."""
    notes = list(sources.notes)
    pins = _Pins()
    for table in sources.relay_clientcerts:
        for place, fingerprint, value in _entries(table, "relay_clientcerts", sources, notes):
            _permit(pins, fingerprint, (value, "from relay_clientcerts of Postfix"), place, notes)
    for table in sources.ccert_access:
        _read_access(table, pins, sources, notes)
    for table in sources.ccert_refusals:
        _read_access(table, _Pins(refused=pins.refused), sources, [])  # its permissions open nothing, and that is noted
    names = Names()
    sections = [_pinned(names, pins, fingerprint, notes) for fingerprint in pins.permitted]
    if sources.mynetworks:
        addresses, safe = read_networks(sources.mynetworks, notes, sources.postfix)
        if addresses:
            described: dict[str, object] = {"description": "from mynetworks of Postfix", "addresses": addresses}
            name = names.take("connectors", "mynetworks")
            sections.append(Section("connectors", name, name, described | ({} if safe else {"enabled": False})))
    imported = made_to_pass(Found(organization, sections=tuple(sections), asks_for_domains=True), notes)
    return Imported(imported.found, imported.text, (*imported.notes, *_stricter(imported.found)))


def _entries(table: str, parameter: str, sources: Sources, notes: list[Note]) -> Iterator[tuple[str, str, str]]:
    """(place, fingerprint, value) of each entry of a table; a repeated key counts once, as for postmap."""

    def leave_out(place: str, message: str, kind: Kind = "entry") -> None:
        notes.append(Note("left out", kind, place, parameter, message))

    try:
        lines = table_lines(table, sources.postfix)
    except PostconfError as error:
        leave_out(table, f"{error}: write its certificates as connectors by hand", "file")
        return
    seen: dict[str, str] = {}
    for place, line in lines:
        key, *rest = line.split(maxsplit=1)
        pin = parse_fingerprint(key)
        fingerprint = colons(pin or "")
        if not rest:
            leave_out(place, f"{basic_string(key)} has no value after it, so postmap leaves it out too")
        elif pin is None:
            leave_out(place, f"{basic_string(key)} is no fingerprint of 16, 20, 32, 48 or 64 octets in hex")
        elif fingerprint in seen:
            leave_out(place, f"{fingerprint} stands at {seen[fingerprint]} already; the first counts")
        else:
            seen[fingerprint] = place
            _note_digest(key, DIGESTS[len(pin)], sources.digest, place, parameter, notes)
            yield place, fingerprint, rest[0]


def _note_digest(key: str, of_key: str, digest: str, place: str, parameter: str, notes: list[Note]) -> None:
    """Notes entries that Postfix as configured could never match. (The check warns of weak digests.)"""
    if digest in DIGESTS.values() and digest != of_key:
        message = f"a fingerprint of {of_key}, but smtpd_tls_fingerprint_digest is {digest}: nothing matches it"
        notes.append(Note("warning", "entry", place, parameter, message))
    if ":" not in key:
        message = "a fingerprint without colons, which Postfix never matched; policyd does"
        notes.append(Note("warning", "entry", place, parameter, message))


def _read_access(table: str, pins: _Pins, sources: Sources, notes: list[Note]) -> None:
    """Takes the permissions out of an access table; every other action is noted."""
    for place, fingerprint, action in _entries(table, "check_ccert_access", sources, notes):
        permission = _PERMISSION.fullmatch(action)
        if permission is not None:
            wanted = permission["text"] or f"certificate-{fingerprint[:11].replace(':', '')}"
            _permit(pins, fingerprint, (wanted, "from check_ccert_access of Postfix"), place, notes)
            continue
        reason = (
            "Postfix takes it for OK, but it may be meant as a refusal" if action.isdigit() else "it is no permission"
        )
        message = f"the action {basic_string(action)} is not carried over: {reason}"
        notes.append(Note("left out", "entry", place, "check_ccert_access", message))
        if action.split()[0].upper() not in ("DUNNO", "INFO", "WARN", "PREPEND"):
            pins.refused.setdefault(fingerprint, place)


def _permit(pins: _Pins, fingerprint: str, described: tuple[str, str], place: str, notes: list[Note]) -> None:
    if fingerprint in pins.permitted:
        notes.append(Note("note", "entry", place, "", f"{fingerprint} has a connector already"))
    pins.permitted.setdefault(fingerprint, described)


def _pinned(names: Names, pins: _Pins, fingerprint: str, notes: list[Note]) -> Section:
    """The connector of one fingerprint: Postfix looks up the certificate's and the public key's in the same table."""
    original, source = pins.permitted[fingerprint]
    name = names.take("connectors", original)
    values = description(name, original, source)
    values |= {"certificate_fingerprints": [fingerprint], "public_key_fingerprints": [fingerprint]}
    if fingerprint in pins.refused:
        values["enabled"] = False
        message = f"disabled: {pins.refused[fingerprint]} has another action than OK for it; enable it if it may relay"
        notes.append(Note("warning", "connector", original, "", message))
    return Section("connectors", name, original, values)


def _stricter(found: Found) -> Iterator[Note]:
    """What changes for those who could relay so far."""

    def note(name: str, message: str) -> Note:
        return Note("warning", "organization", found.organization, name, message)

    if not found.sections:
        return
    keys = {key for section in found.sections for key in section.values}
    yield note(
        "stricter",
        f"so far these clients could relay any sender to anywhere. As connectors they send only mail that belongs to "
        f"{basic_string(found.organization)}: its sender's or recipient's domain is accepted there. All else is "
        "refused",
    )
    yield note("accepted_domains", "add them: until then no mail belongs, and all of these clients are refused")
    if "certificate_fingerprints" in keys:
        yield note(
            "permit_tls_clientcerts",
            "stricter: bounces and forwarded mail to others are refused, unless the certificate is trusted and its CN "
            "is one of the organization's names (or certificate_files names it). Take permit_tls_clientcerts and the "
            "check_ccert_access tables out of main.cf: before policyd, they grant relaying to anywhere",
        )
    if "addresses" in keys:
        yield note(
            "mynetworks",
            "stricter: bounces and forwarded mail to others are refused, since an address proves no domain. Take these "
            "networks out of mynetworks: permit_mynetworks lets them relay to anywhere before policyd is asked",
        )
    yield note("organization", "all came into one organization: move the connectors of others to theirs")
