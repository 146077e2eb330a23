"""Whether the programs that some tests need are here, and may be used: a function says why not, or nothing."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
from pathlib import Path

import pytest

# Debian's newest that is installed, from 15 on.
POSTGRESQL_VERSION = max((int(each.name) for each in Path("/usr/lib/postgresql").glob("[1-9][0-9]")), default=15)
POSTGRESQL = Path(f"/usr/lib/postgresql/{POSTGRESQL_VERSION}/bin")
_CONTAINER = {
    "systemd-nspawn": "systemd-container",
    "dbus-daemon": "dbus",
    "nsenter": "util-linux",
    "pgrep": "procps",
}


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
needs_postconf = pytest.mark.skipif(shutil.which("postconf") is None, reason="Postfix is not installed")


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


def why_no_pgbouncer() -> str:
    """Why no connection pooler can stand between PostgreSQL and policyd here."""
    return "" if shutil.which("pgbouncer") else "pgbouncer is not installed (apt install pgbouncer)"


def why_no_postgresql() -> str:
    """Why there can be no PostgreSQL server here, or nothing to ask it with."""
    if POSTGRESQL_VERSION < 15 or not (POSTGRESQL / "postgres").exists():
        return f"no PostgreSQL from 15 on in {POSTGRESQL} (apt install postgresql)"
    if not Path(f"/usr/share/postgresql/{POSTGRESQL_VERSION}/extension/btree_gist.control").exists():
        return f"no btree_gist (part of Debian's postgresql-{POSTGRESQL_VERSION})"
    if os.geteuid() == 0 and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        return "no user postgres"
    if importlib.util.find_spec("psycopg") is None:
        return "no psycopg (pip install 'policyd[postgresql]')"
    return ""
