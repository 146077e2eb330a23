"""A few pages over HTTP, bounded: one request a connection, few connections, no bodies (SPEC 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

Page = Callable[[], Deferred[tuple[int, bytes]]]  # the status and the text

_KIND = "text/plain; version=0.0.4; charset=utf-8"  # the version is of Prometheus's format
_HTTP_CONNECTIONS = 16  # at a time; they share the descriptors with Postfix's


class _Text(Resource):
    """A page whose text comes later."""

    isLeaf = True

    def __init__(self, text: Page, failed: Callable[[Failure], None]) -> None:
        Resource.__init__(self)
        self._text = text
        self._failed = failed

    def render_GET(self, request: Request) -> int:
        """Answers with the text, or 500 after it was told why."""
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(status: int, body: bytes) -> None:
            if not gone:
                request.setResponseCode(status)
                request.setHeader("content-type", _KIND)
                request.write(body)
                request.finish()

        def failed(failure: Failure) -> None:
            self._failed(failure)
            answer(500, b"internal error\n")

        self._text().addCallbacks(lambda page: answer(*page), failed)
        return NOT_DONE_YET


class _Request(Request):
    """One request a connection, and none with a body: what is not asked for must cost nothing."""

    def gotLength(self, length: int | None) -> None:
        """Called when the headers are complete."""
        self.channel.persistent = False
        super().gotLength(0)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        """Drops a body, and the connection with it."""
        self.channel.loseConnection()


class _Channel(HTTPChannel):
    """A connection, counted."""

    site: _Site

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It makes room for another one."""
        self.site.open -= 1
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class _Site(Site):
    """Closes connections over the limit at once."""

    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, root: Resource) -> None:
        super().__init__(root, requestFactory=_Request, timeout=30)  # type: ignore[no-untyped-call]
        self.open = 0

    def buildProtocol(self, addr: Any) -> Any:
        """A channel for a new connection; None when there are too many."""
        if self.open >= _HTTP_CONNECTIONS:
            return None
        self.open += 1
        return super().buildProtocol(addr)  # type: ignore[no-untyped-call]


def site(pages: Mapping[str, Page], failed: Callable[[Failure], None]) -> Site:
    """The HTTP site: its pages by name. `failed` is told why one could not be given."""
    root = Resource()
    for name, page in pages.items():
        root.putChild(name.encode("ascii"), _Text(page, failed))
    return _Site(root)
