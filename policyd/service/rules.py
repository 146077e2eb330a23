"""The way of the rules: files -> Configuration -> RuleSet, at the start and at each reload (SPEC 8).

A reload reads, checks and compiles in a thread, then swaps one reference in the reactor's thread. A bad
file, or one that would leave no organization at all, keeps the old rules. Reloads asked for while one is
under way become one more.
"""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from policyd.config.load import Tenants, load
from policyd.config.problem import Problem
from policyd.config.reading import Reader
from policyd.config.settings import Configuration
from policyd.policy.model import Organization, Rules
from policyd.policy.patch import Delta, spaced
from policyd.policy.ruleset import RuleSet

# The key that an administrator wrote, where the model calls it otherwise.
_KEY_OF = {"stored_certificates": "certificates", "every_sender": "sender_domains"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What reading the files gave: a configuration and its compiled rules, or none, and all problems."""

    configuration: Configuration | None
    rules: RuleSet | None
    problems: tuple[Problem, ...]
    tenants: Tenants | None = None  # where there is a database
    changes: tuple[str, ...] | None = None  # what is different, where that is known already
    delta: Delta | None = None  # how the rules were made of those in force, where they were


def load_rules(path: str, generation: int, reader: Reader | None = None) -> Loaded:
    """Reads, checks and compiles. Never raises for anything that is in the files or the database."""
    if generation > 1 and _is_pipe(path):
        return Loaded(None, None, (Problem(path, 0, "error", "", "it is a pipe; a reload needs a file to read again"),))
    with uncollected():
        found = load(path, reader=reader)
        if found.configuration is None:
            return Loaded(None, None, found.problems)
        rules = compiled(found.configuration, generation)
        return Loaded(found.configuration, rules, found.problems, found.tenants)


def load_rules_anew(path: str, before: RuleSet, reader: Reader | None = None) -> Loaded:
    """`load_rules` for the generation after `before`, with what it changes: that takes long where there is much."""
    loaded = load_rules(path, before.generation + 1, reader)
    if loaded.rules is None:
        return loaded
    return replace(loaded, changes=tuple(differences(before.rules, loaded.rules.rules)))


def release(rules: list[RuleSet]) -> None:
    """Lets go of the rule sets in the list, which nobody else uses, a little at a time.

    Dropped at once, a million objects would be taken apart in one step of the interpreter, and nothing else would run.
    """
    parts: list[object] = []
    while rules:
        one = rules.pop()
        parts += [getattr(one, name) for name in RuleSet.__slots__]
        parts += one.organizations
        del one
    while parts:
        parts.pop()


def compiled(configuration: Configuration, generation: int) -> RuleSet:
    """The rules; where a database can change them one by one, with room for that."""
    rules = RuleSet(configuration.rules, generation)
    return rules if configuration.database is None else spaced(rules)


def _is_pipe(path: str) -> bool:
    """Reading a pipe that nobody writes to would never end."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: rules are a million objects and no cycle, and a look at all takes a second."""
    gc.collect()  # few objects: all that was there after the last time is frozen. What is garbage must not be, too
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # else the first collection afterwards would be such a look
        gc.enable()


def differences(old: Rules, new: Rules) -> list[str]:
    """What a reload changes, one readable line for each organization, connector and partner."""
    lines = []
    if old.incoming != new.incoming:
        lines.append(f"policy.incoming: {old.incoming} -> {new.incoming}")
    before = {organization.name: organization for organization in old.organizations}
    after = {organization.name: organization for organization in new.organizations}
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            lines.append(f'organization "{name}" removed')
        elif name not in before:
            lines.append(f'organization "{name}" added')
        elif before[name] != after[name]:
            lines += [f'organization "{name}": {change}' for change in _changes(before[name], after[name])]
    return lines


def _changes(old: Organization, new: Organization) -> list[str]:
    changes = []
    for key in ("accepted_domains", "delegated_domains", "pending_domains"):
        gone, come = set(getattr(old, key)) - set(getattr(new, key)), set(getattr(new, key)) - set(getattr(old, key))
        signed = [f"-{pattern}" for pattern in sorted(gone)] + [f"+{pattern}" for pattern in sorted(come)]
        if signed:
            changes.append(f"{key} {' '.join(signed)}")
    for key in ("protect_sender_domains", "connectors_only"):
        if getattr(old, key) != getattr(new, key):
            changes.append(f"{key} = {str(getattr(new, key)).lower()}")
    for kind, key in (("connector", "connectors"), ("partner", "partners")):
        before = {item.name: item for item in getattr(old, key)}
        after = {item.name: item for item in getattr(new, key)}
        for name in sorted(before.keys() | after.keys()):
            if name not in after:
                changes.append(f'{kind} "{name}" removed')
            elif name not in before:
                changes.append(f'{kind} "{name}" added')
            elif before[name] != after[name]:
                fields = [
                    f for f in before[name].__dataclass_fields__ if getattr(before[name], f) != getattr(after[name], f)
                ]
                keys = dict.fromkeys(_KEY_OF.get(field, field) for field in fields)
                changes.append(f'{kind} "{name}" changed ({", ".join(keys)})')
    return changes


def settings_differences(old: Configuration, new: Configuration) -> list[str]:
    """What a reload changes of the settings that it can change. The header's name is a secret."""
    pairs = {
        "service.mode": (old.service.mode, new.service.mode),
        "log.decisions": (old.log.decisions, new.log.decisions),
        "log.addresses": (old.log.addresses, new.log.addresses),
    }
    lines = [f"{key}: {before} -> {after}" for key, (before, after) in pairs.items() if before != after]
    for key in ("attribution_header", "provider_networks", "provider_certificate_names"):
        if getattr(old, key) != getattr(new, key):
            lines.append(f"policy.{key} changed")
    return lines


class Reloads:
    """Runs one reload at a time; a wish that comes meanwhile is carried out once more afterwards."""

    def __init__(self, run: Callable[[Callable[[], None]], None]) -> None:
        self._run = run  # starts a reload and calls its argument when that is over
        self._running = False
        self._again = False

    def ask(self) -> None:
        """A reload is wished for, starting from now."""
        if self._running:
            self._again = True
            return
        self._running = True
        self._run(self._over)

    def _over(self) -> None:
        self._running = False
        if self._again:
            self._again = False
            self.ask()
