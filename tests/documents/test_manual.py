"""Reference pages, manual pages and shell completion are what the program gives, and say what it does (docs/make)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from policyd.cli.common import Exit
from policyd.cli.main import COMMANDS, main, parser
from policyd.policy.decision import Reason
from policyd.postfix.messages import Message
from tests.places import PROJECT

REFERENCE = PROJECT / "docs" / "reference"
PAGES = sorted((PROJECT / "man").glob("*.[1-9]"))


def help_of(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    return capsys.readouterr().out


def all_commands() -> list[str]:
    """`check`, `import exchange` and so on, as --help names them."""
    found = []
    for action in parser()._subparsers._group_actions:  # type: ignore[union-attr]
        for name, below in action.choices.items():  # type: ignore[union-attr]
            groups = below._subparsers._group_actions if below._subparsers is not None else []
            found += [f"{name} {source}" for group in groups for source in group.choices] or [name]
    return found


def test_pages_are_made_from_the_program() -> None:
    """Else run: python docs/make"""
    done = subprocess.run(
        [sys.executable, "docs/make", "--check"], cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), f"run `python docs/make`\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("command", all_commands())
def test_every_option_is_described(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = set(re.findall(r"--[a-z-]+", help_of(command.split(), capsys).partition("\nExit codes")[0])) - {"--help"}
    page = (REFERENCE / "commands.md").read_text("utf-8")
    (section,) = re.findall(rf"(?ms)^###? policyd {command}$.*?(?=^##|\Z)", page)
    manual = (PROJECT / "man" / "policyd.8").read_text("ascii").replace(r"\-", "-")
    (part,) = re.findall(rf'(?ms)^\.SS "policyd {command}"$.*?(?=^\.S[SH]|\Z)', manual)
    for flag in flags:
        assert flag in section
        assert flag in part


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An example, and the exit codes that the code has."""
    told = help_of([name.rstrip("_")], capsys)
    assert re.search(rf"(?m)^Examples?:\n(  .*\n)*  .*\bpolicyd {name.rstrip('_')} ", told), told
    (codes,) = re.findall(r"(?ms)^Exit codes: (.*?)\.\n\n", told)
    documented = {int(entry.split()[0]) for entry in " ".join(codes.split()).split("; ")}
    source = (PROJECT / "policyd" / "cli" / f"{name}.py").read_text("utf-8")
    used = {Exit[name] for name in re.findall(r"\bExit\.([A-Z_]+)", source)}
    if "running.NoAnswer" in source:  # which has its own
        used.add(Exit.UNAVAILABLE)
    assert documented == used


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("command", ["groff -ww -man -Tutf8", "man --warnings=w -l"])
def test_manual_pages_are_good_roff(command: str, page: Path) -> None:
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"{command.split()[0]} is not installed")
    done = subprocess.run(
        [*command.split(), str(page)],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "90", "MAN_DISABLE_SECCOMP": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 40


def test_every_reason_is_described() -> None:
    page = (REFERENCE / "reasons.md").read_text("utf-8")
    sections = re.findall(r"(?m)^## (.*)$", page)
    assert sections == [reason.value for reason in Reason if reason.value] + ["internal-error"]


def test_every_finding_about_postfix_is_described() -> None:
    """Page and code have the same identifiers, and each entry says why, a proof and a remedy."""
    page = (REFERENCE / "findings.md").read_text("utf-8")
    sections = re.findall(r"(?m)^## (.*)\n\n> .*\n\n- Why: .+\n- Proof: .+\n- Remedy: .+\n", page)
    assert sections == [message.id for message in Message]
    assert len(sections) == page.count("\n## ")


def test_all_manual_pages_are_there() -> None:
    assert [page.name for page in PAGES] == ["policyd-postfix-setup.8", "policyd.8", "policyd.toml.5"]


def test_manual_of_the_setup_says_what_its_usage_says() -> None:
    """Every option and stage, and every exit code."""
    usage = (PROJECT / "contrib/postfix/policyd-postfix-setup").read_text("utf-8").partition("\nUSAGE\n")[0]
    manual = (PROJECT / "man/policyd-postfix-setup.8").read_text("ascii").replace(r"\-", "-")
    terms = re.findall(r'(?m)^\.B "(.*)"$', manual)
    assert set(re.findall(r"(?m)^  (--[a-z-]+)", usage)) == {term.split()[0] for term in terms if term.startswith("--")}
    assert {"monitor", "warn", "enforce", "off", "status", "0", "1", "64", "70"} <= set(terms)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("policyd ch", "check"),
        ("policyd check --str", "--strict"),
        ("policyd import ex", "exchange"),
        ("policyd import exchange --tru", "--trust-verified"),
        ("policyd show -c READ", "README.md"),
    ],
)
def test_completion_in_bash(typed: str, completed: str) -> None:
    script = (
        "source contrib/completion/policyd; function=$(complete -p policyd | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\n"
        f"COMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE='{typed}'\n"
        '$function; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == [completed], done.stderr


@pytest.mark.parametrize(("shell", "file"), [("bash", "policyd"), ("zsh", "_policyd"), ("fish", "policyd.fish")])
def test_completion_is_read_by_its_shell(shell: str, file: str) -> None:
    """A shell that is not here cannot be asked; the text itself is compared with its source above."""
    path = PROJECT / "contrib" / "completion" / file
    assert "policyd" in path.read_text("utf-8")
    if shutil.which(shell) is not None:
        done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
