"""docs/specification.md: sections that are cited exist, and modules are found from their section and back."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from policyd.policy.decision import Reason
from tests.places import PROJECT

PAGE = (PROJECT / "docs" / "specification.md").read_text("utf-8")
# The packages whose modules are all for some section.
RULED = ("policy", "protocol", "config", "database", "service", "explain", "imports", "postfix")


def _make() -> ModuleType:
    """docs/make/specification.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("specification", PROJECT / "docs" / "make" / "specification.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = _make()


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_bytes())) or ""


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("(SPEC 3.1)", ["3.1"]),
        ("SPEC 3.1, 3.2: all", ["3.1", "3.2"]),
        ("SPEC 4 and 9; SPEC 7, explain", ["4", "9", "7"]),
        ("SPEC 3.2 to 3.4", ["3.2", "3.3", "3.4"]),
        ("SPEC 3.1-3.4", ["3.1", "3.2", "3.3", "3.4"]),
        ("SPEC 3.3, R, and SPEC\n    # 3.4, rows 0 and 7", ["3.3", "3.4"]),
        ("SPEC 4: 1-64 of a-z", ["4"]),
        ("SPEC 3.2's warning, 2 of them", ["3.2"]),
        ("SPEC 3.9 to 3.4", ["3.9", "3.4"]),
        ("a SPEC without a number, RFC 3461", []),
    ],
)
def test_citations_are_understood(text: str, sections: list[str]) -> None:
    """As people write them."""
    assert list(MAKE.cited(text)) == sections


def test_sections() -> None:
    """The numbers that everything refers to, each once."""
    numbers = re.findall(r"^#+ (\d+(?:\.\d+)?)[. ]", PAGE, re.MULTILINE)
    assert numbers == ["1", "2", "3", *(f"3.{n}" for n in range(1, 8)), "4", "4.1", *map(str, range(5, 12))]


@pytest.mark.parametrize("folder", ["policyd", "tests", "contrib", "docs"])
def test_every_citation_points_to_a_section(folder: str) -> None:
    """Code, tests and pages; this file has examples of what is none."""
    sections = MAKE.headings()
    wrong = []
    files = [path for path in (PROJECT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    for path in files:
        text = path.read_bytes()
        if b"SPEC" in text and path != Path(__file__):
            numbers = MAKE.cited(text.decode("utf-8", "replace"))
            wrong += [f"{path.relative_to(PROJECT)}: SPEC {number}" for number in numbers if number not in sections]
    assert files
    assert wrong == []


def test_reasons() -> None:
    """Each of the program has its place in the decision."""
    decision = PAGE.split("\n### 3.4 ")[1].split("\n### ")[0]
    assert [reason for reason in Reason if reason and f"`{reason}`" not in decision] == []


def test_references_within_the_page() -> None:
    """`(3.4)`, `section 10`: in words that other sections use."""
    sections = MAKE.headings()
    numbers = re.findall(r"\((?:as )?(\d\.\d)\)|section (\d+)", PAGE)
    assert len(numbers) > 15
    assert {first or second for first, second in numbers} <= sections.keys()


@pytest.mark.parametrize("package", RULED)
def test_every_module_names_its_section(package: str) -> None:
    """In its docstring."""
    modules = sorted((PROJECT / "policyd" / package).rglob("*.py"))
    assert modules
    assert [str(path.relative_to(PROJECT)) for path in modules if not list(MAKE.cited(_docstring(path)))] == []


def test_where_it_is_in_code() -> None:
    """Each module that the table names exists and cites the section, and none that cites it is missing there."""
    rows = re.findall(r"^\| (\d+(?:\.\d+)?)[. ][^|]*\| ([^|]*) \|$", PAGE.split("## Where it is in code")[1], re.M)
    table = {(number, name) for number, names in rows for name in re.findall(r"`([^`]+)`", names)}
    cited = {
        (number, str(path.relative_to(PROJECT)))
        for path in (PROJECT / "policyd").rglob("*.py")
        for number in MAKE.cited(_docstring(path))
    }
    assert len(rows) > 10
    assert sorted(table) == sorted(cited), "run `python docs/make`"


def test_marks_of_what_is_not_built() -> None:
    """All alike, so that they are found and taken out one by one: a quotation of its own, with its issues."""
    marks = re.findall(r"^ *> (\*\*Not built.*)$", PAGE, re.MULTILINE)
    assert len(marks) == PAGE.count("Not built")
    example, *real = marks
    assert example.startswith("**Not built yet (issue N):** ")
    assert [mark for mark in real if not re.match(r"\*\*Not built yet \(issue \d+(, \d+)*\):\*\* \S", mark)] == []
