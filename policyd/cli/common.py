"""What commands share: the -c option, loading with problems shown, lines for people, requests from words (SPEC 7)."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import IntEnum
from typing import TYPE_CHECKING

from policyd.protocol.request import KNOWN_ATTRIBUTES, ProtocolError, Request, parse_attributes

if TYPE_CHECKING:
    from policyd.config.problems import Problem
    from policyd.config.settings import Configuration
    from policyd.loading.load import Loaded

DEFAULT_CONFIGURATION = "/etc/policyd/policyd.toml"


class Exit(IntEnum):
    """The exit codes of every command (SPEC 7)."""

    OK = 0
    REJECTED = 1
    USAGE = 64
    DATA = 65
    UNAVAILABLE = 69
    INTERNAL = 70
    CANNOT_LISTEN = 71
    CONFIG = 78


def add_configuration(parser: argparse._ActionsContainer) -> None:
    """-c FILE"""
    text = f"the configuration (default: {DEFAULT_CONFIGURATION})"
    parser.add_argument("-c", "--config", metavar="FILE", default=DEFAULT_CONFIGURATION, help=text)


def read_or_complain(path: str) -> Loaded | None:
    """What was read of a good configuration; None after its errors were printed."""
    from policyd.loading.load import load

    loaded = load(path)
    if loaded.configuration is not None:
        return loaded
    for problem in loaded.problems:
        if problem.severity == "error":
            say(str(problem))
    suggest_root(loaded.problems)
    return None


def suggest_root(problems: Sequence[Problem]) -> None:
    """Says what to do where this user may not read the configuration, as nobody but root and policyd should."""
    from policyd.config.messages import Message

    if os.geteuid() != 0 and any(problem.message == Message.FILE_NO_PERMISSION.value for problem in problems):
        say("policyd: run this as root (sudo): you may not read the configuration")


def configuration_or_complain(path: str) -> Configuration | None:
    """A good configuration; None after its errors were printed."""
    loaded = read_or_complain(path)
    return None if loaded is None else loaded.configuration


def say(line: str) -> None:
    """A line for people on standard error, in ASCII: what it quotes neither steers a terminal nor needs a locale."""
    print(printable(line).encode("ascii", "backslashreplace").decode("ascii"), file=sys.stderr)


def printable(text: str) -> str:
    """The text for a terminal: what a request or a file name holds must not steer it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def missing_package(configuration: Configuration) -> str:
    """Why the server of this installation does not start with a configuration that is good; empty where it does."""
    if configuration.metrics_listen is None or importlib.util.find_spec("prometheus_client") is not None:
        return ""
    from policyd.config.messages import Message

    return Message.PACKAGE_MISSING.value


def attributes(words: Iterable[str]) -> str:
    """The `name=value` lines of a request: the arguments, or standard input for `-`. Raises ProtocolError."""
    lines = []
    for word in words:
        if word == "-":
            lines.append(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))
        elif "=" not in word:
            raise ProtocolError(f'"{word}" is no name=value')
        else:
            lines.append(word)
    return "\n".join(lines)


def request_of(words: list[str]) -> Request:
    """The request that arguments describe: state RCPT where they say none. Raises ProtocolError."""
    text = attributes(words or ["-"])
    unknown = sorted({line.partition("=")[0] for line in words if line != "-"} - KNOWN_ATTRIBUTES)
    for name in unknown:
        like = get_close_matches(name, sorted(KNOWN_ATTRIBUTES), 1, cutoff=0.75)
        meant = f"; is {like[0]} meant?" if like else ""
        say(f"policyd: Postfix sends no attribute {name}; it is ignored{meant}")
    request = parse_attributes(text)
    request = request._replace(sender=_bare(request.sender), recipient=_bare(request.recipient))
    return request if request.protocol_state else request._replace(protocol_state="RCPT")


def _bare(address: str) -> str:
    """An address without the brackets that logs and people put around it; Postfix sends none."""
    return address[1:-1] if address.startswith("<") and address.endswith(">") else address
