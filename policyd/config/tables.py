"""Mapping -> model: what a whole table means (SPEC 4).

Which keys there are stands in `keys`. Works on plain mappings from any Source; opens no file but those of
`certificate_files`. What concerns several organizations is in `conflicts`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from policyd.config import readers
from policyd.config import setting_readers as service
from policyd.config.keys import (
    ALSO_CALLED,
    CONNECTOR,
    DATABASE,
    EVIDENCE_KEYS,
    LOG,
    METRICS,
    MOST_WORKERS,
    ORGANIZATION,
    PARTNER,
    POLICY,
    ROOT,
    SERVICE,
    TABLES,
    Table,
)
from policyd.config.many_parties import shipped_names
from policyd.config.messages import Message
from policyd.config.parsed import Parsed
from policyd.config.problems import KeyPath, Report, Source
from policyd.config.settings import Configuration, DatabaseSettings, Endpoint, LogSettings, ServiceSettings
from policyd.config.text import clean, did_you_mean, listed, quoted
from policyd.policy.model import Connector, Organization, Partner, Provider, Rules
from policyd.policy.names import parse_pattern, upwards

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEYS = {table.title: {key.name: key for key in table.keys} for table in TABLES}


def is_name(text: str) -> bool:
    """Whether an organization, connector or partner can be called so."""
    return _NAME.fullmatch(text) is not None


def read_table(raw: Mapping[str, Any], table: Table, path: KeyPath, report: Report) -> dict[str, Any]:
    """The readable values of a table by field of the model; everything else is reported."""
    values: dict[str, Any] = {}
    keys = _KEYS[table.title]
    for name, value in raw.items():
        key = keys.get(name)
        if key is not None:
            parsed = key.read(value, (*path, name), report)
            if parsed is not None:
                field = key.field or name
                # Two keys may be one list of certificates.
                values[field] = values[field] + parsed if field in values else parsed
        elif name not in table.tables:
            unknown_key(name, table, (*path, name), report, value)
    return values


def unknown_key(name: str, table: Table, path: KeyPath, report: Report, value: object = None) -> None:
    """Reports a key that is not known here, with the likeliest known one, or where it belongs."""
    hint = ""
    known = table.names
    elsewhere = [other for other in TABLES if other is not table and name in other.names]
    elsewhere.sort(key=lambda other: other.title.startswith("organizations") != table.title.startswith("organizations"))
    near = ALSO_CALLED.get(name.lower().replace("-", "_"))
    header = _header_meant(path, table, value)
    dotted = _dotted_name(path, table, value)
    if dotted:
        hint = f"; a name with a dot stands in quotes: [{clean(dotted)}]"
    elif near in known:
        hint = f"; did you mean {quoted(near)}?"
    elif header:
        hint = f"; did you mean the table [{clean(header)}]?"
    elif elsewhere:
        hint = f"; it belongs {_where(elsewhere[0])}"
    else:
        hint = did_you_mean(name, known) or f"; known here: {listed(known)}"
    report.error(path, Message.UNKNOWN_KEY, key=quoted(name), hint=hint)


def _header_meant(path: KeyPath, table: Table, value: object) -> str:
    """Where a table with the keys of an organization, connector or partner should stand; empty where it has none."""
    if not isinstance(value, Mapping) or str(path[-1]) in ROOT.names + ORGANIZATION.names:
        return ""
    above = ".".join(str(part) for part in path[:-1])
    if not table.title and not value.keys().isdisjoint(ORGANIZATION.names):
        return f"organizations.{path[-1]}"
    if table is ORGANIZATION and "sender_domains" in value:
        return f"{above}.partners.{path[-1]}"
    if table is ORGANIZATION and not value.keys().isdisjoint(CONNECTOR.names):
        return f"{above}.connectors.{path[-1]}"
    return ""


def _dotted_name(path: KeyPath, table: Table, value: object) -> str:
    """For `[organizations.contoso.com]`, which TOML takes for a table in a table, the header that is meant; else empty.

    The name ends before the first key that is one of the table's, and no single label is a key itself.
    """
    if table not in (ORGANIZATION, CONNECTOR, PARTNER):
        return ""
    name = f"{path[-2]}.{path[-1]}"
    while isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) not in table.names:
        key, value = next(iter(value.items()))
        name += f".{key}"
    if not isinstance(value, Mapping) or not (value.keys() & set(table.names)) or not is_name(name):
        return ""
    return ".".join([*map(str, path[:-2]), quoted(name)])


def _where(table: Table) -> str:
    return f"into [{table.title}]" if table.title else "to the top of the file, above the first table"


def table_of(raw: Mapping[str, Any], name: str, path: KeyPath, report: Report) -> Mapping[str, Any]:
    """The table `name` in `raw`; empty where there is none, or no table."""
    value = raw.get(name, {})
    if isinstance(value, Mapping):
        return value
    header = ".".join(str(part) for part in (*path, name))
    hint = f"; write it once, as [{header}]" if isinstance(value, list) else f"; write [{header}] above its keys"
    readers.wrong_type(value, (*path, name), report, "a table", clean(hint))
    return {}


# --- [service], [log], [metrics], [database], [policy]


def read_settings(raw: Mapping[str, Any], report: Report) -> Configuration:
    """Everything but the organizations; defaults stand where a value could not be read."""
    for name in raw:
        if name not in ROOT.names:
            unknown_key(name, ROOT, (name,), report, raw[name])
    tables = {
        table.title: read_table(table_of(raw, table.title, (), report), table, (table.title,), report)
        for table in (SERVICE, LOG, METRICS, DATABASE, POLICY)
    }
    _check_header_and_workers(tables, report)
    _check_sockets(tables, report)
    if tables["service"].get("workers") == "auto":
        tables["service"]["workers"] = min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    policy = tables["policy"]
    rules = Rules(incoming=policy.pop("incoming", "OK"), relay_limits=policy.pop("relay_limits", ()))
    provider = Provider(
        policy.pop("provider_networks", ()), policy.pop("provider_certificate_names", ()), shipped_names()
    )
    return Configuration(
        service=ServiceSettings(**tables["service"]),
        log=LogSettings(**tables["log"]),
        **tables["metrics"],
        database=_database(raw, tables["database"], report),
        **policy,
        provider=provider,
        rules=rules,
    )


def _database(raw: Mapping[str, Any], values: Mapping[str, Any], report: Report) -> DatabaseSettings | None:
    table = raw.get("database")
    if "dsn" in values:
        return DatabaseSettings(**values)
    if isinstance(table, Mapping) and "dsn" not in table:
        report.error(("database",), Message.NO_DSN)
    return None


def _check_header_and_workers(tables: Mapping[str, Mapping[str, Any]], report: Report) -> None:
    header, workers = tables["policy"].get("attribution_header", ""), tables["service"].get("workers", 1)
    if not header or workers == 1:
        return
    two: list[KeyPath] = [("policy", "attribution_header"), ("service", "workers")]
    later = max(two, key=report.source.line)
    report.error(later, Message.HEADER_AND_WORKERS, header=report.place(two[0]), workers=report.place(two[1]))


def _check_sockets(tables: Mapping[str, Mapping[str, Any]], report: Report) -> None:
    """No two of them are at one place; the entries of `listen` have been compared with each other."""
    listen: KeyPath = ("service", "listen")
    known = [(listen, endpoint) for endpoint in tables["service"].get("listen", ServiceSettings().listen)]
    control = tables["service"].get("control")
    for key, mine in (
        (("metrics", "listen"), tables["metrics"].get("metrics_listen")),
        (("service", "control"), Endpoint("unix", path=control) if control else None),
    ):
        if mine is None:
            continue
        for other_key, other in known:
            if service.collide(mine, other):
                (later, here), (first, there) = sorted(
                    [(key, mine), (other_key, other)], key=lambda pair: report.source.line(pair[0]), reverse=True
                )
                report.error(later, Message.LISTEN_TWICE, value=str(here), other=str(there), place=report.place(first))
                break
        known.append((key, mine))


# --- organizations


def parse_organization(
    name: str, raw: object, source: Source, now: float, number: int = 0, again: Mapping[str, Any] | None = None
) -> Parsed:
    """One organization, as far as it can be read, with all its problems. Other organizations are no matter here.

    `raw` is the table [organizations.NAME]. `number` is its place in the order of reading, for `conflicts`. It
    keeps `again` in place of `raw`, where there is one.
    """
    report = Report(source, now)
    path: KeyPath = ("organizations", name)
    _check_name(name, "an organization", path, report)
    if not isinstance(raw, Mapping):
        readers.wrong_type(raw, path, report, "a table", _table_hint(path, ORGANIZATION))
        raw, again = {}, None
    values = read_table(raw, ORGANIZATION, path, report)
    connectors = tuple(
        _connector(key, value, (*path, "connectors", key), report)
        for key, value in table_of(raw, "connectors", path, report).items()
    )
    partners = tuple(
        _partner(key, value, (*path, "partners", key), report)
        for key, value in table_of(raw, "partners", path, report).items()
    )
    organization = Organization(name=name, connectors=connectors, partners=partners, **values)
    parsed = Parsed(organization, raw if again is None else again, report, number)
    _check_outside(parsed, report)
    _check_for_domains(parsed, report)
    return parsed


def _check_name(name: str, what: str, path: KeyPath, report: Report) -> None:
    if is_name(name):
        return
    fitting = re.sub(r"[^A-Za-z0-9._-]+", "-", name[:64]).strip("-")
    hint = f"; for example {quoted(fitting)}" if fitting else ""
    report.error(path, Message.BAD_NAME, name=quoted(name), what=what, hint=hint)


def _connector(name: str, raw: object, path: KeyPath, report: Report) -> Connector:
    _check_name(name, "a connector", path, report)
    if not isinstance(raw, Mapping):
        readers.wrong_type(raw, path, report, "a table", _table_hint(path, CONNECTOR))
        return Connector(name=name)
    if EVIDENCE_KEYS.isdisjoint(raw):
        report.error(path, Message.NO_EVIDENCE)
    elif "foreign_senders" in raw and (EVIDENCE_KEYS - {"addresses"}).isdisjoint(raw):
        report.error((*path, "foreign_senders"), Message.FOREIGN_WITHOUT_CERTIFICATE)
    return Connector(name=name, **read_table(raw, CONNECTOR, path, report))


def _partner(name: str, raw: object, path: KeyPath, report: Report) -> Partner:
    _check_name(name, "a partner", path, report)
    if not isinstance(raw, Mapping):
        readers.wrong_type(raw, path, report, "a table", _table_hint(path, PARTNER))
        return Partner(name=name)
    if "sender_domains" not in raw:
        report.error(path, Message.NO_SENDER_DOMAINS)
    values = read_table(raw, PARTNER, path, report)
    if EVIDENCE_KEYS.isdisjoint(raw) and values.get("require_tls", "require_tls" in raw) is False:
        report.error(path, Message.NO_REQUIREMENT)
    patterns, every = values.pop("sender_domains", ((), False))
    return Partner(name=name, sender_domains=patterns, every_sender=every, **values)


def _check_outside(parsed: Parsed, report: Report) -> None:
    """An outside domain lies strictly below an accepted one, and is neither accepted nor delegated (SPEC 4)."""
    organization = parsed.organization
    accepted = {pattern.name for pattern in organization.accepted_domains}
    for pattern in organization.outside_domains:
        path, value = parsed.element(("outside_domains",), parse_pattern, pattern)
        for key in ("accepted_domains", "delegated_domains"):
            for other in getattr(organization, key):
                if other.name == pattern.name:
                    place = report.place(parsed.element((key,), parse_pattern, other)[0])
                    report.error(path, Message.OUTSIDE_AND_MORE, value=quoted(value), key=key, place=place)
        if accepted.isdisjoint(list(upwards(pattern.name))[1:]):
            report.error(path, Message.OUTSIDE_NOT_BELOW, value=quoted(value))


def _check_for_domains(parsed: Parsed, report: Report) -> None:
    """for_domains are accepted domains, spelt as there: `x` is not `*.x` (SPEC 3.3)."""
    accepted = parsed.organization.accepted_domains
    for connector in parsed.organization.connectors:
        for pattern in connector.for_domains:
            if pattern in accepted:
                continue
            path, value = parsed.element(("connectors", connector.name, "for_domains"), parse_pattern, pattern)
            meant = next((quoted(str(other)) for other in accepted if other.name == pattern.name), "")
            hint = f"; write {meant}, as it stands there" if meant else ""
            report.error(path, Message.NOT_ACCEPTED, value=quoted(value), hint=hint)


def _table_hint(path: KeyPath, table: Table) -> str:
    """What to write above keys that stand where tables do; a name that is a key was meant as one."""
    if path[-1] in table.names:
        return clean(f"; a name is missing: write [{'.'.join(str(part) for part in path[:-1])}.NAME] above its keys")
    return clean(f"; write [{'.'.join(str(part) for part in path)}] above its keys")
