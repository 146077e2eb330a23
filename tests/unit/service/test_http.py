"""The pages: what fails is told, nothing of a connection is left when it is over, and few are open (SPEC 8)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from policyd.service.http import Page, site


class Rules:
    """Stands for a rule set, which a page may not hold on to."""


class Pages:
    """A site with one page, and what it told of failures."""

    def __init__(self, page: Page) -> None:
        self.failures: list[Failure] = []
        self.site: Any = site({"metrics": page}, self.failures.append)
        self.site.reactor = Clock()

    def get(self, path: bytes = b"/metrics") -> bytes:
        """What one connection gets, to its end."""
        transport = StringTransport()
        channel = self.site.buildProtocol(None)
        channel.makeConnection(transport)
        channel.dataReceived(b"GET " + path + b" HTTP/1.0\r\n\r\n")
        channel.connectionLost(Failure(ConnectionError()))
        return bytes(transport.value())


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage but that of the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_nothing_of_a_page_is_left_to_the_garbage_collector() -> None:
    """A reload freezes all objects that there are: a cycle would stay for ever, and what it holds with it."""

    async def page() -> tuple[int, bytes]:
        rules = Rules()
        return 200, repr(rules).encode()

    pages = Pages(lambda: Deferred.fromCoroutine(page()))
    assert b"Rules object" in pages.get()
    gc.collect()
    for _ in range(5):
        pages.get()
        pages.get(b"/elsewhere")
    assert gc.collect() == 0


def test_a_page_that_fails_is_told() -> None:
    pages = Pages(lambda: fail(ZeroDivisionError("of ours")))
    assert pages.get().startswith(b"HTTP/1.0 500 ")
    assert [str(failure.value) for failure in pages.failures] == ["of ours"]
    assert b"of ours" not in pages.get()


def test_connections_that_end_make_room() -> None:
    pages = Pages(lambda: succeed((200, b"page")))
    crowd = []
    while (channel := pages.site.buildProtocol(None)) is not None:
        channel.makeConnection(StringTransport())
        crowd.append(channel)
    assert 0 < len(crowd) < 100
    assert pages.site.buildProtocol(None) is None
    crowd[0].connectionLost(Failure(ConnectionError()))
    assert b"page" in pages.get()
