"""The files of a configuration, read and checked together (SPEC 4).

Raises for nothing that stands in a file or in the file system: those are problems. The database is not looked at; that
is `loading`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from policyd.config import suspicious
from policyd.config.conflicts import PlacedProvider, find_conflicts
from policyd.config.include import included_files
from policyd.config.keys import INCLUDED, ROOT
from policyd.config.messages import Message
from policyd.config.owners import DomainIndex
from policyd.config.parsed import Parsed
from policyd.config.problems import KeyPath, Problem, Report
from policyd.config.settings import Configuration
from policyd.config.tables import parse_organization, read_settings, read_table, table_of, unknown_key
from policyd.config.text import quoted
from policyd.config.toml.file import TomlFile, read_toml
from policyd.policy.model import Provider, RelayLimit


@dataclass(frozen=True, slots=True)
class Files:
    """What stands in all files of a configuration."""

    names: tuple[str, ...]  # of the files that were read or tried, in the order of reading
    problems: tuple[Problem, ...]
    report: Report  # of the main file
    settings: Configuration  # without the organizations
    organizations: tuple[Parsed, ...]
    provider: PlacedProvider

    @property
    def has_errors(self) -> bool:
        """Whether the configuration cannot be taken."""
        return any(problem.severity == "error" for problem in self.problems)


def read_files(path: str, now: float) -> Files | Problem:
    """The configuration in the file at `path` and its includes, with all problems; `now` is Unix time.

    A Problem where the file itself cannot be read.
    """
    main = read_toml(path, pipe=True)
    if isinstance(main, Problem):
        return main
    report = Report(main, now)
    settings = read_settings(main.data, report)
    problems, sources, names = _read_included(main, report)
    organizations = _read_organizations([main, *sources], report, problems, now)
    problems += report.problems
    for parsed in organizations:
        problems += parsed.report.problems
    provider = _placed(settings.provider, report)
    problems += check_together(organizations, provider, settings.rules.relay_limits)
    return Files(names, tuple(problems), report, settings, tuple(organizations), provider)


def check_together(
    all_parsed: list[Parsed], provider: PlacedProvider, limits: tuple[RelayLimit, ...] = ()
) -> list[Problem]:
    """Conflicts between the organizations, and the warnings about each and all of them; `limits` are the policy's."""
    domains = DomainIndex(all_parsed)
    problems = [conflict.problem for conflict in find_conflicts(all_parsed, provider, domains)]
    problems += [conflict.problem for conflict in suspicious.across(all_parsed, domains)]
    for parsed in all_parsed:
        if parsed.sound:
            problems += suspicious.within(parsed, domains, limits)
    return problems


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


def _read_organizations(sources: list[TomlFile], report: Report, problems: list[Problem], now: float) -> list[Parsed]:
    all_parsed: dict[str, Parsed] = {}
    for source in sources:
        own = report if source.number == 0 else Report(source, now)
        tables = table_of(source.data, "organizations", (), own)
        for name in list(tables):
            path: KeyPath = ("organizations", name)
            if name in all_parsed:
                first = all_parsed[name].report.place(path)
                own.error(path, Message.ORGANIZATION_TWICE, place=first)
            else:
                again = source.organization_again(name)
                raw = tables[name] if again is None else source.data["organizations"].pop(name)
                all_parsed[name] = parse_organization(name, raw, source, now, len(all_parsed), again)
        if own is not report:
            problems += own.problems
    return list(all_parsed.values())


def _placed(provider: Provider, report: Report) -> PlacedProvider:
    """It with the lines of its two lists (of the key: one place for all)."""
    return PlacedProvider(
        provider,
        report.place(("policy", "provider_networks")) if provider.networks else "",
        report.place(("policy", "provider_certificate_names")) if provider.certificate_names else "",
    )
