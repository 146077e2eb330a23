"""The container itself: that tests of units can trust what it says, and that nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e import container
from tests.e2e.container import ContainerError, run_in_container
from tests.helpers.programs import why_no_container
from tests.places import PROJECT

pytestmark = pytest.mark.skipif(bool(why_no_container()), reason=why_no_container())


def mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


def processes_that_name(text: str) -> list[str]:
    """Command lines of all processes that hold the text."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in line:
                found.append(line)
    return found


def test_script_runs_under_systemd() -> None:
    """PID 1 is systemd, a unit starts, the journal has it; status and output are the script's; all is gone after."""
    before = mounts()
    outcome = run_in_container(
        "ps -o comm= -p 1; echo seen >&2\n"
        "systemd-run --quiet --wait --unit=probe --property=DynamicUser=yes sh -c 'echo from the unit; id -un'\n"
        "touch /etc/written-in-the-container; ls /tmp | wc -l; exit 7",
    )
    assert outcome.status == 7
    assert outcome.output.splitlines() == ["systemd", "seen", "0"]
    assert "from the unit" in outcome.journal
    assert "probe" in outcome.journal
    assert not Path("/etc/written-in-the-container").exists()
    assert mounts() == before
    assert container.leftovers() == []


def test_folder_of_the_host_is_visible(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    outcome = run_in_container("cat /tmp/shown/file; touch /tmp/shown/new", binds={tmp_path: "/tmp/shown"})
    assert outcome.output.startswith("from the host\n")
    assert outcome.status != 0, "the folder is read-only"


def test_script_that_hangs_is_ended() -> None:
    outcome = run_in_container("echo begun; sleep 600", seconds=3)
    assert (outcome.status, outcome.output) == (124, "begun\n")
    assert "Reached target" in outcome.journal
    assert container.leftovers() == []


def test_container_that_does_not_come_up_says_why() -> None:
    with pytest.raises(ContainerError, match="/no/such/folder"):
        run_in_container("true", binds={Path("/no/such/folder"): "/tmp/shown"})
    assert container.leftovers() == []


def test_nothing_survives_a_killed_test_run() -> None:
    """SIGKILL of the process that started it ends all processes; the next run removes groups and folder."""
    program = "from tests.e2e.container import run_in_container; run_in_container('sleep 600', seconds=300)"
    victim = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT)
    marker = f"policyd-container-{victim.pid}-"
    try:
        deadline = time.monotonic() + 90
        while not any("systemd-nspawn" in line for line in processes_that_name(marker)):
            assert time.monotonic() < deadline, "the container did not start"
            time.sleep(0.02)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    deadline = time.monotonic() + 60
    while left := processes_that_name(marker):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
    assert [path for path in container.leftovers() if path.name.startswith(marker)], "else this test shows nothing"
    run_in_container("true")
    assert container.leftovers() == []
