"""The picture of the house, in README, CONTRIBUTING and tests/README, is the house."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.places import PROJECT

README, CONTRIBUTING, TESTS = (
    (PROJECT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md", "tests/README.md")
)
PACKAGES = sorted(path.parent.name for path in PROJECT.glob("policyd/*/__init__.py"))
HOUSE = CONTRIBUTING.split("\n## The house\n")[1].split("\n## ")[0]


def test_layers() -> None:
    """CONTRIBUTING prints the import contract."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    (layers,) = (c["layers"] for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    printed = re.search(r"^```text\n(.*?)^```$", HOUSE, re.MULTILINE | re.DOTALL)
    assert printed is not None
    assert printed[1].splitlines() == layers
    assert sorted(re.findall(r"policyd\.(\w+)", printed[1])) == PACKAGES


def test_readme_names_the_packages() -> None:
    """Each in one line."""
    assert sorted(re.findall(r"^    policyd/(\w+)/ +\S", README, re.MULTILINE)) == PACKAGES


def _rooms(package: str) -> set[str]:
    """Its modules, and folders as `toml/`."""
    folder = PROJECT / "policyd" / package
    folders = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    return {path.stem for path in folder.glob("*.py") if path.stem != "__init__"} | folders


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms(package: str) -> None:
    """CONTRIBUTING names each room of each package, and none that is not there; of the commands what they share."""
    paragraph = re.search(rf"^\* `{package}/`,(.*(?:\n  .*)*)", HOUSE, re.MULTILINE)
    assert paragraph is not None
    rooms = _rooms(package)
    if package == "cli":
        rooms = {room for room in rooms if "def add_parser" not in _text(package, room)}
    named = set(re.findall(r"`([a-z_]+/?)`", paragraph[1]))
    assert rooms <= named
    assert named - rooms <= {"check", "show", "export"}  # the commands that are spoken of


def _text(package: str, room: str) -> str:
    return (PROJECT / "policyd" / package / f"{room}.py").read_text("utf-8")


def test_tests() -> None:
    """tests/README.md has a row for each package and each folder of tests, and names nothing that is not there."""
    assert sorted(re.findall(r"^\| `policyd/(\w+)` \|", TESTS, re.MULTILINE)) == PACKAGES
    named = set(re.findall(r"`((?:policyd|tests)/[\w./]+)`", TESTS))
    assert [name for name in sorted(named) if not (PROJECT / name).exists()] == []
    folders = {
        f"tests/{path.name}" for path in (PROJECT / "tests").iterdir() if path.is_dir() and path.name[0] not in "._"
    }
    assert folders <= named
    assert {f"tests/unit/{package}" for package in PACKAGES} <= named
