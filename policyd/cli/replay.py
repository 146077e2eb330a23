"""`policyd replay`: decides recorded requests again, by one configuration or by two to see what changes (SPEC 7).

Transcripts and decision logs are read as streams: memory does not grow with their length.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from policyd.cli.common import Exit, add_configuration, configuration_or_complain, printable, say
from policyd.policy.attribution import decide
from policyd.policy.decision import Decision
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request
from policyd.records.inputs import opened, reason_of
from policyd.records.recorded import read_recorded
from policyd.records.transcript import Damage
from policyd.store.file import rule_set

_HELP = "decide recorded requests again, and compare two configurations"
_DESCRIPTION = "Decides recorded requests by a configuration, or shows what a new one changes."
_EPILOG = """\
Reads transcripts (policyd serve --record) and policyd's decision logs, compressed or not. A decision log names of a
certificate's fingerprints only the key's: there, pins of certificate_fingerprints match nothing.

With --against every decision that changes is printed with both reasons, and the exit code is 1 when there was any.
Requests in other states than RCPT are not decided.

Exit codes: 0; 1 a decision changed; 65 a file cannot be read or is damaged; 78 a configuration has errors.

Examples:
  policyd replay -c /etc/policyd/policyd.toml --against /etc/policyd/policyd.toml.old /var/lib/policyd/requests
  journalctl -u policyd -o cat | policyd replay -
"""

_PROGRESS_EVERY = 0.5  # seconds
_LOOK_EVERY = 2000  # requests between looks at the clock


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd replay`."""
    parser = subparsers.add_parser("replay", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    add_configuration(parser)
    parser.add_argument("--against", metavar="OLD", help="the configuration before: print what changes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--verbose", action="store_true", help="print every decision, not only those that change")
    parser.add_argument("files", nargs="+", metavar="TRANSCRIPT", help="a transcript or a decision log; - is stdin")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Replays; exit code 1 when a decision changed, 65 when a file could not be read or was damaged."""
    new = configuration_or_complain(arguments.config)
    old = configuration_or_complain(arguments.against) if arguments.against is not None else None
    if new is None or (old is None and arguments.against is not None):
        return Exit.CONFIG
    replay = Replay(rule_set(new.rules), None if old is None else rule_set(old.rules), arguments.verbose)
    lines = _as_json(replay, arguments.files) if arguments.json else map(printable, _as_text(replay, arguments.files))
    progress = Progress(replay) if sys.stderr.isatty() else None
    for line in lines:
        if progress is not None:
            progress.end()
        print(line)
    for problem in replay.problems:
        say(f"policyd replay: {problem}")
    if replay.failed:
        return Exit.DATA
    return Exit.REJECTED if replay.changed else Exit.OK


@dataclass(slots=True)
class Replayed:
    """One decision to print; `old` is None without --against."""

    file: str
    number: int  # of the request in its file, from 1
    request: Request
    new: Decision
    old: Decision | None


@dataclass(slots=True)
class Replay:
    """What came of all requests so far."""

    rules: RuleSet
    old_rules: RuleSet | None
    verbose: bool = False
    requests: int = 0
    not_asked: int = 0
    changed: int = 0
    failed: bool = False  # something could not be read
    by_reason: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_connector: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)  # old and new answer with reason
    problems: list[str] = field(default_factory=list)
    progress: Progress | None = None

    def run(self, files: Iterable[str]) -> Iterator[Replayed]:
        """The decisions to print, in order, while they are made."""
        for file in files:
            try:
                with opened(file) as stream:
                    yield from self._of_file(file, read_recorded(stream))
            except (OSError, EOFError) as error:
                self.failed = True
                self.problems.append(f"cannot read {file}: {reason_of(error)}")

    def _of_file(self, file: str, recorded: Iterator[Any]) -> Iterator[Replayed]:
        number = damaged = from_log = 0
        first_damage: tuple[int, str] | None = None
        for found in recorded:
            number += 1
            if self.progress is not None and number % _LOOK_EVERY == 0:
                self.progress.look()
            if isinstance(found, Damage):
                if found.at_end:
                    self.problems.append(f"{file}: {found.why}")
                else:
                    damaged += 1
                    first_damage = first_damage or (number, found.why)
                continue
            from_log += found.logged is not None
            replayed = self._decided(file, number, found.request)
            if replayed is not None:
                yield replayed
        if first_damage is not None:
            self.failed = True
            at, why = first_damage
            self.problems.append(f"{file}: {damaged} damaged requests, the first is number {at}: {why}")
        if number == 0:
            # Nothing may have been recorded yet; any other file without requests is the wrong one.
            self.failed = self.failed or file == "-" or os.path.getsize(file) > 0
            self.problems.append(f"{file}: holds neither requests nor decisions of policyd")
        if from_log and self._has_certificate_pins():
            self.problems.append(
                f"{file}: a decision log does not hold certificate fingerprints, so connectors that are recognised by "
                "certificate_fingerprints alone were not"
            )

    def _decided(self, file: str, number: int, request: Request) -> Replayed | None:
        self.requests += 1
        if request.protocol_state != "RCPT":
            self.not_asked += 1
            return None
        new = decide(self.rules, request)
        self.by_reason[new.action, new.reason.value] += 1
        if new.organization:
            self.by_connector[new.organization, new.connector] += 1
        if self.old_rules is None:
            return Replayed(file, number, request, new, None) if self.verbose else None
        old = decide(self.old_rules, request)
        if new != old:
            self.changed += 1
            self.changes[_answer(old), _answer(new)] += 1
        elif not self.verbose:
            return None
        return Replayed(file, number, request, new, old)

    def _has_certificate_pins(self) -> bool:
        rules = [self.rules, *([self.old_rules] if self.old_rules is not None else [])]
        return any(
            connector.certificate_fingerprints
            for each in rules
            for organization in each.organizations()
            for connector in organization.connectors
        )


def _answer(decision: Decision) -> str:
    return f"{decision.action} {decision.reason.value}"


def _whole(decision: Decision) -> str:
    who = "/".join(part for part in (decision.organization, decision.connector) if part)
    return f"{_answer(decision)}{f' {who}' if who else ''}"


class Progress:
    """A line on standard error that says how far it is; only for a terminal."""

    def __init__(self, replay: Replay) -> None:
        replay.progress = self
        self._replay = replay
        self._said = time.monotonic()
        self._visible = False

    def look(self) -> None:
        """Says how far it is, if that was not said just now."""
        now = time.monotonic()
        if now - self._said >= _PROGRESS_EVERY:
            self._said, self._visible = now, True
            changed = f", {self._replay.changed:,} changed" if self._replay.old_rules is not None else ""
            print(f"\r{self._replay.requests:,} requests{changed} ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Takes the line away."""
        if self._visible:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)
            self._visible = False


