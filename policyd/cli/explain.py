"""`policyd explain`: the decision for one request, and how it came about."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from policyd.cli import exits
from policyd.cli.common import add_configuration, load_or_complain, request_of
from policyd.policy.decision import action_text
from policyd.policy.explain import Explanation, explain
from policyd.protocol.request import ProtocolError

_EPILOG = """\
Attributes that are not given are empty; protocol_state is RCPT.

Examples:
  policyd explain client_address=203.0.113.7 sender=kate@contoso.com recipient=bob@example.org
  policyd explain ccert_subject=mail.contoso.com encryption_protocol=TLSv1.3 sender= recipient=bob@example.org
  policyd explain - <request.txt
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd explain`."""
    parser = subparsers.add_parser(
        "explain",
        help="decide one request and tell why",
        description="Decides one request as the server would, and tells what was looked at. Exits with 1 for REJECT.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_configuration(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "attributes",
        nargs="*",
        metavar="name=value",
        help="attributes of the request; - reads them from standard input",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Explains; exit code 0 for OK and DUNNO, 1 for REJECT."""
    try:
        request = request_of(arguments.attributes)
    except ProtocolError as error:
        print(f"policyd explain: this is no request: {error}", file=sys.stderr)
        return exits.DATA
    rules = load_or_complain(arguments.config)
    if rules is None:
        return exits.CONFIG
    told = explain(rules, request)
    decision = told.decision
    answer = action_text(decision, request.sender, request.instance)
    if arguments.json:
        print(
            json.dumps(
                {
                    "action": decision.action,
                    "reason": decision.reason.value,
                    "organization": decision.organization,
                    "connector": decision.connector,
                    "answer": answer,
                    "steps": [asdict(step) for step in told.steps],
                },
                indent=2,
            )
        )
    else:
        _print(told, answer)
    return exits.REJECTED if decision.action == "REJECT" else exits.OK


def printable(text: str) -> str:
    """The text for a terminal: what a request holds must not steer it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _print(told: Explanation, answer: str) -> None:
    decision = told.decision
    print(f"{decision.action}  {decision.reason.value or '(not a matter of policy)'}")
    if decision.organization:
        by = f", connector {decision.connector}" if decision.connector else ""
        print(f"organization {decision.organization}{by}")
    print(f"answer to Postfix: {answer}")
    for step in told.steps:
        where = "/".join(part for part in (step.organization, step.connector) if part)
        mark = {True: "+", False: "-", None: " "}[step.holds]
        print(printable(f" {mark} {step.about}{f' {where}' if where else ''}: {step.text}"))
