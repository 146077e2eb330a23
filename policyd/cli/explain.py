"""`policyd explain`: the decision for one request, how it came about, and what would have changed it (SPEC 7)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from policyd.cli.common import Exit, add_configuration, configuration_or_complain, printable, say, toml_of
from policyd.explain.near_misses import NearMiss
from policyd.explain.walk import Explanation, explain
from policyd.policy.decision import SENTENCES, action_text, refuses
from policyd.protocol.request import ProtocolError
from policyd.records.decision_line import LoggedDecision

_HELP = "decide one request and tell why, and what would let it through"
_DESCRIPTION = (
    "Decides one request as the server would, tells what was looked at, and what would have let a "
    "refused mail through. Exits with 1 for REJECT."
)
_EPILOG = """\
Attributes that are not given are empty; protocol_state is RCPT. A line of policyd's log serves as well as a request,
and --ref finds it: a refused sender has "(ref ...)" in his bounce, Postfix has it in its log.

For each connector that nearly took the mail there is the one change that would have been enough: to the configuration
(TOML to paste: whole new values of the keys it names), to the sender's server, or to Postfix. They are tried before
they are told.

Exit codes: 0 OK or DUNNO; 1 REJECT; 64 --ref without --log or the other way round; 65 no request, or none with this
reference; 78 the configuration has errors.

Examples:
  policyd explain client_address=203.0.113.7 sender=kate@contoso.com recipient=bob@example.org
  policyd explain ccert_subject=mail.contoso.com encryption_protocol=TLSv1.3 sender= recipient=bob@example.org
  policyd explain --certificate mail.pem sender=kate@contoso.com recipient=bob@example.org
  policyd explain - <request.txt
  policyd explain --ref 1f3.65 --log /var/log/policyd/policyd.log --log /var/log/policyd/policyd.log.1.gz
  journalctl -u policyd | policyd explain --ref 1f3.65 --log -
