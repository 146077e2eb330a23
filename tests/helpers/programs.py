"""Whether the programs that some tests need are here, and may be used: each function says why not, else nothing."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
from pathlib import Path

POSTGRESQL = Path("/usr/lib/postgresql/15/bin")
_CONTAINER = {
    "systemd-nspawn": "systemd-container",
    "dbus-daemon": "dbus",
    "nsenter": "util-linux",
    "pgrep": "procps",
}


def why_no_postfix() -> str:
    """Why no private Postfix can run here."""
    if os.geteuid() != 0:
        return "a private Postfix needs root"
    if shutil.which("postfix") is None:
        return "Postfix is not installed"
    return ""


def why_no_container() -> str:
    """Why no container with systemd can run here, as far as can be told without trying."""
    if os.geteuid() != 0:
        return "a systemd container needs root"
    for program, package in _CONTAINER.items():
        if shutil.which(program) is None:
            return f"{program} is missing (Debian's package {package})"
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed"
    return ""


def why_no_postgresql() -> str:
    """Why there can be no PostgreSQL server here, or nothing to ask it with."""
    if not (POSTGRESQL / "postgres").exists():
        return f"no PostgreSQL 15 in {POSTGRESQL} (apt install postgresql-15)"
    if not Path("/usr/share/postgresql/15/extension/btree_gist.control").exists():
        return "no btree_gist (part of Debian's postgresql-15)"
    if os.geteuid() == 0 and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        return "no user postgres"
    if importlib.util.find_spec("psycopg") is None:
        return "no psycopg (pip install 'policyd[postgresql]')"
    return ""
