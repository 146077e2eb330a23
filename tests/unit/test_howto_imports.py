"""Every command of the two guides on imports runs, and prints what the guide says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
HOWTO = PROJECT / "docs" / "howto"
FINGERPRINT = "F0:99:F0:45:3F:4A:9B:1C:2D:3E:4F:50:61:72:83:94:A5:B6:C7:D8:E9:FA:0B:1C:2D:3E:4F:50:61:72:83:94"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(name: str) -> list[tuple[str, str | None]]:
    """(script, what it prints) of each `sh` block; None where no `text` block follows it."""
    found: list[tuple[str, str | None]] = []
    for kind, inner in _FENCE.findall((HOWTO / name).read_text("utf-8")):
        assert kind in ("sh", "text"), f"a block marked {kind!r}"
        if kind == "sh":
            found.append((inner, None))
        else:
            script, printed = found.pop()
            assert printed is None, "two blocks of output for one script"
            found.append((script, inner))
    return found


def pattern(expected: str) -> str:
    """`...` is any text; alone on a line, any number of lines."""
    lines = (
        r"(?:.*\n)*?" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n"
        for line in expected.splitlines()
    )
    return "".join(lines)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A folder with `etc/policyd`, `etc/postfix`, the command policyd, and the exports in `work`."""
    for folder in ("bin", "work", "etc/policyd/organizations.d", "etc/postfix"):
        (tmp_path / folder).mkdir(parents=True)
    command = tmp_path / "bin" / "policyd"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m policyd "$@"\n')
    command.chmod(0o755)
    (tmp_path / "etc/policyd/policyd.toml").write_text('include = ["organizations.d/*.toml"]\n')
    (tmp_path / "etc/policyd/organizations.d/hub.toml").write_text(
        '[organizations.hub]\naccepted_domains = ["hub.example.net"]\n'
    )
    (tmp_path / "etc/postfix/master.cf").write_text("")
    (tmp_path / "etc/postfix/main.cf").write_text(
        f"compatibility_level = 3.6\nmynetworks = 127.0.0.0/8 [::1]/128 203.0.113.16/28\n"
        f"relay_clientcerts = hash:{tmp_path}/etc/postfix/relay_clientcerts\n"
        "smtpd_relay_restrictions = permit_mynetworks, permit_tls_clientcerts, reject_unauth_destination\n"
    )
    (tmp_path / "etc/postfix/relay_clientcerts").write_text(f"# our branches\n{FINGERPRINT} mail.contoso.com\n")
    for name in ("connectors.json", "domains.json"):
        shutil.copy(PROJECT / "tests" / "samples" / "exchange" / name, tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize("name", ["exchange-online.md", "permit-tls-clientcerts.md"])
def test_every_block_does_what_the_guide_says(name: str, hub: Path) -> None:
    scripts = blocks(name)
    assert len(scripts) >= 5
    if any("postconf" in script or "--config" in script for script, _ in scripts) and shutil.which("postconf") is None:
        pytest.skip("Postfix is not installed")
    environment = os.environ | {
        "PATH": f"{hub}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "MAIL_CONFIG": f"{hub}/etc/postfix",
        "LC_ALL": "C.UTF-8",
    }
    for script, expected in scripts:
        run = subprocess.run(
            ["bash", "-e", "-c", script.replace("/etc/", f"{hub}/etc/")],
            cwd=hub / "work",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, f"{script}\n{run.stdout}"
        printed = run.stdout.replace(f"{hub}/etc/", "/etc/")
        assert re.fullmatch(pattern(expected or ""), printed), (
            f"{script}\n--- printed\n{printed}\n--- guide\n{expected}"
        )


def test_the_guides_link_to_files_that_exist() -> None:
    for guide in HOWTO.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", guide.read_text("utf-8")):
            assert (guide.parent / target).exists(), f"{guide.name}: {target}"
