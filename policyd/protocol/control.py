"""The language of the control socket: one line of JSON asks, lines of JSON answer (SPEC 8).

{"policyd": 1, "command": "show", "organizations": ["contoso"]}

{"policyd": 1}        or {"policyd": 1, "error": "there is ...", "code": 65}: why there is no answer, and an exit code
...                   the answer; what its lines are is the command's matter
                      an empty line: that was all of it
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

VERSION = 1
LONGEST_REQUEST = 512 * 1024  # octets: those of a request to explain are 64 KiB, and JSON may need six for each
END = b"\n"


def encode(value: object) -> bytes:
    """A line."""
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Mapping[str, Any]:
    """What a first line says, of either side. Raises ValueError for anything but an object of this version."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("this is no line of JSON") from None
    if not isinstance(value, dict) or value.get("policyd") != VERSION:
        raise ValueError(f"this is not version {VERSION} of the control socket's language")
    return value


def usual_socket() -> str:
    """Where the service makes its socket unless it is told otherwise; empty where systemd gives it no folder."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return os.path.join(folder, "control.sock") if folder else ""
