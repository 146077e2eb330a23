"""The policyd under soak: its processes, their memory and descriptors, its log by pieces, and two configurations.

Each reload swaps the configuration for the other one, so odd generations have the first and even ones the second: a
log line says by its generation which rules must have decided it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.hub import write_configuration
from tests.helpers.certificates import CertificateFiles
from tests.laws.reference import Reference
from tests.places import PROJECT


def read_all(config: Path) -> dict[str, Any]:
    """What the configuration and its organizations.d say, as one mapping."""
    raw = tomllib.loads(config.read_text("utf-8"))
    organizations: dict[str, Any] = {}
    for path in sorted((config.parent / "organizations.d").glob("*.toml")):
        organizations |= tomllib.loads(path.read_text("utf-8"))["organizations"]
    return raw | {"organizations": organizations}


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all processes together: resident memory in KiB, open descriptors, threads."""

    memory: int
    descriptors: int
    threads: int


class Soaked:
    """`policyd serve` with a log file that is rotated at each reload."""

    def __init__(self, folder: Path, port: int, certificates: Mapping[str, CertificateFiles], workers: int) -> None:
        self.port = port
        self._folder = folder
        self._pieces = 0
        self._variants = [self._variant(number, certificates, workers) for number in (1, 2)]
        self._process: subprocess.Popen[bytes] | None = None
        self.reloads = 0
        self.references = [Reference(read_all(variant / "policyd.toml"), variant) for variant in self._variants]
        self.raw = read_all(self._variants[0] / "policyd.toml")

    def _variant(self, number: int, certificates: Mapping[str, CertificateFiles], workers: int) -> Path:
        folder = self._folder / f"variant-{number}"
        config = write_configuration(folder, [f"inet:127.0.0.1:{self.port}"], certificates)
        text = config.read_text("utf-8").replace("[service]\n", f"[service]\nworkers = {workers}\n")
        config.write_text(f'{text}\n[log]\nfile = "{self.log_file}"\n', "utf-8")
        if number == 2:
            organizations = folder / "organizations.d"
            contoso, fabrikam = organizations / "contoso.toml", organizations / "fabrikam.toml"
            contoso.write_text(contoso.read_text("utf-8").replace("203.0.113.64/29", "203.0.113.96/29"), "utf-8")
            fabrikam.write_text(fabrikam.read_text("utf-8").replace("192.0.2.10", "192.0.2.11"), "utf-8")
            (organizations / "extra.toml").write_text(
                '[organizations.extra]\naccepted_domains = ["elsewhere.example"]\nprotect_sender_domains = true\n'
                '[organizations.extra.connectors.a]\naddresses = ["198.51.100.128/28"]\n',
                "utf-8",
            )
        return folder

    @property
    def log_file(self) -> Path:
        """Where it logs now."""
        return self._folder / "policyd.log"

    def reference(self, generation: int) -> Reference:
        """The rules of a generation."""
        return self.references[(generation - 1) % 2]

    def start(self) -> None:
        """Start with the first configuration, and wait until it listens."""
        self._install(0)
        command = [sys.executable, "-m", "policyd", "serve", "-c", str(self._folder / "live" / "policyd.toml")]
        with (self._folder / "stderr").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=PROJECT)
        self.wait_for_event("listening on", 1)

    def _install(self, number: int) -> None:
        """Put a variant where policyd reads; the swap of a symbolic link is atomic."""
        new = self._folder / "live.new"
        new.unlink(missing_ok=True)
        new.symlink_to(self._variants[number].name)
        new.rename(self._folder / "live")

    def wait_for_event(self, text: str, times: int, seconds: float = 60) -> None:
        """Return when standard error, where events go too, holds the text so often."""
        deadline = time.monotonic() + seconds
        while (self._folder / "stderr").read_text("utf-8").count(text) < times:
            assert self._process is not None
            assert self._process.poll() is None, f"policyd ended:\n{self.stderr()}"
            assert time.monotonic() < deadline, f"no {text!r}:\n{self.stderr()}"
            time.sleep(0.02)

    def stderr(self) -> str:
        """The end of what it said there."""
        return (self._folder / "stderr").read_text("utf-8", "backslashreplace")[-3000:]

    def reload(self) -> Path:
        """The other configuration, and a new log file; gives the old one, which is complete."""
        assert self._process is not None
        self.reloads += 1
        self._install(self.reloads % 2)
        piece = self._folder / f"policyd.log.{self.reloads}"
        self.log_file.rename(piece)
        self._process.send_signal(signal.SIGHUP)
        self.wait_for_event("reloaded; generation", self.reloads)
        return piece

    def stop(self) -> Path:
        """SIGTERM and exit status 0; gives the last log file."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(60)
        assert status == 0, f"exit status {status}:\n{self.stderr()}"
        self._process = None
        return self.log_file

    def kill(self) -> None:
        """Whatever happened."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def clear(self) -> None:
        """Remove all files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def usage(self) -> Usage:
        """As it stands."""
        assert self._process is not None
        pids = [self._process.pid]
        children = Path(f"/proc/{pids[0]}/task/{pids[0]}/children")
        pids += [int(pid) for pid in children.read_text().split()]
        memory = descriptors = threads = 0
        for pid in pids:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            memory += int(status["VmRSS"].split()[0])
            threads += int(status["Threads"])
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        return Usage(memory, descriptors, threads)
