"""Files for a real Postfix to read."""

from __future__ import annotations

import os
from pathlib import Path


def write_old(path: Path, content: str | bytes) -> None:
    """A file that is not of this moment: Postfix waits two seconds before it trusts a new one."""
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    os.utime(path, (1e9, 1e9))
