"""Starting, watching and stopping the servers that are compared.

Every server runs in a process group of its own and listens on loopback, where the kernel or `free_port` chose. CPU time
and memory are those of the server and all its descendants.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.bench.build import build
from tests.places import PROJECT

ROOT = PROJECT
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server keeps its files, and what it must know: the connectors' file, and inet or unix."""

    folder: Path
    organizations: Path
    unix: bool = False

    def address(self, name: str) -> str:
        """A free address in Postfix's notation."""
        return f"unix:{self.folder / name}.sock" if self.unix else f"inet:127.0.0.1:{free_port()}"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: the leader of its process group, and where it listens.

    `decides`: it knows the connectors, so its answers are compared with the expected ones. `log`: emptied between runs.
    """

    name: str
    pid: int
    target: str
    decides: bool = False
    log: Path | None = None

    def usage(self) -> tuple[float, int]:
        """CPU seconds used so far and resident bytes, of the whole process tree. Shared pages count once a process."""
        nanoseconds = pages = 0
        for pid in tree(self.pid):
            with contextlib.suppress(OSError):  # it ended meanwhile
                nanoseconds += cpu_nanoseconds(pid)
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return nanoseconds / 1e9, pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        """End the process group: ask, wait up to 3 s, then kill."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline and _runs(self.pid):
                time.sleep(0.02)


def cpu_nanoseconds(pid: int) -> int:
    """What all threads of the process have used so far. Exact, where /proc/PID/stat counts in steps of 10 ms."""
    return time.clock_gettime_ns(~pid << 3 | 2)  # the process's CPU clock, as clock_getcpuclockid(3) makes its number


def busy_seconds() -> float:
    """CPU seconds that the whole machine has worked so far, the kernel's own work included."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + irq + softirq) / _TICKS


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_policyd(place: Place) -> Server:
    """policyd as it is deployed: decision log to a file, metrics on, one process."""
    log = place.folder / "decisions.log"
    return _policyd("policyd", place, log=log)


def start_policyd_pipe(place: Place) -> Server:
    """The same with the decision log on standard error, a pipe that another process reads."""
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # it ends when policyd does
    assert reader.stdin is not None
    with reader.stdin as pipe:
        return _policyd("policyd, pipe", place, err=pipe)


def start_policyd_workers(place: Place) -> Server:
    """The same as `policyd` with two workers."""
    return _policyd("policyd, 2 workers", place, "workers = 2", place.folder / "workers.log")


def start_checkout(name: str, place: Place, checkout: Path) -> Server:
    """The same as `policyd` with the code of a checkout, by the Python of its own .venv where it has one."""
    return _policyd(name, place, log=place.folder / f"{name}.log", checkout=checkout)


def _policyd(
    name: str,
    place: Place,
    service: str = "",
    log: Path | None = None,
    err: IO[bytes] | None = None,
    checkout: Path = ROOT,
) -> Server:
    slug = name.replace(", ", "-").replace(" ", "-")
    target, file = place.address(slug), place.folder / f"{slug}.toml"
    with file.open("w", encoding="utf-8") as out:
        to = "" if log is None else f'file = "{log}"\n'
        out.write(f'[service]\nlisten = ["{target}"]\n{service}\n\n[log]\ndecisions = "all"\n{to}\n')
        out.write(f'[metrics]\nlisten = "inet:127.0.0.1:{free_port()}"\n')
        with place.organizations.open(encoding="utf-8") as organizations:
            shutil.copyfileobj(organizations, out)
    python = checkout / ".venv/bin/python"
    command = [str(python) if python.exists() else sys.executable, "-m", "policyd", "serve", "-c", str(file)]
    process = _spawn(name, command, place, err, checkout)
    return _wait(name, process, target, place, 900, decides=True, log=log)


def start_echo(place: Place) -> Server:
    """The yardstick: a C epoll server that finds the empty line and always answers DUNNO."""
    return _announced("C echo", [str(build("echo"))], place)


def start_twisted(place: Place) -> Server:
    """Twisted that parses nothing and always answers DUNNO."""
    return _announced("bare Twisted", [sys.executable, "-m", "tests.bench.bare_twisted"], place)


def start_twisted_direct(place: Place) -> Server:
    """The same, sending on the socket in place of through Twisted's write buffer."""
    return _announced("bare Twisted, direct", [sys.executable, "-m", "tests.bench.bare_twisted"], place, "--direct")


