"""The way of the rules: files -> Configuration -> RuleSet, at the start and at each reload (SPEC 8).

A reload reads, checks and compiles in a thread, then swaps one reference in the reactor's thread. A bad
file, or one that would leave no organization at all, keeps the old rules. Reloads asked for while one is
under way become one more.
"""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from policyd.config.messages import Message
from policyd.config.problems import Problem
from policyd.config.settings import Configuration
from policyd.database.reader import Reader
from policyd.loading.differences import differences
from policyd.loading.load import FromDatabase, load
from policyd.loading.patch import spaced
from policyd.policy.model import Delta
from policyd.policy.ruleset import RuleSet


@dataclass(frozen=True, slots=True)
class NewRules:
    """What reading the files gave: a configuration and its compiled rules, or none, and all problems."""

    configuration: Configuration | None
    rules: RuleSet | None
    problems: tuple[Problem, ...]
    database: FromDatabase | None = None  # where there is one
    changes: tuple[str, ...] | None = None  # what is different, where that is known already
    delta: Delta | None = None  # how the rules were made of those in force, where they were


def load_rules(path: str, generation: int, reader: Reader | None = None) -> NewRules:
    """Reads, checks and compiles. Never raises for anything that is in the files or the database."""
    if generation > 1 and _is_pipe(path):
        message = Message.FILE_IS_PIPE
        problem = Problem(path, 0, "error", "", message.value, message.id)
        return NewRules(None, None, (problem,))
    with uncollected():
        loaded = load(path, reader=reader)
        if loaded.configuration is None:
            return NewRules(None, None, loaded.problems)
        rules = compiled(loaded.configuration, generation)
        return NewRules(loaded.configuration, rules, loaded.problems, loaded.database)


def load_rules_anew(path: str, before: RuleSet, reader: Reader | None = None) -> NewRules:
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
