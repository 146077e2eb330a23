"""The source archive and the wheel: what is in them, and that pip installs them where nothing else is."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

from policyd import __version__
from tests.system.packages import PROJECT, SECONDS, Archives, offline


def test_source_archive(archives: Archives) -> None:
    """All that the documents speak of, and the tests; nothing that a work tree collects."""
    with tarfile.open(archives.source) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    for needed in (
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "contrib/debian/build.sh",
        "contrib/postfix/policyd-postfix-setup",
        "docs/guide.md",
        "policyd/py.typed",
        "systemd/policyd.service",
        "tests/conftest.py",
    ):
        assert needed in names
    assert [name for name in names if name.startswith((".venv", ".git/", "dist/")) or "__pycache__" in name] == []


def test_wheel(archives: Archives) -> None:
    """Every module, the mark of typing, the licence, the manual pages; nothing of the tests."""
    with zipfile.ZipFile(archives.wheel) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        described = wheel.read(metadata).decode("utf-8")
    modules = {file.relative_to(archives.unpacked).as_posix() for file in archives.unpacked.glob("policyd/**/*.py")}
    assert len(modules) > 50
    assert modules | {"policyd/py.typed"} <= names
    own = (f"policyd-{__version__}.dist-info/", f"policyd-{__version__}.data/data/share/", "policyd/")
    assert [name for name in names if not name.startswith(own)] == []
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    for page in (PROJECT / "man").glob("*.[1-9]"):
        assert any(name.endswith(f"share/man/man{page.suffix[1:]}/{page.name}") for name in names), page
    assert f"\nVersion: {__version__}\n" in described


def test_version_stands_in_one_place() -> None:
    """policyd/__init__.py has it; the packaging reads it there, and the changelog has an entry for it."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["hatch"]["version"]["path"] == "policyd/__init__.py"
    assert f"## [{__version__}]" in (PROJECT / "CHANGELOG.md").read_text("utf-8")


def test_wheel_installs_into_a_bare_environment(archives: Archives, wheelhouse: Path, tmp_path: Path) -> None:
    """Without the extras: the command runs, checks the example, and says what is missing for metrics."""
    environment = offline(wheelhouse)
    place = tmp_path / "bare"
    python = str(place / "bin/python")

    def run(*command: str, status: int = 0) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    run(sys.executable, "-m", "venv", "--without-pip", str(place))
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", str(archives.wheel))
    command = str(place / "bin/policyd")
    assert run(command, "--version").startswith(f"policyd {__version__} (Python 3.")
    example = str(archives.unpacked / "contrib/policyd.toml")
    assert "0 errors" in run(command, "check", "-c", example)
    assert run(python, "-m", "policyd", "explain", "-c", example, "recipient=kate@contoso.com").startswith("OK")
    for page in (PROJECT / "man").glob("*.[1-9]"):
        assert (place / f"share/man/man{page.suffix[1:]}" / page.name).exists()
