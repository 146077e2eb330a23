"""Asks the running service over its control socket (SPEC 8)."""

from __future__ import annotations

import argparse
import socket
import tempfile
from collections.abc import Iterator
from typing import IO

from policyd.cli.common import Exit, add_configuration
from policyd.protocol.control import END, LONGEST_REQUEST, VERSION, decode, encode, usual_socket

DEFAULT_SOCKET = "/run/policyd/control.sock"

_IN_MEMORY = 1 << 24  # octets of an answer; what is longer waits in a file until it is whole
_SILENCE = 60.0  # seconds without an octet, after which there is no answer


class NoAnswer(Exception):
    """The text says why; the code is what the command exits with."""

    def __init__(self, why: str, code: int = Exit.UNAVAILABLE) -> None:
        super().__init__(why)
        self.code = code


def add_options(parser: argparse.ArgumentParser) -> None:
    """-c FILE or --running, and --socket PATH"""
    rules = parser.add_mutually_exclusive_group()
    add_configuration(rules)
    rules.add_argument("--running", action="store_true", help="by the rules that are in force in the running service")
    add_socket(parser)


def add_socket(parser: argparse.ArgumentParser) -> None:
    """--socket PATH"""
    text = f"the control socket of the service (default: {DEFAULT_SOCKET})"
    parser.add_argument("--socket", metavar="PATH", help=text)


def misused(arguments: argparse.Namespace) -> str:
    """What is wrong with the options of `add_options`; empty when nothing is."""
    return "--socket goes with --running" if arguments.socket is not None and not arguments.running else ""


def answer(path: str | None, command: str, patient: bool = False, **asked: object) -> Iterator[str]:
    """The lines of the answer, after all of it has arrived. Raises NoAnswer, before the first line only.

    `path`: of the socket, or None for the usual one. `patient`: waits for as long as the service works.
    """
    question = encode({"policyd": VERSION, "command": command, **asked})
    if len(question) > LONGEST_REQUEST:
        raise NoAnswer("this is more than the service takes at once", Exit.DATA)
    path = path or usual_socket() or DEFAULT_SOCKET
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as received:
        try:
            _receive(path, question, received, None if patient else _SILENCE)
        except OSError as error:
            raise NoAnswer(f"no service is reachable at {path}: {error.strerror or error}") from None
        received.seek(0)
        try:
            head = decode(received.readline())
        except ValueError as error:
            raise NoAnswer(f"{path} gives no answer: {error}") from None
        if "error" in head:
            raise NoAnswer(str(head["error"]), int(head.get("code", Exit.UNAVAILABLE)))
        for line in received:
            if line != END:
                yield line.decode("ascii")


def _receive(path: str, question: bytes, received: IO[bytes], silence: float | None) -> None:
    """Takes all of the answer: whoever reads it slowly then does not hold the service up. Raises OSError."""
    last = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(silence)
        connection.connect(path)
        connection.sendall(question)
        while piece := connection.recv(1 << 16):
            received.write(piece)
            last = (last + piece)[-2:]
    if last != b"\n" + END:
        raise ConnectionError("it ended before its answer was whole")
