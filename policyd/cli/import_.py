"""`policyd import exchange|postfix`: what another system knows of connectors, as TOML to paste (SPEC 7).

TOML goes to stdout, the report to stderr; with `--json` both go to stdout as one object. Only arguments and output
are dealt with here; the rules are in `policyd.imports`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyd.cli.common import Exit, printable, say

if TYPE_CHECKING:  # the rest is imported where it is used: every command of policyd imports this module
    from policyd.imports.found import Imported

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_HELP = "turn Exchange Online's or Postfix's lists into a configuration"
_DESCRIPTION = (
    "Prints the organization that an export of Exchange Online or Postfix's own tables describe, and "
    "on standard error a report of everything that was not carried over, and why."
)
_EPILOG = """\
Exit codes: 0; 64 nothing to import, or --organization is no name; 65 a file cannot be read or understood; 69 postconf
is not installed, or the database is not reachable.

Examples:
  policyd import exchange --organization contoso --connectors connectors.json --domains domains.json >contoso.toml
  policyd import postfix --organization contoso --config /etc/postfix >contoso.toml
  policyd import database --dsn postgresql://policyd@db.example.com/policyd >organizations.d/all.toml
"""


class _OneFile(argparse.Action):
    """The file of an option; another one for the same option is an error, where argparse would forget the first."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: object) -> None:
        if getattr(namespace, self.dest) not in (None, values):
            parser.error(f"{self.option_strings[0]} names two files: put all objects of the tenant into one")
        setattr(namespace, self.dest, values)


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `import` with its two sources."""
    parser = subparsers.add_parser("import", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)

    exchange = sources.add_parser("exchange", help="exports of Get-InboundConnector and Get-AcceptedDomain")
    for option, cmdlet in (("--connectors", "Get-InboundConnector"), ("--domains", "Get-AcceptedDomain")):
        text = f"{cmdlet} | ConvertTo-Json -Depth 4"
        exchange.add_argument(option, type=Path, action=_OneFile, metavar="FILE", help=text)
    exchange.add_argument(
        "--trust-verified", action="store_true", help="domains that Microsoft verified count as verified by you"
    )

    postfix = sources.add_parser(
        "postfix", help="Postfix's relay_clientcerts, check_ccert_access tables and mynetworks"
    )
    for option, metavar, text in (
        ("--relay-clientcerts", "FILE", "the source of a relay_clientcerts table"),
        ("--ccert-access", "FILE", "the source of a check_ccert_access table"),
        ("--mynetworks", "TEXT|FILE", "networks, or a file that lists them"),
    ):
        postfix.add_argument(option, action="append", default=[], metavar=metavar, help=text)
    postfix.add_argument(
        "--config", type=Path, metavar="DIR", help="a folder with main.cf: take what lets clients relay there"
    )
    for source in (exchange, postfix):
        source.add_argument("--organization", required=True, metavar="NAME", help="the organization to make of it")
        source.add_argument("--json", action="store_true", help="configuration and report as JSON on stdout")
    database = sources.add_parser("database", help="organizations of PostgreSQL, as policyd keeps them there")
    database.add_argument("--dsn", required=True, help="a libpq URI or key=value text")
    database.add_argument("--organization", metavar="NAME", help="this one only")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Imports, prints, and returns the exit code: 64 for bad arguments, 65 for bad input, 69 without postconf."""
    from policyd.config.tables import is_name
    from policyd.imports.found import ImportFailedError
    from policyd.postfix.text import PostconfMissingError

    if args.source == "database":
        return _database(args)
    if not is_name(args.organization):
        say(f"policyd import: {args.organization!a} is no name for an organization: use 1 to 64 of A-Z a-z 0-9 . _ -")
        return Exit.USAGE
    source: Callable[[argparse.Namespace], Imported | str] = {"exchange": _exchange, "postfix": _postfix}[args.source]
    try:
        imported = source(args)
    except (ImportFailedError, PostconfMissingError) as error:
        say(f"policyd import: {error}")
        return Exit.UNAVAILABLE if isinstance(error, PostconfMissingError) else Exit.DATA
    if isinstance(imported, str):
        say(f"policyd import: {imported}")
        return Exit.USAGE
    _print(imported, as_json=args.json)
    return Exit.OK


def _database(args: argparse.Namespace) -> int:
    """Prints organizations as they stand in the database, checked or not; 65 where one is missing, 69 unreachable."""
    from policyd.config.toml.writing import dumps
    from policyd.database.connection import Link
    from policyd.database.documents import table_of
    from policyd.database.errors import DatabaseError

    try:
        with closing(Link(args.dsn)) as link:
            found = link.read(None, complete=True).read
    except DatabaseError as error:
        say(f"policyd import: {error}")
        return Exit.UNAVAILABLE
    names = sorted(found) if args.organization is None else [name for name in found if name == args.organization]
    if not names:
        wanted = "organization" if args.organization is None else f"organization {args.organization!a}"
        say(f"policyd import: the database has no {wanted}")
        return Exit.DATA
    code = Exit.OK
    for name in names:
        table, too_large = table_of(found[name].document)
        if too_large:
            print(f"policyd import: organization {name!a} is left out: all of it is more than 1 MiB", file=sys.stderr)
            code = Exit.DATA
            continue
        text = dumps({"organizations": {name: table}})
        sys.stdout.buffer.write(f"{text}\n".encode())
    return code


def _exchange(args: argparse.Namespace) -> Imported | str:
    """The import, or what is wrong with the arguments."""
    from policyd.imports.exchange import import_exchange

    if args.connectors is None and args.domains is None:
        return "name at least one of --connectors and --domains"
    return import_exchange(
        args.organization, connectors=args.connectors, domains=args.domains, trust_verified=args.trust_verified
    )


def _postfix(args: argparse.Namespace) -> Imported | str:
    """The import, or what is wrong with the arguments."""
    from policyd.imports.mynetworks import networks_text
    from policyd.imports.postfix import import_postfix
    from policyd.imports.postfix_grants import Sources, sources_of

    if not (args.relay_clientcerts or args.ccert_access or args.mynetworks or args.config):
        return "name at least one of --relay-clientcerts, --ccert-access, --mynetworks and --config"
    found = Sources() if args.config is None else sources_of(args.config)
    sources = replace(
        found,
        relay_clientcerts=(*args.relay_clientcerts, *found.relay_clientcerts),
        ccert_access=(*args.ccert_access, *found.ccert_access),
        mynetworks=(*map(networks_text, args.mynetworks), *found.mynetworks),
    )
    return import_postfix(args.organization, sources)


def _print(imported: Imported, *, as_json: bool) -> None:
    """Data to stdout, as UTF-8 whatever the locale; the report to stderr."""
    if as_json:
        report = [asdict(note) for note in imported.notes]
        print(json.dumps({"configuration": imported.found.data(), "report": report}, indent=2))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(imported.text.encode("utf-8"))
    sys.stdout.buffer.flush()
    for note in imported.notes:
        print(printable(str(note)), file=sys.stderr)
    levels = Counter(note.level for note in imported.notes)
    tables = Counter(section.kind for section in imported.found.sections)
    counts = [
        f"connectors: {tables['connector']}",
        f"partners: {tables['partner']}",
        f"accepted domains: {len(imported.found.accepted_domains)}",
        f"pending domains: {len(imported.found.pending_domains)}",
        f"left out: {levels['left out']}",
        f"warnings: {levels['warning']}",
    ]
    say(f"{imported.found.organization}: {', '.join(counts)}")
