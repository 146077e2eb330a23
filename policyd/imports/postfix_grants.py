"""What lets clients relay through a Postfix, by certificate or address: read from main.cf and master.cf alike.

Takes only what really opens relaying at an smtpd (`Lists.lets_relay`); what else could permit is noted. `postfix` makes
connectors of it. May not change anything: it only runs `postconf` and `postmap`. Implements `policyd import postfix
--config DIR` (SPEC 7).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

from policyd.config.text import listed
from policyd.imports.found import ImportFailedError, Note
from policyd.imports.postfix_tables import kind_and_path
from policyd.postfix.access_tables import actions
from policyd.postfix.actions import permits, refuses
from policyd.postfix.lists import DECIDING, Lists
from policyd.postfix.postconf import Postfix, read_postfix
from policyd.postfix.restrictions import Restriction, parse_list, words
from policyd.postfix.text import TEXT_TYPES, PostconfError, PostconfMissingError

_CERTIFICATES = Restriction("permit_tls_clientcerts")
_NETWORKS = Restriction("permit_mynetworks")
_CERTIFICATE_TABLE = "check_ccert_access"
_CLIENT_TABLES = ("check_client_access", "check_implied_access")
_LISTED_TYPES = (*TEXT_TYPES, "cidr", "pcre", "regexp")
_ADDRESS = re.compile(r"[0-9]+\.|.*:")  # how the key begins that is an address, a network, or the begin of one
_ASKING = ("smtpd_tls_ask_ccert", "smtpd_tls_req_ccert")

_NO_USE = "no list that opens relaying permits by it (restriction classes that a table leads to are not followed)"
_LISTED_ELSEWHERE = (
    "clients that it permits relay to anywhere: write connectors for those that you mean, and take it out"
)
_UNKNOWN_CLIENTS = {
    "permit_tls_all_clientcerts": "every certificate that a CA in smtpd_tls_CAfile signed may relay, and nothing says "
    "which there are: write a connector for each (policyd certificate --connector), and take this out of main.cf",
    "permit_dnswl_client": _LISTED_ELSEWHERE,
    "permit_rhswl_client": _LISTED_ELSEWHERE,
}
_NO_CERTIFICATES = "it is not yes, so no client could show its certificate so far"
_CLIENTS_PERMITTED = (
    "an OK in it relays to anywhere, and it holds other things than addresses too: write its servers as connectors by "
    "hand, and take it out of the list before policyd"
)
_OTHERS_PERMITTED = (
    "an OK in it relays whoever the client is, which no connector says: take it out of the list before policyd"
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What grants relaying: tables as `type:path` or a path, networks as text; and the digest of fingerprints."""

    relay_clientcerts: tuple[str, ...] = ()
    ccert_access: tuple[str, ...] = ()
    ccert_refusals: tuple[str, ...] = ()  # tables whose permissions open nothing, but which can refuse
    mynetworks: tuple[str, ...] = ()
    digest: str = ""  # smtpd_tls_fingerprint_digest; empty: not known
    notes: tuple[Note, ...] = ()
    postfix: Postfix | None = None  # whose main.cf names the tables


@dataclass(frozen=True, slots=True)
class _Contents:
    """The keys and actions of an access table, or why it cannot be listed."""

    entries: tuple[tuple[str, str], ...] = ()
    reason: str = ""


def sources_of(folder: Path) -> Sources:
    """The sources that count in the configuration in `folder`.

    Raises PostconfMissingError, and ImportFailedError with postconf's own words.
    """
    try:
        postfix = read_postfix(str(folder))
    except PostconfMissingError:
        raise
    except PostconfError as error:
        raise ImportFailedError(f"{folder}: {error}") from None
    smtpds = [Lists(postfix, service, frozenset()) for service in postfix.services or (None,)]
    smtpds = [lists for lists in smtpds if not lists.is_local]
    everywhere = [Lists(postfix, None, frozenset()), *smtpds]
    contents = {name: _contents(postfix, name) for name in _unique(table.argument for table in _tables(smtpds))}
    clientcerts = _unique(
        table for lists in smtpds if lists.lets_relay(_CERTIFICATES) for table in _relay_clientcerts(lists)
    )
    ccert_access = _unique(_certificate_tables(smtpds, granting=True))
    unused = _unique(table for table in _certificate_tables(everywhere) if table not in ccert_access)
    trusting = [lists for lists in smtpds if lists.lets_relay(_NETWORKS)]
    digests = {lists.value("smtpd_tls_fingerprint_digest") for lists in smtpds}
    return Sources(
        relay_clientcerts=clientcerts,
        ccert_access=ccert_access,
        ccert_refusals=unused,
        mynetworks=_unique(_networks(lists, contents) for lists in trusting if not _means_this_machine(lists)),
        digest=digests.pop() if len(digests) == 1 else "",
        notes=_unique(
            chain(
                _notes_on_certificates(everywhere, {*clientcerts, *ccert_access}),
                (_left_out(table, _CERTIFICATE_TABLE, _NO_USE) for table in unused),
                _notes_on_unknown_clients(smtpds),
                _notes_on_networks(everywhere, trusting),
                (note for lists in smtpds for note in _notes_on_tables(lists, contents)),
            )
        ),
        postfix=postfix,
    )


