"""What the short way of a usual request must keep: it reads and answers what the long way does, or leaves it untouched.

Bytes and memories for it come from `test_short_way.py` and from the fuzz targets.
"""

from __future__ import annotations

from policyd.protocol.request import ProtocolError, Request, parse_request
from policyd.protocol.usual import parse_usual, read_request
from tests.fuzz import slow_wire
from tests.helpers.in_memory import InMemory


def read_both_ways(data: bytes) -> bool:
    """Reads what ends with an empty line by each reader, the slow one included; whether it is usual."""
    expected, usual = slow_wire.parse(data[:-1]), parse_usual(data)
    assert usual is None or usual == expected, data
    for read in (read_request, parse_request):
        try:
            found: Request | None = read(data)
        except ProtocolError:
            found = None
        assert found == expected, (read.__name__, data)
    return usual is not None


def answer_both_ways(short: InMemory, long: InMemory, data: bytes) -> bool:
    """Sends a request both ways: reply, log line, counts and what DATA will be told; whether the short one took it."""
    before = len(short.answers.attributions), dict(short.counters.answers), short.logged()
    usual = short.answers.usual.answer(data)
    if usual is None:
        assert before == (len(short.answers.attributions), dict(short.counters.answers), short.logged())
        return False
    short.answers.record_usual([usual])
    reply, answered = long.answers.answer(parse_request(data))
    long.answers.record(answered)
    assert usual[0] == reply
    assert short.logged() == long.logged()
    assert short.counters.answers == long.counters.answers
    assert list(short.answers.attributions._attributed) == list(long.answers.attributions._attributed)
    assert list(short.answers.attributions._without) == list(long.answers.attributions._without)
    return True
