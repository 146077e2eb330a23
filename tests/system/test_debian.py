"""The Debian package on a running machine: what package_steps.sh did there, and what must have come of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyd import __version__
from tests.system.conftest import Machine, sections
from tests.system.packages import UPGRADE

REJECT = "REJECT 5.7.1 Relaying denied for this server"


@pytest.mark.parametrize("name", [name for name, _ in sections("package_steps.sh")])
def test_step_ran(name: str, machine: Machine) -> None:
    step = machine.steps[name]
    assert step.status == 0, step.output
    assert set(step.all("dpkg")) <= {"0"}, step.output


def test_every_step_is_looked_at() -> None:
    text = Path(__file__).read_text("utf-8")
    assert [name for name, _ in sections("package_steps.sh") if f'machine.steps["{name}"]' not in text] == []


def test_installed(machine: Machine) -> None:
    """It runs, is there after the next boot, only watches, and is what was packed; no socket unit yet."""
    step = machine.steps["package-install"]
    assert step["active"] == "active inactive"
    assert step["enabled"] == "enabled disabled"
    assert step["unit"] in ("/lib/systemd/system/policyd.service", "/usr/lib/systemd/system/policyd.service")
    assert step["answer"] == "DUNNO"
    assert step["status"] == "generation 1, 0 organizations, 0 connectors, only watching (monitor)"
    assert step["version"].startswith(f"policyd {__version__} (Python 3.")
    assert step["altered"] == ""
    assert step["manual"] == "man5/policyd.toml.5.gz man8/policyd-postfix-setup.8.gz man8/policyd.8.gz"
    assert step["documents"] == "CHANGELOG.md README.md copyright examples/policyd.toml guide.md reference"
    assert step["wiring"] == "stage: off"


def test_installed_files_are_closed_to_others(machine: Machine) -> None:
    step = machine.steps["package-install"]
    assert step["configuration"] == "root:policyd 750 root:policyd 640"
    assert step["folders"] == "policyd:policyd 750 policyd:policyd 750 policyd:postfix 2750"


def test_installed_byte_code_is_used(machine: Machine) -> None:
    """Each module has byte code, nothing names the folder it was built in, and running policyd writes nothing."""
    step = machine.steps["package-install"]
    sources, compiled = map(int, step["byte_code"].split())
    assert compiled >= sources - 20, "a few modules of packages are for other Pythons"
    assert step["paths"] == ""
    assert step["new_byte_code"] == "0"


def test_upgrade(machine: Machine) -> None:
    """The new version runs; what the administrator edited stays, what he did not edit is the new version's."""
    step = machine.steps["package-upgrade"]
    assert (step["another"], step["active"]) == ("yes", "active")
    assert step["answer"].startswith(REJECT)
    assert step["version"].startswith(f"policyd {UPGRADE} ")
    assert step["mode"] == 'mode = "enforce"'
    assert step["logrotate"] == "rotate 7"
    assert step["state"] == "kept"


def test_root_is_told_what_policyd_cannot_read(machine: Machine) -> None:
    """A reload would fail at it."""
    step = machine.steps["package-rights"]
    assert (step["open"], step["as_root"], step["mended"]) == ("0", "0", "0")
    assert step["said"].startswith("/etc/policyd/organizations.d/contoso.toml: permission denied")
    assert step["reload"] == "1"


def test_upgrade_with_mistakes_in_the_configuration(machine: Machine) -> None:
    """The server that runs goes on, and dpkg tells what is wrong where."""
    step = machine.steps["package-upgrade-with-mistakes"]
    assert step["same"] == "yes"
    assert step["answer"].startswith(REJECT)
    assert 'unknown key "accepted_domain"' in step["said"]
    assert step["answer_after"].startswith(REJECT)


def test_upgrade_leaves_a_disabled_service_alone(machine: Machine) -> None:
    step = machine.steps["package-disabled"]
    assert (step["active"], step["enabled"]) == ("inactive", "disabled")


def test_rules_from_a_database(machine: Machine) -> None:
    """The unit lets policyd reach PostgreSQL on its own machine, hear of changes, and keep what it has read."""
    step = machine.steps["package-database"]
    assert step["before"].startswith(REJECT)
    assert (step["after"], step["without"]) == ("OK", "OK")


def test_removed(machine: Machine) -> None:
    """Whoever removes it while Postfix asks it is told; configuration and state stay."""
    step = machine.steps["package-remove"]
    assert "Postfix still asks policyd" in step["said"]
    assert (step["active"], step["left"]) == ("inactive", "")
    assert step["kept"] == "[organizations.contoso] kept policyd"


def test_purged(machine: Machine) -> None:
    """No file, no folder, no user, no link of systemd's."""
    step = machine.steps["package-purge"]
    assert step["status"] in ("", "not-installed")
    assert step["left"] == "nothing", step.output
