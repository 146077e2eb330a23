"""One line for each decision, and lines for what happens to the service itself (SPEC 6).

Lines are collected and handed over in batches. Nothing a peer sends can end a line or forge a field.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from typing import Literal, Protocol

from policyd.policy.decision import Decision
from policyd.policy.names import without_local_part
from policyd.protocol.request import Request, decode_xtext
from policyd.service.log_output import LogOutput

VALUE_LIMIT = 255  # octets of one value
BATCH_SECONDS = 0.02
BATCH_LINES = 512
_SEALED_LINES = 32

Priority = Literal["<4>", "<6>"]  # sd-daemon(3): warning, informational


class Clock(Protocol):
    """The part of Twisted's IReactorTime that is needed here."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> object: ...


# Visible ASCII but for `"`, `\`, `<` and `>`.
_PLAIN = re.compile(r"[!#-;=?-\[\]-~]*")
_PRINTABLE = re.compile(r"[ -~]*")
_SPECIAL = re.compile(r'["\\]')


def quoted(value: str) -> str:
    """A value as it stands in a line: cut, and quoted where it holds anything that could be misread."""
    bracketed = len(value) > 1 and value[0] == "<" and value[-1] == ">"
    inner = value[1:-1] if bracketed else value
    if len(value) <= VALUE_LIMIT and _PLAIN.fullmatch(inner):
        return value
    if len(value) <= VALUE_LIMIT and _PRINTABLE.fullmatch(value):
        return f'"{_SPECIAL.sub(_backslashed, value)}"'
    octets = inner.encode("utf-8", "surrogateescape")
    octets = b"<" + octets[: VALUE_LIMIT - 2] + b">" if bracketed else octets[:VALUE_LIMIT]
    text = octets.decode("latin-1")
    if _PLAIN.fullmatch(text[1:-1] if bracketed else text):
        return text
    return '"' + "".join(map(_escaped, octets)) + '"'


def _backslashed(sign: re.Match[str]) -> str:
    return "\\" + sign[0]


def _escaped(octet: int) -> str:
    if octet in b'"\\':
        return "\\" + chr(octet)
    return chr(octet) if 0x20 <= octet <= 0x7E else f"\\x{octet:02x}"


def decision_line(
    request: Request, decision: Decision, generation: int, domain_only: bool = False, monitor: bool = False
) -> str:
    """The line for one decision, without priority and line end."""
    sender, recipient = request.sender, request.recipient
    if domain_only:
        sender, recipient = without_local_part(sender), without_local_part(recipient)
    return (
        f"{quoted(request.queue_id or 'NOQUEUE')}: {_decision_part(decision)}{quoted(request.client_address)}"
        f"{_certificate_part(request.ccert_subject, request.ccert_issuer, request.ccert_pubkey_fingerprint)}"
        f"{quoted(f'<{sender}>')} recipient={quoted(f'<{recipient}>')} tls={quoted(request.encryption_protocol)} "
        f"instance={quoted(request.instance)} generation={generation}{' mode=monitor' if monitor else ''}"
    )


def _decision_part(decision: Decision) -> str:
    """From behind the queue id to the client's address."""
    action, reason, organization, connector = decision
    return (
        f"action={action} reason={reason.value} organization={quoted(organization)} "
        f"connector={quoted(connector)} client="
    )


def _certificate_part(subject: str, issuer: str, key: str) -> str:
    """From behind the client's address to the sender."""
    return f" certificate={quoted(_decoded(subject))} issuer={quoted(_decoded(issuer))} key={quoted(key)} sender="


def _decoded(xtext: str) -> str:
    """The text that is meant; the xtext itself where it is malformed."""
    text = decode_xtext(xtext)
    return xtext if text is None else text


# What is left of plain values when these octets are taken out: nothing.
_PLAIN_OCTETS = bytes(code for code in range(0x21, 0x7F) if chr(code) not in '"<>\\')
_PARTS_LIMIT = 16384  # parts of lines that are remembered; then a memo starts anew
_PART_LENGTH_LIMIT = 512  # octets of its values


def _is_plain(values: str) -> bool:
    """Whether values need no quotes."""
    return values.isascii() and not values.encode("ascii").translate(None, _PLAIN_OCTETS)


# A line that was put together without a look at the values that a peer sent, those values one behind the other, and
# what the line is of: where the values are not plain, it is made anew with care.
_Line = tuple[str, str, Request, Decision, int]


