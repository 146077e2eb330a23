"""`policyd COMMAND`: the parser, and nothing else (SPEC 7).

A command's module has `add_parser(subparsers)` and `run(arguments) -> exit code`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from policyd import RULES_FORMAT, __version__
from policyd.cli.common import Exit, say
from policyd.cli.terminal import HelpFormatter

COMMANDS = (
    "serve",
    "check",
    "reload",
    "explain",
    "query",
    "replay",
    "report",
    "show",
    "certificate",
    "import_",
    "export",
)

_EPILOG = """\
A first run:
  policyd check -c /etc/policyd/policyd.toml      all mistakes at once, each with file and line
  policyd serve -c /etc/policyd/policyd.toml      the server
  policyd explain client_address=203.0.113.7 sender=kate@contoso.com recipient=bob@example.org

Exit codes: 0 all well; 1 the answer is REJECT (replay: a decision changed); 64 wrong usage; 65 bad
input data; 69 server not reachable; 70 internal error; 71 cannot listen; 78 mistakes in the configuration.
"""


class Parser(argparse.ArgumentParser):
    """argparse, but wrong usage exits with 64 (EX_USAGE), and texts are shown as they are written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter} | options)

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and where help is."""
        say(f"{self.prog}: {message}")
        say(f"Try `{self.prog} --help`.")
        self.exit(Exit.USAGE)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = Parser(
        prog="policyd",
        description="A Postfix policy service: mail is taken from servers that belong to an organization, "
        "for mail that belongs to the same organization.",
        epilog=_EPILOG,
    )
    top.add_argument("--version", action="version", version=version())
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name in COMMANDS:
        importlib.import_module(f"policyd.cli.{name}").add_parser(commands)
    return top


def version() -> str:
    """What --version prints."""
    from importlib.metadata import version as installed

    python = ".".join(map(str, sys.version_info[:3]))
    return f"policyd {__version__} (Python {python}, Twisted {installed('twisted')}, rules format {RULES_FORMAT})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    parsed = _parsed(sys.argv[1:] if arguments is None else list(arguments))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # octets that are not UTF-8 are shown, not died of
    try:
        code = int(parsed.run(parsed))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        _write_no_more()
        return Exit.OK
    except Exception as error:  # noqa: BLE001 - the last resort: a bug, told as such
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):  # where the output goes
            _write_no_more()
            say(f"policyd: cannot write: {error.strerror}")
            return Exit.INTERNAL
        for line in traceback.format_exc().splitlines():
            say(line)
        say("policyd: internal error; please report it with the lines above")
        return Exit.INTERNAL


def _parsed(words: list[str]) -> argparse.Namespace:
    """The options of the command; with wrong ones, says what was meant and exits."""
    top = parser()
    if not words:
        top.print_help(sys.stderr)
        sys.exit(Exit.USAGE)
    if wrong := _no_command(words):
        top.error(wrong)
    parsed, more = top.parse_known_args(words)
    if more:
        meant = f"; is `policyd {words[0]} -c {more[0]}` meant?" if _is_configuration(more[0], parsed) else ""
        top.error(f"{words[0]} does not take {' '.join(more)}{meant}")
    return parsed


def _no_command(words: list[str]) -> str:
    """What is wrong where the first word is no command; empty where argparse knows it, or knows what to say."""
    first, names = words[0], [name.rstrip("_") for name in COMMANDS]
    if first in names:
        return ""
    if first.startswith("-"):
        command = next((word for word in words if word in names), "")
        before = words[: words.index(command)] if command else []
        return f"the command comes first: policyd {command} {' '.join(before)}" if command else ""
    near = get_close_matches(first, names, 1)
    meant = f"is {near[0]} meant?" if near else f"there are {', '.join(names)}"
    return f'there is no command "{first}"; {meant}'


def _is_configuration(word: str, parsed: argparse.Namespace) -> bool:
    return hasattr(parsed, "config") and not word.startswith("-") and (word.endswith(".toml") or os.path.isfile(word))


def _write_no_more() -> None:
    """What is still in standard output's buffer would fail again at the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run() -> NoReturn:
    """The console script."""
    sys.exit(main())
