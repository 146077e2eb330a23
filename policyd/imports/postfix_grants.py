"""Where a Postfix grants relaying by certificate or address: read from `postconf`, main.cf and master.cf alike.

Finds the tables and networks; `postfix` makes connectors of them. May not change anything: it only runs
`postconf`. Implements `policyd import postfix --config DIR` (SPEC 7).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from policyd.imports.found import ImportFailedError, Note

_TOKEN = re.compile(r"\{((?:[^{}]|\{[^{}]*\})*)\}|([^\s,{}]+)")  # a word, or what is in braces (one more pair inside)


class PostconfMissingError(Exception):
    """There is no `postconf` on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What grants relaying: tables as `type:path` or a path, networks as text; and the digest of fingerprints."""

    relay_clientcerts: tuple[str, ...] = ()
    ccert_access: tuple[str, ...] = ()
    mynetworks: tuple[str, ...] = ()
    digest: str = ""  # smtpd_tls_fingerprint_digest; empty: not known
    notes: tuple[Note, ...] = ()


def sources_of(folder: Path) -> Sources:
    """The sources that the configuration in `folder` names.

    Raises PostconfMissingError, and ImportFailedError with postconf's own words.
    """
    main = dict(_parameters(folder))
    overrides = [(name.rpartition("/")[2], value) for name, value in _parameters(folder, "-P")]
    explicit = {name for name, _ in _parameters(folder, "-n")}
    everywhere = [*main.items(), *overrides]
    notes: list[Note] = []
    networks = [value for name, value in everywhere if name == "mynetworks" and value]
    if "mynetworks" not in explicit and main.get("mynetworks_style") == "host":
        message = "it is not set, so it means this machine itself, which needs no connector"
        notes.append(Note("left out", "file", "main.cf", "mynetworks", message))
        networks = [value for name, value in overrides if name == "mynetworks" and value]
    lists = list(_restriction_lists(main, overrides))
    if any("permit_tls_all_clientcerts" in words for words in lists):
        message = (
            "every certificate that a CA in smtpd_tls_CAfile signed may relay, and nothing says which there are: write "
            "a connector for each (policyd certificate --connector), and take this out of main.cf"
        )
        notes.append(Note("left out", "file", "main.cf", "permit_tls_all_clientcerts", message))
    for table in _unique(t for each in _relay_lists(everywhere) for t in _tables_of(each, "check_client_access")):
        message = (
            "an OK in it relays to anywhere, and it holds other things than addresses too: write its servers as "
            "connectors by hand, and take it out of the list before policyd"
        )
        notes.append(Note("left out", "file", table, "check_client_access", message))
    return Sources(
        relay_clientcerts=_unique(
            table for name, value in everywhere if name == "relay_clientcerts" for table in words(value)
        ),
        ccert_access=_unique(table for each in lists for table in _tables_of(each, "check_ccert_access")),
        mynetworks=_unique(networks),
        digest=main.get("smtpd_tls_fingerprint_digest", ""),
        notes=tuple(notes),
    )


def words(value: str) -> list[str]:
    """A parameter's value as words; what stands in braces is one word, without them."""
    return [(braced or word).strip() for braced, word in _TOKEN.findall(value)]


def _restriction_lists(main: Mapping[str, str], overrides: list[tuple[str, str]]) -> Iterator[list[str]]:
    """Each list of restrictions of smtpd, and each class of them, as words."""
    classes = set(words(main.get("smtpd_restriction_classes", "")))
    for name, value in [*main.items(), *overrides]:
        if name in classes or re.fullmatch(r"smtpd_\w+_restrictions", name):
            yield words(value)


def _relay_lists(parameters: list[tuple[str, str]]) -> Iterator[list[str]]:
    """The lists in which an OK grants relaying."""
    for name, value in parameters:
        if name in ("smtpd_relay_restrictions", "smtpd_recipient_restrictions"):
            yield words(value)


def _tables_of(restrictions: list[str], wanted: str) -> Iterator[str]:
    """The tables of a restriction such as `check_ccert_access`, `{ table, option = value }` without its options."""
    for restriction, table in pairwise(restrictions):
        if restriction == wanted:
            yield from words(table)[:1]


def _unique(tables: Iterator[str] | list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tables))


def _parameters(folder: Path, *options: str) -> Iterator[tuple[str, str]]:
    """What `postconf -x` prints: (name, value), `service/type/name` for master.cf."""
    command = ["postconf", "-x", *options, "-c", str(folder)]
    try:
        run = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except FileNotFoundError:
        raise PostconfMissingError("postconf is not installed here: name the files themselves") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImportFailedError(f"postconf could not be run: {error}") from None
    if run.returncode != 0:
        reason = run.stderr.decode("utf-8", "replace").strip() or f"exit status {run.returncode}"
        raise ImportFailedError(f"{folder}: {reason}")
    for line in run.stdout.decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition(" =")
        if equals:
            yield name.strip(), value.strip()