def _relay_clientcerts(lists: Lists) -> list[str]:
    return [word.text for word in words(lists.value("relay_clientcerts"))]


def _classes(lists: Lists) -> dict[str, str]:
    return {word.text: lists.value(word.text) for word in words(lists.value("smtpd_restriction_classes"))}


def _certificate_tables(smtpds: Iterable[Lists], *, granting: bool = False) -> Iterator[str]:
    """The tables of check_ccert_access: those whose OK opens relaying, or all, also of classes that no list names."""
    for lists in smtpds:
        of_classes = [] if granting else [parse_list(text, {}) for text in _classes(lists).values()]
        for restriction in chain(*lists.all.values(), *of_classes):
            if restriction.name == _CERTIFICATE_TABLE and (not granting or lists.lets_relay(restriction)):
                yield restriction.argument


def _tables(smtpds: Iterable[Lists]) -> Iterator[Restriction]:
    for lists in smtpds:
        yield from (restriction for restriction in chain(*lists.all.values()) if restriction.is_table)


def _contents(postfix: Postfix, table: str) -> _Contents:
    try:
        return _Contents(tuple(actions(postfix, table)))
    except PostconfError as error:
        return _Contents(reason=str(error))


def _networks(lists: Lists, contents: Mapping[str, _Contents]) -> str:
    """mynetworks, without those whom an access table refuses before permit_mynetworks."""
    refused = [
        f"!{key}"
        for restriction in chain(*lists.until(_NETWORKS))
        if restriction.name in _CLIENT_TABLES
        for key, action in contents[restriction.argument].entries
        if refuses(action) and _ADDRESS.match(key)
    ]
    return " ".join([*refused, lists.value("mynetworks")])


def _means_this_machine(lists: Lists) -> bool:
    """Whether mynetworks is set nowhere and so holds Postfix's own addresses."""
    overridden = lists.service is not None and "mynetworks" in lists.service.overrides
    is_set = overridden or "mynetworks" in lists.postfix.lines
    return not is_set and lists.value("mynetworks_style") == "host"


def _notes_on_certificates(everywhere: Iterable[Lists], used: Collection[str]) -> Iterator[Note]:
    """Certificates that nobody relays by, and what keeps clients from showing theirs."""
    for lists in everywhere:
        for table in _relay_clientcerts(lists):
            if table not in used:
                yield _left_out(table, "relay_clientcerts", _NO_USE)
    if used and not any(lists.value(name).lower() == "yes" for lists in everywhere for name in _ASKING):
        yield Note("warning", "file", "main.cf", _ASKING[0], _NO_CERTIFICATES)


def _notes_on_unknown_clients(smtpds: Iterable[Lists]) -> Iterator[Note]:
    """Permissions for clients that nothing here names."""
    for lists in smtpds:
        for restriction in chain(*lists.all.values()):
            if restriction.name in _UNKNOWN_CLIENTS and lists.lets_relay(restriction):
                yield _left_out("main.cf", restriction.name, _UNKNOWN_CLIENTS[restriction.name])


def _notes_on_networks(everywhere: Iterable[Lists], trusting: Collection[Lists]) -> Iterator[Note]:
    """Networks that nobody relays by."""
    used = {lists.value("mynetworks") for lists in trusting}
    if any(map(_means_this_machine, trusting)):
        message = "it is not set, so it means this machine itself, which needs no connector"
        yield _left_out("main.cf", "mynetworks", message)
    for lists in everywhere:
        networks = lists.value("mynetworks")
        if networks and networks not in used and not _means_this_machine(lists):
            yield Note("left out", "entry", networks, "mynetworks", _NO_USE)


def _notes_on_tables(lists: Lists, contents: Mapping[str, _Contents]) -> Iterator[Note]:
    """What the tables of an smtpd do that no connector says: lead to restriction classes, or permit others."""
    classes = _classes(lists)
    for name, restrictions in lists.all.items():
        for table in restrictions:
            if table.is_table:
                for message in _messages(table, contents[table.argument], lists, classes, name in DECIDING):
                    yield _left_out(table.argument, table.name, message)


def _messages(
    table: Restriction, contents: _Contents, lists: Lists, classes: Collection[str], deciding: bool
) -> Iterator[str]:
    named = {word.text for _, action in contents.entries for word in words(action) if word.text in classes}
    if named:
        yield f"it leads to {listed(sorted(named))}: what such a class permits is not carried over"
    if table.name == _CERTIFICATE_TABLE:
        return
    if any(permits(action) for _, action in contents.entries) and lists.lets_relay(table):
        yield _CLIENTS_PERMITTED if table.name in _CLIENT_TABLES else _OTHERS_PERMITTED
    kind, _ = kind_and_path(table.argument)
    if contents.reason and (deciding or kind not in _LISTED_TYPES):
        yield f"what it permits is not carried over, since it cannot be listed: {contents.reason}"


def _left_out(name: str, parameter: str, message: str) -> Note:
    return Note("left out", "file", name, parameter, message)


def _unique(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))
