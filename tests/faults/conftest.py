"""A running policyd for the fault tests, with the small configuration of `peers`, and a disk that is soon full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.peers import configuration

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer


@dataclass(frozen=True, slots=True)
class Target:
    """A server under attack."""

    server: PolicydServer
    port: int
    folder: Path

    @property
    def pid(self) -> int:
        assert self.server.process is not None
        return self.server.process.pid


@pytest.fixture
def attacked(
    policyd_server: Callable[..., PolicydServer], free_port: Callable[[], int], tmp_path: Path
) -> Iterator[Callable[..., Target]]:
    """A function that starts policyd with the arguments of `configuration`; it must end well on SIGTERM."""
    started: list[PolicydServer] = []

    def start(**more: str) -> Target:
        port = free_port()
        server = policyd_server(configuration(tmp_path, port, **more))
        server.start()
        started.append(server)
        return Target(server, port, tmp_path)

    yield start
    for server in started:
        if server.process is not None:
            server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("cannot mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
