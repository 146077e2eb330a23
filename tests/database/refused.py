"""refused.toml: what stands in the database before each case, and the cases."""

from __future__ import annotations

import tomllib
from pathlib import Path

_FILE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
BEFORE: str = _FILE["before"]
CASES: list[dict[str, str]] = _FILE["case"]
