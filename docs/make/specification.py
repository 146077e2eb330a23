"""The end of docs/specification.md: where each section is in code, as the modules say themselves in their first lines.

cited()   the sections that a text names: "SPEC 3.1, 3.2", "SPEC 4 and 9", "SPEC 3.2 to 3.4", "SPEC 3.3, R"
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "specification.md"
TABLE = "| section | in code |\n|---|---|\n"
_HEADING = re.compile(r"^#+ ((\d+(?:\.\d+)?)[. ].*)$", re.MULTILINE)
_NUMBER = r"\d+(?:\.\d+)?"
_CITED = re.compile(rf"\bSPEC\s+({_NUMBER}(?:(?:,\s+|\s+and\s+|\s+to\s+|-){_NUMBER})*)")


@cache
def headings() -> dict[str, str]:
    """The sections of the page in order: number, and the whole heading."""
    return {number: heading for heading, number in _HEADING.findall(PAGE.read_text("utf-8"))}


def cited(text: str) -> Iterator[str]:
    """The number of each section that a text names; of a range all that the page has between its ends."""
    sections = list(headings())
    for numbers in _CITED.findall(re.sub(r"\n\s*#? *", " ", text)):
        for first, last in re.findall(rf"({_NUMBER})(?:(?: to |-)({_NUMBER}))?", numbers):
            if last and first in sections and last in sections:
                yield from sections[sections.index(first) : sections.index(last)]
            elif last:
                yield first
            yield last or first


def modules() -> dict[str, list[str]]:
    """Each module of the program, and the sections that its docstring names."""
    found = {}
    for path in sorted((PROJECT / "policyd").rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
        found[str(path.relative_to(PROJECT))] = list(cited(docstring))
    return found


def page() -> str:
    """The page with its table anew."""
    named, rows = modules(), []
    for number, heading in headings().items():
        names = ", ".join(f"`{name}`" for name, sections in named.items() if number in sections)
        if names:
            rows.append(f"| {heading.partition(' (')[0]} | {names} |\n")
    return PAGE.read_text("utf-8").partition(TABLE)[0] + TABLE + "".join(rows)
