"""Runs the fuzz targets under atheris: `python -m tests.fuzz --seconds N [TARGET ...]`.

Each target runs in a process of its own for its share of the time, from the checked-in corpus of its name; what
it finds new goes to a scratch folder (`--corpus FOLDER` keeps it). A crash ends with exit status 1 and leaves the
input in `tests/fuzz/crashes/`, to be replayed with `python -m tests.fuzz --replay FILE TARGET`.
A long run: `nice python -m tests.fuzz --seconds 3600 --corpus /tmp/corpus`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
CRASHES = HERE / "crashes"
LONGEST = 70_000  # octets of an input: a little over the limit of a request
_INNER = "POLICYD_FUZZ_INNER"
_DONE = re.compile(r"^Done (\d+) runs in (\d+) second", re.MULTILINE)


def inner(target: str, arguments: list[str]) -> None:
    """In the process of one target: instrument, import, fuzz."""
    import atheris

    with atheris.instrument_imports(include=["policyd", "tests.fuzz.slow_wire"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()


def fuzz(target: str, seconds: int, kept: Path, runs: int = 0) -> bool:
    """One target for some seconds; whether it found nothing. `runs`: so many inputs, of a fixed seed."""
    grown = kept / target
    grown.mkdir(parents=True, exist_ok=True)
    CRASHES.mkdir(exist_ok=True)
    seeds = HERE / "corpus" / target
    command = [sys.executable, "-m", "tests.fuzz", target, str(grown), *([str(seeds)] if seeds.is_dir() else [])]
    command += [f"-dict={HERE / 'words.dict'}"]
    command += [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=30", "-rss_limit_mb=2048"]
    command += [f"-artifact_prefix={CRASHES}/{target}-", "-print_final_stats=0", "-verbosity=1"]
    environment = os.environ | {_INNER: "1"}
    if runs:
        command += [f"-runs={runs}", "-seed=1", "-entropic=0"]  # entropic: by the time they take
        environment["PYTHONHASHSEED"] = "0"
    began = time.monotonic()
    run = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, errors="replace")
    done = _DONE.search(run.stderr)
    runs = done[1] if done else "?"
    coverage = re.findall(r"cov: (\d+)", run.stderr)[-1:] or ["?"]
    size = len(list(grown.iterdir()))
    verdict = "ok" if run.returncode == 0 else f"FAILED (exit status {run.returncode})"
    print(
        f"{target:14} {verdict}  {runs} inputs in {time.monotonic() - began:.0f} s, "
        f"coverage {coverage[0]}, {size} inputs kept",
        flush=True,
    )
    if run.returncode:
        told = [line for line in (run.stdout + run.stderr).split("\n") if not line.startswith(("#", "INFO: "))]
        print("\n".join(told)[-6000:], flush=True)
    return run.returncode == 0


def main() -> int:
    """The command line."""
    if os.environ.get(_INNER):
        inner(sys.argv[1], sys.argv[2:])
        return 0
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together (default: 60)")
    parser.add_argument("--corpus", type=Path, help="keep what was found here, and begin with it")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input without the fuzzer")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if arguments.replay is not None:
        for target in arguments.targets:
            TARGETS[target](arguments.replay.read_bytes())
        return 0
    chosen = arguments.targets or list(TARGETS)
    share = max(1, arguments.seconds // len(chosen))
    with tempfile.TemporaryDirectory() as scratch:
        kept = arguments.corpus or Path(scratch)
        results = [fuzz(target, share, kept) for target in chosen]
        return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
