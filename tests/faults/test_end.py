"""The end, while something hangs that nothing wakes: a database that is silent, a file on a dead server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.peers import OK, ask

# Reading never ends, at the first reload.
HANG = """
import threading
from policyd.service import reloads
def hang(*_):
    print("it hangs", flush=True)
    threading.Event().wait()
reloads.load_rules = hang
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_reading_that_never_ends_does_not_hinder_the_end(workers: int, attacked: Callable[..., Any]) -> None:
    target = attacked(HANG, service=f"workers = {workers}")
    target.server.wait_for_log(lambda log: "listening on" in log)
    target.server.reload()
    assert "it hangs" in target.server.wait_for_log(lambda log: "it hangs" in log)
    assert ask(target.port) == OK
    target.server.stop()
    assert "policyd: stopped" in target.server.log()
