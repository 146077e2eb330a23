"""Out of descriptors: who is connected goes on, nothing spins, and all is well when there are some again."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.peers import OK, OURS, answer, ask, connect
from tests.helpers.processes import children, cpu_seconds, descriptors
from tests.helpers.waiting import until


def rests(pids: list[int]) -> bool:
    """Whether they need no processor at all for half a second: who spins always does, however slow the machine is."""
    before = sum(map(cpu_seconds, pids))
    time.sleep(0.5)
    return sum(map(cpu_seconds, pids)) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_out_of_descriptors(workers: int, attacked: Callable[..., Any]) -> None:
    target = attacked(service=f"workers = {workers}")
    target.server.wait_for_log(lambda log: "listening on" in log)
    pids = children(target.pid) or [target.pid]
    with connect(target.port) as steady:
        steady.sendall(OURS)
        assert answer(steady) == OK
        before = [descriptors(pid) for pid in pids]
        limits = [resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids]
        for pid, count, (_, hard) in zip(pids, before, limits, strict=True):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (count + 20, hard))
        crowd = [connect(target.port) for _ in range(200)]  # the kernel takes them all

        for _ in range(50):
            steady.sendall(OURS)
            assert answer(steady) == OK
        target.server.reload()
        target.server.wait_for_log(lambda log: "reloaded" in log)  # or not: the file may not be opened
        steady.sendall(OURS)
        assert answer(steady) == OK
        until(lambda: rests(pids), "nobody asks anything, and it spins")

        for connection in crowd:
            connection.close()
        for pid, limit in zip(pids, limits, strict=True):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        until(lambda: sum(map(descriptors, pids)) <= sum(before), "all descriptors are given back")
    assert ask(target.port) == OK
    log = target.server.log()
    since = len(log)
    target.server.reload()
    target.server.wait_for_log(lambda log: "reloaded; generation" in log, since=since)
    assert "internal error" not in target.server.log()


def test_not_even_the_spare_descriptor_is_left(attacked: Callable[..., Any]) -> None:
    """Then what waits cannot even be closed: it is looked at again later, not without a pause."""
    target = attacked()
    with connect(target.port) as steady:
        steady.sendall(OURS)
        assert answer(steady) == OK
        limit = resource.prlimit(target.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (3, limit[1]))  # below what is open already
        with connect(target.port) as waiting:
            steady.sendall(OURS)
            assert answer(steady) == OK
            target.server.wait_for_log(lambda log: "out of file descriptors" in log)
            until(lambda: rests([target.pid]), "it spins")
            resource.prlimit(target.pid, resource.RLIMIT_NOFILE, limit)
            waiting.sendall(OURS)
            assert answer(waiting) == OK
    assert "internal error" not in target.server.log()


def test_running_out_is_told(attacked: Callable[..., Any]) -> None:
    """The operator sees why Postfix gets no answers."""
    target = attacked()
    _, hard = resource.prlimit(target.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (descriptors(target.pid) + 5, hard))
    crowd = [connect(target.port) for _ in range(50)]
    target.server.wait_for_log(lambda log: "out of file descriptors" in log)
    for connection in crowd:
        connection.close()
