"""SECURITY.md and docs/security.md promise nothing without a test: every test that they name is there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.places import PROJECT

SUMMARY, DOCUMENT = ((PROJECT / name).read_text("utf-8") for name in ("SECURITY.md", "docs/security.md"))
NAMED = sorted(set(re.findall(r"`(tests/[a-z0-9_/]+\.py(?:::\w+)?)`", SUMMARY + DOCUMENT)))


@pytest.mark.parametrize("name", NAMED)
def test_named_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((PROJECT / path).read_text("utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert function in functions if function else any(one.startswith("test_") for one in functions)


def test_every_line_of_a_table_names_a_test() -> None:
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("|") and not line.startswith("|---")]
    headers = [line for line in rows if line.rstrip().endswith("| shown by |")]
    without = [line for line in rows if line not in headers and "`tests/" not in line.rsplit("|", 2)[1]]
    assert headers
    assert not without


def test_every_promise_names_a_test() -> None:
    promises = SUMMARY.partition("## What is promised")[2].partition("\n## ")[0].split("\n* ")[1:]
    assert len(promises) >= 5
    assert not [promise for promise in promises if "`tests/" not in promise]
