"""`policyd export`: the organizations of files into PostgreSQL (SPEC 9). `policyd import database` is the way back."""

from __future__ import annotations

import argparse

from policyd.cli.common import Exit, add_configuration, read_or_complain, say

_HELP = "write the organizations of the files into PostgreSQL"
_DESCRIPTION = "Writes the organizations of the configuration's files into a database with policyd's schema."
_EPILOG = """\
Writes the organizations that stand in the files of the configuration, all or none, as a user that is a member of
policyd_writer; where anything is suspended, of policyd_operator, too, which alone may write `suspended` (and with
--replace lift it). Certificate files become PEM text, ranges of addresses the networks that make them up. A password is
better kept out of the command line: libpq reads ~/.pgpass, PGPASSFILE and PGPASSWORD.

Exit codes: 0; 65 the database holds such an organization already, or refuses one; 69 the database is not reachable;
78 the configuration has errors.

Examples:
  policyd export --to-database postgresql://panel@db.example.com/policyd
  policyd export -c new.toml --to-database "host=db.example.com dbname=policyd user=panel" --replace
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd export`."""
    parser = subparsers.add_parser("export", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    add_configuration(parser)
    parser.add_argument("--to-database", metavar="DSN", required=True, help="a libpq URI or key=value text")
    parser.add_argument("--replace", action="store_true", help="replace organizations that are there already")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exports; exit code 0, 65, 69 or 78."""
    from policyd.config.certificates import CertificateRefused
    from policyd.database.errors import DatabaseError, RefusedError
    from policyd.database.writer import AlreadyThereError, write_organizations

    loaded = read_or_complain(arguments.config)
    if loaded is None or loaded.configuration is None:
        return Exit.CONFIG
    organizations = loaded.configuration.rules.organizations
    if loaded.database is not None:
        organizations = tuple(parsed.organization for parsed in loaded.database.from_files)
    try:
        write_organizations(arguments.to_database, organizations, arguments.replace)
    except AlreadyThereError as error:
        named = ", ".join(error.names[:5]) + (", ..." if len(error.names) > 5 else "")
        there = f"the database has {len(error.names)} of these organizations already ({named})"
        say(f"policyd export: {there}; --replace replaces them")
        return Exit.DATA
    except (CertificateRefused, RefusedError) as error:
        say(f"policyd export: {error}")
        return Exit.DATA
    except DatabaseError as error:
        say(f"policyd export: {error}")
        return Exit.UNAVAILABLE
    say(f"policyd export: {len(organizations)} organization{'' if len(organizations) == 1 else 's'} written")
    return Exit.OK
