"""One line for each decision, and lines for what happens to the service itself (SPEC 6).

Lines are collected and handed over in batches. Nothing a peer sends can end a line or forge a field.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from typing import Any, Literal, Protocol

from policyd.policy.decision import Decision
from policyd.policy.names import without_local_part
from policyd.protocol.request import Request
from policyd.service.log_output import LogOutput

VALUE_LIMIT = 255  # octets of one value
BATCH_SECONDS = 0.02
BATCH_LINES = 500

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


# The most octets of a line that needs no look at single values: all names together have some 130,
# so that no value of a shorter line can be over the limit.
_SURELY_UNCUT = 370
_BLANKS = 13  # between the values; behind the last of them stands the generation


def decision_line(
    request: Request, decision: Decision, generation: int, domain_only: bool = False, monitor: bool = False
) -> str:
    """The line for one decision, without priority and line end."""
    sender, recipient = request.sender, request.recipient
    if domain_only:
        sender, recipient = without_local_part(sender), without_local_part(recipient)
    certificate, issuer = request.ccert_subject, request.ccert_issuer
    if "+" in certificate or "+" in issuer:
        certificate, issuer = _decoded(certificate), _decoded(issuer)
    values: tuple[Any, ...] = (
        request.queue_id or "NOQUEUE",
        decision.action,
        decision.reason.value,
        decision.organization,
        decision.connector,
        request.client_address,
        certificate,
        issuer,
        request.ccert_pubkey_fingerprint,
        sender,
        recipient,
        request.encryption_protocol,
        request.instance,
        generation,
    )
    line = _LINE % values
    if not (
        (len(line) <= _SURELY_UNCUT or max(map(len, values[:_BLANKS])) <= VALUE_LIMIT - 2)
        and line.isascii()
        and line.isprintable()
        and line.count(" ") == _BLANKS
        and line.count("<") == line.count(">") == 2
        and '"' not in line
        and "\\" not in line
    ):
        line = _CAREFUL_LINE % (
            *(quoted(str(value)) for value in values[:9]),
            quoted(f"<{sender}>"),
            quoted(f"<{recipient}>"),
            *(quoted(str(value)) for value in values[11:]),
        )
    return f"{line} mode=monitor" if monitor else line


_CAREFUL_LINE = (
    "%s: action=%s reason=%s organization=%s connector=%s client=%s certificate=%s issuer=%s key=%s "
    "sender=%s recipient=%s tls=%s instance=%s generation=%s"
)
_LINE = _CAREFUL_LINE.replace("sender=%s recipient=%s", "sender=<%s> recipient=<%s>")


def _decoded(xtext: str) -> str:
    """The text that is meant; the xtext itself where it is malformed."""
    text = Request(ccert_subject=xtext).certificate_subject
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

    def decided(self, request: Request, decision: Decision, generation: int) -> None:
        """Logs one decision of state RCPT, as far as `decisions` says."""
        rejected = decision.action == "REJECT"
        if self.decisions == "none" or (self.decisions == "rejects" and not rejected):
            return
        line = decision_line(request, decision, generation, self.domain_only, self.monitor)
        self._add("<4>" if rejected else "<6>", line)

    def event(self, text: str, priority: Priority = "<6>") -> None:
        """Logs something about the service, one line for each line of the text, at once."""
        for line in text.splitlines():
            safe = "".join(c if c.isascii() and c.isprintable() else _escaped_text(c) for c in line)
            self._add(priority, f"policyd: {safe}")
            if self._events is not None:
                self._events.write(f"{priority}policyd: {safe}\n".encode("ascii"))
        self.flush()

    def internal_error(self, text: str, error: BaseException) -> None:
        """Logs a bug of ours with its traceback."""
        self.event(f"{text}\n" + "".join(traceback.format_exception(error)), "<4>")

    def _add(self, priority: Priority, line: str) -> None:
        self._lines.append(f"{priority}{line}\n" if not self._output.path else f"{line}\n")
        if len(self._lines) >= BATCH_LINES:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._clock.callLater(BATCH_SECONDS, self._flush_scheduled)

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
