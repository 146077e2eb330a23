"""What `policyd check` says to do about a line that is no TOML: the slips of administrators, as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyd.config.problems import Problem
from policyd.config.toml.file import read_toml

MISSING = "is a quote, comma or bracket missing here or on a line above?"

SLIPS = [
    ("require_tls = yes", "write require_tls = true"),
    ("require_tls = True", "write require_tls = true"),
    ("enabled = Off # for now", "write enabled = false"),
    ("unix_mode = 0660", 'a number does not begin with 0: write unix_mode = "0660"'),
    ("max_connections = 10k", "a number stands without a unit, in digits only"),
    ("refresh_seconds = 5 min", "a number stands without a unit, in digits only"),
    ("mode = enforce", 'a text stands in quotes: write mode = "enforce"'),
    ("addresses = 203.0.113.0/24", 'a text stands in quotes, like "203.0.113.0/24"'),
    ("listen = inet:127.0.0.1:10045", 'a text stands in quotes, like "inet:127.0.0.1:10045"'),
    ("addresses = [203.0.113.9]", 'a text stands in quotes, like "203.0.113.9"'),
    ('names = ["a.example", b.example]', 'a text stands in quotes, like "b.example"'),
    ('names = ["a.example", *.b.example ] # x', 'a text stands in quotes, like "*.b.example"'),
    ("names = [\n  contoso.com,\n]", 'a text stands in quotes, like "contoso.com"'),
    ("numbers = [1, 2.5, true, 2024-01-01, 0x1f 5]", MISSING),
    ('addresses = ["203.0.113.9" "203.0.113.10"]', MISSING),
    ("mode = \u201cenforce\u201d", 'write straight quotes, like "x", in place of \u201c'),
    ("names = [\u00aba.example\u00bb]", 'write straight quotes, like "x", in place of \u00ab'),
    ('mode\u00a0= "enforce"', "the line holds a character that cannot be seen (U+00A0): type its blanks anew"),
    ('description = "caf\u00e9\u00a0\u201cx\u201d" 5', MISSING),
    ("listen: inet:127.0.0.1:10045", "between key and value stands =, not a colon"),
    ("; a comment", "a comment begins with #"),
    ("// a comment", "a comment begins with #"),
    ("<<<<<<< HEAD", "an unfinished merge: keep one side, and take the marks out"),
    ("a = 1\n=======\nb = 2", "an unfinished merge: keep one side, and take the marks out"),
    ("[organizations.contoso\nx = 1", MISSING),
    ("x = [\n  1,\n", "is a closing bracket, brace or quote missing?"),
    ("x =", "is a closing bracket, brace or quote missing?"),
    ("x = [" + " " * 100_000 + "a", "is a quote, comma or bracket missing here or on a line above?"),
]


@pytest.mark.parametrize(("text", "hint"), SLIPS, ids=lambda value: value[:40])
def test_hint(text: str, hint: str, tmp_path: Path) -> None:
    file = tmp_path / "policyd.toml"
    file.write_text(text, "utf-8")
    found = read_toml(str(file))
    assert isinstance(found, Problem)
    assert found.message.startswith("not valid TOML: ")
    assert found.message.endswith(f"; {hint}")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_utf_16_without_a_mark_too(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "policyd.toml"
    file.write_text("[service]\n", encoding)
    found = read_toml(str(file))
    assert isinstance(found, Problem)
    assert found.message == "the file is UTF-16; save it as UTF-8"
