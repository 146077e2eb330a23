"""`policyd check`: every error and warning of a configuration, and of its wiring into Postfix (SPEC 4 and 7)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TextIO

from policyd.cli.common import (
    DEFAULT_CONFIGURATION,
    Exit,
    add_configuration,
    missing_package,
    printable,
    say,
    suggest_root,
)
from policyd.cli.service_user import CannotBecomeError, rights_of, usual_user
from policyd.cli.terminal import coloured, is_journal
from policyd.config.messages import Message
from policyd.config.problems import PRIORITIES, Problem
from policyd.config.settings import Configuration

_EPILOG = """\
Every problem is one line of standard output: FILE:LINE: organization, connector: what is wrong and what to do [ID].
The ID of a finding stays the same in every release. A line with "warning:" is allowed and probably not meant, one with
"note:" is worth knowing and not wrong. The counts go to standard error.

Where root checks /etc/policyd/policyd.toml, or with --user, the configuration is read with the rights of the user that
policyd runs as: a file that only root can read is an error, a log or a socket where that user cannot write a warning.

Exit codes: 0 no errors; 64 there is no such user, or only root could do that; 78 errors, or warnings with --strict.

Examples:
  policyd check                                    /etc/policyd/policyd.toml
  policyd check -c new.toml --strict               before new.toml goes live
  policyd check --postfix                          also how Postfix asks policyd
  policyd check -c new.toml --user policyd         also whether policyd could read it there
  policyd check --json | jq -r '.problems[].id'    for programs
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd check`."""
    parser = subparsers.add_parser(
        "check",
        help="all mistakes in the configuration at once",
        description="Reads the configuration as the server would, and prints every error and warning with its line. "
        "Changes nothing and asks no server.",
        epilog=_EPILOG,
    )
    add_configuration(parser)
    parser.add_argument(
        "--strict",
        action="store_true",
        help="warnings are errors, and an organization that has no connectors is one: exit with 78",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--postfix",
        metavar="DIR",
        nargs="?",
        const="",  # ask postconf
        help="also read the Postfix configuration in DIR (default: the one of the installed Postfix) by postconf, and "
        "say what is wired wrong between Postfix and policyd",
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="look with the rights of this user (default: policyd, where root checks the default configuration and "
        "there is such a user)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Checks; exit code 0, 64 or 78."""
    from policyd.config.notes import notes_about
    from policyd.config.writable import not_writable
    from policyd.loading.load import load

    user = arguments.user
    if user is None:
        user = usual_user() if arguments.config == DEFAULT_CONFIGURATION else ""
    try:
        with rights_of(user):
            loaded = load(arguments.config)
            problems = list(loaded.problems)
            if loaded.configuration is not None:
                problems += notes_about(arguments.config, loaded.configuration)
            if user and loaded.configuration is not None:
                problems += not_writable(arguments.config, loaded.configuration, user)
    except CannotBecomeError as error:
        say(f"policyd check: {error}")
        return Exit.USAGE
    if loaded.configuration is not None and (missing := missing_package(loaded.configuration)):
        problems.append(Problem(arguments.config, 0, "error", "", missing, Message.PACKAGE_MISSING.id))
    if arguments.postfix is not None:
        from policyd.postfix.wiring import check_wiring

        problems += check_wiring(arguments.postfix, loaded.configuration)
    if arguments.strict:
        receives_only = Message.NO_CONNECTORS.value
        problems = [replace(one, severity="warning") if one.message == receives_only else one for one in problems]
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = sum(problem.severity == "warning" for problem in problems)
    notes = len(problems) - errors - warnings
    failed = errors > 0 or (arguments.strict and warnings > 0)
    counts = _counts(loaded.configuration, len(loaded.files))
    if arguments.json:
        _print_json(problems, counts, failed)
    else:
        for problem in problems:
            print(shown(problem, sys.stdout))
    sys.stdout.flush()
    summary = ", ".join(_plural(number, thing) for thing, number in counts.items())
    verdict = f"{_plural(errors, 'error')}, {_plural(warnings, 'warning')}"
    verdict += f", {_plural(notes, 'note')}" if notes else ""
    verdict += _strict(arguments.strict, warnings) + _seen_by(user, errors)
    say(f"policyd check: {arguments.config}: {summary}: {verdict}")
    suggest_root(problems)
    return Exit.CONFIG if failed else Exit.OK


def shown(problem: Problem, stream: TextIO) -> str:
    """Its line: for a terminal, or with a priority for the journal, as in a reload of the unit."""
    line = printable(f"{problem} [{problem.id}]")
    if is_journal(stream):
        return f"{PRIORITIES[problem.severity]}{line}"
    if problem.severity == "error":
        return coloured(line, line.partition(": ")[0], "error", stream)
    return coloured(line, f"{problem.severity}:", stream=stream)


def _counts(configuration: Configuration | None, files: int) -> dict[str, int]:
    counts = {"file": files}
    if configuration is not None:
        organizations = configuration.rules.organizations
        counts["organization"] = len(organizations)
        counts["accepted domain"] = sum(len(organization.accepted_domains) for organization in organizations)
        counts["connector"] = sum(len(organization.connectors) for organization in organizations)
        counts["partner"] = sum(len(organization.partners) for organization in organizations)
    return counts


def _plural(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _strict(strict: bool, warnings: int) -> str:
    return " (--strict: warnings are errors)" if strict and warnings else ""


def _seen_by(user: str, errors: int) -> str:
    return f" (as the user {user} sees it; --user names another)" if user and errors else ""


def _print_json(problems: Sequence[Problem], counts: dict[str, int], failed: bool) -> None:
    data = {
        "ok": not failed,
        "problems": [asdict(problem) for problem in problems],
        "counts": {thing.replace(" ", "_") + "s": number for thing, number in counts.items()},
    }
    print(json.dumps(data, indent=2))
