"""The files of a configuration and its database, read, checked and put together: all but compiling (SPEC 4 and 9).

`load` is what `serve`, `check`, `explain` and `replay` go through. It raises for nothing that stands in a file, in
the file system or in the database: those are problems. What is wrong with one organization of the database hinders no
other, so it is a warning; what is wrong in a file is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from policyd.config import checks
from policyd.config.conflicts import DomainIndex, Provider, find_conflicts
from policyd.config.draft import Draft
from policyd.config.include import included_files
from policyd.config.keys import INCLUDED, ROOT
from policyd.config.messages import Message, quoted
from policyd.config.problem import Problem
from policyd.config.report import Report
from policyd.config.schema import parse_organization, read_table, table_of, unknown_key
from policyd.config.settings import Configuration
from policyd.config.toml.file import TomlFile, read_toml
from policyd.config.toml.lines import KeyPath
from policyd.policy.names import Pattern, parse_pattern


def any_error(problems: Iterable[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def check_together(drafts: list[Draft], provider: Provider) -> list[Problem]:
    """Conflicts between the drafts, and the warnings about each and all of them."""
    domains = DomainIndex(drafts)
    found = [conflict.problem for conflict in find_conflicts(drafts, provider, domains)]
    found += [conflict.problem for conflict in checks.across(drafts, domains)]
    for index, draft in enumerate(drafts):
        if draft.sound:
            found += checks.organization(draft, index, domains)
    return found


def read_included(main: TomlFile, report: Report) -> tuple[list[Problem], list[TomlFile], tuple[str, ...]]:
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


def read_organizations(sources: list[TomlFile], report: Report, problems: list[Problem], now: float) -> list[Draft]:
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


def provider_of(settings: Configuration, main: TomlFile, report: Report) -> Provider:
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