"""

_LINES_SHOWN = 16  # of the TOML of one proposal; --json has it whole


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd explain`."""
    parser = subparsers.add_parser("explain", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    add_configuration(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--ref", metavar="INSTANCE", help="the reference in a refusal; needs --log")
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
    from policyd.cli.asked import NotFoundError, asked_of, referred, showing
    from policyd.store.file import rule_set

    if misused := _misused(arguments):
        say(f"policyd explain: {misused}")
        return Exit.USAGE
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
    configuration = configuration_or_complain(arguments.config)
    if configuration is None:
        return Exit.CONFIG
    rules = rule_set(configuration.rules)
    explanation = explain(rules, asked.request, configuration.provider, verifiable=asked.verifiable)
    answer = action_text(explanation.decision, asked.request.sender, asked.request.instance)
    notes = [*asked.notes, *_notes(explanation, asked.logged)]
    for note in notes:
        say(f"policyd explain: {note}")
    if arguments.json:
        print(json.dumps(_data(explanation, answer, asked.logged, notes), indent=2))
    else:
        for line in _lines(explanation, answer):
            print(printable(line))
    return Exit.REJECTED if refuses(explanation.decision.action) else Exit.OK


def _misused(arguments: argparse.Namespace) -> str:
    """What is wrong with the options; empty when nothing is."""
    if (arguments.ref is None) != (arguments.log is None):
        return "--ref and --log go together"
    if arguments.ref is not None and arguments.certificate is not None:
        return "--certificate is for requests that are written here: a log line has its own"
    if arguments.verified and arguments.certificate is None:
        return "--verified is about the certificate of --certificate"
    return ""


def _notes(explanation: Explanation, logged: LoggedDecision | None) -> Iterator[str]:
    """What the log says besides."""
    if logged is None:
        return
    if logged.cut:
        yield "a value of the line may have been cut, so that this may be about another request"
    if (logged.action, logged.reason) != (explanation.decision.action, explanation.decision.reason.value):
        yield (
            f"the log says {logged.action} {logged.reason} (generation {logged.generation}); below is what the "
            "configuration of now says. A log names no certificate fingerprint, only the key's"
        )


# ------------------------------------------------------------------------------------------- as JSON


def _data(explanation: Explanation, answer: str, logged: LoggedDecision | None, notes: list[str]) -> dict[str, Any]:
    decision = explanation.decision
    data: dict[str, Any] = {
        "action": decision.action,
        "reason": decision.reason.value,
        "organization": decision.organization,
        "connector": decision.connector,
        "answer": answer,
        "sentence": SENTENCES[decision.reason],
        "steps": [asdict(step) for step in explanation.steps],
        "near_misses": [_near_miss_data(near_miss) for near_miss in explanation.near_misses],
        "hints": [asdict(hint) for hint in explanation.hints],
        "notes": notes,
    }
    if logged is not None:
        data["logged"] = {"action": logged.action, "reason": logged.reason, "generation": logged.generation}
    return data


def _near_miss_data(near_miss: NearMiss) -> dict[str, Any]:
    """A near miss for `--json`."""
    proposal = near_miss.proposal
    return {
        "organization": near_miss.organization,
        "connector": near_miss.connector,
        "partner": near_miss.partner,
        "failed_at": near_miss.failed_at.value,
        "text": near_miss.text,
        "proposal": {
            "kind": proposal.kind,
            "text": proposal.text,
            "toml": toml_of(proposal.change),
            "request": dict(proposal.instead),
        },
    }


# ------------------------------------------------------------------------------------------- for people

_MARKS = {True: "+", False: "-", None: " "}
_WHO = {"configuration": "In the configuration", "sender": "At the sender's end", "postfix": "In Postfix"}


def _lines(explanation: Explanation, answer: str) -> Iterator[str]:
    decision = explanation.decision
    yield f"{decision.action}  {decision.reason.value or '(not a matter of policy)'}"
    if decision.organization:
        by = f", connector {decision.connector}" if decision.connector else ""
        yield f"organization {decision.organization}{by}"
    yield SENTENCES[decision.reason]
    yield f"answer to Postfix: {answer}"
    *looked_at, _ = explanation.steps
    if looked_at:
        yield ""
        yield "What was looked at:"
    for step in looked_at:
        where = "/".join(part for part in (step.organization, step.connector) if part)
        yield f" {_MARKS[step.holds]} {step.about}{f' {where}' if where else ''}: {step.text}"
    if refuses(decision.action):
        yield ""
        yield from _near_misses(explanation.near_misses)
    if explanation.hints:
        yield ""
        yield "What no change is proposed for, since it would let others in:"
    for hint in explanation.hints:
        yield f" - {f'organization {hint.organization}: ' if hint.organization else ''}{hint.text}."


def _near_misses(nearest: tuple[NearMiss, ...]) -> Iterator[str]:
    if not nearest:
        yield "No single change would have let this mail through: its addresses and its client have too little to do"
        yield "with an organization here. (A bounce to outside needs a certificate in the organization's own name.)"
        return
    yield "What would have let this mail through, the nearest first:"
    for number, near_miss in enumerate(nearest, 1):
        yield f"{number:2}. {_who(near_miss)}{near_miss.text}."
        proposal = near_miss.proposal
        yield f"    {_WHO[proposal.kind]}: {proposal.text}{'' if proposal.text.endswith('...') else '.'}"
        lines = toml_of(proposal.change).splitlines()
        if len(lines) > _LINES_SHOWN:
            yield f"    (the new value is long: {len(lines)} lines, see --json)"
        elif lines:
            yield ""
            yield from (f"        {line}" if line else "" for line in lines)
            yield ""


def _who(near_miss: NearMiss) -> str:
    if near_miss.partner:
        return f"partner {near_miss.organization}/{near_miss.partner}: "
    if near_miss.connector:
        return f"connector {near_miss.organization}/{near_miss.connector}: "
    return f"organization {near_miss.organization}: " if near_miss.organization else ""
