"""The units on a running machine: what service_steps.sh tried there, and what must have come of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.system.conftest import PROJECT, Machine, Step, sections

REJECT = "REJECT 5.7.1 Relaying denied for this server"
STATUS = r"generation {}, 3 organizations, 2 connectors, enforcing"


@pytest.mark.parametrize("name", [name for name, _ in sections("service_steps.sh")])
def test_step_ran(name: str, machine: Machine) -> None:
    step = machine.steps[name]
    assert step.status == 0, step.output


def test_every_step_is_looked_at() -> None:
    text = Path(__file__).read_text("utf-8")
    assert [name for name, _ in sections("service_steps.sh") if f'machine.steps["{name}"]' not in text] == []


# ------------------------------------------------------------------------------------------------- policyd.socket


def test_socket_belongs_to_both(machine: Machine) -> None:
    """policyd's, for the group postfix; nobody else can ask."""
    step = machine.steps["socket-owner"]
    assert step["socket"] == "policyd:postfix 660"
    assert step["folder"] == "policyd:postfix 2750"
    assert step["as_postfix"].startswith(REJECT)
    assert "no answer" in step["as_nobody"]


def test_socket_activation(machine: Machine) -> None:
    """A request on either socket starts the service, which takes both sockets by one entry of `listen`."""
    step = machine.steps["socket-activation"]
    assert (step["before"], step["after"]) == ("inactive active", "active active")
    assert step["tcp"].startswith(REJECT)
    assert step["unix"].startswith(REJECT)
    assert step["listening"].startswith("policyd: listening on systemd:policyd;")


def test_request_waits_until_the_service_is_up(machine: Machine) -> None:
    step = machine.steps["socket-request-waits"]
    assert step["answer"].startswith(REJECT)
    assert int(step["waited"]) >= 3000, "it was to start three seconds later"


def test_restart_behind_sockets_refuses_nobody(machine: Machine) -> None:
    step = machine.steps["socket-restart-refuses-nobody"]
    assert (step["answered"], step["refused"]) == ("True", "0")


def test_addresses_of_the_socket_unit_are_taken(machine: Machine) -> None:
    step = machine.steps["socket-without-its-entry"]
    assert (step["started"], step["recovered"]) == ("no", "yes")
    assert "status=71" in step["status"]


# ------------------------------------------------------------------------------------------------- policyd.service


def test_systemd_is_content(machine: Machine) -> None:
    assert machine.steps["settle"]["active"] == "active inactive"
    step = machine.steps["verify"]
    assert (step["verify"], step["exposure"], step["enabled"]) == ("0", "low", "enabled")


def test_identity(machine: Machine) -> None:
    """An unprivileged user without capabilities, with room for 10,000 connections; its rules are root's."""
    step = machine.steps["identity"]
    assert step["user"] == "policyd policyd"
    assert step["shell"] == "/var/lib/policyd:/usr/sbin/nologin"
    assert int(step["files"]) > 10_000
    assert set(step["capabilities"].split()) == {"0000000000000000"}
    assert step["configuration"] == "root:policyd 750"
    assert step.output.splitlines()[-1] == "state=policyd:policyd 750 log=policyd:policyd 750"


MAY = (
    "write /var/lib/policyd",
    "write /var/log/policyd",
    "write /run/policyd-probe",
    "write /var/spool/postfix/policyd",
    "write /tmp",  # its own
    "read /etc/policyd/policyd.toml",
    "connect 127.0.0.1",
)


def test_sandbox(machine: Machine) -> None:
    """It may do these things and nothing else that was tried."""
    tried = dict(re.findall(r"^(.+)=(yes|no)$", machine.steps["sandbox"].output, re.MULTILINE))
    assert {name for name, answer in tried.items() if answer == "yes"} == set(MAY)
    assert len(tried) > len(MAY) + 15


def test_ready_means_listening(machine: Machine) -> None:
    """The first question after `systemctl restart` is answered, on both addresses, and STATUS tells the rules."""
    step = machine.steps["ready-means-listening"]
    for number in (1, 2, 3):
        assert step[f"round{number}"].count(REJECT) == 2, step.output
    assert re.fullmatch(STATUS.format(1), step["status"])
    assert step["watchdog"] == "30s"


def test_address_taken(machine: Machine) -> None:
    """Never READY without a listener: exit 71, and tried again until the address is free."""
    step = machine.steps["address-taken"]
    assert (step["started"], step["recovered"]) == ("no", "yes")
    assert "status=71" in step["status"]


def test_bad_configuration_is_not_tried_again(machine: Machine) -> None:
    step = machine.steps["bad-configuration"]
    assert (step["started"], step["status"]) == ("no", "78 state=failed restarts=0")
    assert (
        'contoso.toml:8: organization "contoso", connector "head-office": unknown key "accepted_domain"' in step.output
    )
    assert step["answer"].startswith(REJECT)


