"""docs/guide.md and docs/rollout.md, followed to the letter on an empty machine with a real systemd and Postfix."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.system.conftest import DOCUMENTS, PROJECT, Machine
from tests.system.documents import Block, matches, read_blocks

BLOCKS = [block for document in DOCUMENTS for block in read_blocks(PROJECT / "docs" / document)]


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_block(block: Block, machine: Machine) -> None:
    """Its commands succeed, and print what the document says."""
    step = machine.steps[block.name]
    assert step.status == 0, step.output
    if block.expected:
        assert matches(block.expected, step.output), (
            f"printed:\n{step.output}\nbut should, by the document:\n{block.expected}"
        )


def test_world_outside_got_what_was_allowed(machine: Machine) -> None:
    """Nothing left before the guide said so, and nothing of strangers; one message is attributed.

    In no order: Postfix may pass on a later message first.
    """
    got = []
    for line in machine.steps["outside"].output.splitlines():
        message = json.loads(line)
        headers = re.findall(r"^X-.*-Attribution:.*$", message["content"], re.MULTILINE)
        got.append((message["sender"], message["recipients"], headers))
    attributed = "X-Org-Attribution: organization=contoso; connector=head-office; by=certificate-domain"
    assert sorted(got) == [
        ("kate@contoso.com", ["bob@example.org"], []),
        ("kate@contoso.com", ["bob@example.org"], [attributed]),
    ]


def test_documents_are_followed_in_full() -> None:
    """Every file that the units and contrib/ ship is named in a document, or in a file that is."""
    text = "".join((PROJECT / "docs" / name).read_text("utf-8") for name in DOCUMENTS)
    for folder in ("systemd", "contrib/postfix", "contrib/grafana", "contrib/logcheck", "contrib/logrotate"):
        for file in (PROJECT / folder).rglob("*"):
            if file.is_file() and not file.name.startswith("main.cf."):
                assert file.name in text or folder in text, file
    stages = ["monitor", "warn", "enforce", "off"]
    assert [stage for stage in stages if f"--apply {stage}" not in text] == []


# ------------------------------------------------------------------------------------------------- the reader itself


@pytest.mark.parametrize(
    ("expected", "output", "agrees"),
    [
        ("one\ntwo\n", "one\ntwo\n", True),
        ("one\ntwo\n", "one\n", False),
        ("one\n", "one\ntwo\n", False),
        ("...\ntwo\n", "two\n", True),
        ("...\ntwo\n", "zero\none\ntwo\n", True),
        ("one\n...\n", "one\n", True),
        ("a ... c\n", "a b c\n", True),
        ("a ... c\n", "a b\nc\n", False),
        ("a.c\n", "abc\n", False),
        ("250 Ok\n", "250 Ok\r\n", True),
        ("one\n", "one", True),
    ],
)
def test_matches(expected: str, output: str, agrees: bool) -> None:
    assert matches(expected, output) is agrees


def test_blocks_of_other_kinds_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.md"
    file.write_text("text\n```sh\ntrue\n```\n\n```text\nout\n```\n```sh\nfalse\n```\n", "utf-8")
    found = [(block.line, block.script, block.expected) for block in read_blocks(file)]
    assert found == [(2, "true\n", "out\n"), (9, "false\n", "")]
    for text in ("```\nx\n```\n", "```text\nx\n```\n"):
        file.write_text(text, "utf-8")
        with pytest.raises(ValueError, match=r"x\.md:1"):
            read_blocks(file)
