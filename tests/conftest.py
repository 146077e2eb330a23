"""What several rooms of tests need: the policyd command, loopback ports of our own, and a running server.

It holds no test data and knows nothing of Postfix; that lives in `tests/e2e/`.
"""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.policyd_server import PolicydServer

# Where Debian has Postfix's commands and others, which are not in the PATH of everybody who may call them.
os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"

NOTHING_MAY_BE_SKIPPED = bool(os.environ.get("POLICYD_TESTS_SKIP_NOTHING"))

# What is made at random: at a developer's something new each time, in CI the same each time, so that a red run is a
# change's fault, unless a seed is given. How long an example takes says something about the machine only.
SAME_EACH_TIME = NOTHING_MAY_BE_SKIPPED and not any(word.startswith("--hypothesis-seed") for word in sys.argv)
settings.register_profile(
    "policyd",
    deadline=None,
    derandomize=SAME_EACH_TIME,
    database=None if NOTHING_MAY_BE_SKIPPED else settings.default.database,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("policyd")

MEASURED = os.environ.get("COVERAGE_PROCESS_START", "")  # where CI measures coverage; see tests/server/conftest.py


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", metavar="SEED", help="run the tests in an order that the seed decides")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --shuffle files in any order, and the tests of each; those of a story (`in_order`) stay as they stand.

    With `-n` what takes longest begins first.
    """
    if (seed := config.getoption("--shuffle")) is not None:
        stories = {item.path for item in items if item.get_closest_marker("in_order")}
        order = random.Random(seed)
        by_file: dict[Path, list[pytest.Item]] = {}
        for item in items:
            by_file.setdefault(item.path, []).append(item)
        for path, of_file in by_file.items():
            if path not in stories:
                order.shuffle(of_file)
        files = list(by_file.values())
        order.shuffle(files)
        items[:] = [item for of_file in files for item in of_file]
    if config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith("tests/system/"))


@pytest.fixture(scope="session")
def measured() -> str:
    """The settings of coverage where it is measured, else nothing: what started this process may have them."""
    return MEASURED


def pytest_configure(config: pytest.Config) -> None:
    """CI measures what the tests themselves run; the servers that they start shall be as fast as anywhere.

    With `-n` the workers run the tests, and inherit from the process that starts them.
    """
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        os.environ.pop("COVERAGE_PROCESS_START", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With `-n` one worker takes all of a file, and all of tests/system with its one machine; that one first."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, _ = nodeid.partition("::")
            return "tests/system" if file.startswith("tests/system/") else file

    config.option.loadscopereorder = False  # in the order of pytest_collection_modifyitems
    return ByFile(config, log)


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
