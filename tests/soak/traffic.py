"""What comes at policyd during a soak: generated requests, abuse, and mail through a real Postfix.

Each is a thread that goes on until `stop` is set. What they asked and what they were answered is kept, to be compared
with the log and the slow reference by `soak`; nothing is judged here but that answers come, one for each request.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policyd.protocol.request import Request
from tests.e2e.hub import BRANCH, STRANGER, Hub, Mail
from tests.fuzz.made import Bytes, Pools, made_request

TIMEOUT = 60.0  # seconds for an answer: far over anything expected


_OF_THE_RECIPIENT = (
    "protocol_state protocol_name client_address client_name reverse_client_name helo_name sender recipient "
    "recipient_count queue_id instance size"
).split()
_OF_THE_SESSION = (
    "etrn_domain stress sasl_method sasl_username sasl_sender ccert_subject ccert_issuer ccert_fingerprint "
    "ccert_pubkey_fingerprint encryption_protocol"
).split()


def encoded(asked: Request) -> bytes:
    """A request as bytes, as Postfix sends it or in an order of its own."""
    values = asked._asdict() | {"recipient_count": asked.recipient_count or "0"}
    lines = [f"{name}={values.get(name, '')}" for name in (*_OF_THE_RECIPIENT, *_OF_THE_SESSION)]
    if random.randrange(3) == 0:
        random.shuffle(lines)
    text = "\n".join(["request=smtpd_access_policy", *lines, "", ""])
    return text.encode("utf-8", "surrogateescape")


def usual_request(chance: random.Random, pools: Pools, instance: str) -> Request:
    """A request as most are: nothing in it is spelt oddly, and the next one is much like it."""

    def pick(pool: str) -> str:
        return chance.choice([text for text in pools[pool] if text.isascii()])

    senders, cn = pick("domain"), chance.choice(("", pick("cn")))
    return Request(
        protocol_state="RCPT",
        client_address=pick("address"),
        sender=f"kate@{senders}" if senders else "",
        recipient=f"bob@{pick('domain') or 'other.example'}",
        instance=instance,
        ccert_subject=cn,
        ccert_issuer="CA" if cn else "",
        ccert_pubkey_fingerprint=pick("print"),
        encryption_protocol="TLSv1.3" if cn else "",
    )


@dataclass(slots=True)
class Kept:
    """What the threads share. `pending` is taken over, piece by piece, by whoever checks."""

    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    pending: dict[str, tuple[Request, str]] = field(default_factory=dict)  # instance -> (request, answer)
    faults: list[str] = field(default_factory=list)
    requests: int = 0
    abuses: int = 0
    latencies: list[float] = field(default_factory=list)
    mails: int = 0


class Asking(threading.Thread):
    """Requests one after the other, as Postfix sends them, on a connection that is made anew now and then."""

    def __init__(self, number: int, port: int, pools: Pools, kept: Kept, pause: float) -> None:
        super().__init__(name=f"asking-{number}", daemon=True)
        self._number, self._port, self._pools, self._kept, self._pause = number, port, pools, kept, pause
        self._random = random.Random(number)

    def run(self) -> None:
        count = 0
        while not self._kept.stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), TIMEOUT) as connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for _ in range(self._random.randrange(1, 400)):
                        if self._kept.stop.is_set():
                            return
                        count += 1
                        self._ask(connection, f"{self._number}.{count:x}")
                        time.sleep(self._pause)
            except OSError as error:
                self._kept.faults.append(f"no answer: {error!r}")
                time.sleep(0.5)

    def _ask(self, connection: socket.socket, instance: str) -> None:
        if self._random.randrange(2):
            asked = usual_request(self._random, self._pools, instance)
        else:
            asked = made_request(Bytes(self._random.randbytes(300)), self._pools)._replace(instance=instance)
        data = encoded(asked)
        began = time.perf_counter()
        if self._random.randrange(10) == 0:
            cut = self._random.randrange(len(data))
            connection.sendall(data[:cut])
            time.sleep(0.001)
            connection.sendall(data[cut:])
        else:
            connection.sendall(data)
        reply = b""
        while not reply.endswith(b"\n\n"):
            piece = connection.recv(4096)
            if not piece:
                raise ConnectionError(f"closed without an answer to {asked!r}")
            reply += piece
        kept = self._kept
        with kept.lock:
            kept.requests += 1
            kept.latencies.append(time.perf_counter() - began)
            kept.pending[instance] = (asked, reply.decode("ascii").strip())


class Abusing(threading.Thread):
    """What breaks the protocol, stays half, never reads, or goes away in the middle."""

    def __init__(self, port: int, kept: Kept, pause: float) -> None:
        super().__init__(name="abusing", daemon=True)
        self._port, self._kept, self._pause = port, kept, pause
        self._random = random.Random(0)
        self._open: list[socket.socket] = []

    def run(self) -> None:
        tricks = (self._rubbish, self._half, self._deaf, self._reset, self._too_long, self._many_attributes)
        while not self._kept.stop.is_set():
            with contextlib.suppress(OSError):  # being closed is what these expect
                self._random.choice(tricks)()
            self._kept.abuses += 1
            if len(self._open) > 50:
                for connection in self._open:
                    connection.close()
                self._open.clear()
            time.sleep(self._pause)
        for connection in self._open:
            connection.close()

    def _connection(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), TIMEOUT)
        self._open.append(connection)
        return connection

    def _rubbish(self) -> None:
        self._connection().sendall(self._random.randbytes(self._random.randrange(1, 3000)))

    def _half(self) -> None:
        self._connection().sendall(b"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=a@contoso")

    def _deaf(self) -> None:
        connection = self._connection()
        connection.setblocking(False)
        for _ in range(200):
            connection.send(b"request=smtpd_access_policy\nprotocol_state=DATA\n\n" * 100)

    def _reset(self) -> None:
        connection = self._connection()
        connection.sendall(b"request=smtpd_access_policy\nprotocol_state=DATA\n\n" * self._random.randrange(3) + b"x")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        self._open.remove(connection)

    def _too_long(self) -> None:
        self._connection().sendall(b"request=smtpd_access_policy\nx=" + b"y" * self._random.randrange(60_000, 70_000))

    def _many_attributes(self) -> None:
        self._connection().sendall(b"request=smtpd_access_policy\n" + b"a=\n" * self._random.randrange(30_000))


# Mail whose fate is the same under both configurations: sender, recipients, certificate, address, relayed or not.
MAILS = (
    (Mail("kate@contoso.com", ("x@other.example",), address=BRANCH), True),
    (Mail("kate@contoso.com", ("x@other.example", "sam@fabrikam.com"), "contoso"), True),
    (Mail("", ("x@other.example",), "contoso"), True),
    (Mail("john@other.example", ("kate@contoso.com",)), True),
    (Mail("john@other.example", ("x@other.example",)), False),
    (Mail("kate@contoso.com", ("x@other.example",)), False),
    (Mail("kate@contoso.com", ("x@other.example",), "self-signed"), False),
    (Mail("john@other.example", ("x%other.example@contoso.com",), address=BRANCH), False),
    (Mail("sam@fabrikam.com", ("x@other.example",), address=BRANCH), False),
    (Mail("bob@tailspintoys.com", ("kate@contoso.com",), address=STRANGER), False),
)


class Mailing(threading.Thread):
    """Messages through a real Postfix, each of them judged at once: replies, and what the next hop got."""

    def __init__(self, hub: Hub, kept: Kept, pause: float) -> None:
        super().__init__(name="mailing", daemon=True)
        self._hub, self._kept, self._pause = hub, kept, pause

    def run(self) -> None:
        while not self._kept.stop.is_set():
            mail, passes = MAILS[self._kept.mails % len(MAILS)]
            try:
                delivery = self._hub.deliver("inet", mail)
            except (OSError, AssertionError) as error:
                self._kept.faults.append(f"mail: {error!r}")
                time.sleep(1)
                continue
            self._kept.mails += 1
            went = [recipient for message in delivery.relayed for recipient in message.recipients]
            if sorted(went) != (sorted(mail.recipients) if passes else []):
                self._kept.faults.append(f"mail {mail} went to {went}:\n{delivery.transcript}")
            self._hub.sink.messages.clear()
            time.sleep(self._pause)


def start_all(
    port: int, raw: Mapping[str, Any], pools: Pools, kept: Kept, hub: Hub | None, quick: float
) -> list[threading.Thread]:
    """All threads, running; `quick` seconds between two requests of one connection."""
    threads: list[threading.Thread] = [Asking(number, port, pools, kept, quick) for number in range(3)]
    threads.append(Abusing(port, kept, quick * 20))
    if hub is not None:
        threads.append(Mailing(hub, kept, quick * 10))
    for thread in threads:
        thread.start()
    return threads
