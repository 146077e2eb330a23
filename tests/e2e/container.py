"""A real systemd as PID 1 of a container, for tests of units: a script in, its output and the journal out.

The container sees this machine's own files (what is installed here is installed there), writes to memory, has a /tmp
and a loopback of its own and no other network. `container_boot.sh` does the work in namespaces that the kernel clears
away with their first process; this module starts it, bounds its time, and removes its control groups and its folder.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HIERARCHIES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))
_PREFIX = "policyd-container"
_BOOT = Path(__file__).with_name("container_boot.sh")
_NUMBERS = itertools.count(1)
_AROUND = 180.0  # seconds for booting, and for shutting down


class ContainerError(Exception):
    """The container did not come up, or did not end in time; the text has its console."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a script did: exit status (124: it ran out of time), standard output and error, the container's journal."""

    status: int
    output: str
    journal: str


def run_in_container(
    script: str, *, binds: Mapping[Path, str] | None = None, target: str = "basic.target", seconds: float = 60
) -> Outcome:
    """Boot, run the bash script as root for at most `seconds`, shut down.

    `binds` maps folders of this machine to where they are to be seen, read-only (below /tmp, say, which is otherwise
    empty in there). `basic.target` starts nothing but systemd's own services. Raises ContainerError.
    """
    _sweep()
    name = f"{_PREFIX}-{os.getpid()}-{next(_NUMBERS)}"
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/tmp"))
    try:
        (folder / "script").write_text(script, "utf-8")
        bind_options = [f"--bind-ro={host}:{inside}" for host, inside in (binds or {}).items()]
        _boot([name, str(folder), target, str(seconds), *bind_options], seconds + _AROUND)
        texts = {file: _read(folder / file) for file in ("status", "output", "journal", "console", "problem")}
        if not texts["status"]:
            raise ContainerError(f"{texts['problem']}{texts['output']}\n{texts['console']}")
        return Outcome(int(texts["status"]), texts["output"], texts["journal"])
    finally:
        _remove_control_groups(name)
        shutil.rmtree(folder)


def leftovers() -> list[Path]:
    """Control groups and folders of the containers of this test run, and of others that are dead."""
    found = [group for hierarchy in HIERARCHIES for group in hierarchy.glob(f"{_PREFIX}-*")]
    return [path for path in (*found, *Path("/tmp").glob(f"{_PREFIX}-*")) if not _is_anothers(path)]


def _is_anothers(path: Path) -> bool:
    """Whether a path belongs to another test run that is still alive."""
    owner = re.match(rf"{_PREFIX}-(\d+)-", path.name)
    return owner is not None and int(owner[1]) != os.getpid() and Path(f"/proc/{owner[1]}").exists()


def _boot(arguments: list[str], seconds: float) -> None:
    # A PID namespace ends with its first process, and the mount namespace with the last one in it. unshare passes a
    # death of its own on to that first process; setpriv passes on a death of ours to unshare.
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
    command += ["--pid", "--fork", "--kill-child=KILL", "--mount-proc", "bash", str(_BOOT), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise ContainerError(f"the container did not end within {seconds} s") from None
    finally:
        process.kill()
        process.wait()


def _remove_control_groups(name: str, seconds: float = 60) -> None:
    """Remove the groups of this container as soon as its last processes are gone."""
    deadline = time.monotonic() + seconds
    for hierarchy in HIERARCHIES:
        group = hierarchy / name
        while group.exists():
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            if time.monotonic() > deadline:
                raise ContainerError(f"{group} is in use: {_read(group / 'cgroup.procs').split()}")
            time.sleep(0.01)


def _sweep() -> None:
    """Remove what a test run that was killed could not remove itself; its processes and mounts ended with it."""
    for path in leftovers():
        if path.is_relative_to("/tmp"):
            shutil.rmtree(path, ignore_errors=True)
        else:
            _remove_control_groups(path.name)


def _read(file: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return file.read_text("utf-8", "backslashreplace")
    return ""
