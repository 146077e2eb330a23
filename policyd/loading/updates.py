"""The way of the rules into the store: of the files with the database, or of the rows that have changed (SPEC 8 and 9).

Runs in a thread; what it writes comes into force when the serving processes take their next snapshot. A bad file, or
one that would leave no organization at all, writes nothing. Rows are read without the files: SIGHUP reads both.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field, replace

from policyd.config.messages import Message
from policyd.config.problems import Problem
from policyd.config.settings import Configuration
from policyd.database.reader import Reader
from policyd.database.standings import Standings, changed, problems_of, settled
from policyd.loading.differences import Differences
from policyd.loading.load import FromDatabase, load
from policyd.store.file import Store

NO_ORGANIZATION = "the new configuration has no organization at all"


@dataclass(frozen=True, slots=True)
class Update:
    """What came of reading: new rules in the store, or none and why."""

    configuration: Configuration | None  # without the organizations, which are in the store; None: nothing was written
    problems: tuple[Problem, ...]
    database: FromDatabase | None = None  # where there is one
    differences: Differences = field(default_factory=Differences)
    refused: str = ""  # why nothing was written, where that is no problem of a file
    away: bool = False  # the only error: the database cannot be read, and there are no rows from before


def load_rules(path: str, store: Store, reader: Reader | None = None) -> Update:
    """Reads, checks and writes. Never raises for anything that is in the files or the database."""
    before = store.snapshot()
    if before.generation and _is_pipe(path):
        message = Message.FILE_IS_PIPE
        problem = Problem(path, 0, "error", "", message.value, message.id)
        return Update(None, (problem,))
    loaded = load(path, reader=reader)
    configuration = loaded.configuration
    if configuration is None:
        return Update(None, loaded.problems, away=loaded.away)
    organizations = configuration.rules.organizations
    if before.organization_count and not organizations:
        return Update(None, loaded.problems, refused=NO_ORGANIZATION)
    differences = Differences()
    store.replace_all(organizations, before.generation + 1, settings_of(configuration), differences.add)
    return Update(without_organizations(configuration), loaded.problems, loaded.database, differences)


def load_changes(
    reader: Reader, from_database: FromDatabase, configuration: Configuration, store: Store, complete: bool
) -> Update | None:
    """Reads what has changed in the database, and writes it; None where nothing has, or it cannot be reached."""
    assert configuration.database is not None
    assert reader.standings is not None
    before = reader.standings
    standings, touched = reader.read(configuration.database, complete)
    if not touched:
        reader.standings = standings
        return None
    if before.by_name and not standings.by_name:
        reader.away = "the database has no organizations any more"
        return None
    now, rules, differences = time.time(), store.snapshot(), Differences()
    in_files = {parsed.organization.name: parsed for parsed in from_database.from_files}
    outcome = changed(standings, touched, rules, in_files, from_database.provider, now)
    if outcome is None:
        standings, _ = settled(standings, from_database.from_files, from_database.provider, now)
        organizations = (*(parsed.organization for parsed in from_database.from_files), *standings.organizations)
        store.replace_all(organizations, rules.generation + 1, rules.settings, differences.add)
    else:
        standings, delta = outcome
        store.change(delta, rules.generation + 1, differences.add)
    return Update(
        configuration,
        tuple(problems_of(standings, [name for name in standings.left_out if _is_news(name, before, standings)])),
        replace(from_database, standings=standings),
        differences,
    )


def settings_of(configuration: Configuration) -> dict[str, str]:
    """The settings that a reload changes, as they are kept beside the rules."""
    return {
        "incoming": configuration.rules.incoming,
        "mode": configuration.service.mode,
        "decisions": configuration.log.decisions,
        "addresses": configuration.log.addresses,
        "attribution_header": configuration.attribution_header,
    }


def without_organizations(configuration: Configuration) -> Configuration:
    """The settings alone."""
    return replace(configuration, rules=replace(configuration.rules, organizations=()))


def _is_news(name: str, before: Standings, after: Standings) -> bool:
    """Whether what is said about an organization was not said before."""
    known = before.by_name.get(name)
    return known is None or known.problems != after.by_name[name].problems


def _is_pipe(path: str) -> bool:
    """Reading a pipe that nobody writes to would never end."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False
