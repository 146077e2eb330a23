"""A folder of wheels from which pip can install policyd without a network.

What is installed beside the interpreter of the tests is packed up again (a wheel is a ZIP file of the installed files,
PyPA's binary distribution format). hatchling, which builds policyd, is taken from there too.
"""

from __future__ import annotations

import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from itertools import product
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


class NoWheelError(Exception):
    """Something is not installed here; the text says what."""


def fill(folder: Path, project: Path) -> None:
    """Put in wheels of all that installing the project from source needs, with its extras but dev.

    Raises NoWheelError.
    """
    with (project / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)
    wanted = [*settings["build-system"]["requires"], *settings["project"]["dependencies"]]
    for name, requirements in settings["project"]["optional-dependencies"].items():
        wanted += requirements if name != "dev" else []
    for installed in _closure(wanted):
        _pack(installed, folder)


def _closure(wanted: Iterable[str]) -> list[Distribution]:
    """The named distributions and all that they require, extras included."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(text) for text in wanted]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:
            raise NoWheelError(f"{requirement.name} is not installed") from None
        found[canonicalize_name(installed.name)] = installed
        for text in installed.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in {"", *requirement.extras}
            ):
                waiting.append(needed)
    return list(found.values())


def _pack(installed: Distribution, folder: Path) -> None:
    """Write the distribution as a wheel; scripts are left out, pip makes them anew."""
    name = canonicalize_name(installed.name).replace("-", "_")
    tags = [
        line.partition(":")[2].strip() for line in (installed.read_text("WHEEL") or "").splitlines() if "Tag:" in line
    ]
    if not tags or installed.files is None:
        raise NoWheelError(f"{installed.name} was not installed from a wheel")
    with zipfile.ZipFile(folder / f"{name}-{installed.version}-{_compressed(tags)}.whl", "w") as wheel:
        for file in installed.files:
            inside = file.as_posix()
            if ".." in file.parts or inside.endswith((".pyc", "/INSTALLER", "/REQUESTED", "/direct_url.json")):
                continue
            if ".dist-info/" in inside:  # pip wants the folder's name to be the file's
                inside = f"{name}-{installed.version}.dist-info/{inside.partition('.dist-info/')[2]}"
            wheel.writestr(inside, file.read_binary())


def _compressed(tags: list[str]) -> str:
    """`py3-none-any` for one tag, `py2.py3-none-any` for several (PEP 425)."""
    parts = [list(dict.fromkeys(tag.split("-")[n] for tag in tags)) for n in range(3)]
    compressed = "-".join(".".join(part) for part in parts)
    assert set(tags) <= {"-".join(each) for each in product(*parts)}
    return compressed
