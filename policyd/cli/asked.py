"""Which request `policyd explain` is asked about: attributes, a recorded request, or a line of the decision log.

Everything that people may have at hand is taken: `name=value` arguments, a request or a log line on standard input or
as an argument, the reference that a refused sender quotes, together with the log, and a certificate's file.
SPEC 7, explain.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from policyd.cli.common import attributes, request_of, say
from policyd.policy.decision import refuses
from policyd.protocol.request import ProtocolError, Request, encode_xtext
from policyd.records.decision_line import LoggedDecision, parse_log_line
from policyd.records.inputs import opened, reason_of

_REFERENCE = re.compile(r"\bref\s+([0-9A-Za-z.]*[0-9A-Za-z])")  # as people and mail programs quote it
_QUOTED_REFERENCE = re.compile(r"\(ref\s+([0-9A-Za-z.]+)\)")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


class NotFoundError(Exception):
    """There is no such decision; the text says what was looked at."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and the line of the log that it was rebuilt from, if any."""

    request: Request
    logged: LoggedDecision | None = None
    notes: tuple[str, ...] = ()  # what there is to say about the choice
    verifiable: bool = True  # whether a CA in smtpd_tls_CAfile can be what the certificate lacks


def asked_of(words: list[str]) -> Asked:
    """The request of the command's arguments; standard input for `-` and for none. Raises ProtocolError."""
    joined = " ".join(words)
    if logged := parse_log_line(joined):
        return Asked(logged.request(), logged)
    if words in ([], ["-"]):
        if sys.stdin is not None and hasattr(sys.stdin, "isatty") and sys.stdin.isatty():
            say("policyd explain: a request or a log line, then Ctrl-D (see policyd explain --help)")
        return _of_text(attributes(["-"]))
    _not_a_refusal(joined)
    return Asked(request_of(words))


def showing(path: str, verified: bool, words: list[str]) -> Asked:
    """The request of `words` from a client that shows the certificate in a PEM file, as Postfix would tell of it.

    `verified`: its CA is known to Postfix, which counts for client certificates that are valid now. What the words say
    goes first. Raises NotFoundError for a file without a certificate, and ProtocolError.
    """
    from policyd.config.certificates import CertificateRefused, read_certificate

    try:
        certificate = read_certificate(path, path)
    except CertificateRefused as refused:
        raise NotFoundError(f"{path}: {refused}") from None
    now = datetime.now(UTC)
    why_not = ""
    if not certificate.for_clients:
        why_not = "its extended key usage lacks clientAuth"
    elif not certificate.not_before <= now <= certificate.not_after:
        why_not = "it is not valid today"
    shows = {
        "ccert_fingerprint": certificate.certificate_fingerprints["sha256"],
        "ccert_pubkey_fingerprint": certificate.public_key_fingerprints["sha256"],
        "encryption_protocol": "TLSv1.3",
    }
    if verified and not why_not:
        shows["ccert_subject"] = encode_xtext(certificate.common_name or "")
        shows["ccert_issuer"] = encode_xtext(certificate.issuer or "CA")
    asked = asked_of([*words, *(f"{name}={value}" for name, value in shows.items())])
    notes = (f"Postfix never verifies {path}: {why_not}",) if verified and why_not else ()
    return Asked(asked.request, None, notes, verifiable=not why_not and not certificate.self_signed)


def _of_text(text: str) -> Asked:
    """The first request of a text: of a log, the first that was refused."""
    text = text.replace("\r\n", "\n")
    decisions = [logged for line in text.split("\n") if (logged := parse_log_line(line))]
    if decisions:
        return _one_of(decisions)
    first, *more = [part for part in _BLANK_LINE.split(text) if part.strip()] or [""]
    if not first:
        raise ProtocolError("standard input is empty")
    _not_a_refusal(first)
    notes = (f"there are {len(more) + 1} requests; this is about the first",) if more else ()
    return Asked(request_of(first.strip("\n").split("\n")), None, notes)


def _not_a_refusal(text: str) -> None:
    """A bounce, or a line of Postfix's log, has no attributes, but the reference that leads to them."""
    quoted = _QUOTED_REFERENCE.findall(text)
    if quoted and "recipient=" not in text:
        raise ProtocolError(f"it is a refusal: policyd explain --ref {quoted[-1]} --log LOG finds its decision")


def referred(reference: str, logs: list[str], words: list[str]) -> Asked:
    """The decision that a refusal's `(ref ...)` names; `name=value` words choose among several recipients.

    Raises NotFoundError, also for a log that cannot be read, and ProtocolError for words that are no attributes.
    """
    quoted = _REFERENCE.findall(reference)
    instance = quoted[-1] if quoted else reference.strip()
    wanted = _wanted(words)
    found, mentions = [], 0
    for line in _lines_with(instance.encode("utf-8", "surrogateescape"), logs):
        mentions += 1
        logged = parse_log_line(line.decode("utf-8", "surrogateescape").rstrip("\r\n"))
        if logged is not None and logged.instance == instance and logged.action != "PREPEND":
            found.append(logged)
    chosen = [logged for logged in found if all(getattr(logged.request(), name) == value for name, value in wanted)]
    if chosen:
        return _one_of(chosen)
    where = " and ".join("standard input" if log == "-" else log for log in logs)
    if found:
        raise NotFoundError(f"{len(found)} decisions have the reference {instance}, but none of them these attributes")
    if mentions:
        raise NotFoundError(f"{instance} is in {where}, but not in a decision of policyd: give policyd's own log")
    raise NotFoundError(
        f"no decision with the reference {instance} is in {where}; an older log may have it, unless log.decisions "
        "leaves it out"
    )


def _lines_with(part: bytes, logs: list[str]) -> Iterator[bytes]:
    for log in logs:
        try:
            with opened(log) as lines:
                yield from (line for line in lines if part in line)
        except (OSError, EOFError) as error:
            raise NotFoundError(f"cannot read {log}: {reason_of(error)}") from None


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
    first = next((logged for logged in decisions if refuses(logged.action)), decisions[0])
    which = f"recipient={first.recipient} ({first.action} {first.reason})"
    notes = (f"there are {len(decisions)} decisions; this is about {which}",) if len(decisions) > 1 else ()
    return Asked(first.request(), first, notes)
