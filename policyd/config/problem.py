"""A mistake in the administrator's files: where it is, what is wrong, what to do (SPEC 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem; sorts by file and line. `line` counts from 1; 0 where the whole file is meant."""

    file: str
    line: int
    severity: Severity
    subject: str  # `organization "contoso", connector "head-office"`; empty outside organizations
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        kind = "warning: " if self.severity == "warning" else ""
        subject = f"{self.subject}: " if self.subject else ""
        return f"{place}: {kind}{subject}{self.message}"
