"""docs/operations.md and contrib/prometheus: the commands run, and the alerts are of metrics that there are."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policyd.policy.decision import Reason
from tests.helpers.policyd_server import PolicydServer
from tests.places import PROJECT

PAGE = (PROJECT / "docs" / "operations.md").read_text("utf-8")
ALERTS = (PROJECT / "contrib" / "prometheus" / "alerts.yml").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINE = (
    "NOQUEUE: action=REJECT reason=not-your-domain organization=contoso connector=branch client=203.0.113.7 "
    "certificate= issuer= key= sender=<> recipient=<bob@example.org> tls= instance=1f3.65.0 generation=7\n"
)


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, policyd_command: list[str], policyd_server: Callable[..., PolicydServer]
) -> Iterator[Path]:
    """A folder that stands for /: with the shipped example, a log, policyd, and a systemctl that does nothing.

    Another policyd runs by the same rules.
    """
    root = tmp_path_factory.mktemp("operations")
    example = (PROJECT / "contrib" / "policyd.toml").read_text("utf-8")
    for name, text in (
        ("etc/policyd/policyd.toml", example),
        ("var/log/policyd/policyd.log", LINE),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    for folder in ("bin", "tmp", "var/backups"):
        (root / folder).mkdir()
    (root / "bin/policyd").write_text(f'#!/bin/sh\ncd {PROJECT} && exec {shlex.join(policyd_command)} "$@"\n')
    (root / "bin/systemctl").write_text("#!/bin/sh\nexit 0\n")
    for program in (root / "bin").iterdir():
        program.chmod(0o755)
    sockets = f'[service]\nlisten = ["unix:{root}/policyd.sock"]\ncontrol = "unix:{root}/control.sock"'
    (root / "running.toml").write_text(re.sub(r"(?m)^\[service\]\n(^#.*\n)*^listen = .*", sockets, example), "utf-8")
    with policyd_server(root / "running.toml"):
        while not (root / "control.sock").exists():
            time.sleep(0.01)
        yield root


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.partition("\n")[0][:60])
def test_commands(block: str, machine: Path) -> None:
    """Each block, with its files in a folder of the test's."""
    script = re.sub(r"(?<![\w.])/(?=(etc|var|tmp)/)", f"{machine}/", block)
    done = subprocess.run(
        ["sh", "-e", "-u", "-c", script],
        env={"PATH": f"{machine}/bin:/usr/bin:/bin", "RUNTIME_DIRECTORY": str(machine)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_explained() -> None:
    """The table has a line for each rule, and no other."""
    explained = re.findall(r"^\| `(Policyd\w+)` \|", PAGE, re.MULTILINE)
    assert explained == re.findall(r"^      - alert: (\w+)$", ALERTS, re.MULTILINE)


def test_alerts_ask_for_metrics_that_there_are() -> None:
    """Every metric and every reason in an expression is one of the program's, whose reference is made from it."""
    reference = (PROJECT / "docs" / "reference" / "metrics.md").read_text("utf-8")
    known = set(re.findall(r"^\| `(policyd_\w+)` \|", reference, re.MULTILINE)) | {"policyd_request_seconds_bucket"}
    expressions = re.findall(r"^        expr: (.*)$", ALERTS, re.MULTILINE)
    asked = {name for expression in expressions for name in re.findall(r"policyd_\w+", expression)}
    assert len(expressions) == ALERTS.count("- alert: ")
    assert asked - known == set()
    reasons = {
        reason
        for expression in expressions
        for found in re.findall(r'reason=~?"([^"]*)"', expression)
        for reason in found.split("|")
    }
    assert reasons
    assert reasons <= {str(reason) for reason in Reason}


def test_metrics_in_the_text_exist() -> None:
    """Every metric that the page names is in the dashboard or an alert, whose names are held to the program."""
    dashboard = (PROJECT / "contrib" / "grafana" / "policyd.json").read_text("utf-8")
    for name in set(re.findall(r"`(policyd_\w+)`", PAGE)):
        assert name in dashboard or name in ALERTS, name
