"""policyd as it is given away: source archive, wheel and Debian package, built from this tree without a network.

Everything that a system test installs comes from the source archive, so that a file missing there is missing in the
tests too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.places import PROJECT

SECONDS = 300  # for one build, on a slow machine

UPGRADE = "9.9.9"
"""The version of the second Debian package."""


@dataclass(frozen=True, slots=True)
class Archives:
    """The built files, and the unpacked source archive."""

    source: Path
    wheel: Path
    unpacked: Path


def build_archives(folder: Path) -> Archives:
    """Source archive and wheel, by the build backend itself. Raises RuntimeError with what it said."""
    made = folder / "dist"
    # beside the tree, not in it; the wheel is built from what the source archive has
    _run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(made)], PROJECT)
    (source,) = made.glob("*.tar.gz")
    shutil.unpack_archive(source, folder)
    unpacked = folder / source.name.removesuffix(".tar.gz")
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(made)], unpacked)
    (wheel,) = made.glob("*.whl")
    return Archives(source, wheel, unpacked)


def offline(wheelhouse: Path) -> dict[str, str]:
    """The environment in which pip takes packages from this folder alone."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))},
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheelhouse),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def build_debian_packages(unpacked: Path, wheelhouse: Path, folder: Path) -> tuple[Path, Path]:
    """The package of the source tree, and one that calls itself a later version and changes a conffile."""
    environment = {**offline(wheelhouse), "DEB_COMPRESSION": "none"}
    _run([str(unpacked / "contrib/debian/build.sh"), str(folder)], Path("/"), environment)
    (first,) = folder.glob("policyd_*.deb")
    tree = folder / "tree"
    _run(["dpkg-deb", "--raw-extract", str(first), str(tree)], folder)
    _replace(tree / "DEBIAN/control", r"(?m)^Version: .*", f"Version: {UPGRADE}")
    (package,) = tree.glob("**/*-packages/policyd")
    _replace(package / "__init__.py", r'__version__ = ".*"', f'__version__ = "{UPGRADE}"')
    shutil.rmtree(package / "__pycache__", ignore_errors=True)  # of the bundled one
    _replace(tree / "etc/logrotate.d/policyd", r"rotate \d+", "rotate 7")
    _replace(tree / "etc/policyd/policyd.toml", r"\Z", "# a later version's remark\n")
    second = folder / f"policyd_{UPGRADE}.deb"
    _run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(second)], folder)
    shutil.rmtree(tree)
    return first, second


def _replace(file: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, file.read_text("utf-8"), count=1)
    assert count == 1, f"{file.name} has no {pattern}"
    file.write_text(text, "utf-8")


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
