"""A running `policyd serve`, for the length of a `with` block."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.helpers.waiting import PATIENCE
from tests.places import PROJECT


class PolicydServer:
    """`policyd serve` in a process of its own, for the length of a `with` block.

    Entering waits until every address of the configuration's `[service] listen` accepts connections; leaving sends
    SIGTERM and demands exit status 0. Standard output and error go to one file beside nobody's terminal: `log()`.
    """

    def __init__(self, command: Sequence[str], config: Path, log_file: Path, arguments: Sequence[str] = ()) -> None:
        self.config = config
        self.log_file = log_file
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [*command, "serve", "-c", str(config), *arguments]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()  # the error under way is the one to report

    @property
    def addresses(self) -> list[str]:
        """What the configuration says it listens on, in Postfix notation (`systemd:` entries left out)."""
        listen = tomllib.loads(self.config.read_text("utf-8"))["service"]["listen"]
        return [address for address in listen if not address.startswith("systemd:")]

    def start(self, seconds: float = PATIENCE) -> None:
        """Start the server, once or again after stop(), and wait until it listens everywhere."""
        assert self.process is None, "policyd runs already"
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=PROJECT, env=os.environ
            )
        deadline = time.monotonic() + seconds
        for address in self.addresses:
            while not _accepts(address):
                status = self.process.poll()
                if status is not None or time.monotonic() > deadline:
                    self.kill()
                    pytest.fail(f"policyd does not listen on {address} (exit status {status}):\n{self.log()}")
                time.sleep(0.02)

    def stop(self, seconds: float = PATIENCE) -> None:
        """SIGTERM, and exit status 0 within the time."""
        assert self.process is not None, "policyd does not run"
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"policyd did not end within {seconds} s of SIGTERM:\n{self.log()}")
        self.process = None
        assert status == 0, f"policyd ended with status {status}:\n{self.log()}"

    def kill(self) -> None:
        """SIGKILL, whatever state it is in; nothing is asserted."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def reload(self) -> None:
        """SIGHUP; what the server makes of it is for the caller to wait for (`wait_for_log`)."""
        assert self.process is not None, "policyd does not run"
        self.process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        """Everything it has written to standard output and error so far, over all its starts."""
        return self.log_file.read_text("utf-8", "backslashreplace")

    def mark(self) -> int:
        """The length of the log once it has everything that was decided before this call."""
        return self._marked().end()

    def decided_since(self, mark: int) -> str:
        """What was logged between a `mark()` and now, everything that was decided before this call included."""
        line = self._marked()
        return line.string[mark : line.start()]

    def _marked(self) -> re.Match[str]:
        """The place of a line of our own in the log.

        Lines are written some time after their replies, but in order: so a request is asked, and its line waited for.
        """
        address = next(address for address in self.addresses if address.startswith("inet:"))
        _, host, port = address.split(":")
        name = f"mark.{len(self.log()):x}"
        with socket.create_connection((host, int(port)), PATIENCE) as connection:
            connection.sendall(f"request=smtpd_access_policy\nprotocol_state=RCPT\ninstance={name}\n\n".encode())
            assert connection.recv(4096), "policyd closed the connection"
        line = re.compile(rf"^.* instance={name}( .*)?\n", re.MULTILINE)
        found = line.search(self.wait_for_log(lambda text: line.search(text) is not None))
        assert found is not None, f"no decision line for {name} in the log:\n{self.log()}"
        return found

    def wait_for_log(self, enough: Callable[[str], bool], since: int = 0, seconds: float = PATIENCE) -> str:
        """The log from character `since` on, as soon as `enough` says so of it, or after the time whatever it holds."""
        deadline = time.monotonic() + seconds
        while not enough(text := self.log()[since:]) and time.monotonic() < deadline:
            time.sleep(0.01)
        return text


def _accepts(address: str) -> bool:
    """Whether something listens on an address in Postfix notation (inet:host:port or unix:/path)."""
    kind, _, where = address.partition(":")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(2)
                probe.connect(where)
        else:
            host, _, port = where.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), 2).close()
    except OSError:
        return False
    return True
