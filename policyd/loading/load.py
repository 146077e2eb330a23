"""TODO."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from policyd.config import checks
from policyd.config.conflicts import DomainIndex, Provider
from policyd.config.draft import Draft
from policyd.config.files import any_error, check_together, provider_of, read_included, read_organizations
from policyd.config.messages import Message
from policyd.config.problem import Problem
from policyd.config.report import Report
from policyd.config.schema import read_settings
from policyd.config.settings import Configuration, DatabaseSettings
from policyd.config.toml.file import read_toml
from policyd.config.toml.lines import KeyPath
from policyd.database.errors import DatabaseError
from policyd.database.reader import Reader, at
from policyd.database.standings import Standings, problems_of, settled
from policyd.policy.model import Rules

_DSN: KeyPath = ("database", "dsn")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of reading a configuration."""

    configuration: Configuration | None  # None when there is any error
    problems: tuple[Problem, ...]  # errors and warnings, by file and line
    files: tuple[str, ...]  # the TOML files that were read or tried, in the order of reading
    tenants: FromDatabase | None = None  # where there is a database and no error


@dataclass(frozen=True, slots=True)
class FromDatabase:
    """The database's part, and what its next change is checked against."""

    tenancy: Standings
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
    problems, sources, files = read_included(main, report)
    drafts = read_organizations([main, *sources], report, problems, now)
    problems += report.problems
    for draft in drafts:
        problems += draft.report.problems
    provider = provider_of(settings, main, report)
    problems += check_together(drafts, provider)
    organizations = tuple(draft.organization for draft in drafts)
    if not organizations and settings.database is None and not any_error(problems):
        problems.append(Problem(main.file, 0, "warning", "", Message.NO_ORGANIZATION.value))
    tenants = None
    if settings.database is not None and not any_error(problems):
        tenants = _read_database(settings.database, drafts, provider, reader, report, problems)
        if tenants is not None:
            organizations += tenants.tenancy.organizations
    configuration = None
    if not any_error(problems):
        configuration = replace(settings, rules=Rules(organizations=organizations, incoming=settings.rules.incoming))
    return Loaded(configuration, tuple(sorted(set(problems))), files, tenants)


def _read_database(
    settings: DatabaseSettings,
    drafts: list[Draft],
    provider: Provider,
    reader: Reader | None,
    report: Report,
    problems: list[Problem],
) -> FromDatabase | None:
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
        return FromDatabase(tenancy, tuple(drafts), provider)
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