def test_reload(machine: Machine) -> None:
    """A good file takes effect in the same process; a bad one makes systemctl fail and changes nothing."""
    step = machine.steps["reload"]
    assert (step["good"], step["new"]) == ("0", "OK")
    assert step["bad"] == "1"
    assert (step["active"], step["still"], step["same_process"]) == ("active", "OK", "yes")
    good, bad, hung_up = step.all("status")
    assert re.fullmatch(STATUS.format(2), good)
    failed = r"reload failed \(1 error in the configuration\); " + STATUS.format(2)
    assert re.fullmatch(failed, bad)
    assert re.fullmatch(failed, hung_up)
    assert step["shown"] == 'accepted_domains = ["contoso.com", "contoso.org"]'
    assert step["socket"] == "660 policyd policyd"
    assert step["metric"] == "policyd_last_reload_success 0.0"
    assert 'policyd: changed: organization "contoso": accepted_domains +contoso.org' in step.output


def test_killed_server_comes_back(machine: Machine) -> None:
    """Also over its old unix socket's file."""
    step = machine.steps["kill"]
    assert step["restarts"] == "1"
    assert step["answer"].count(REJECT) == 2


def test_watchdog(machine: Machine) -> None:
    """One that hangs is ended and started anew; a healthy one is left alone."""
    step = machine.steps["watchdog"]
    assert step["healthy"] == "yes"
    assert "Watchdog timeout" in step.output
    assert step["answer"].startswith(REJECT)


def test_stop(machine: Machine) -> None:
    step = machine.steps["stop"]
    assert step["result"] == "success status=0"
    assert step["last"] == "policyd: stopped"
    assert step["left"] == "", "the socket's file is gone"


def test_workers_in_the_sandbox(machine: Machine) -> None:
    """Both serve. One that is killed or hangs is replaced; the parent stays; all are answered."""
    step = machine.steps["workers"]
    for moment in ("answers", "after_kill", "after_stop"):
        assert step[moment].startswith(f"8 {REJECT}"), moment
    assert step["metric"] == "policyd_workers 2.0"
    assert step["unix"].startswith(REJECT)
    assert step["parent"] == "same restarts=0"
    assert step["result"] == "success left="


def test_log_file(machine: Machine) -> None:
    """Readable for the group, and no line is lost or written twice when logrotate takes it away.

    The third of four rotations meets mistakes in the rules: the server opens a new file all the same.
    """
    step = machine.steps["log-file"]
    assert step["log"] == step["new"] == "policyd:policyd 640"
    names = step["files"].split()
    assert names == ["policyd.log", "policyd.log.1", "policyd.log.2.gz", "policyd.log.3.gz", "policyd.log.4.gz"]
    assert step["asked_many"] == "yes"
    assert step["lost"] == "0 twice=0"


def test_postfix_starts_after_policyd(machine: Machine) -> None:
    step = machine.steps["boot-order"]
    assert int(step["policyd_ready"]) <= int(step["postfix_began"])
    assert step["postfix"] == "active"


def test_postfix_starts_without_policyd(machine: Machine) -> None:
    assert machine.steps["postfix-without-policyd"]["active"] == "failed active"


def test_journal(machine: Machine) -> None:
    """Identifier policyd, facility mail; a refusal is a warning (4), the rest information (6)."""
    assert machine.steps["journal"].all("entry") == [
        "policyd 4 2 NOQUEUE: action=REJECT reason=no-connector",
        "policyd 6 2 NOQUEUE: action=OK reason=incoming",
    ]


def test_logcheck_on_the_whole_journal(machine: Machine, tmp_path: Path) -> None:
    """Of all that policyd logged, only what is worth reading is left."""
    step: Step = machine.steps["all-lines"]
    rules = tmp_path / "rules"
    text = (PROJECT / "contrib/logcheck/policyd.ignore").read_text("ascii").splitlines()
    rules.write_text("".join(f"{line}\n" for line in text if line and not line.startswith("#")), "ascii")
    command = ["grep", "-E", "--text", "-v", "-f", str(rules)]
    left = subprocess.run(command, input=step.output, capture_output=True, text=True, check=False).stdout.splitlines()
    worth = (
        "warning:",
        "error",
        "unknown key",
        "not valid TOML",
        "/299",
        "not reloaded",
        "not started",
        "cannot listen",
        "permission denied",
        "starting it again",
        "gives no answers",
        "the database cannot be read",
    )
    assert [line for line in left if not any(word in line for word in worth)] == []
    assert [line for line in left if "action=" in line] == []
    assert any("cannot listen" in line for line in left)
    assert any("not started" in line for line in left)
