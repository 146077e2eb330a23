"""`python -m tests.soak --seconds N [--workers N]`: runs the soak and prints its report; exit status 1 for faults."""

from __future__ import annotations

import argparse
import sys

from tests.soak.soak import soak


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between two requests of a connection")
    arguments = parser.parse_args()
    report = soak(arguments.seconds, arguments.workers, arguments.pause)
    print(report)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
