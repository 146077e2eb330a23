"""`policyd show`: the effective configuration (SPEC 7)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from policyd.cli import running
from policyd.cli.common import Exit, configuration_or_complain, say

if TYPE_CHECKING:
    from policyd.policy.model import Organization

_HELP = "the effective configuration, in its canonical form"
_DESCRIPTION = "Prints the configuration with all its files and defaults as one TOML file."
_EPILOG = """\
The settings of the service are printed with their defaults, organizations with what differs from the defaults; domain
names in the form that is compared, addresses and lists in order, file names absolute. What is printed is a
configuration: `policyd show >new.toml; policyd show -c new.toml` prints the same. With names, only these organizations
are printed, without the settings.

With --running it is what the service has in force, those of a database included, asked for over its control socket; no
configuration is read.

Exit codes: 0; 64 options that do not go together; 65 there is no such organization; 69 no service is reachable; 78 the
configuration has errors.

Examples:
  policyd show                                             as postconf does for Postfix
  policyd show -c old.toml >a; policyd show -c new.toml >b; diff -u a b
  policyd show --json | jq '.organizations | keys'
  policyd show --running contoso                           one organization, as it is in force
"""


class _NotShown(Exception):
    """The text says why, if it has not been said; the code is what the command exits with."""

    def __init__(self, why: str, code: int) -> None:
        super().__init__(why)
        self.code = code


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd show`."""
    parser = subparsers.add_parser("show", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    running.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, not TOML")
    parser.add_argument(
        "organizations", nargs="*", metavar="ORGANIZATION", help="names of organizations (default: everything)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Shows; exit code 0, 64, 65, 69 or 78."""
    from policyd.config.effective import as_json, as_toml

    if misused := running.misused(arguments):
        say(f"policyd show: {misused}")
        return Exit.USAGE
    try:
        settings, organizations = (_running if arguments.running else _of_files)(arguments)
    except (_NotShown, running.NoAnswer) as error:
        if str(error):
            say(f"policyd show: {error}")
        return error.code
    out = sys.stdout.buffer  # TOML is UTF-8 whatever the locale
    for piece in (as_json if arguments.json else as_toml)(settings, organizations):
        out.write(piece.encode("utf-8"))
    out.flush()
    return Exit.OK


def _of_files(arguments: argparse.Namespace) -> tuple[dict[str, Any], Iterable[Organization]]:
    """Settings, and organizations by name. Raises _NotShown."""
    from policyd.config.effective import settings_table

    configuration = configuration_or_complain(arguments.config)
    if configuration is None:
        raise _NotShown("", Exit.CONFIG)
    organizations = sorted(configuration.rules.organizations, key=attrgetter("name"))
    if not arguments.organizations:
        return settings_table(configuration), organizations
    known = {organization.name: organization for organization in organizations}
    for name in arguments.organizations:
        if name not in known:
            raise _NotShown(f'there is no organization "{name}"', Exit.DATA)
    return {}, [known[name] for name in sorted(set(arguments.organizations))]


def _running(arguments: argparse.Namespace) -> tuple[dict[str, Any], Iterable[Organization]]:
    """The same of the service. Raises NoAnswer."""
    from policyd.store import organization_json

    lines: Iterator[str] = running.answer(arguments.socket, "show", organizations=arguments.organizations)
    return json.loads(next(lines)), map(organization_json.read, lines)
