"""`policyd query`: asks a running server, as `postmap -q` asks a table (SPEC 7)."""

from __future__ import annotations

import argparse
import json
import socket

from policyd.cli.common import Exit, attributes, printable, say
from policyd.cli.terminal import coloured
from policyd.protocol.request import ProtocolError
from policyd.protocol.wire import encode_request

_TIMEOUT = 10.0  # seconds, as WIRING recommends for Postfix itself

_HELP = "ask a running server"
_DESCRIPTION = "Sends one request to a running policy server and prints its action. Exits with 1 for a refusal."
_EPILOG = """\
Exit codes: 0 the action lets the mail pass; 1 it refuses, for now or for good; 64 --to names no server; 65 no request;
69 no answer.

Examples:
  policyd query client_address=203.0.113.7 sender=kate@contoso.com recipient=bob@example.org
  policyd query --to unix:/var/spool/postfix/policyd/policyd.sock - <request.txt
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd query`."""
    parser = subparsers.add_parser("query", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "--to",
        metavar="SERVER",
        default="inet:127.0.0.1:10045",
        help="the server, inet:host:port or unix:/path (default: inet:127.0.0.1:10045)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "attributes",
        nargs="*",
        metavar="name=value",
        help="attributes of the request; - reads them from standard input",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Asks; exit code 1 for REJECT and temporary refusals."""
    try:
        pairs = [line.split("=", 1) for line in attributes(arguments.attributes or ["-"]).split("\n") if line]
        if any(len(pair) != 2 for pair in pairs):
            raise ProtocolError("a line that is no name=value")
        given = [(name, value) for name, value in pairs if name != "request"]
        if "protocol_state" not in dict(given):
            given.insert(0, ("protocol_state", "RCPT"))
        question = encode_request(given)
    except (ProtocolError, ValueError) as error:
        say(f"policyd query: this is no request: {error}")
        return Exit.DATA
    try:
        action = ask(arguments.to, question)
    except ValueError as error:
        say(f"policyd query: {error}")
        return Exit.USAGE
    except OSError as error:
        say(f"policyd query: no answer from {arguments.to}: {error}; is the server running?")
        return Exit.UNAVAILABLE
    print(json.dumps({"action": action}) if arguments.json else coloured(printable(action), action.split(" ")[0]))
    refused = action.split(" ")[0].upper() in ("REJECT", "DEFER", "DEFER_IF_PERMIT") or action[:1] in ("4", "5")
    return Exit.REJECTED if refused else Exit.OK


def ask(server: str, question: bytes) -> str:
    """The action that the server answers. Raises OSError, ValueError for a server that is none."""
    with _connected(server) as connection:
        connection.sendall(question)
        answer = b""
        while b"\n\n" not in answer:
            piece = connection.recv(4096)
            if not piece:
                raise ConnectionError("the server closed the connection without an answer")
            answer += piece
    for line in answer.decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition("=")
        if name == "action":
            return value
    raise ConnectionError("the answer holds no action")


def _connected(server: str) -> socket.socket:
    kind, _, rest = server.partition(":")
    if kind == "unix" and rest:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_TIMEOUT)
        try:
            connection.connect(rest)
        except BaseException:
            connection.close()
            raise
        return connection
    host, _, port = rest.rpartition(":")
    if kind != "inet" or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'"{server}" is no server: write inet:host:port or unix:/path')
    return socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), _TIMEOUT)
