"""Both ends of Postfix in a test: an SMTP client that says exactly what it is told, and a next hop that keeps mail.

The client never quotes, checks or repairs anything, so that attacks arrive as written; it keeps the dialogue for
failure messages. The sink accepts everything and remembers it. Neither knows policyd. RFC 5321, 2920 (pipelining),
3207 (STARTTLS), XCLIENT_README.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.helpers.certificates import CertificateFiles

LONGEST_LINE = 100_000


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply. `text` is its last line; a closed connection is code 0."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.lines[-1]

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 400


class SmtpClient:
    """An SMTP session. Lines may be str (sent as UTF-8) or bytes; every method returns the reply, whatever it is."""

    def __init__(
        self, port: int, host: str = "127.0.0.1", timeout: float = 60, *, source: str = "", before: bytes = b""
    ) -> None:
        """Connect, from the address `source` if given, send what stands `before` the greeting, and read that."""
        self.transcript: list[str] = [f"-- connected to port {port}"]
        address = (source, 0) if source else None
        self._socket: socket.socket = socket.create_connection((host, port), timeout, address)
        self._buffer = b""
        self._socket.sendall(before)
        self.greeting = self._reply()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return "\n".join(self.transcript)

    def close(self) -> None:
        """End the connection without QUIT; harmless after quit()."""
        self._socket.close()

    def command(self, line: str | bytes) -> Reply:
        return self.pipeline(line)[0]

    def pipeline(self, *lines: str | bytes) -> list[Reply]:
        """Send all lines in one write, then read one reply for each."""
        encoded = [line.encode() if isinstance(line, str) else line for line in lines]
        self.transcript += [f"C: {_printable(line)}" for line in encoded]
        self._socket.sendall(b"".join(line + b"\r\n" for line in encoded))
        return [self._reply() for _ in encoded]

    def ehlo(self, name: str = "client.example") -> Reply:
        return self.command(f"EHLO {name}")

    def starttls(self, certificate: CertificateFiles | None = None) -> Reply:
        """STARTTLS, showing the certificate with its chain, and EHLO again. The server's own is not verified."""
        return self.starttls_in(client_context(certificate), certificate.pem.stem if certificate else "no certificate")

    def starttls_in(self, context: ssl.SSLContext, shown: str, session: ssl.SSLSession | None = None) -> Reply:
        """As starttls(), with all that the context says; a `session` is one of this context that is resumed."""
        reply = self.command("STARTTLS")
        if not reply.accepted:
            return reply
        secured = context.wrap_socket(self._socket, session=session)
        self._socket = secured
        resumed = ", resumed" if secured.session_reused else ""
        self.transcript.append(f"-- {secured.version()}, {shown}{resumed}")
        return self.ehlo()

    @property
    def session(self) -> ssl.SSLSession | None:
        """The TLS session, to be resumed by another client; with TLS 1.3 there is one after the first reply."""
        return self._socket.session if isinstance(self._socket, ssl.SSLSocket) else None

    def xclient(self, address: str) -> Reply:
        """Pretend to come from an IPv4 or IPv6 address that has no name, and EHLO again. It may follow STARTTLS."""
        shown = f"IPV6:{address}" if ":" in address else address
        reply = self.command(f"XCLIENT ADDR={shown} NAME=[UNAVAILABLE]")
        return self.ehlo() if reply.accepted else reply

    def mail(self, sender: str, parameters: str = "") -> Reply:
        return self.command(f"MAIL FROM:<{sender}> {parameters}".rstrip())

    def rcpt(self, recipient: str) -> Reply:
        return self.command(f"RCPT TO:<{recipient}>")

    def data(self, message: bytes) -> Reply:
        """DATA and, when it is wanted, the message: whole CRLF lines, none of them a lone dot."""
        reply = self.command("DATA")
        if not reply.accepted:
            return reply
        self.transcript.append(f"C: (message of {len(message)} octets)")
        self._socket.sendall(message + b".\r\n")
        return self._reply()

    def quit(self) -> Reply:
        reply = self.command("QUIT")
        self.close()
        return reply

    def _reply(self) -> Reply:
        lines: list[str] = []
        while True:
            line = self._line()
            if line is None:
                self.transcript.append("S: (connection closed)")
                return Reply(0, (*lines, "(connection closed)"))
            lines.append(line.decode("utf-8", "backslashreplace"))
            if line[3:4] != b"-":
                self.transcript.append(f"S: {_printable(line)}" + (f" (line {len(lines)})" if lines[1:] else ""))
                return Reply(int(line[:3]), tuple(lines))

    def _line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            received = self._socket.recv(65536)
            if not received:
                return None
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.rstrip(b"\r")


def client_context(certificate: CertificateFiles | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client's TLS, in this version only if given; it shows the certificate with its chain and verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(certificate.pem, certificate.key)
    return context


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the next hop got it: addresses as they stood between < and >, the content with LF line ends."""

    sender: str
    recipients: tuple[str, ...]
    content: str


@dataclass(slots=True)
class _Envelope:
    sender: str = ""
    recipients: list[str] = field(default_factory=list)


class Sink:
    """A next-hop SMTP server on a port of 127.0.0.1 that accepts every message and keeps it in `messages`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[Message] = []
        self._server = socket.create_server(("127.0.0.1", port))

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # a thread that is blocked in accept() holds the listener open until it is woken
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def with_token(self, token: str) -> list[Message]:
        """The messages so far whose content holds the token."""
        return [message for message in list(self.messages) if token in message.content]

    def wait_for(self, enough: Callable[[list[Message]], bool], seconds: float = 60) -> list[Message]:
        """All messages, as soon as `enough` says so of them, or after the time whatever came."""
        deadline = time.monotonic() + seconds
        while not enough(self.messages) and time.monotonic() < deadline:
            time.sleep(0.01)
        return list(self.messages)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # a Postfix that is being ended goes away in the middle
            self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        envelope = _Envelope()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 sink.example ESMTP\r\n")
            while line := lines.readline(LONGEST_LINE):
                verb, address = line[:4].upper(), _between_brackets(line)
                answer = b"250 2.0.0 Ok\r\n"
                match verb:
                    case b"EHLO":
                        answer = b"250-sink.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PIPELINING\r\n"
                    case b"MAIL":
                        envelope = _Envelope(address)
                    case b"RCPT":
                        envelope.recipients.append(address)
                    case b"DATA":
                        connection.sendall(b"354 go ahead\r\n")
                        content = b""
                        while (line := lines.readline(LONGEST_LINE)) not in (b".\r\n", b""):
                            content += line.removeprefix(b".")
                        text = content.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
                        self.messages.append(Message(envelope.sender, tuple(envelope.recipients), text))
                    case b"QUIT":
                        connection.sendall(b"221 2.0.0 Bye\r\n")
                        return
                connection.sendall(answer)


def _between_brackets(line: bytes) -> str:
    first, last = line.find(b"<"), line.rfind(b">")
    return line[first + 1 : last].decode("utf-8", "backslashreplace") if 0 <= first < last else ""


def _printable(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return shown if len(shown) < 300 else f"{shown[:200]}... ({len(line)} octets)"
