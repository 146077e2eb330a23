"""docs/security.md promises nothing without a test: every test that it names is there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import PROJECT

DOCUMENT = (PROJECT / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[a-z0-9_/]+\.py(?:::\w+)?)`", DOCUMENT)))


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
