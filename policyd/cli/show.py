"""`policyd show`: the effective configuration (SPEC 7)."""

from __future__ import annotations

import argparse
import json
import sys

from policyd.cli.common import Exit, add_configuration, configuration_or_complain

_HELP = "the effective configuration, in its canonical form"
_DESCRIPTION = "Prints the configuration with all its files and defaults as one TOML file."
_EPILOG = """\
The settings of the service are printed with their defaults, organizations with what differs from the defaults; domain
names in the form that is compared, addresses and lists in order, file names absolute. What is printed is a
configuration: `policyd show >new.toml; policyd show -c new.toml` prints the same.

Exit codes: 0; 78 the configuration has errors.

Examples:
  policyd show                                             as postconf does for Postfix
  policyd show -c old.toml >a; policyd show -c new.toml >b; diff -u a b
  policyd show --json | jq '.organizations | keys'
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd show`."""
    parser = subparsers.add_parser("show", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    add_configuration(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, not TOML")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Shows; exit code 0 or 78."""
    from policyd.config.effective import as_mapping, as_toml

    configuration = configuration_or_complain(arguments.config)
    if configuration is None:
        return Exit.CONFIG
    if arguments.json:
        print(json.dumps(as_mapping(configuration), indent=2, default=str))
        return Exit.OK
    out = sys.stdout.buffer  # TOML is UTF-8 whatever the locale
    for piece in as_toml(configuration):
        out.write(piece.encode("utf-8"))
    out.flush()
    return Exit.OK
