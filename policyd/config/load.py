"""The files of a configuration and its database, read, checked and put together: all but compiling (SPEC 4 and 9).

`load` is what `serve`, `check`, `explain` and `replay` go through. It raises for nothing that stands in a file, in
the file system or in the database: those are problems. What is wrong with one organization of the database hinders no
other, so it is a warning; what is wrong in a file is an error.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from policyd.config import checks
from policyd.config.conflicts import DomainIndex, Provider, find_conflicts
from policyd.config.database_errors import DatabaseError
from policyd.config.draft import Draft
from policyd.config.include import included_files
from policyd.config.keys import INCLUDED, ROOT
from policyd.config.messages import Message, quoted
from policyd.config.problem import Problem
from policyd.config.reading import Reader, at
from policyd.config.report import Report
from policyd.config.schema import parse_organization, read_settings, read_table, table_of, unknown_key
from policyd.config.settings import Configuration, DatabaseSettings
from policyd.config.tenancy import Tenancy, problems_of, settled
from policyd.config.toml.file import TomlFile, read_toml
from policyd.config.toml.lines import KeyPath
from policyd.policy.model import Rules
from policyd.policy.names import Pattern, parse_pattern

_DSN: KeyPath = ("database", "dsn")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of reading a configuration."""

    configuration: Configuration | None  # None when there is any error
    problems: tuple[Problem, ...]  # errors and warnings, by file and line
    files: tuple[str, ...]  # the TOML files that were read or tried, in the order of reading
    tenants: Tenants | None = None  # where there is a database and no error


@dataclass(frozen=True, slots=True)
class Tenants:
    """The database's part, and what its next change is checked against."""

    tenancy: Tenancy
    file_drafts: tuple[Draft, ...]
    provider: Provider


def load(path: str, now: float | None = None, reader: Reader | None = None) -> Loaded:
    """The configuration in the file at `path`, its includes and its database. `now` is Unix time.

    A `reader` keeps its connection and knows what is in force; then the rows of the database are not looked over for
    what is odd, only for what is wrong.
    """
    with _collector_paused():
        return _load(path, time.time() if now is None else now, reader)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without the garbage collector, which would walk millions of new values again and again: 15 s became 8."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _load(path: str, now: float, reader: Reader | None) -> Loaded:
    main = read_toml(path, pipe=True)
    if isinstance(main, Problem):
        return Loaded(None, (main,), (path,))
    report = Report(main, now)
    settings = read_settings(main.data, report)
    problems, sources, files = _read_included(main, report)
    drafts = _read_organizations([main, *sources], report, problems, now)
    problems += report.problems
    for draft in drafts:
        problems += draft.report.problems
    provider = _provider(settings, main, report)
    problems += check_together(drafts, provider)
    organizations = tuple(draft.organization for draft in drafts)
    if not organizations and settings.database is None and not _any_error(problems):
        problems.append(Problem(main.file, 0, "warning", "", Message.NO_ORGANIZATION.value))
    tenants = None
    if settings.database is not None and not _any_error(problems):
        tenants = _read_database(settings.database, drafts, provider, reader, report, problems)
        if tenants is not None:
            organizations += tenants.tenancy.organizations
    configuration = None
    if not _any_error(problems):
        configuration = replace(settings, rules=Rules(organizations=organizations, incoming=settings.rules.incoming))
    return Loaded(configuration, tuple(sorted(set(problems))), files, tenants)


