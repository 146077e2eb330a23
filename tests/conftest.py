"""What several rooms of tests need: the policyd command, loopback ports of our own, and a running server.

It holds no test data and knows nothing of Postfix; that lives in `tests/e2e/`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.policyd_server import PolicydServer

# CI measures what the tests themselves run; the servers that they start shall be as fast as anywhere.
os.environ.pop("COVERAGE_PROCESS_START", None)

NOTHING_MAY_BE_SKIPPED = bool(os.environ.get("POLICYD_TESTS_SKIP_NOTHING"))

# What is made at random: at a developer's something new each time, in CI the same each time, so that a red run is a
# change's fault. How long an example takes says something about the machine only.
settings.register_profile(
    "policyd",
    deadline=None,
    derandomize=NOTHING_MAY_BE_SKIPPED,
    database=None if NOTHING_MAY_BE_SKIPPED else settings.default.database,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("policyd")


@pytest.fixture(scope="session")
def policyd_command() -> list[str]:
    """The command line of policyd, run from the source tree by the interpreter that runs the tests."""
    return [sys.executable, "-m", "policyd"]


@pytest.fixture(scope="session")
def free_port() -> Iterator[Callable[[], int]]:
    """A function that gives a new TCP port of 127.0.0.1 at each call.

    The kernel chooses it, and a bound socket that never listens holds it until the end of the session: nobody else is
    given the port, a connection to it is refused until the test's own server listens, and such a server can bind it,
    also again after a restart, since both set SO_REUSEADDR (Twisted, Postfix and `socket.create_server` do).
    """
    held: list[socket.socket] = []

    def reserve() -> int:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        held.append(holder)
        return int(holder.getsockname()[1])

    yield reserve
    for holder in held:
        holder.close()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With POLICYD_TESTS_SKIP_NOTHING, where everything is installed, a skipped test fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if NOTHING_MAY_BE_SKIPPED and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped, and POLICYD_TESTS_SKIP_NOTHING is set", red=True)
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def policyd_server(
    policyd_command: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., PolicydServer]]:
    """A function `(config, *arguments) -> PolicydServer`, to be used as a context manager; leftovers are killed."""
    made: list[PolicydServer] = []

    def make(config: Path, *arguments: str) -> PolicydServer:
        log_file = tmp_path_factory.mktemp("policyd-log") / "stderr"
        log_file.touch()
        made.append(PolicydServer(policyd_command, config, log_file, arguments))
        return made[-1]

    yield make
    for server in made:
        server.kill()
