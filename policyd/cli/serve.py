"""`policyd serve`: the server."""

from __future__ import annotations

import argparse
import gc
import sys

from policyd.cli import exits
from policyd.cli.common import add_configuration

_EPILOG = """\
Signals:
  SIGHUP   reads the configuration again; a bad one leaves the old rules in force
  SIGTERM  answers the requests that have arrived, then ends

Example:
  policyd serve -c /etc/policyd/policyd.toml
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd serve`."""
    parser = subparsers.add_parser(
        "serve",
        help="run the policy server",
        description="Answers Postfix's policy requests by the rules of the configuration. Stays in the foreground.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_configuration(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Loads, then listens, then serves until SIGTERM."""
    from policyd.service.daemon import CannotListen, Daemon, new_reactor
    from policyd.service.rules import load_rules

    loaded = load_rules(arguments.config, generation=1)
    for problem in loaded.problems:
        print(problem, file=sys.stderr)
    if loaded.configuration is None or loaded.rules is None:
        print("policyd: not started: the configuration has errors", file=sys.stderr)
        return exits.CONFIG
    gc.collect()
    gc.freeze()  # the rules stay: no collection need look at them again
    try:
        daemon = Daemon(new_reactor(), arguments.config, loaded.configuration, loaded.rules)
    except OSError as error:
        print(f"policyd: not started: cannot write the log: {error}", file=sys.stderr)
        return exits.CONFIG
    try:
        daemon.run()
    except CannotListen as error:
        print(f"policyd: {error}", file=sys.stderr)
        return exits.CANNOT_LISTEN
    return exits.OK