def _any_error(problems: Iterable[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def _read_database(
    settings: DatabaseSettings,
    drafts: list[Draft],
    provider: Provider,
    reader: Reader | None,
    report: Report,
    problems: list[Problem],
) -> Tenants | None:
    """The organizations of the database; None after the reason why there are none became a problem."""
    own = reader or Reader()
    found = Report(report.source, report.now)
    try:
        tenancy, _ = own.read(settings)
        if own.away:
            found.warning(_DSN, Message.DATABASE_SNAPSHOT, reason=own.away, time=at(tenancy.read_at))
        if own.tenancy is not None and own.tenancy.standings and not tenancy.standings:
            found.warning(_DSN, Message.NO_LONGER_ANY)
            tenancy = replace(own.tenancy, server=tenancy.server, revision=tenancy.revision, read_at=tenancy.read_at)
        tenancy, row_drafts = settled(tenancy, drafts, provider, report.now)
        problems += problems_of(tenancy, tenancy.left_out)
        if reader is None:
            problems += _odd(drafts, row_drafts, tenancy.left_out)
        return Tenants(tenancy, tuple(drafts), provider)
    except DatabaseError as error:
        found.error(_DSN, Message.DATABASE_AWAY, reason=str(error))
        return None
    finally:
        problems += found.problems
        if reader is None:
            own.disconnect()


def _odd(drafts: list[Draft], row_drafts: list[Draft], left_out: frozenset[str]) -> list[Problem]:
    """Warnings about the database's organizations; what is left out has problems of its own, and little in force."""
    everything = [*drafts, *row_drafts]
    domains = DomainIndex(everything)
    found = [conflict.problem for conflict in checks.across(everything, domains)]
    for index, draft in enumerate(row_drafts, len(drafts)):
        found += [problem for problem in draft.report.problems if problem.severity == "warning"]
        if draft.organization.name not in left_out:
            found += checks.organization(draft, index, domains)
    return found


def check_together(drafts: list[Draft], provider: Provider) -> list[Problem]:
    """Conflicts between the drafts, and the warnings about each and all of them."""
    domains = DomainIndex(drafts)
    found = [conflict.problem for conflict in find_conflicts(drafts, provider, domains)]
    found += [conflict.problem for conflict in checks.across(drafts, domains)]
    for index, draft in enumerate(drafts):
        if draft.sound:
            found += checks.organization(draft, index, domains)
    return found


def _read_included(main: TomlFile, report: Report) -> tuple[list[Problem], list[TomlFile], tuple[str, ...]]:
    """The included files that could be read, the problems of all, and the names of all."""
    patterns = read_table({"include": main.data.get("include", [])}, ROOT, (), report).get("include", ())
    names = included_files(main, patterns, report)
    problems: list[Problem] = []
    sources: list[TomlFile] = []
    for number, name in enumerate(names, 1):
        source = read_toml(name)
        if isinstance(source, Problem):
            problems.append(source)
            continue
        source.number = number
        sources.append(source)
        for key in source.data:
            if key != "organizations":
                own = Report(source, report.now)
                if key in ROOT.names:
                    own.error((key,), Message.INCLUDED_KEY, key=quoted(key), main=main.file)
                else:
                    unknown_key(key, INCLUDED, (key,), own, source.data[key])
                problems += own.problems
    return problems, sources, (main.file, *names)


def _read_organizations(sources: list[TomlFile], report: Report, problems: list[Problem], now: float) -> list[Draft]:
    drafts: dict[str, Draft] = {}
    for source in sources:
        own = report if source.number == 0 else Report(source, now)
        tables = table_of(source.data, "organizations", (), own)
        for name in list(tables):
            path: KeyPath = ("organizations", name)
            if name in drafts:
                first = drafts[name].report.place(path)
                own.error(path, Message.ORGANIZATION_TWICE, place=first)
            else:
                again = source.organization_again(name)
                raw = tables[name] if again is None else source.data["organizations"].pop(name)
                drafts[name] = parse_organization(name, raw, source, now, len(drafts), again)
        if own is not report:
            problems += own.problems
    return list(drafts.values())


def _provider(settings: Configuration, main: TomlFile, report: Report) -> Provider:
    """The provider's networks and names with the lines of their lists (of the key: one place for all)."""
    policy: Any = main.data.get("policy")
    policy = policy if isinstance(policy, dict) else {}
    networks_at = report.place(("policy", "provider_networks")) if settings.provider_networks else ""
    names_at = report.place(("policy", "provider_certificate_names")) if settings.provider_certificate_names else ""
    names = [parse_pattern(text) or Pattern(text) for text in settings.provider_certificate_names]
    return Provider(
        tuple((network, networks_at) for network in settings.provider_networks),
        tuple((name, names_at) for name in names),
    )
