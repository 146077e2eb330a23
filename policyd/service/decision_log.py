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
        f"{quoted(request.queue_id or 'NOQUEUE')}{decision_part(decision)}{quoted(request.client_address)}"
        f"{certificate_part(request.ccert_subject, request.ccert_issuer, request.ccert_pubkey_fingerprint)}"
        f"{quoted(f'<{sender}>')} recipient={quoted(f'<{recipient}>')} tls={quoted(request.encryption_protocol)} "
        f"instance={quoted(request.instance)}{end_part(generation, monitor)}"
    )


def decision_part(decision: Decision) -> str:
    """From behind the queue id to the client's address."""
    action, reason, organization, connector = decision
    return (
        f": action={action} reason={reason.value} organization={quoted(organization)} "
        f"connector={quoted(connector)} client="
    )


def certificate_part(subject: str, issuer: str, key: str) -> str:
    """From behind the client's address to the sender."""
    return f" certificate={quoted(_decoded(subject))} issuer={quoted(_decoded(issuer))} key={quoted(key)} sender="


def end_part(generation: int, monitor: bool) -> str:
    """From behind the instance to the line's end."""
    return f" generation={generation}{' mode=monitor' if monitor else ''}"


def _decoded(xtext: str) -> str:
    """The text that is meant; the xtext itself where it is malformed."""
    text = decode_xtext(xtext)
    return xtext if text is None else text


class DecisionLog:
    """Writes decision lines and events. `decisions` and `addresses` are the settings of [log]."""

    def __init__(self, output: LogOutput, clock: Clock, events: LogOutput | None = None) -> None:
        self.decisions = "all"
        self.domain_only = False
        self.monitor = False
        self._output = output
        self._events = events  # where events go besides; with a file, they are shown on standard error too
        self._clock = clock
        self._lines: list[str] = []
        self._scheduled = False

    def wants(self, decision: Decision) -> bool:
        """Whether `decisions` asks for a line for it. Other states than RCPT have no decision."""
        return decision.reason != "" and (
            self.decisions == "all" or (self.decisions == "rejects" and decision.action == "REJECT")
        )

    def priority(self, decision: Decision) -> Priority | Literal[""]:
        """What stands in front of its line, and journald takes off again; a file has none."""
        return "" if self._output.path else "<4>" if decision.action == "REJECT" else "<6>"

    def decided(self, request: Request, decision: Decision, generation: int) -> None:
        """Logs one decision, as far as `decisions` says."""
        if self.wants(decision):
            line = decision_line(request, decision, generation, self.domain_only, self.monitor)
            self.add([f"{self.priority(decision)}{line}\n"])

    def add(self, lines: list[str]) -> None:
        """Takes whole lines with their priority."""
        self._lines += lines
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(BATCH_SECONDS, self._flush_scheduled)
        elif len(self._lines) >= BATCH_LINES:
            self.flush()

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
        if self._lines:
            lines, self._lines = self._lines, []
            self._output.write("".join(lines).encode("ascii"))

    def reopen(self) -> None:
        """Opens the log file anew, for logrotate."""
        self.flush()
        self._output.reopen()


def _escaped_text(c: str) -> str:
    return "".join(_escaped(octet) for octet in c.encode("utf-8", "surrogateescape"))
