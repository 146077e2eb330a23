"""`policyd check --postfix` on whole wirings, each run on a real Postfix (tests/wirings/README.md; SPEC 7)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policyd.cli.main import main
from policyd.config.problems import Problem
from policyd.loading.load import load
from policyd.postfix.postconf import Postfix, read_postfix
from policyd.postfix.wiring import findings_in
from tests.helpers.certificates import make
from tests.helpers.programs import needs_postconf
from tests.places import TESTS

WIRINGS = TESTS / "wirings"
NAMES = sorted(path.parent.name for path in WIRINGS.glob("*/case.toml"))
pytestmark = needs_postconf


def case_of(name: str) -> dict[str, Any]:
    """case.toml of a wiring."""
    return tomllib.loads((WIRINGS / name / "case.toml").read_text("utf-8"))


def copied(name: str, case: Mapping[str, Any], folder: Path) -> Path:
    """A wiring in a folder of its own, with its keys and indexed tables."""
    shutil.copytree(WIRINGS / "shared", folder)
    shutil.copytree(WIRINGS / name, folder, dirs_exist_ok=True)
    (folder / "case.toml").unlink()
    for path in folder.rglob("*"):
        if path.is_file() and b"@DIR@" in (octets := path.read_bytes()):
            path.write_bytes(octets.replace(b"@DIR@", str(folder).encode()))
    for key in case.get("keys", ()):
        hub = make("hub.example", dns_names=("hub.example",), authority=True)
        (folder / key).write_bytes(hub.key_as_pem() + (hub.as_pem() if key.endswith(".pem") else b""))
    for table in case.get("postmap", ()):
        subprocess.run(["postmap", "-c", folder, f"hash:{folder / table}"], check=True)
    return folder


def wrong(case: Mapping[str, Any], found: Iterable[Mapping[str, str]]) -> list[str]:
    """What is wrong with findings."""
    said = [(one["severity"], f"{one['subject']}: {one['message']}") for one in found]
    mistakes = [text for _, text in said for word in case.get("never", ()) if word.lower() in text.lower()]
    if case["class"] == "clean":
        return mistakes + [text for _, text in said if not any(word in text for word in case.get("allowed", ()))]
    hits = [
        severity
        for severity, text in said
        if all(any(word.lower() in text.lower() for word in words) for words in case["mention"])
    ]
    if not hits or (case["severity"] == "error" and "error" not in hits):
        mistakes.append(f"{hits} of {said}")
    return mistakes


def version(text: str) -> tuple[int, ...]:
    """`postfix >= 3.9` or `3.7.11` as numbers."""
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def as_of(postfix: Postfix, needed: str) -> Postfix:
    """A Postfix as a later version would read it, with the parameters that this one does not know."""
    unused = dict(re.findall(r"unused parameter: (\w+)=(.*)", "\n".join(postfix.remarks)))
    later = {"mail_version": ".".join(re.findall(r"\d+", needed)) + ".0"}
    return replace(postfix, parameters={**postfix.parameters, **unused, **later}, remarks=())


def findings_of_later(folder: Path, needed: str) -> list[Problem]:
    """What is found in a Postfix of a later version."""
    loaded = load(str(folder / "policyd.toml"))
    assert loaded.configuration is not None, loaded.problems
    return findings_in(as_of(read_postfix(str(folder)), needed), loaded.configuration)


@pytest.mark.parametrize("name", NAMES)
def test_wiring(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(name)
    folder = copied(name, case, tmp_path / "wiring")
    monkeypatch.chdir(folder)
    known = version(subprocess.check_output(["postconf", "-h", "mail_version"], text=True))
    if known >= version(case.get("needs", "")):
        place = "." if case.get("relative") else str(folder)
        status = main(["check", "-c", "policyd.toml", "--postfix", place, "--json"])
        problems = json.loads(capsys.readouterr().out)["problems"]
        assert status == (78 if any(one["severity"] == "error" for one in problems) else 0)
        found = [one for one in problems if not one["file"].endswith("policyd.toml")]
    else:
        later = findings_of_later(folder, case["needs"])
        found = [{"severity": p.severity, "subject": p.subject, "message": p.message, "id": p.id} for p in later]
    assert wrong(case, found) == []
    assert sorted({one["id"] for one in found}) == case["finds"]
