"""The files of a configuration and its database, read, checked and put together: all but compiling (SPEC 4 and 9).

`load` is what `serve`, `check`, `explain` and `replay` go through. It raises for nothing that stands in a file, in
the file system or in the database: those are problems. What is wrong with one organization of the database hinders no
other, so it is a warning; what is wrong in a file is an error.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from policyd.config import suspicious
from policyd.config.conflicts import PlacedProvider
from policyd.config.files import Files, read_files
from policyd.config.messages import Message
from policyd.config.owners import DomainIndex
from policyd.config.parsed import Parsed
from policyd.config.problems import KeyPath, Problem, Report
from policyd.config.settings import Configuration, DatabaseSettings
from policyd.database.errors import DatabaseError, DsnError
from policyd.database.reader import Reader, at
from policyd.database.standings import Standings, problems_of, settled

_DSN: KeyPath = ("database", "dsn")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of reading a configuration."""

    configuration: Configuration | None  # None when there is any error
    problems: tuple[Problem, ...]  # errors and warnings, by file and line
    files: tuple[str, ...]  # the TOML files that were read or tried, in the order of reading
    database: FromDatabase | None = None  # where there is a database and no error
    away: bool = False  # the only error: the database cannot be read, and there are no rows from before


@dataclass(frozen=True, slots=True)
class FromDatabase:
    """The database's part, and what its next change is checked against."""

    standings: Standings
    from_files: tuple[Parsed, ...]
    provider: PlacedProvider


def load(path: str, now: float | None = None, reader: Reader | None = None) -> Loaded:
    """The configuration in the file at `path`, its includes and its database. `now` is Unix time.

    A `reader` keeps its connection and knows what is in force; then the rows of the database are not looked over for
    what is odd, only for what is wrong.
    """
    was_on = gc.isenabled()
    gc.disable()  # it would walk millions of new values again and again: 15 s became 8
    try:
        return _load(path, time.time() if now is None else now, reader)
    finally:
        if was_on:
            gc.enable()


def _load(path: str, now: float, reader: Reader | None) -> Loaded:
    files = read_files(path, now)
    if isinstance(files, Problem):
        return Loaded(None, (files,), (path,))
    problems = list(files.problems)
    settings = files.settings
    organizations = tuple(parsed.organization for parsed in files.organizations)
    if not organizations and settings.database is None and not files.has_errors:
        message = Message.NO_ORGANIZATION
        problems.append(Problem(files.names[0], 0, "warning", "", message.value, message.id))
    database: FromDatabase | DatabaseError | None = None
    if settings.database is not None and not files.has_errors:
        database = _read_database(settings.database, files, reader, problems)
        if isinstance(database, FromDatabase):
            organizations += database.standings.organizations
    configuration = None
    if not any(problem.severity == "error" for problem in problems):
        configuration = replace(settings, rules=replace(settings.rules, organizations=organizations))
    found = tuple(sorted(set(problems)))
    if isinstance(database, DatabaseError):
        return Loaded(None, found, files.names, away=not isinstance(database, DsnError))
    return Loaded(configuration, found, files.names, database)


def _read_database(
    settings: DatabaseSettings, files: Files, reader: Reader | None, problems: list[Problem]
) -> FromDatabase | DatabaseError:
    """The organizations of the database, or why there are none, which is a problem then."""
    own = reader or Reader()
    report = Report(files.report.source, files.report.now)
    try:
        standings, _ = own.read(settings)
        if own.away:
            report.warning(_DSN, Message.DATABASE_SNAPSHOT, reason=own.away, time=at(standings.read_at))
        if own.standings is not None and own.standings.by_name and not standings.by_name:
            report.warning(_DSN, Message.NO_LONGER_ANY)
            standings = replace(
                own.standings, stamp=standings.stamp, revision=standings.revision, read_at=standings.read_at
            )
        standings, from_rows = settled(standings, files.organizations, files.provider, report.now)
        problems += problems_of(standings, standings.left_out)
        if reader is None:
            problems += _odd(files, from_rows, standings.left_out)
        return FromDatabase(standings, files.organizations, files.provider)
    except DatabaseError as error:
        report.error(_DSN, Message.DATABASE_AWAY, reason=str(error))
        return error
    finally:
        problems += report.problems
        if reader is None:
            own.disconnect()


def _odd(files: Files, from_rows: Sequence[Parsed], left_out: frozenset[str]) -> list[Problem]:
    """Warnings about the database's organizations; what is left out has problems of its own, and little in force."""
    everything = [*files.organizations, *from_rows]
    domains = DomainIndex(everything)
    problems = [conflict.problem for conflict in suspicious.across(everything, domains)]
    for parsed in from_rows:
        problems += [problem for problem in parsed.report.problems if problem.severity == "warning"]
        if parsed.organization.name not in left_out:
            problems += suspicious.within(parsed, domains, files.settings.rules.relay_limits)
    return problems
