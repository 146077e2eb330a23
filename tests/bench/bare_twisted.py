"""The least a Twisted server can do: whatever arrives, answer. The yardstick for what Twisted itself costs.

`python -m tests.bench.bare_twisted inet:PORT | unix:/path [--direct]` prints where it listens and runs until killed.
It parses nothing: bytes that end in an empty line get one answer, so it is right for clients that do not pipeline.
With `--direct` the answer is sent on the socket at once, in place of through Twisted's write buffer.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import protocol
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

ANSWER = b"action=DUNNO\n\n"


class Buffered(protocol.Protocol):
    """Answers through the transport, as Twisted programs do."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """One answer for bytes that end in an empty line."""
        if data.endswith(b"\n\n"):
            self.transport.write(ANSWER)


class Direct(protocol.Protocol):
    """Answers on the socket itself. A benchmark may lose an answer that does not fit; a server may not."""

    transport: Any

    def connectionMade(self) -> None:
        """Keep the socket's send method."""
        self.send = self.transport.getHandle().send

    def dataReceived(self, data: bytes) -> None:
        """One answer for bytes that end in an empty line."""
        if data.endswith(b"\n\n"):
            self.send(ANSWER)


def main(arguments: list[str]) -> None:
    """Listen where the first argument says, and serve."""
    make_reactor: Any = EPollReactor
    reactor = make_reactor()
    installReactor(reactor)
    factory = protocol.ServerFactory.forProtocol(Direct if "--direct" in arguments else Buffered)
    factory.noisy = False
    kind, _, where = arguments[0].partition(":")
    if kind == "unix":
        reactor.listenUNIX(where, factory, backlog=1024)
        print(arguments[0], flush=True)
    else:
        port = reactor.listenTCP(int(where), factory, backlog=1024, interface="127.0.0.1")
        print(f"inet:127.0.0.1:{port.getHost().port}", flush=True)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