# ------------------------------------------------------------------------------------------- output


def _as_text(replay: Replay, files: list[str]) -> Iterator[str]:
    for replayed in replay.run(files):
        request = replayed.request
        before = "" if replayed.old is None or replayed.old == replayed.new else f"{_whole(replayed.old)} -> "
        certificate = request.ccert_subject or request.ccert_pubkey_fingerprint or request.ccert_fingerprint
        yield (
            f"{replayed.file}:{replayed.number}: {before}{_whole(replayed.new)}  client={request.client_address} "
            f"certificate={certificate} sender=<{request.sender}> recipient=<{request.recipient}>"
        )
    yield f"{replay.requests} requests, {replay.not_asked} of them in states that are not decided"
    yield from _table("reason", {" ".join(key): count for key, count in replay.by_reason.items()})
    yield from _table(
        "organization and connector",
        {f"{organization}/{name or '(no connector)'}": n for (organization, name), n in replay.by_connector.items()},
    )
    if replay.old_rules is not None:
        yield from _table("change", {_change(old, new): count for (old, new), count in replay.changes.items()})
        yield f"{replay.changed} decisions changed" if replay.changed else "no decision changed"


def _change(old: str, new: str) -> str:
    return f"{old} -> {new}" if old != new else f"{new}, for another organization or connector"


def _table(title: str, rows: dict[str, int]) -> Iterator[str]:
    if rows:
        yield f"by {title}:"
        width = len(str(max(rows.values())))
        for name, count in sorted(rows.items(), key=lambda row: (-row[1], row[0])):
            yield f"  {count:{width}}  {name}"


def _as_json(replay: Replay, files: list[str]) -> Iterator[str]:
    """One object, written while it grows."""
    yield '{"decisions": ['
    separator = ""
    for replayed in replay.run(files):
        data = {
            "file": replayed.file,
            "number": replayed.number,
            "old": None if replayed.old is None else replayed.old._asdict(),
            "new": replayed.new._asdict(),
            "request": replayed.request._asdict(),
        }
        yield separator + json.dumps(data)
        separator = ","
    yield "],"
    summary = {
        "requests": replay.requests,
        "not_asked": replay.not_asked,
        "changed": replay.changed,
        "by_reason": [{"action": a, "reason": r, "count": n} for (a, r), n in sorted(replay.by_reason.items())],
        "by_connector": [
            {"organization": o, "connector": c, "count": n} for (o, c), n in sorted(replay.by_connector.items())
        ],
        "changes": [{"old": old, "new": new, "count": n} for (old, new), n in sorted(replay.changes.items())],
        "problems": replay.problems,
    }
    yield f'"summary": {json.dumps(summary, indent=2)}}}'
