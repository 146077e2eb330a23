"""Two workers against one, where the load generator is not the limit, and how connections spread over the workers.

Two CPUs cannot hold two busy workers and the load generator. So each worker gets the same small share of a CPU
(tests/bench/groups.py), as one worker alone does, and the load generator what it needs; one and two are asked in turn
(tests/bench/pairs.py). This shows what two workers do together that one does alone, and what they cost each other in
policyd; not what two CPUs cost each other in the hardware. Measures; asserts nothing about time.

A connection stays with the worker that took it. Which worker that is is read from /proc.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from tests.bench.build import build
from tests.bench.groups import Group, why_not
from tests.bench.pairs import HEADS, Spread, control, in_turn, ratios, spread
from tests.bench.report import columns
from tests.bench.servers import SERVERS, Place, Server, cpu_nanoseconds, tree, until

__all__ = ["LuckRow", "WorkersRow", "luck_table", "measure_workers", "why_not", "workers_table"]

WORKERS = 2
TRIES = 100  # how often so many connections are made to see how they spread
_WARMUP = 0.3  # seconds before each run
_ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class Shared:
    """One run. `answers`, `connections` and `cpus` (CPU seconds used in a second) have one number for each worker.

    `cpu_seconds_per_100k`: of all processes of the server. `load_cpus`: the load generator's; near 1 it was the limit.
    """

    requests_per_second: float
    cpu_seconds_per_100k: float
    p99: float
    answers: tuple[int, ...]
    connections: tuple[int, ...]
    cpus: tuple[float, ...]
    load_cpus: float
    faults: int


@dataclass(frozen=True, slots=True)
class WorkersRow:
    """Medians of one server at one number of connections; `ratio` is to one worker, that of one worker the control.

    `busiest_answers`, `busiest_connections`: the part of the worker that had most, median of the runs and the highest.
    `cpus`: that each worker used, median. `faults`: errors and wrong answers.
    """

    server: str
    connections: int
    requests_per_second: float
    ratio: Spread
    cpu_seconds_per_100k: float
    p99: float
    busiest_answers: tuple[float, float]
    busiest_connections: tuple[float, float]
    cpus: tuple[float, ...]
    load_cpus: float
    faults: int


@dataclass(frozen=True, slots=True)
class LuckRow:
    """How `connections` new connections spread over the workers: how often the fullest worker had so many of them."""

    connections: int
    fullest: dict[int, int]


def measure_workers(
    place: Place,
    numbers: Sequence[int],
    pairs: int,
    seconds: float,
    share: float,
    weight: int,
    say: Callable[[str], None],
) -> tuple[list[WorkersRow], list[LuckRow]]:
    """Two rows and one for each number of connections. `place` holds the organizations, `requests` and `expected`."""
    rows, luck = [], []
    with ExitStack() as stack:
        one, two = (SERVERS[name](place) for name in ("policyd", "policyd-2"))
        for server in (one, two):
            stack.callback(server.stop)
        # the sockets are open before there are workers
        until(lambda: len(workers_of(two)) == WORKERS, 60, f"{two.name}: there are no workers")
        for server in (one, two):
            for number, pid in enumerate(workers_of(server)):
                stack.enter_context(Group(f"{server.pid}-{number}", share, weight)).take(pid)
        request = (place.folder / "requests").read_bytes().partition(b"\n\n")[0] + b"\n\n"
        for connections in numbers:
            say(f"{TRIES} times {connections} new connections")
            luck.append(LuckRow(connections, _fullest(two, request, connections)))
            say(f"{connections} connections, {pairs} pairs of runs")
            runs_of_one, runs_of_two = in_turn(
                partial(_run, place.folder, one, connections, seconds),
                partial(_run, place.folder, two, connections, seconds),
                pairs,
            )
            rows.append(_row(one.name, connections, runs_of_one, None))
            rows.append(_row(two.name, connections, runs_of_two, runs_of_one))
    return rows, luck


def workers_of(server: Server) -> list[int]:
    """The processes that answer: the server's workers, or the server itself where it has none."""
    return [pid for pid in tree(server.pid) if b"policyd.service.worker" in _command(pid)] or [server.pid]


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def owners(target: str, pids: Sequence[int], ports: Iterable[int]) -> dict[int, int]:
    """Which of the processes (its place among `pids`) has the connection from each of these ports of 127.0.0.1.

    They must be accepted already. RuntimeError when one is not found in a minute.
    """
    wanted, deadline = set(ports), time.monotonic() + 60
    found: dict[int, int] = {}
    while not wanted <= found.keys():  # the kernel's table changes while it is read, and lines get lost
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody has {len(wanted - found.keys())} of {len(wanted)} connections to {target}")
        found |= _look(int(target.rpartition(":")[2]), pids)
    return {port: found[port] for port in wanted}


