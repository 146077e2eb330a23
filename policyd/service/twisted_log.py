"""What Twisted itself reports goes into our log: an exception that nobody caught is a bug of ours (SPEC 8)."""

from __future__ import annotations

from typing import Any, cast

from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher

from policyd.service.decision_log import DecisionLog

_HEADLINE = "Unhandled error in Deferred:"  # a second event tells the error


def report_to(log: DecisionLog) -> None:
    """From now on errors that Twisted reports are counted and logged there."""

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_level") not in (LogLevel.error, LogLevel.critical) or event.get("log_format") == _HEADLINE:
            return
        failure = event.get("log_failure") or event.get("failure")  # the second is log.err()'s
        if failure is None:
            log.internal_errors += 1
            log.repeated(str(event.get("log_format")), f"internal error: {formatEvent(event)}")
        else:
            log.internal_error("internal error", failure.value)

    globalLogPublisher.addObserver(cast(ILogObserver, observe))
