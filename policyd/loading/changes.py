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
from policyd.loading.patch import Delta, patched
from policyd.policy.model import Rules
from policyd.policy.ruleset import RuleSet


def load_changes(
    reader: Reader, tenants: FromDatabase, configuration: Configuration, rules: RuleSet, complete: bool
) -> NewRules | None:
    """The rules with what has changed in the database; None where nothing has, or it cannot be reached."""
    assert configuration.database is not None
    assert reader.tenancy is not None
    with uncollected():
        before = reader.tenancy
        tenancy, touched = reader.read(configuration.database, complete)
        if not touched:
            reader.tenancy = tenancy
            return None
        if before.standings and not tenancy.standings:
            reader.away = "the database has no organizations any more"
            return None
        now = time.time()
        in_files = {draft.organization.name: draft for draft in tenants.file_drafts}
        found = changed(tenancy, touched, rules, in_files, tenants.provider, now)
        if found is None:
            tenancy, _ = settled(tenancy, tenants.file_drafts, tenants.provider, now)
            organizations = (*(draft.organization for draft in tenants.file_drafts), *tenancy.organizations)
            whole = replace(configuration, rules=replace(rules.rules, organizations=organizations))
            made = compiled(whole, rules.generation + 1)
            delta, changes = None, differences(rules.rules, made.rules)
        else:
            tenancy, delta = found
            made = patched(rules, delta, rules.generation + 1)
            changes = _changes(rules, delta)
        return NewRules(
            replace(configuration, rules=made.rules),
            made,
            tuple(problems_of(tenancy, [name for name in tenancy.left_out if _is_news(name, before, tenancy)])),
            replace(tenants, tenancy=tenancy),
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
    known = before.standings.get(name)
    return known is None or known.problems != after.standings[name].problems
