"""CPU groups of the kernel (cgroup version 1 or 2): a limit for a worker, precedence for the whole benchmark.

`Group(name)` makes a group of its own below the hierarchy's root and takes it away at the end of the `with` block;
what was in it goes back to where this process came from. Nothing else of the hierarchy is changed: where version 2
does not offer the cpu controller at its root, that is said, not mended. The facts are in the kernel's
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/, scheduler/sched-bwc.rst.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PERIOD = 20_000  # microseconds in which a limited group gets its share; short, so that a run has many

_PREFIX = "policyd-bench"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where the cpu controller's groups are, and in which version's words they are spoken to."""

    root: Path
    version: int


def hierarchy(mounts: str) -> Hierarchy | None:
    """The cpu controller's hierarchy among the lines of /proc/mounts; None where no group can have a CPU share."""
    for line in mounts.splitlines():
        _device, folder, kind, options, *_ = line.split(" ")
        if kind == "cgroup" and "cpu" in options.split(","):
            return Hierarchy(Path(folder), 1)
        offered = Path(folder, "cgroup.subtree_control")
        if kind == "cgroup2" and offered.exists() and "cpu" in offered.read_text().split():
            return Hierarchy(Path(folder), 2)
    return None


def _own(found: Hierarchy, groups: str) -> str:
    """The group in that hierarchy, relative to its root, by the lines of /proc/PID/cgroup."""
    for line in groups.splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers == "" if found.version == 2 else "cpu" in controllers.split(","):
            return path.strip("/")
    return ""


def why_not() -> str:
    """Why no group can be made here; empty when one can. It tries."""
    try:
        with Group("try"):
            return ""
    except OSError as error:
        return f"no CPU group can be made: {error}"


class Group:
    """A CPU group for the length of a `with` block. OSError where it cannot be made."""

    def __init__(self, name: str, share: float | None = None, weight: int = 1) -> None:
        """`share`: the CPUs that all in it may use together, 0.25 is a quarter of one. `weight`: 1 is as all others."""
        self._name, self._share, self._weight = f"{_PREFIX}-{os.getpid()}-{name}", share, weight

    def __enter__(self) -> Self:
        found = hierarchy(Path("/proc/mounts").read_text())
        if found is None:
            raise OSError("there is no cgroup hierarchy with a cpu controller for its groups")
        self._home = found.root / _own(found, Path("/proc/self/cgroup").read_text())
        self.path = found.root / self._name
        for left in found.root.glob(f"{_PREFIX}-*"):  # by a benchmark that was killed
            if not Path("/proc", left.name.split("-")[2]).exists():
                with contextlib.suppress(OSError):
                    left.rmdir()
        self.path.mkdir()
        try:
            if self._share is not None:
                quota = round(self._share * PERIOD)
                if found.version == 1:
                    self._write("cpu.cfs_period_us", PERIOD)
                    self._write("cpu.cfs_quota_us", quota)
                else:
                    self._write("cpu.max", f"{quota} {PERIOD}")
            if self._weight != 1:
                name, usual = ("cpu.shares", 1024) if found.version == 1 else ("cpu.weight", 100)
                self._write(name, usual * self._weight)
        except BaseException:
            self.path.rmdir()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + 10
        while True:  # until those that are about to end have ended
            for pid in (self.path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    (self._home / "cgroup.procs").write_text(pid)
            try:
                self.path.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def take(self, pid: int) -> None:
        """Move a process here, all its threads, and what it starts from now on."""
        self._write("cgroup.procs", pid)

    def _write(self, name: str, value: object) -> None:
        (self.path / name).write_text(f"{value}")
