"""Configurations that were damaged at random: `load` gives a configuration or says what is wrong, and never raises."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from policyd.config.toml.lines import Lines
from policyd.loading.load import load
from tests.places import TESTS

SEEDS = [
    (TESTS / "cases" / "config.toml").read_bytes(),
    *(path.read_bytes() for path in sorted(TESTS.glob("*_configs/*/policyd.toml")) if path.stat().st_size < 2000),
]
BITS = [b'"', b"'", b"'''", b'"""', b"[", b"]", b"{", b"}", b"=", b".", b",", b"\n", b"\r\n", b"\xff", b"\x00", b"*"]
BITS += [
    b"#",
    b"\\",
    b"-",
    b"/",
    b"1",
    b"[[organizations]]\n",
    b"true",
    b"[]",
    b"{}",
    b"1979-05-27",
    b"nan",
    b"\xc3\xbc",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A configuration in which some bytes were replaced, taken out or put in."""
    content = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 0, 1, 5, 40]))
        content = content[:at] + draw(st.sampled_from([b"", *BITS])) + content[at + length :]
    return content


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=damaged())
def test_a_configuration_or_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "policyd.toml"
    path.write_bytes(content)
    loaded = load(str(path))
    errors = [problem for problem in loaded.problems if problem.severity == "error"]
    assert (loaded.configuration is None) is (errors != [])
    lines = content.replace(b"\r\n", b"\n").count(b"\n") + 1
    for problem in loaded.problems:
        assert problem.message
        assert "\n" not in str(problem)
        assert problem.file != str(path) or 0 <= problem.line <= lines


@settings(max_examples=100, deadline=None)
@given(content=damaged())
def test_each_table_stands_on_the_line_of_its_header(content: bytes) -> None:
    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError):
        reject()
    organizations = data.get("organizations")
    lines = Lines(text)
    for name in organizations if isinstance(organizations, dict) else ():
        if re.fullmatch(r"[a-z]+", name):
            assert name in text.split("\n")[lines.line(("organizations", name)) - 1]
