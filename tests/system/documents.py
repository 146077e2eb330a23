"""The commands of a guide, and what the guide says they print.

A fenced block marked `sh` is a script; a block marked `text` after it is its output, where `...` stands for any text
(and, alone on a line, for any number of lines). Nothing else of the Markdown is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_LOOKING = ("journalctl ", "policyd query ", "curl ")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One script of a document. `line` is where it begins; `expected` is empty where the document shows no output."""

    document: str
    line: int
    script: str
    expected: str

    @property
    def name(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def pattern(self) -> str:
        """What to wait for: the expected output, where the script only looks at something that may take a while."""
        return pattern(self.expected) if self.expected and self.script.startswith(_LOOKING) else ""


def read_blocks(file: Path) -> list[Block]:
    """All scripts in order. Raises ValueError for a fence of another kind, and for output without a script."""
    text = file.read_text("utf-8")
    blocks: list[Block] = []
    expects = False
    for match in _FENCE.finditer(text):
        kind, inner = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        if kind == "sh":
            blocks.append(Block(file.name, line, inner, ""))
            expects = True
        elif kind == "text" and expects:
            last = blocks.pop()
            blocks.append(Block(last.document, last.line, last.script, inner))
            expects = False
        else:
            raise ValueError(f"{file.name}:{line}: a block marked {kind!r} is neither a script nor its output")
    return blocks


def matches(expected: str, output: str) -> bool:
    """Whether the output is what the document says."""
    return re.fullmatch(pattern(expected), output if output.endswith("\n") else output + "\n") is not None


def pattern(expected: str) -> str:
    """A regular expression for all outputs, with a line end at their end, that the document's text stands for."""
    whole = ""
    for line in expected.splitlines():
        if line.strip() == "...":
            whole += r"(?:.*\n)*?"
        else:
            whole += ".*".join(map(re.escape, line.rstrip().split("..."))) + r"[ \t\r]*\n"
    return whole
