"""`policyd reload`: the running service reads its configuration again (SPEC 7 and 8)."""

from __future__ import annotations

import argparse
import json
import sys

from policyd.cli import running
from policyd.cli.check import shown
from policyd.cli.common import Exit, say
from policyd.config.problems import Problem

_HELP = "let the running service read its configuration again"
_DESCRIPTION = (
    "Asks the running service over its control socket to read its configuration again and to open its log anew, "
    "waits until that is done, and prints the errors and warnings that the service found, as `policyd check` does."
)
_EPILOG = """\
Nothing is read here: the service reads the files that it was started with, with its own rights. Where they have errors
the rules that were in force stay. A reload that is asked for while another one is under way is one of its own, which
starts after it.

The socket is control.sock in the folder that systemd makes for the service ($RUNTIME_DIRECTORY), or what
[service] control says. Root, the service's user and the members of the socket's group may use it.

Exit codes: 0 the rules of now are in force; 69 no service is reachable; 78 the old rules stay.

Examples:
  policyd reload
  policyd reload --socket /run/policyd-test/control.sock
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd reload`."""
    parser = subparsers.add_parser("reload", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    running.add_socket(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Asks and waits; exit code 0, 69 or 78."""
    try:
        first, *problems = running.answer(arguments.socket, "reload", patient=True)
    except running.NoAnswer as error:
        say(f"policyd reload: {error}")
        return error.code
    for problem in problems:
        print(shown(Problem(**json.loads(problem)), sys.stderr), file=sys.stderr)
    outcome = json.loads(first)
    for text in outcome["said"]:
        say(f"policyd reload: {text}")
    return Exit.OK if outcome["in_force"] else Exit.CONFIG
