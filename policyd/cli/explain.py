"""`policyd explain`: the decision for one request, how it came about, and what would have changed it (SPEC 7)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from policyd.cli import running
from policyd.cli.common import Exit, configuration_or_complain, printable, say
from policyd.cli.terminal import coloured, fitted
from policyd.policy.decision import refuses
from policyd.protocol.request import ProtocolError
from policyd.records.decision_line import LoggedDecision

if TYPE_CHECKING:
    from policyd.cli.asked import Asked
    from policyd.config.settings import Configuration
    from policyd.explain.telling import Told

_HELP = "decide one request and tell why, and what would let it through"
_DESCRIPTION = (
    "Decides one request as the server would, tells what was looked at, and what would have let a "
    "refused mail through. Exits with 1 for REJECT."
)
_EPILOG = """\
Attributes that are not given are empty; protocol_state is RCPT. A line of policyd's log serves as well as a request,
and --ref finds it: a refused sender has "(ref ...)" in his bounce, Postfix has it in its log. Without --log it is
looked for in log.file of the configuration, else in the journal of the unit policyd.

For each connector that nearly took the mail there is the one change that would have been enough: to the configuration
(TOML to paste: whole new values of the keys it names), to the sender's server, or to Postfix. They are tried before
they are told.

With --running the service decides by the rules that it has in force, over its control socket; no configuration is read.

Exit codes: 0 OK or DUNNO; 1 REJECT; 64 options that do not go together; 65 no request, or none with this reference;
69 no service is reachable; 78 the configuration has errors.

Examples:
  policyd explain client_address=203.0.113.7 sender=kate@contoso.com recipient=bob@example.org
  policyd explain ccert_subject=mail.contoso.com encryption_protocol=TLSv1.3 sender= recipient=bob@example.org
  policyd explain --certificate mail.pem sender=kate@contoso.com recipient=bob@example.org
  policyd explain - <request.txt
  policyd explain --ref 1f3.65
  policyd explain --running client_address=203.0.113.7 sender=kate@contoso.com recipient=bob@example.org
  policyd explain --ref 1f3.65 --log /var/log/policyd/policyd.log --log /var/log/policyd/policyd.log.1.gz
  journalctl -u policyd | policyd explain --ref 1f3.65 --log -
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd explain`."""
    parser = subparsers.add_parser("explain", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    running.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--ref", metavar="INSTANCE", help="the reference in a refusal: explain its decision")
    parser.add_argument(
        "--log",
        metavar="FILE",
        action="append",
        help="policyd's log, compressed or not; - is standard input; may be given more than once",
    )
    parser.add_argument(
        "--certificate",
        metavar="FILE",
        help="as if the client had shown the certificate in this PEM file: to try a configuration before a server does",
    )
    parser.add_argument("--verified", action="store_true", help="as if Postfix knew that certificate's CA")
    parser.add_argument(
        "attributes",
        nargs="*",
        metavar="name=value",
        help="attributes of the request, or a line of the log; - reads them from standard input; with --ref they "
        "choose among the recipients of one message",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Explains; exit code 0 for OK and DUNNO, 1 for REJECT."""
    from policyd.cli.asked import JOURNAL, NotFoundError, asked_of, referred, showing

    if misused := _misused(arguments):
        say(f"policyd explain: {misused}")
        return Exit.USAGE
    configuration = None
    if arguments.ref is not None and arguments.log is None:  # it says where the log is
        configuration = configuration_or_complain(arguments.config)
        if configuration is None:
            return Exit.CONFIG
        arguments.log = [configuration.log.file or JOURNAL]
    try:
        if arguments.ref is not None:
            asked = referred(arguments.ref, arguments.log, arguments.attributes)
        elif arguments.certificate is not None:
            asked = showing(arguments.certificate, arguments.verified, arguments.attributes)
        else:
            asked = asked_of(arguments.attributes)
    except (ProtocolError, NotFoundError) as error:
        say(f"policyd explain: {'this is no request: ' if isinstance(error, ProtocolError) else ''}{error}")
        return Exit.DATA
    if arguments.running:
        try:
            told = _running(arguments.socket, asked)
        except running.NoAnswer as error:
            say(f"policyd explain: {error}")
            return error.code
    else:
        configuration = configuration or configuration_or_complain(arguments.config)
        if configuration is None:
            return Exit.CONFIG
        told = _of_files(configuration, asked)
    _print(told, asked, as_json=arguments.json)
    return Exit.REJECTED if refuses(told["data"]["action"]) else Exit.OK


def _print(told: Told, asked: Asked, as_json: bool) -> None:
    from policyd.explain.telling import TOML

    data = told["data"]
    notes = [*asked.notes, *_notes(data, asked.logged)]
    for note in notes:
        say(f"policyd explain: {note}")
    if as_json:
        print(json.dumps({**data, "notes": notes, **_logged(asked.logged)}, indent=2))
    else:
        first, *others = told["lines"]
        print(coloured(printable(first), data["action"]))
        for line in others:
            print("\n".join([printable(line)] if line.startswith(TOML) else fitted(printable(line))))


def _of_files(configuration: Configuration, asked: Asked) -> Told:
    """By the configuration of the files."""
    from policyd.explain.telling import told
    from policyd.explain.walk import explain
    from policyd.store.file import rule_set

    rules = rule_set(configuration.rules)
    return told(explain(rules, asked.request, configuration.provider, verifiable=asked.verifiable), asked.request)


def _running(path: str | None, asked: Asked) -> Told:
    """By the rules in force. Raises NoAnswer."""
    request = asked.request._asdict()
    (line,) = running.answer(path, "explain", request=request, verifiable=asked.verifiable)
    told: Told = json.loads(line)
    return told


def _misused(arguments: argparse.Namespace) -> str:
    """What is wrong with the options; empty when nothing is."""
    if arguments.log is not None and arguments.ref is None:
        return "--log is where --ref looks: give the reference, too"
    if arguments.ref is not None and arguments.certificate is not None:
        return "--certificate is for requests that are written here: a log line has its own"
    if arguments.verified and arguments.certificate is None:
        return "--verified is about the certificate of --certificate"
    if arguments.running and arguments.ref is not None and arguments.log is None:
        return "--running reads no configuration, which says where the log is: give --log, too"
    return running.misused(arguments)


def _notes(data: dict[str, Any], logged: LoggedDecision | None) -> Iterator[str]:
    """What the log says besides."""
    if logged is None:
        return
    if logged.cut:
        yield "a value of the line may have been cut, so that this may be about another request"
    if (logged.action, logged.reason) != (data["action"], data["reason"]):
        yield (
            f"the log says {logged.action} {logged.reason} (generation {logged.generation}); below is what the "
            "configuration of now says. A log names no certificate fingerprint, only the key's"
        )


def _logged(logged: LoggedDecision | None) -> dict[str, Any]:
    """What the log's line says, for `--json`."""
    if logged is None:
        return {}
    return {"logged": {"action": logged.action, "reason": logged.reason, "generation": logged.generation}}