def _look(port: int, pids: Sequence[int]) -> Iterator[tuple[int, int]]:
    sockets: dict[str, int] = {}
    for number, pid in enumerate(pids):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                sockets[os.readlink(descriptor)] = number
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        near, far = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
        owner = sockets.get(f"socket:[{fields[9]}]")
        if near == port and fields[3] == _ESTABLISHED and owner is not None:
            yield far, owner


def _run(folder: Path, server: Server, connections: int, seconds: float) -> Shared:
    if server.log is not None:
        os.truncate(server.log, 0)
    pids = workers_of(server)
    cpu_before, each_before = server.usage()[0], [cpu_nanoseconds(pid) for pid in pids]
    command = [str(build("load")), "-a", "-c", str(connections), "-s", str(seconds), "-w", str(_WARMUP)]
    command += ["-e", str(folder / "expected"), server.target, str(folder / "requests")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdout is not None
        out = load.stdout.readline()
        cpu, each = server.usage()[0] - cpu_before, [cpu_nanoseconds(pid) for pid in pids]
        if not out:
            raise RuntimeError(f"{server.name}: the load generator gave up")
        result = json.loads(out)
        owned = owners(server.target, pids, dict(result["connections"]))
    answers, counts = [0] * len(pids), Counter(owned.values())
    for port, measured in result["connections"]:
        answers[owned[port]] += measured
    return Shared(
        requests_per_second=result["requests_per_second"],
        cpu_seconds_per_100k=1e5 * cpu / max(1, result["requests"]),
        p99=result["p99"],
        answers=tuple(answers),
        connections=tuple(counts[number] for number in range(len(pids))),
        cpus=tuple((after - b) / 1e9 / result["run_seconds"] for after, b in zip(each, each_before, strict=True)),
        load_cpus=result["load_cpu_seconds"] / result["run_seconds"],
        faults=result["errors"] + result["mismatches"],
    )


def _fullest(server: Server, request: bytes, connections: int) -> dict[int, int]:
    pids = workers_of(server)
    host, _, port = server.target.removeprefix("inet:").rpartition(":")
    found: Counter[int] = Counter()
    for _ in range(TRIES):
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection((host, int(port)), timeout=60)) for _ in range(connections)
            ]
            for client in clients:
                client.sendall(request)
            for client in clients:  # answered: so it was accepted
                if not client.recv(4096).startswith(b"action="):
                    raise RuntimeError(f"{server.name} does not answer")
            owned = owners(server.target, pids, [client.getsockname()[1] for client in clients])
            found[max(Counter(owned.values()).values())] += 1
    return dict(sorted(found.items()))


def _row(server: str, connections: int, runs: Sequence[Shared], yardsticks: Sequence[Shared] | None) -> WorkersRow:
    """Without yardsticks the runs are the yardsticks: compared with each other."""
    rates = [run.requests_per_second for run in runs]
    beside = control(rates) if yardsticks is None else ratios(rates, [run.requests_per_second for run in yardsticks])
    answers = [max(run.answers) / max(1, sum(run.answers)) for run in runs]
    owned = [max(run.connections) / sum(run.connections) for run in runs]
    return WorkersRow(
        server=server,
        connections=connections,
        requests_per_second=median(rates),
        ratio=spread(beside),
        cpu_seconds_per_100k=median(run.cpu_seconds_per_100k for run in runs),
        p99=median(run.p99 for run in runs),
        busiest_answers=(median(answers), max(answers)),
        busiest_connections=(median(owned), max(owned)),
        cpus=tuple(map(median, zip(*(run.cpus for run in runs), strict=True))),
        load_cpus=median(run.load_cpus for run in runs),
        faults=sum(run.faults for run in runs),
    )


def workers_table(rows: Iterable[WorkersRow]) -> str:
    """The rows for people, fixed width."""
    heads = ("connections", "server", "requests/s", *HEADS, "CPU s/100k", "p99 us")
    lines: list[tuple[str, ...]] = [
        (*heads, "busiest: connections", "answers (highest)", "CPU of each", "load CPU", "faults")
    ]
    for row in rows:
        parts = [f"{middle:.2f} ({highest:.2f})" for middle, highest in (row.busiest_connections, row.busiest_answers)]
        lines.append(
            (
                f"{row.connections:,}",
                row.server,
                f"{row.requests_per_second:,.0f}",
                *row.ratio.cells(),
                f"{row.cpu_seconds_per_100k:.2f}",
                f"{row.p99:,.0f}",
                *parts,
                " ".join(f"{cpus:.3f}" for cpus in row.cpus),
                f"{row.load_cpus:.2f}",
                str(row.faults),
            )
        )
    return columns(lines, left=1)


def luck_table(rows: Iterable[LuckRow]) -> str:
    """One line for each number of connections."""
    return "\n".join(
        f"{row.connections:,} new connections, {sum(row.fullest.values())} times; on the fullest worker: "
        + ", ".join(f"{count} ({times} times)" for count, times in row.fullest.items())
        for row in rows
    )
