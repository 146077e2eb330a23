"""The way of a change in the database: rows -> model -> RuleSet (SPEC 9). Runs in a thread, and waits for the server.

Files are not read again here: SIGHUP does that, and reads the database with them. A few organizations that changed are
exchanged in the rules in force; only where they are very many is everything decided and compiled anew.
"""

from __future__ import annotations

import time
from dataclasses import replace

from policyd.config.settings import Configuration
from policyd.database.reader import Reader
from policyd.database.standings import Standings, changed, problems_of, settled
from policyd.loading.compiled import NewRules, compiled, uncollected
from policyd.loading.differences import differences
from policyd.loading.load import FromDatabase
from policyd.loading.patch import patched
from policyd.policy.model import Delta, Rules
from policyd.policy.ruleset import RuleSet


def load_changes(
    reader: Reader, from_database: FromDatabase, configuration: Configuration, rules: RuleSet, complete: bool
) -> NewRules | None:
    """The rules with what has changed in the database; None where nothing has, or it cannot be reached."""
    assert configuration.database is not None
    assert reader.standings is not None
    with uncollected():
        before = reader.standings
        standings, touched = reader.read(configuration.database, complete)
        if not touched:
            reader.standings = standings
            return None
        if before.by_name and not standings.by_name:
            reader.away = "the database has no organizations any more"
            return None
        now = time.time()
        in_files = {parsed.organization.name: parsed for parsed in from_database.from_files}
        outcome = changed(standings, touched, rules, in_files, from_database.provider, now)
        if outcome is None:
            standings, _ = settled(standings, from_database.from_files, from_database.provider, now)
            organizations = (*(parsed.organization for parsed in from_database.from_files), *standings.organizations)
            whole = replace(configuration, rules=replace(rules.rules, organizations=organizations))
            made = compiled(whole, rules.generation + 1)
            delta, changes = None, differences(rules.rules, made.rules)
        else:
            standings, delta = outcome
            made = patched(rules, delta, rules.generation + 1)
            changes = _changes(rules, delta)
        return NewRules(
            replace(configuration, rules=made.rules),
            made,
            tuple(problems_of(standings, [name for name in standings.left_out if _is_news(name, before, standings)])),
            replace(from_database, standings=standings),
            tuple(changes),
            delta,
        )


def _changes(rules: RuleSet, delta: Delta) -> list[str]:
    """What a delta changes, for people."""
    names = delta.gone.union(one.name for one in delta.put)
    before = tuple(one for one in rules.rules.organizations if one.name in names)
    return differences(Rules(organizations=before), Rules(organizations=delta.put))


def _is_news(name: str, before: Standings, after: Standings) -> bool:
    """Whether what is said about an organization was not said before."""
    known = before.by_name.get(name)
    return known is None or known.problems != after.by_name[name].problems
