"""What is written for people: links lead somewhere, words are spelt right, and the README tells the truth."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from policyd.policy.decision import Reason
from tests.places import PROJECT

README = (PROJECT / "README.md").read_text("utf-8")
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("contrib/**/*.md")])
_FENCE = re.compile(r"^```.*?^```$|^    [^\n]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def decision() -> ModuleType:
    """docs/make/decision.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("decision_page", PROJECT / "docs" / "make" / "decision.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# --- all pages


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text("utf-8"))


def _anchors(page: Path) -> set[str]:
    """The names of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links(page: Path) -> None:
    """Every relative link names a file or folder of the project, and its anchor a heading there."""
    broken = []
    for link in _LINK.findall(_prose(page)):
        if link.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.is_relative_to(PROJECT) or not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


def test_spelling() -> None:
    """codespell finds nothing in pages, comments and texts of the program."""
    pytest.importorskip("codespell_lib", reason="codespell is not installed (pip install codespell)")
    where = ["README.md", "SECURITY.md", "docs", "contrib", "policyd"]
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", "--skip", "*.svg,*.json", "--ignore-words-list", "anothers", *where],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_modules_that_are_named(page: Path) -> None:
    """`service/answers.py` is of policyd; everything else is named by its whole path."""
    packages = {path.parent.name for path in PROJECT.glob("policyd/*/__init__.py")}
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)`", page.read_text("utf-8"))
    whole = [f"policyd/{name}" if name.partition("/")[0] in packages else name for name in named]
    assert [name for name in whole if not (PROJECT / name).is_file()] == []


OTHER_WORDS = {
    "organisation": "organization",
    "in-bound": "inbound",
    "whitelist": "list",
    "blacklist": "list",
    "white list": "list",
    "fall-back": "fallback",
    "e-mail": "mail",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_terms(page: Path) -> None:
    """One word for one thing."""
    text = re.sub(r"\]\([^)]*\)", "]", _prose(page)).lower()  # an anchor is no prose
    assert [f"{word}: write {right}" for word, right in OTHER_WORDS.items() if word in text] == []


# --- the picture and the table


def test_picture_is_current(decision: ModuleType) -> None:
    """Else run: python docs/make"""
    assert (PROJECT / "docs" / "decision.svg").read_text("utf-8") == decision.picture()


def test_table_is_current(decision: ModuleType) -> None:
    """Else copy what `python docs/make/decision.py` prints."""
    page = (PROJECT / "docs" / "concepts.md").read_text("utf-8")
    assert decision.table("row", decision.ROWS) in page
    assert decision.table("the wish", decision.TAKEN_BACK) in page


def test_every_reason_has_a_row(decision: ModuleType) -> None:
    """Each in one row, in the program's order."""
    drawn = [reason for row in (*decision.ROWS[2:6], *decision.ROWS[:2], *decision.ROWS[6:]) for reason in row.reasons]
    drawn += [reason for row in decision.TAKEN_BACK for reason in row.reasons]
    assert drawn == [reason for reason in Reason if reason is not Reason.NOT_ASKED]


# --- the README


def test_readme_is_short() -> None:
    """At most 200 lines, and every page that an administrator reads is named."""
    assert len(README.splitlines()) <= 200


def test_readme_has_the_commands() -> None:
    """CI follows them to the letter (.ci/run)."""
    ci = (PROJECT / ".ci" / "run").read_text("utf-8")
    packages = re.search(r"\nsudo apt install (.*)\n", README)
    assert packages is not None
    assert "\n. .ci/packages\n" in ci
    assert set(packages[1].split()) <= set((PROJECT / ".ci" / "packages").read_text("utf-8").split())
    for command in ("make serve", "make test"):
        assert f"\n{command}\n" in README
    for command in ("test", "test-all"):
        assert f"make PYTHON=/usr/bin/python3 {command}\n" in ci


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_what_make_does() -> None:
    """A user gets no developer's packages, and each command sets up what it needs by itself."""
    extras = {"serve": "", "test": "[dev]", "test-all": "[dev,fuzz]"}
    told = re.findall(r"^make ([a-z-]+) +\S", subprocess.check_output(["make", "-C", PROJECT, "-s"], text=True), re.M)
    assert told == list(extras)
    for command, extra in extras.items():
        done = subprocess.check_output(["make", "-C", PROJECT, "-n", "-B", command], text=True)
        assert (
            f"-m venv .venv\n.venv/bin/pip install --quiet --disable-pip-version-check --editable '.{extra}'\n" in done
        )
    tests = re.search(r"^\t@.*pytest (.*)$", (PROJECT / "Makefile").read_text("utf-8"), re.M)
    assert tests is not None
    folders = [word for word in tests[1].split() if word.startswith("tests/")]
    assert folders
    assert all((PROJECT / folder).is_dir() for folder in folders)


def test_readme_configuration(tmp_path: Path, policyd_command: list[str]) -> None:
    """The ten lines have no mistakes."""
    lines = re.search(r"^```toml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert lines is not None
    assert tomllib.loads(lines[1])
    assert len(lines[1].splitlines()) <= 10
    (tmp_path / "policyd.toml").write_text(lines[1], "utf-8")
    command = [*policyd_command, "check", "--strict", "-c", str(tmp_path / "policyd.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_query(
    tmp_path: Path, policyd_command: list[str], policyd_server: Callable[..., Any], free_port: Callable[[], int]
) -> None:
    """The question and its two answers, asked of a server with the shipped example."""
    question = re.search(r"^\.venv/bin/policyd (query .*)$", README, re.MULTILINE)
    assert question is not None
    refusal = re.search(r"It answers `OK`\. From (\S+), which is not registered:\n\n    (REJECT .*)\n", README)
    assert refusal is not None
    address = f"inet:127.0.0.1:{free_port()}"
    config = tmp_path / "policyd.toml"
    example = (PROJECT / "contrib" / "policyd.toml").read_text("utf-8")
    config.write_text(example.replace("inet:127.0.0.1:10045", address), "utf-8")
    with policyd_server(config):
        for asked, answer in ((question[1], "OK"), (question[1].replace("203.0.113.7", refusal[1]), refusal[2])):
            command = [*policyd_command, *shlex.split(asked), "--to", address]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.stdout.strip() == answer, done.stderr


def test_readme_explain(policyd_command: list[str]) -> None:
    """What `explain` prints begins and goes on as shown."""
    shown = re.search(r"^```sh\n\.venv/bin/policyd (explain .*)\n```\n\n```text\n(.*?)^```$", README, re.M | re.S)
    assert shown is not None
    command = [*policyd_command, *shlex.split(shown[1])]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    pattern = ".*".join(re.escape(part) for part in shown[2].split("...\n"))
    assert re.fullmatch(pattern, done.stdout, re.DOTALL), done.stdout + done.stderr


def test_readme_commands() -> None:
    """The table names the program's commands, all of them."""
    section = README.split("## Commands")[1].split("## ")[0]
    named = re.findall(r"^\| `policyd ([a-z]+)` \|", section, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", "policyd", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert sorted(named) == sorted(re.findall(r"^    ([a-z]+)(?:  |$)", done.stdout, re.MULTILINE))
