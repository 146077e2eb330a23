"""`policyd serve`: the server (SPEC 7)."""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from policyd.cli.common import Exit, add_configuration, missing_package, say

if TYPE_CHECKING:  # the rest is imported where it is used: every command of policyd imports this module
    from policyd.config.settings import Configuration
    from policyd.service.daemon import Daemon
    from policyd.service.processes import Processes
    from policyd.store.file import Store

_HELP = "run the policy server"
_DESCRIPTION = "Answers Postfix's policy requests by the rules of the configuration. Stays in the foreground."
_EPILOG = """\
Signals:
  SIGHUP   reads the configuration again; a bad one leaves the old rules in force. From a terminal that was closed: as
           SIGTERM
  SIGUSR1  opens the log file anew
  SIGTERM  answers the requests that have arrived, then ends

Exit codes: 0 after SIGTERM; 64 it cannot record; 69 the database cannot be read, and there are no rows from before; 71
it cannot listen; 78 the configuration has errors, or the log cannot be written.

Example:
  policyd serve -c /etc/policyd/policyd.toml
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd serve`."""
    parser = subparsers.add_parser("serve", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    add_configuration(parser)
    parser.add_argument(
        "--record", metavar="FILE", help="append every request to a transcript (mode 0600, ends at 100 MiB)"
    )
    parser.add_argument("--redact", action="store_true", help="record without local parts of addresses")
    parser.set_defaults(run=run)


class _NotStarted(Exception):
    """The text says why; the code is what the command exits with."""

    def __init__(self, why: str, code: Exit = Exit.CONFIG) -> None:
        super().__init__(why)
        self.code = code


def run(arguments: argparse.Namespace) -> int:
    """Loads, then listens, then serves until SIGTERM."""
    try:
        daemon = _daemon(arguments)  # nothing of what was loaded stays here: it may go at the first reload
    except _NotStarted as why:
        _say("<3>", f"policyd: not started: {why}")
        return why.code
    from policyd.service.sockets import CannotListen

    try:
        daemon.run()
    except CannotListen as error:
        _say("<3>", f"policyd: {error}")
        return Exit.CANNOT_LISTEN
    return Exit.OK


def _say(priority: str, line: str) -> None:
    """As the log says it on standard error: with a priority, for journald, but for a terminal."""
    say(line if sys.stderr.isatty() else f"{priority}{line}")


def _daemon(arguments: argparse.Namespace) -> Daemon:
    """Loads, and makes the reactor. Raises _NotStarted."""
    from policyd.config.problems import PRIORITIES
    from policyd.database.reader import Reader
    from policyd.loading.updates import load_rules

    terminal = next((number for number in (2, 1, 0) if os.isatty(number)), None)
    early: list[int] = []  # what came while we were loading
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda number, _: early.append(number))
    reader = Reader()
    store = _store()
    loaded = load_rules(arguments.config, store, reader)
    for problem in loaded.problems:
        if problem.severity != "note":
            _say(PRIORITIES[problem.severity], str(problem))
    if loaded.away:
        raise _NotStarted("the database cannot be read, and there are no rows from before", Exit.UNAVAILABLE)
    configuration = loaded.configuration
    if configuration is None:
        raise _NotStarted("the configuration has errors")
    if missing := missing_package(configuration):
        raise _NotStarted(missing)
    from policyd.service.reactor import install, use_monotonic_clock

    install()

    from twisted.internet import reactor

    from policyd.service.daemon import Daemon
    from policyd.service.reloads import Reloads

    use_monotonic_clock(reactor)
    processes = _processes(reactor, arguments, configuration, store)
    reloads = Reloads(reactor, arguments.config, configuration, store, processes, reader, loaded.database)
    return Daemon(reactor, processes, reloads, early, terminal)


def _processes(reactor: Any, arguments: argparse.Namespace, configuration: Configuration, store: Store) -> Processes:
    """Who answers. Raises _NotStarted."""
    from policyd.service.one_process import Serving
    from policyd.service.recording import Recording
    from policyd.service.workers import Workers

    recording = None
    if arguments.record is not None:
        if configuration.service.workers > 1:
            raise _NotStarted("--record needs service.workers = 1", Exit.USAGE)
        try:
            recording = Recording(arguments.record, arguments.redact)
        except OSError as error:
            raise _NotStarted(f"cannot record: {error}", Exit.USAGE) from error
    try:
        if configuration.service.workers > 1:
            return Workers(reactor, configuration, store)
        return Serving(reactor, configuration, store, recording)
    except OSError as error:
        raise _NotStarted(f"cannot write the log: {error}") from error


def _store() -> Store:
    """A new store for the rules, in the folder below /run that systemd gives, else in a private one.

    Neither is on the disk that logs and databases can fill, where /tmp is not.
    """
    from policyd.store.file import Store

    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if not folder or not os.access(folder, os.W_OK):
        folder = tempfile.mkdtemp(prefix="policyd-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, "rules.lmdb")
    for name in (path, f"{path}-lock"):
        with suppress(FileNotFoundError):
            os.remove(name)
    return Store(path)
