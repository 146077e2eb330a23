"""`python -m tests.mutation [--seconds N] [--every N] [MODULE ...]`: lists the mutants that no test notices.

Each mutant runs in a forked process that has pytest and the libraries loaded and imports policyd anew, with the
changed module in place of its file; no file is touched. The quick tests come first, those made at random only for
what they leave alive. Slow (seconds a mutant): for a look now and then, not for every run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from tests.mutation.mutants import Mutant, mutants
from tests.places import PROJECT

# What every module of the deciding rooms is tried with.
QUICK = (
    "tests/fuzz/test_fuzz.py",
    "tests/unit/policy",
    "tests/unit/protocol",
    "tests/unit/explain",
    "tests/unit/records",
    "tests/unit/cli/test_asked.py",
    "tests/mutation/test_mutants.py",
)


class Room(NamedTuple):
    """A package whose modules are changed (all, or those named), and the tests of it: stages, the quick ones first."""

    stages: tuple[tuple[str, ...], ...]
    modules: tuple[str, ...] = ()


ROOMS = {
    "policyd/policy": Room(
        (
            ("tests/unit/policy",),
            QUICK,
            ("tests/laws/test_reference_agrees.py", "tests/laws/test_laws.py", "tests/laws/test_crowd.py"),
        )
    ),
    "policyd/protocol": Room(
        (("tests/unit/protocol",), QUICK, ("tests/laws/test_short_way.py", "tests/laws/test_wire.py"))
    ),
    "policyd/explain": Room((("tests/unit/explain",), QUICK, ("tests/laws/test_proposals.py",))),
    "policyd/records": Room(
        (("tests/unit/records",), QUICK, ("tests/laws/test_decision_log.py", "tests/laws/test_recorded.py"))
    ),
    "policyd/service": Room(
        (
            (
                "tests/unit/service/test_attribution_header.py",
                "tests/unit/service/test_answers.py",
                "tests/unit/service/test_server_protocol.py",
            ),
            ("tests/unit/service/test_recording.py", "tests/laws/test_short_way.py"),
        ),
        ("answers", "attribution_header", "rounds", "server", "short_way"),
    ),
    "policyd/config": Room(
        (
            ("tests/unit/config/test_conflicts.py", "tests/unit/config/test_cases.py"),
            ("tests/unit/config/test_certificates.py", "tests/unit/config/test_nobodys_own.py", "tests/unit/policy"),
        ),
        ("conflicts", "evidence_readers"),
    ),
    "policyd/database": Room((("tests/unit/database/test_admission.py",),), ("admission", "standings")),
}
MODULES = tuple(
    str(path.relative_to(PROJECT))
    for name, room in ROOMS.items()
    for path in sorted(PROJECT.glob(f"{name}/*.py"))
    if path.stem != "__init__" and (not room.modules or path.stem in room.modules)
)
LIMIT = 60  # seconds of its processor; a mutant that takes more is noticed, too


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the changed module instead of its file."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self._name, self._path = name, path
        self._code: CodeType = compile(source, str(path), "exec")

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


class _Failing:
    """A pytest plugin that writes down which tests fail."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            with self._file.open("a") as file:
                file.write(f"{report.nodeid}\n")


def survives(
    module: str, source: str, tests: Sequence[str], failing: Path | None = None, *, limited: bool = True
) -> bool:
    """Whether all the tests pass with the changed module.

    With `failing` all are run, and those that fail written to it; else the first failure is the end.
    """
    child = os.fork()
    if child == 0:
        status = 3
        with contextlib.suppress(BaseException):
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            os.setpgid(0, 0)
            if limited:
                signal.setitimer(signal.ITIMER_PROF, LIMIT)
                signal.alarm(10 * LIMIT)  # for one that waits
            import pytest

            name = module.removesuffix(".py").replace("/", ".")
            sys.meta_path.insert(0, _Changed(name, PROJECT / module, source))
            options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-k", "not seconds_of_fuzzing"]
            plugins = []
            if failing is not None:
                plugins.append(_Failing(failing))
                options.remove("-x")
            status = int(pytest.main([*options, *tests], plugins))
        os._exit(status)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what its tests may have left
    return status == 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200, help="stop after this time (default: 1200)")
    parser.add_argument("--every", type=int, default=1, help="try only every Nth mutant")
    parser.add_argument("--after", type=int, default=0, metavar="LINE", help="begin behind this line of each module")
    parser.add_argument("modules", nargs="*", default=MODULES, metavar="MODULE")
    arguments = parser.parse_args()
    os.chdir(PROJECT)
    rooms = {str(Path(module).parent) for module in arguments.modules}
    everything = list(dict.fromkeys(test for room in rooms for tests in ROOMS[room].stages for test in tests))
    left_out: list[str] = []
    import cryptography.x509  # noqa: F401 - loaded once, for all children
    import hypothesis.strategies  # noqa: F401
    import idna  # noqa: F401
    import pytest  # noqa: F401
    import twisted.internet.protocol  # noqa: F401

    end = time.monotonic() + arguments.seconds
    tried: dict[str, tuple[int, int]] = {}
    unchanged = (PROJECT / arguments.modules[0]).read_text("utf-8")
    with tempfile.NamedTemporaryFile("r") as failing:
        if not survives(arguments.modules[0], unchanged, everything, Path(failing.name), limited=False):
            broken = failing.read().splitlines()
            print(f"left out, since they fail without any change: {', '.join(broken) or 'all'}", flush=True)
            left_out = [f"--deselect={test}" for test in broken]
            if not survives(arguments.modules[0], unchanged, [*everything, *left_out], limited=False):
                return 1
    for module in arguments.modules:
        all_of_it = mutants((PROJECT / module).read_text("utf-8"))
        made: list[Mutant] = [mutant for mutant in all_of_it if mutant.line > arguments.after][:: arguments.every]
        count = alive = 0
        stages = ROOMS[str(Path(module).parent)].stages
        for mutant in made:
            if time.monotonic() > end:
                print(f"out of time: {len(made) - count} of {len(made)} mutants of {module} not tried", flush=True)
                break
            count += 1
            if all(survives(module, mutant.source, [*tests, *left_out]) for tests in stages):
                alive += 1
                print(f"{module}:{mutant.line}: {mutant.change}", flush=True)
        tried[module] = (count, alive)
        print(f"-- {module}: {count - alive} of {count} mutants noticed", flush=True)
    total, alive = (sum(column) for column in zip(*tried.values(), strict=True))
    print(f"-- all: {total - alive} of {total} noticed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
