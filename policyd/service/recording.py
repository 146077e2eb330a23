"""`serve --record FILE`: every request appended to a transcript, private and bounded (SPEC 7).

The file is made with mode 0600 and never grows beyond 100 MiB; then, or when it cannot be written, recording ends with
one log line while the service goes on. Nothing here blocks or raises in the reactor's thread: the bytes go to a thread
of their own. `redacted` takes out what identifies people and keeps what decisions depend on.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable

from policyd.policy.names import without_local_part
from policyd.protocol.log_line import encode_xtext
from policyd.protocol.request import decode_xtext
from policyd.service.log_output import LogOutput

RECORDING_LIMIT = 100 * 1024 * 1024  # octets of the file
_LOOK_EVERY = 1024 * 1024  # octets; then the file's true size counts again: other workers write to it too


class Recording:
    """A transcript that is being written. Raises OSError when the file cannot be opened or is no regular file.

    `tell` logs one line; the daemon sets it to its own log.
    """

    def __init__(self, path: str, redact: bool = False, limit: int = RECORDING_LIMIT) -> None:
        self.path = path
        self.tell: Callable[[str], None] = _say_on_stderr
        self._redact = redact
        self._limit = limit
        self._output: _PrivateOutput | None = _PrivateOutput(path)
        self._size = self._output.size()
        self._unseen = 0  # octets since the size was looked at

    def record(self, data: bytes) -> None:
        """Appends one request, given with its empty line."""
        output = self._output
        if output is None:
            return
        if self._redact:
            data = redacted(data)
        if self._unseen >= _LOOK_EVERY:
            self._size, self._unseen = max(self._size + self._unseen, output.size()), 0
        self._unseen += len(data)
        if self._size + self._unseen > self._limit:
            self._end(f"recording to {self.path} ended: it has reached {self._limit // 1024 // 1024} MiB")
        elif output.failures:
            self._end(f"recording to {self.path} ended: it could not be written")
        else:
            output.write(data)

    def _end(self, why: str) -> None:
        """What was taken is still written; nobody waits for it."""
        output, self._output = self._output, None
        if output is not None:
            output.close(timeout=0)
        self.tell(why)

    def close(self) -> None:
        """Writes what waits, for two seconds at the most."""
        output, self._output = self._output, None
        if output is not None:
            output.close()


class _PrivateOutput(LogOutput):
    """A file that only its owner reads, and that ends with a whole request before the first new one."""

    def size(self) -> int:
        """Octets in the file, whoever wrote them."""
        return os.fstat(self._descriptor).st_size

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self.path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{self.path} is no regular file")
            if stat.S_IMODE(status.st_mode) & 0o077:
                os.fchmod(descriptor, 0o600)
            if status.st_size and os.pread(descriptor, 2, max(status.st_size - 2, 0)) != b"\n\n":
                os.write(descriptor, b"\n\n")  # it was cut off within a request
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _say_on_stderr(text: str) -> None:
    """For the time before there is a log; a closed standard error is no reason to stop."""
    try:
        os.write(2, f"<4>policyd: {text}\n".encode("ascii", "backslashreplace"))
    except OSError:
        return


# ------------------------------------------------------------------------------------------- without people

_KEPT = frozenset(
    b"request protocol_state protocol_name client_address client_name client_port reverse_client_name server_address "
    b"server_port helo_name recipient_count queue_id instance size etrn_domain stress sasl_method ccert_fingerprint "
    b"ccert_pubkey_fingerprint encryption_protocol encryption_cipher encryption_keysize policy_context "
    b"compatibility_level mail_version tls_sni".split()
)
_ADDRESSES = frozenset((b"sender", b"recipient", b"sasl_username", b"sasl_sender"))
_CERTIFICATE = frozenset((b"ccert_subject", b"ccert_issuer"))
_LINE = re.compile(rb"([^=\n]*)=(.*)\n")


def redacted(data: bytes) -> bytes:
    """A request without local parts, login names, and attributes of unknown meaning; it is decided as before."""
    lines = []
    for name, value in _LINE.findall(data):
        if name in _ADDRESSES:
            value = _encode(without_local_part(_decode(value)))
        elif name in _CERTIFICATE:
            value = _encode(_without_mailbox(_decode(value)))
        elif name not in _KEPT:
            continue
        lines.append(name + b"=" + value + b"\n")
    return b"".join(lines) + b"\n"


def _without_mailbox(xtext: str) -> str:
    """A certificate of a person has a mail address for its name; it is no host name with or without the local part."""
    text = decode_xtext(xtext)
    text = xtext if text is None else text
    return encode_xtext(without_local_part(text)) if "@" in text else xtext


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _encode(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
