"""What this checkout's policyd costs beside another's: CPU seconds of the same requests, in pairs.

Two processes of the very same code differ by some per cent for as long as they live: where their memory lies, and how
their texts hash, is luck. So each pair is two new servers, and that luck is in the interval. Between two servers that
stay it would be narrower, and wrong: it holds for those two processes. Within a pair the requests are sent in rounds,
A B, B A, ..., so that what the machine does meanwhile falls on both. The first round is of new requests, the others
are of requests that a server may have remembered. Measures; asserts nothing about time.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.build import build
from tests.bench.pairs import Spread, spread
from tests.bench.servers import ROOT, Place, Server, start_checkout

ROUNDS = 5  # each of all different requests


@dataclass(frozen=True, slots=True)
class AgainstRow:
    """`ratio`: CPU seconds of this checkout to those of the other, of each pair. `cpu_seconds`: this one's, median.

    `requests`: that each server answered. `faults`: errors and wrong answers, of both.
    """

    other: str
    connections: int
    requests: int
    ratio: Spread
    cpu_seconds: float
    faults: int


def measure_against(
    place: Place, other: Path, connections: int, different: int, pairs: int, say: Callable[[str], None]
) -> AgainstRow:
    """`place` holds the organizations, `requests` and `expected`, of which there are `different` ones."""
    used, faults = [], 0
    for number in range(pairs):
        say(f"{connections} connections, pair {number + 1} of {pairs}")
        with ExitStack() as stack:
            servers = []
            for name, checkout in (("this", ROOT), ("other", other)):
                servers.append(start_checkout(name, place, checkout))
                stack.callback(servers[-1].stop)
            before = [server.usage()[0] for server in servers]
            for turn in range(number, number + ROUNDS):
                for server in servers if turn % 2 == 0 else servers[::-1]:
                    faults += _send(place.folder, server, connections, different)
            used.append([server.usage()[0] - cpu for server, cpu in zip(servers, before, strict=True)])
    return row(str(other), connections, different * ROUNDS, used, faults)


def _send(folder: Path, server: Server, connections: int, count: int) -> int:
    """All requests once; the errors and wrong answers."""
    assert server.log is not None
    os.truncate(server.log, 0)
    command = [str(build("load")), "-c", str(connections), "-n", str(count), "-s", "600"]
    command += ["-e", str(folder / "expected"), server.target, str(folder / "requests")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RuntimeError(f"{server.name}: the load generator gave up: {done.stderr}")
    result = json.loads(done.stdout)
    return int(result["errors"] + result["mismatches"] + count - result["requests"])


def row(other: str, connections: int, requests: int, used: Sequence[Sequence[float]], faults: int) -> AgainstRow:
    """What the pairs come to: CPU seconds of this and of the other."""
    ratio = spread([this / that for this, that in used])
    return AgainstRow(other, connections, requests, ratio, median(this for this, _ in used), faults)


def against_line(row: AgainstRow) -> str:
    """The row for people; in brackets where the median lies with 95 % certainty."""
    ratio = row.ratio
    return (
        f"CPU of {row.requests:,} requests: {ratio.median:.3f} ({ratio.least:.3f}-{ratio.most:.3f}) of {row.other}, "
        f"{ratio.count} pairs at {row.connections} connections; {row.cpu_seconds:.2f} s; faults: {row.faults}"
    )
