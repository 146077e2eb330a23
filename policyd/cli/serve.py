"""`policyd serve`: the server."""

from __future__ import annotations

import argparse
import signal
import sys

from policyd.cli.common import Exit, add_configuration, missing_package, say

_EPILOG = """\
Signals:
  SIGHUP   reads the configuration again; a bad one leaves the old rules in force
  SIGTERM  answers the requests that have arrived, then ends

Exit codes: 0 after SIGTERM; 64 it cannot record; 71 it cannot listen; 78 the configuration has errors, or the log
cannot be written.

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
    parser.add_argument(
        "--record", metavar="FILE", help="append every request to a transcript (mode 0600, ends at 100 MiB)"
    )
    parser.add_argument("--redact", action="store_true", help="record without local parts of addresses")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Loads, then listens, then serves until SIGTERM."""
    from policyd.database.reader import Reader
    from policyd.loading.compiled import load_rules

    early: list[int] = []  # SIGHUPs that came while we were loading
    signal.signal(signal.SIGHUP, lambda number, _: early.append(number))
    reader = Reader()
    loaded = load_rules(arguments.config, generation=1, reader=reader)
    for problem in loaded.problems:
        say(str(problem))
    configuration, rules = loaded.configuration, loaded.rules
    if configuration is None or rules is None:
        print("policyd: not started: the configuration has errors", file=sys.stderr)
        return Exit.CONFIG
    if missing := missing_package(configuration):
        print(f"policyd: not started: {missing}", file=sys.stderr)
        return Exit.CONFIG
    from policyd.service.reactor import install, use_monotonic_clock

    install()

    from twisted.internet import reactor

    from policyd.service.daemon import Daemon
    from policyd.service.one_process import Serving
    from policyd.service.processes import Processes
    from policyd.service.recording import Recording
    from policyd.service.sockets import CannotListen
    from policyd.service.workers import Workers

    use_monotonic_clock(reactor)
    processes: Processes
    recording = None
    if arguments.record is not None:
        if configuration.service.workers > 1:
            print("policyd: not started: --record needs service.workers = 1", file=sys.stderr)
            return Exit.USAGE
        try:
            recording = Recording(arguments.record, arguments.redact)
        except OSError as error:
            print(f"policyd: not started: cannot record: {error}", file=sys.stderr)
            return Exit.USAGE
    try:
        if configuration.service.workers > 1:
            processes = Workers(reactor, configuration, rules)
        else:
            processes = Serving(reactor, configuration, rules, recording)
    except OSError as error:
        print(f"policyd: not started: cannot write the log: {error}", file=sys.stderr)
        return Exit.CONFIG
    try:
        daemon = Daemon(
            reactor, arguments.config, configuration, rules, processes, bool(early), reader, loaded.database
        )
        del loaded, configuration, rules  # they may go at the first reload
        daemon.run()
    except CannotListen as error:
        print(f"policyd: {error}", file=sys.stderr)
        return Exit.CANNOT_LISTEN
    return Exit.OK
