"""The rest of the world, as the container sees it: takes all mail on a port of 127.0.0.1, one JSON line for each.

outside.py PORT FILE
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

from tests.e2e.smtp import Sink


def main(port: int, file: str) -> None:
    """Serves until it is killed."""
    written = 0
    with Sink(port) as sink, open(file, "a", encoding="utf-8", buffering=1) as lines:
        while True:
            for message in sink.messages[written:]:
                lines.write(json.dumps(asdict(message)) + "\n")
                written += 1
            time.sleep(0.05)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
