"""One booted machine for all system tests: the Debian package, the guide, the rollout, and the units' promises.

The container is booted once and does everything in this order; what each step did is then looked at by tests of their
own. It takes three minutes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e import container
from tests.helpers.programs import POSTGRESQL_VERSION, why_no_container
from tests.places import PROJECT
from tests.system.documents import Block, read_blocks
from tests.system.packages import Archives, build_archives, build_debian_packages
from tests.system.wheelhouse import NoWheelError, fill

HERE = Path(__file__).parent
DOCUMENTS = ("guide.md", "rollout.md")
SECONDS = 900  # for all steps together

_PACKAGES = (
    "ca-certificates",
    "curl",
    "dpkg",
    "iproute2",
    "logrotate",
    "openssl",
    "postfix",
    "postfix-pcre",
    f"postgresql-{POSTGRESQL_VERSION}",
    "procps",
    "python3-venv",
)


@dataclass(frozen=True, slots=True)
class Step:
    """What one script did in the container."""

    name: str
    status: int
    output: str
    seconds: float

    def __getitem__(self, name: str) -> str:
        """The value of the line NAME=VALUE in the output."""
        found = re.search(rf"^{re.escape(name)}=(.*)$", self.output, re.MULTILINE)
        assert found is not None, f"{self.name} did not say {name}=:\n{self.output}"
        return found[1]

    def all(self, name: str) -> list[str]:
        """The values of all lines NAME=VALUE."""
        return re.findall(rf"^{re.escape(name)}=(.*)$", self.output, re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Machine:
    """All steps by name, and what the machine logged."""

    steps: Mapping[str, Step]
    journal: str = field(repr=False)


def why_not() -> str:
    """Why the machine cannot be built here; empty when it can, as far as can be told without trying."""
    if reason := why_no_container():
        return reason
    if shutil.which("dpkg-query") is None or not Path("/usr/share/postfix/main.cf.debian").exists():
        return "this is no Debian with its own Postfix"
    if missing := [package for package in _PACKAGES if not _is_installed(package)]:
        return f"Debian packages are not here that the guide needs, and there is no network inside: {missing}"
    minor = f"python3.{sys.version_info.minor}"
    if Path("/usr/bin/python3").resolve().name != minor:
        return f"these tests run under {minor}, /usr/bin/python3 is another one: packages would not fit"
    return ""


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "installed"


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of all that policyd needs."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    try:
        fill(folder, PROJECT)
    except NoWheelError as reason:
        pytest.skip(str(reason))
    return folder


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path) -> Archives:
    """Source archive and wheel. What builds them is in the wheelhouse, or the test was skipped."""
    return build_archives(tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path, archives: Archives) -> Machine:
    """The machine after everything was done on it."""
    if reason := why_not():
        pytest.skip(reason)
    plan, packages = tmp_path_factory.mktemp("plan"), tmp_path_factory.mktemp("packages")
    build_debian_packages(archives.unpacked, wheelhouse, packages)
    shutil.copy(HERE / "inside.py", plan)
    (plan / "plan.json").write_text(json.dumps(_plan()), "utf-8")
    outcome = container.run_in_container(
        "/usr/bin/python3 /tmp/plan/inside.py /tmp/plan/plan.json",
        binds={
            wheelhouse: "/tmp/wheelhouse",
            archives.unpacked: "/usr/src/policyd",
            packages: "/tmp/packages",
            plan: "/tmp/plan",
        },
        seconds=SECONDS,
    )
    assert outcome.status == 0, outcome.output[-3000:]
    steps = [Step(*json.loads(line)) for line in outcome.output.splitlines()]
    return Machine({step.name: step for step in steps}, outcome.journal)


def _plan() -> list[tuple[str, str, str]]:
    """Names, scripts, and what to wait for, in order."""
    by_document = {name: [_of_block(block) for block in read_blocks(PROJECT / "docs" / name)] for name in DOCUMENTS}
    service = [(name, script, "") for name, script in sections("service_steps.sh")]
    return [
        ("prepare", (HERE / "prepare.sh").read_text("utf-8"), ""),
        *((name, script, "") for name, script in sections("package_steps.sh")),
        ("world", "systemctl start outside", ""),
        *by_document["guide.md"],
        ("outside", "cat /run/outside.jsonl", r"(?:.*\n){2}"),
        *(step for step in service if step[0].startswith("socket-")),
        ("old-hub", (HERE / "old_hub.sh").read_text("utf-8"), ""),
        *by_document["rollout.md"],
        *(step for step in service if not step[0].startswith("socket-")),
    ]


def _of_block(block: Block) -> tuple[str, str, str]:
    return block.name, block.script, block.pattern


def sections(file: str) -> list[tuple[str, str]]:
    """Names and scripts of the sections of a file in this folder, each with what comes before the first one."""
    before, *found = re.split(r"^### ", (HERE / file).read_text("utf-8"), flags=re.MULTILINE)
    named = (section.partition("\n") for section in found)
    return [(name.strip(), f"{before}{script}") for name, _, script in named]
