"""Manual pages: the few requests of man(7) that ours need, and what must be escaped in text (groff_char(7))."""

from __future__ import annotations

import re
from collections.abc import Iterable

from policyd import __version__

_CODE = re.compile(r"`([^`]+)`")


def page(name: str, section: int, title: str, body: Iterable[str]) -> str:
    """A whole page. No date: the version says of which program it speaks."""
    head = f'.TH {name.upper()} {section} "" "policyd {__version__}" "{title}"\n'
    return head + "\n".join(body) + "\n"


def section(title: str) -> str:
    """A section's head."""
    return f".SH {title}"


def subsection(title: str) -> str:
    """A subsection's head."""
    return f'.SS "{literal(title)}"'


def paragraph(text: str) -> str:
    """Prose; `code` in it is bold."""
    return f".PP\n{prose(text)}"


def item(term: str, *texts: str) -> str:
    """A term in bold, with paragraphs under it."""
    first, *more = texts
    return "\n".join([f'.TP\n.B "{literal(term)}"', prose(first), *(f".IP\n{prose(text)}" for text in more)])


def block(lines: Iterable[str]) -> str:
    """Lines as they are: commands, configuration."""
    return "\n".join([".PP", ".RS 4", ".EX", *(_protected(literal(line)) for line in lines), ".EE", ".RE"])


def inner_block(line: str) -> str:
    """One line as it is, under an item."""
    return f".IP\n.EX\n{_protected(literal(line))}\n.EE"


def prose(text: str) -> str:
    """Running text, a line for each sentence or so; `code` is bold."""
    pieces = _CODE.split(" ".join(text.split()))
    shown = "".join(rf"\fB{literal(piece)}\fR" if n % 2 else _plain(piece) for n, piece in enumerate(pieces))
    return "\n".join(_protected(line) for line in re.sub(r"(?<=[a-z\d)\]]{2}[.:;]) (?=\S)", "\n", shown).split("\n"))


def literal(text: str) -> str:
    """Text that somebody may copy: hyphens are hyphens, quotes are straight."""
    return _plain(text).replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")


def _plain(text: str) -> str:
    text = text.replace("\\", r"\e").replace('"', r"\(dq").replace("~", r"\(ti").replace("^", r"\(ha")
    return "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)


def _protected(line: str) -> str:
    """A line that begins like a request, as text."""
    return rf"\&{line}" if line.startswith((".", "'")) else line
