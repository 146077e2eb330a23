"""The files that Postfix needs for TLS: the hub's key with its certificate, and the CA of connectors' certificates."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tests.helpers.certificates import make


@cache
def hub_folder() -> Path:
    """A folder with hub.pem (key and certificate), hub.key, and cas.pem, for as long as this process runs."""
    folder = Path(tempfile.mkdtemp(prefix="policyd-hub-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    write_hub(folder)
    return folder


def write_hub(folder: Path) -> None:
    """The same into a folder that is there."""
    hub = make("hub.example", dns_names=("hub.example",))
    (folder / "hub.pem").write_bytes(hub.key_as_pem() + hub.as_pem())
    (folder / "hub.key").write_bytes(hub.key_as_pem())
    (folder / "cas.pem").write_bytes(make("Connector CA", authority=True).as_pem())
