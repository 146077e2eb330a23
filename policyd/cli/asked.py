"""Which request `policyd explain` is asked about: attributes, a recorded request, or a line of the decision log.

Everything that people may have at hand is taken: `name=value` arguments, a request or a log line on standard input or
as an argument, and the reference that a refused sender quotes, together with the log.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from policyd.cli.common import attributes, request_of
from policyd.cli.inputs import opened, reason_of
from policyd.protocol.log_line import LoggedDecision, parse_log_line
from policyd.protocol.request import ProtocolError, Request

_REFERENCE = re.compile(r"\(ref ([0-9A-Za-z.]+)\)")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


class NotFoundError(Exception):
    """There is no such decision; the text says what was looked at."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and the line of the log that it was rebuilt from, if any."""

    request: Request
    logged: LoggedDecision | None = None


def asked_of(words: list[str]) -> Asked:
    """The request of the command's arguments; standard input for `-` and for none. Raises ProtocolError."""
    joined = " ".join(words)
    if logged := parse_log_line(joined):
        return Asked(logged.request(), logged)
    if words in ([], ["-"]):
        return _of_text(attributes(["-"]))
    return Asked(request_of(words))


def _of_text(text: str) -> Asked:
    """The first request of a text: of a log, the first that was refused."""
    decisions = [logged for line in text.split("\n") if (logged := parse_log_line(line.rstrip("\r")))]
    if decisions:
        return _one_of(decisions)
    first, *more = [part for part in _BLANK_LINE.split(text) if part.strip()] or [""]
    if more:
        _say(f"there are {len(more) + 1} requests; this is about the first")
    return Asked(request_of(first.strip("\n").split("\n")))


def referred(reference: str, log: str, words: list[str]) -> Asked:
    """The decision that a refusal's `(ref ...)` names; `name=value` words choose among several recipients.

    Raises NotFoundError, OSError for a log that cannot be read, ProtocolError for words that are no attributes.
    """
    match = _REFERENCE.search(reference)
    instance = match[1] if match else reference.strip()
    wanted = _wanted(words)
    found, mentions = [], 0
    with opened(log) as lines:
        for line in lines:
            if instance.encode("utf-8", "surrogateescape") not in line:
                continue
            mentions += 1
            logged = parse_log_line(line.decode("utf-8", "surrogateescape").rstrip("\r\n"))
            if logged is not None and logged.instance == instance and logged.action != "PREPEND":
                found.append(logged)
    chosen = [logged for logged in found if all(getattr(logged.request(), name) == value for name, value in wanted)]
    if chosen:
        return _one_of(chosen)
    where = "standard input" if log == "-" else str(Path(log))
    if found:
        raise NotFoundError(f"{len(found)} decisions have the reference {instance}, but none of them these attributes")
    if mentions:
        raise NotFoundError(f"{where} names {instance}, but not in a decision of policyd: give policyd's own log")
    raise NotFoundError(
        f"{where} holds no decision with the reference {instance}; an older log may, unless log.decisions leaves it out"
    )


def _wanted(words: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in Request._fields:
            raise ProtocolError(f'"{word}" is no attribute that the log has')
        pairs.append((name, value))
    return pairs


def _one_of(decisions: list[LoggedDecision]) -> Asked:
    """The first that was refused, else the first."""
    first = next((logged for logged in decisions if logged.action == "REJECT"), decisions[0])
    if len(decisions) > 1:
        _say(
            f"there are {len(decisions)} decisions; this is about recipient={first.recipient} "
            f"({first.action} {first.reason})"
        )
    return Asked(first.request(), first)


def _say(text: str) -> None:
    print(f"policyd explain: {text}", file=sys.stderr)


__all__ = ["Asked", "NotFoundError", "asked_of", "reason_of", "referred"]
