"""One line for each decision, and lines for what happens to the service itself (SPEC 6).

Lines are collected and handed over in batches. In a file each begins with the time; on standard error with a priority,
for journald, but for a terminal.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any, Literal

from policyd.policy.decision import Decision, refuses
from policyd.protocol.request import Request
from policyd.records.decision_line import decision_line, printable_octets
from policyd.service.log_writer import LogWriter, Times

BATCH_SECONDS = 0.02
BATCH_LINES = 512

REPEATED_SECONDS = 60.0  # between two lines about the same trouble

Priority = Literal["<3>", "<4>", "<6>"]  # sd-daemon(3): error, warning, informational


class DecisionLog:
    """Writes decision lines and events. `decisions` and `addresses` are the settings of [log]; `clock` is a reactor.

    `now` gives Unix time.
    """

    def __init__(
        self, output: LogWriter, clock: Any, events: LogWriter | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.decisions = "all"
        self.domain_only = False
        self.monitor = False
        self.internal_errors = 0
        self._output = output
        self._events = events  # where events go besides; with a file, they are shown on standard error too
        self._clock = clock
        self._times = Times(now) if output.path else None
        self._lines: list[str] = []
        self._collected = 0  # lines in them
        self._scheduled = False
        # By place in the code: the time, by the clock, from on which it is told again, and how often it came meanwhile.
        self._repeated: dict[str, tuple[float, int]] = {}

    def wants(self, decision: Decision) -> bool:
        """Whether `decisions` asks for a line for it. Other states than RCPT have no decision."""
        return decision.reason != "" and (
            self.decisions == "all" or (self.decisions == "rejects" and refuses(decision.action))
        )

    def priority(self, decision: Decision) -> Priority | Literal[""]:
        """What stands in front of its line, and journald takes off again."""
        return self._shown("<4>" if refuses(decision.action) else "<6>", self._output)

    @staticmethod
    def _shown(priority: Priority, output: LogWriter) -> Priority | Literal[""]:
        """A file and a terminal have none."""
        return "" if output.path or output.terminal else priority

    def decided(self, request: Request, decision: Decision, generation: int) -> None:
        """Logs one decision, as far as `decisions` says."""
        if self.wants(decision):
            line = decision_line(request, decision, generation, self.domain_only, self.monitor)
            self.add([f"{self.priority(decision)}{line}\n"])

    def add(self, lines: list[str]) -> None:
        """Takes whole lines with their priority."""
        if self._times is None:
            self._lines += lines
        else:
            now = self._times()
            self._lines.append(now + now.join(lines))
        self._collected += len(lines)
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(BATCH_SECONDS, self._flush_scheduled)
        elif self._collected >= BATCH_LINES:
            self.flush()

    def event(self, text: str, priority: Priority = "<6>") -> None:
        """Logs something about the service, one line for each line of the text, at once."""
        self.flush()
        now = "" if self._times is None else self._times()
        for line in text.splitlines():
            self._output.write(_line(self._shown(priority, self._output), line, now))
            if self._events is not None:
                self._events.write(_line(self._shown(priority, self._events), line))

    def internal_error(self, text: str, error: BaseException) -> None:
        """Counts a bug of ours and logs it with its traceback; one that comes again and again, as `repeated` says."""
        self.internal_errors += 1
        place = type(error).__name__
        for frame, line in traceback.walk_tb(error.__traceback__):
            place = f"{type(error).__name__} at {frame.f_code.co_filename}:{line}"
        self.repeated(place, text, "".join(traceback.format_exception(error)))

    def repeated(self, place: str, text: str, more: str = "") -> None:
        """Logs a trouble that may come very often: for each place at the most once a minute, then how often it came.

        `place` is one of those in the code, so there are few; `more` are further lines.
        """
        now = self._clock.seconds()
        until, untold = self._repeated.get(place, (now, 0))
        if now < until:
            self._repeated[place] = until, untold + 1
            return
        self._repeated[place] = now + REPEATED_SECONDS, 0
        again = f" ({untold} times more since this was last told)" if untold else ""
        self.event(f"{text}{again}\n{more}", "<4>")

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Hands over what was collected."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._collected = 0
            self._output.write("".join(lines).encode("ascii"))

    def reopen(self) -> None:
        """Opens the log file anew, for logrotate."""
        self.flush()
        self._output.reopen()

    @property
    def failures(self) -> int:
        """Writes that failed, and pieces that were dropped."""
        return self._output.failures + (0 if self._events is None else self._events.failures)

    @property
    def lost(self) -> int:
        """Lines that were in them; what standard error did not take of events stands in the file."""
        return self._output.lost

    def close(self) -> None:
        """Writes out what was collected; the last thing."""
        self.flush()
        self._output.close()
        if self._events is not None:
            self._events.close()


def open_log(path: str, clock: Any) -> DecisionLog:
    """The log in a file, or on standard error where `path` is empty. Raises OSError."""
    if not path:
        return DecisionLog(LogWriter(), clock)
    events = LogWriter()
    output = LogWriter(path, lambda text: events.write(_line("" if events.terminal else "<4>", text)))
    return DecisionLog(output, clock, events)


def _line(priority: Priority | Literal[""], text: str, now: str = "") -> bytes:
    """One line about the service."""
    return f"{now}{priority}policyd: {printable_octets(text)}\n".encode("ascii")
