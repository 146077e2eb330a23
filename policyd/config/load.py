"""The files of a configuration, read, checked and put together: everything but compiling (SPEC 4).

`load` is what `serve`, `check`, `explain` and `replay` go through. It raises for nothing that stands in a file or
in the file system: those are problems.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from policyd.config import checks
from policyd.config.conflicts import DomainIndex, Provider, find_conflicts
from policyd.config.draft import Draft
from policyd.config.include import included_files
from policyd.config.messages import Message, quoted
from policyd.config.problem import Problem
from policyd.config.report import Report
from policyd.config.schema import ROOT, parse_organization, read_settings, read_table, table_of
from policyd.config.settings import Configuration
from policyd.config.toml_file import TomlFile, read_toml
from policyd.config.toml_lines import KeyPath
from policyd.policy.model import Rules
from policyd.policy.names import Pattern, parse_pattern


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of reading a configuration."""

    configuration: Configuration | None  # None when there is any error
    problems: tuple[Problem, ...]  # errors and warnings, by file and line
    files: tuple[str, ...]  # the TOML files that were read or tried, in the order of reading


def load(path: str, now: float | None = None) -> Loaded:
    """The configuration in the file at `path` and its includes. `now` is Unix time, for certificate dates."""
    with _collector_paused():
        return _load(path, time.time() if now is None else now)


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


def _load(path: str, now: float) -> Loaded:
    main = read_toml(path)
    if isinstance(main, Problem):
        return Loaded(None, (main,), (path,))
    report = Report(main, now)
    settings = read_settings(main.data, report)
    problems, sources, files = _read_included(main, report)
    drafts = _read_organizations([main, *sources], report, problems, now)
    problems += report.problems
    for draft in drafts:
        problems += draft.report.problems
    problems += check_together(drafts, _provider(settings, main, report))
    configuration = None
    if not any(problem.severity == "error" for problem in problems):
        organizations = tuple(draft.organization for draft in drafts)
        configuration = replace(settings, rules=Rules(organizations=organizations, incoming=settings.rules.incoming))
    return Loaded(configuration, tuple(sorted(set(problems))), files)


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
                own.error((key,), Message.INCLUDED_KEY, key=quoted(key), main=main.file)
                problems += own.problems
    return problems, sources, (main.file, *names)


def _read_organizations(sources: list[TomlFile], report: Report, problems: list[Problem], now: float) -> list[Draft]:
    drafts: dict[str, Draft] = {}
    for source in sources:
        own = report if source.number == 0 else Report(source, now)
        for name, raw in table_of(source.data, "organizations", (), own).items():
            path: KeyPath = ("organizations", name)
            if name in drafts:
                first = drafts[name].report.place(path)
                own.error(path, Message.ORGANIZATION_TWICE, place=first)
            else:
                drafts[name] = parse_organization(name, raw, source, now, len(drafts))
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
