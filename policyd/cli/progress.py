"""How far a command is that takes long: a line on standard error, on a terminal only, gone at the end (SPEC 7)."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable
from typing import BinaryIO, Self

EVERY = 0.5  # seconds between two lines
LOOK_EVERY = 500  # steps between two looks at the clock


class Progress:
    """`told` says in words how far it is; of a file that is read, the part is told besides."""

    def __init__(self, told: Callable[[], str]) -> None:
        self._told = told
        self._terminal = sys.stderr.isatty()
        self.steps = 0
        self._said = time.monotonic()
        self._shown = 0  # characters
        self._source: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def reading(self, source: BinaryIO) -> None:
        """The file that is read from now on, as it is on disk."""
        self._source = source

    def step(self) -> None:
        """Something was done; says how far it is, if that was not said just now."""
        self.steps += 1
        if not self._terminal or self.steps % LOOK_EVERY:
            return
        now = time.monotonic()
        if now - self._said >= EVERY:
            self._said = now
            line = f"{self._told()} {self._part()}"
            print(f"\r{line.ljust(self._shown)}", end="", file=sys.stderr, flush=True)
            self._shown = len(line)

    def end(self) -> None:
        """Takes the line away."""
        if self._shown:
            print(f"\r{' ' * self._shown}\r", end="", file=sys.stderr, flush=True)
            self._shown = 0

    def _part(self) -> str:
        """How much of the file was read, where its size is known."""
        if self._source is None:
            return ""
        try:
            found = os.fstat(self._source.fileno())
            read = self._source.tell()
        except (OSError, ValueError):  # no file, or one that is closed by now
            return ""
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return ""
        return f"({100 * read // found.st_size}% of {found.st_size / 1e6:,.0f} MB) "