def start_postfwd(place: Place) -> Server:
    """postfwd with a single rule that answers DUNNO: its best case. It makes itself a daemon."""
    rules, pid_file, port = place.folder / "postfwd.cf", place.folder / "postfwd.pid", free_port()
    rules.write_text("id=ALL; action=DUNNO\n")
    user, group = _ourselves()
    command = ["postfwd", "--daemon", "-f", str(rules), "-i", "127.0.0.1", "-p", str(port), "-u", user, "-g", group]
    subprocess.run(
        [*command, "--pidfile", str(pid_file)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: pid_file.exists() and pid_file.read_text().strip() != "", 10, "postfwd wrote no pid file")
    return _wait("postfwd", int(pid_file.read_text()), f"inet:127.0.0.1:{port}", place, 10)


def start_mtpolicyd(place: Place) -> Server:
    """mtpolicyd with a single rule that answers DUNNO, processes enough for 100 connections."""
    port, file, (user, group) = free_port(), place.folder / "mtpolicyd.conf", _ourselves()
    file.write_text(
        f'user={user}\ngroup={group}\nlog_level=0\nhost=127.0.0.1\nport="127.0.0.1:{port}"\nmin_servers=110\nmin_spare_servers=4\n'
        "max_spare_servers=119\nmax_servers=120\nmax_requests=1000000000\nkeepalive_timeout=0\nmax_keepalive=0\n"
        f'<VirtualHost {port}>\nname="bench"\n'
        '<Plugin all>\nmodule="Action"\naction="DUNNO"\n</Plugin>\n</VirtualHost>\n'
    )
    process = _spawn("mtpolicyd", ["mtpolicyd", "-f", "-c", str(file)], place)
    return _wait("mtpolicyd", process, f"inet:127.0.0.1:{port}", place, 10)


SERVERS: dict[str, Callable[[Place], Server]] = {
    "echo": start_echo,
    "policyd": start_policyd,
    "policyd-pipe": start_policyd_pipe,
    "policyd-2": start_policyd_workers,
    "twisted": start_twisted,
    "twisted-direct": start_twisted_direct,
    "postfwd": start_postfwd,
    "mtpolicyd": start_mtpolicyd,
}


def installed() -> list[str]:
    """The servers to compare when none are named: other policy servers only where they are installed."""
    return ["echo", "policyd", "twisted", *(name for name in ("postfwd", "mtpolicyd") if shutil.which(name))]


def _ourselves() -> tuple[str, str]:
    """This process's user and group names, for servers that would change to another who cannot read our files."""
    return pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name


def _spawn(
    name: str, command: list[str], place: Place, other: IO[bytes] | None = None, project: Path = ROOT
) -> subprocess.Popen[bytes]:
    """Start in a group of its own, with the project importable, and what it prints in NAME.out and NAME.err.

    Standard error goes to `other` where that is given.
    """
    path = os.pathsep.join(filter(None, (str(project), os.environ.get("PYTHONPATH"))))
    with (place.folder / f"{name}.out").open("w") as out, (place.folder / f"{name}.err").open("w") as err:
        return subprocess.Popen(
            command,
            cwd=place.folder,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=other or err,
            start_new_session=True,
        )


def _announced(name: str, command: list[str], place: Place, *options: str) -> Server:
    """A server that takes its address as argument and prints where it listens."""
    wanted = place.address(name.replace(" ", "-")) if place.unix else "inet:0"
    process = _spawn(name, [*command, wanted, *options], place)
    out = place.folder / f"{name}.out"
    until(lambda: process.poll() is not None or out.read_text().endswith("\n"), 10, f"{name} says nothing")
    return _wait(name, process, out.read_text().strip(), place, 10)


def _wait(
    name: str,
    process: subprocess.Popen[bytes] | int,
    target: str,
    place: Place,
    seconds: float,
    *,
    decides: bool = False,
    log: Path | None = None,
) -> Server:
    """The server, once it accepts connections; RuntimeError with its messages when it ends before, or is too slow."""
    pid = process if isinstance(process, int) else process.pid
    server = Server(name, pid, target, decides, log)

    def messages() -> str:
        err = place.folder / f"{name}.err"
        return f"{name} does not listen on {target!r}: " + (err.read_text()[-2000:] if err.exists() else "")

    def ready() -> bool:
        if not isinstance(process, int) and process.poll() is not None:
            raise RuntimeError(messages())
        return _accepts(target)

    try:
        until(ready, seconds, messages)
    except BaseException:
        server.stop()
        raise
    return server


def until(condition: Callable[[], bool], seconds: float, complaint: str | Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(complaint if isinstance(complaint, str) else complaint())
        time.sleep(0.05)


def _accepts(target: str) -> bool:
    kind, _, where = target.partition(":")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(where)
        else:
            host, _, port = where.rpartition(":")
            socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    pids = [pid]
    for parent in pids:  # grows while it is read
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
    return pids


def _runs(pid: int) -> bool:
    """Whether the process exists and is no zombie (this one's children are reaped here)."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