class DecisionLog:
    """Writes decision lines and events. `decisions` and `addresses` are the settings of [log]."""

    def __init__(self, output: LogOutput, clock: Clock, events: LogOutput | None = None) -> None:
        self.decisions = "all"
        self.domain_only = False
        self.monitor = False
        self._output = output
        self._events = events  # where events go besides; with a file, they are shown on standard error too
        self._clock = clock
        self._lines: list[_Line] = []
        self._sealed: list[bytes] = []  # lines in their last form
        self._scheduled = False
        # Parts of lines that many lines share, ready to be used. None of them could not be made again.
        self._decision_parts: dict[Decision, tuple[str, str]] = {}  # with the priority
        self._certificate_parts: dict[tuple[str, str, str], str] = {}

    def decided(self, request: Request, decision: Decision, generation: int) -> None:
        """Logs one decision of state RCPT, as far as `decisions` says."""
        if self.decisions != "all" and (self.decisions == "none" or decision.action != "REJECT"):
            return
        priority, begin = self._decision_parts.get(decision) or self._keep_decision_part(decision)
        _, client, sender, recipient, _, queue_id, instance, subject, issuer, _, key, tls = request
        certificate = self._certificate_parts.get((subject, issuer, key)) or self._keep_certificate_part(
            subject, issuer, key
        )
        if self.domain_only:
            sender, recipient = without_local_part(sender), without_local_part(recipient)
        mode = " mode=monitor" if self.monitor else ""
        line = (
            f"{priority}{queue_id or 'NOQUEUE'}: {begin}{client}{certificate}<{sender}> "
            f"recipient=<{recipient}> tls={tls} instance={instance} generation={generation}{mode}\n"
        )
        values = f"{queue_id}{client}{sender}{recipient}{tls}{instance}"
        if len(values) > VALUE_LIMIT - 2:
            values = " "  # one of them may have to be cut, so it is to be looked at
        self._lines.append((line, values, request, decision, generation))
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(BATCH_SECONDS, self._flush_scheduled)
        elif len(self._lines) >= _SEALED_LINES:
            self._seal()

    def _keep_decision_part(self, decision: Decision) -> tuple[str, str]:
        part = self._priority(decision), _decision_part(decision)
        if len(self._decision_parts) >= _PARTS_LIMIT:
            self._decision_parts.clear()
        self._decision_parts[decision] = part
        return part

    def _keep_certificate_part(self, subject: str, issuer: str, key: str) -> str:
        part = _certificate_part(subject, issuer, key)
        if len(part) <= _PART_LENGTH_LIMIT:
            if len(self._certificate_parts) >= _PARTS_LIMIT:
                self._certificate_parts.clear()
            self._certificate_parts[subject, issuer, key] = part
        return part

    def event(self, text: str, priority: Priority = "<6>") -> None:
        """Logs something about the service, one line for each line of the text, at once."""
        self.flush()
        for line in text.splitlines():
            safe = "".join(c if c.isascii() and c.isprintable() else _escaped_text(c) for c in line)
            self._output.write(f"{'' if self._output.path else priority}policyd: {safe}\n".encode("ascii"))
            if self._events is not None:
                self._events.write(f"{priority}policyd: {safe}\n".encode("ascii"))

    def internal_error(self, text: str, error: BaseException) -> None:
        """Logs a bug of ours with its traceback."""
        self.event(f"{text}\n" + "".join(traceback.format_exception(error)), "<4>")

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Hands over what was collected."""
        self._seal()
        if self._sealed:
            sealed, self._sealed = self._sealed, []
            self._output.write(b"".join(sealed))

    def _seal(self) -> None:
        """Puts lines into their last form, so that the requests behind them may go while they are in the cache."""
        if self._lines:
            lines, self._lines = self._lines, []
            if _is_plain("".join([line[1] for line in lines])):
                text = "".join([line[0] for line in lines])
            else:
                text = "".join([line[0] if _is_plain(line[1]) else self._with_care(*line[2:]) for line in lines])
            self._sealed.append(text.encode("ascii"))
            if len(self._sealed) * _SEALED_LINES >= BATCH_LINES:
                self.flush()

    def _with_care(self, request: Request, decision: Decision, generation: int) -> str:
        line = decision_line(request, decision, generation, self.domain_only, self.monitor)
        return f"{self._priority(decision)}{line}\n"

    def _priority(self, decision: Decision) -> str:
        """What journald takes off again; a file has none."""
        return "" if self._output.path else "<4>" if decision.action == "REJECT" else "<6>"

    def reopen(self) -> None:
        """Opens the log file anew, for logrotate."""
        self.flush()
        self._output.reopen()


def _escaped_text(c: str) -> str:
    return "".join(_escaped(octet) for octet in c.encode("utf-8", "surrogateescape"))
