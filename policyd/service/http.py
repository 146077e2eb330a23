"""A few pages over HTTP, bounded: one request a connection, few connections, no bodies (SPEC 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

_HTTP_CONNECTIONS = 16  # at a time; they share the descriptors with Postfix's


class _Text(Resource):
    """A page whose text comes later."""

    isLeaf = True

    def __init__(self, kind: str, text: Callable[[], Deferred[tuple[int, bytes]]]) -> None:
        Resource.__init__(self)
        self._kind = kind
        self._text = text

    def render_GET(self, request: Request) -> int:
        """Answers with the text, or 500."""
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(status: int, body: bytes) -> None:
            if not gone:
                request.setResponseCode(status)
                request.setHeader("content-type", self._kind)
                request.write(body)
                request.finish()

        text = self._text()
        text.addCallbacks(lambda page: answer(*page), lambda _: answer(500, b"internal error\n"))
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


class _Site(Site):
    """Closes connections over the limit at once."""

    def __init__(self, root: Resource) -> None:
        super().__init__(root, requestFactory=_Request, timeout=30)  # type: ignore[no-untyped-call]
        self._open = 0

    def buildProtocol(self, addr: Any) -> Any:
        """A channel for a new connection; None when there are too many."""
        if self._open >= _HTTP_CONNECTIONS:
            return None
        self._open += 1
        channel = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        lost = channel.connectionLost

        def closed(*arguments: Any) -> Any:
            self._open -= 1
            return lost(*arguments)

        channel.connectionLost = closed
        return channel


def site(metrics: Callable[[], Deferred[tuple[int, bytes]]], health: Callable[[], Deferred[tuple[int, bytes]]]) -> Site:
    """The HTTP site: /metrics and /healthz."""
    root = Resource()
    root.putChild(b"metrics", _Text("text/plain; version=0.0.4; charset=utf-8", metrics))
    root.putChild(b"healthz", _Text("text/plain; charset=utf-8", health))
    return _Site(root)
