"""What Twisted reports is a bug of ours: counted, told with its own words, and not told by the thousand (SPEC 8)."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogPublisher
from twisted.python import log as old_log

from policyd.service.decision_log import REPEATED_SECONDS
from policyd.service.twisted_log import report_to
from tests.helpers.in_memory import InMemory


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemory]:
    """A log that Twisted reports to, for the length of a test."""
    made, observers = InMemory(), []
    monkeypatch.setattr(globalLogPublisher, "addObserver", observers.append)
    report_to(made.log)
    monkeypatch.undo()
    globalLogPublisher.addObserver(observers[0])
    yield made
    globalLogPublisher.removeObserver(observers[0])


def as_err() -> None:
    """What a listener does with an exception, and Twisted with that of a protocol."""
    try:
        raise OSError("Invalid argument")
    except OSError:
        old_log.err()


def as_failure() -> None:
    try:
        raise OSError("Invalid argument")
    except OSError:
        Logger().failure("in Twisted's own words")


def in_a_deferred() -> None:
    """Nobody asks for the result."""
    Deferred.fromCoroutine(_raises())
    gc.collect()


async def _raises() -> None:
    raise OSError("Invalid argument")


@pytest.mark.parametrize("happens", [as_err, as_failure, in_a_deferred])
def test_an_exception(memory: InMemory, happens: object) -> None:
    assert callable(happens)
    happens()
    assert memory.log.internal_errors == 1
    logged = memory.logged()
    assert logged.startswith("<4>policyd: internal error\n")
    assert "policyd: OSError: Invalid argument\n" in logged
    assert "log_text" not in logged


def test_words_without_an_exception(memory: InMemory) -> None:
    old_log.msg("the words", isError=1)
    Logger().error("other {what}", what="words")
    assert memory.log.internal_errors == 2
    assert memory.logged() == "<4>policyd: internal error: the words\n<4>policyd: internal error: other words\n"


def test_no_error_is_nothing(memory: InMemory) -> None:
    old_log.msg("started")
    Logger().warn("a warning")
    assert memory.log.internal_errors == 0
    assert memory.logged() == ""


def test_thousands_are_counted_and_told_once_a_minute(memory: InMemory) -> None:
    """Those of another place in the code are told all the same."""
    for _ in range(1000):
        as_err()
        old_log.msg("the words", isError=1)
    as_failure()
    assert memory.log.internal_errors == 2001
    assert memory.logged().count("policyd: internal error\n") == 2
    assert memory.logged().count("policyd: internal error: the words\n") == 1
    memory.clock.advance(REPEATED_SECONDS)
    as_err()
    assert "policyd: internal error (999 times more since this was last told)\n" in memory.logged()
    assert memory.logged().count("policyd: OSError: Invalid argument\n") == 3
