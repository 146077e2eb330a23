"""What commands show differently where their output goes to: a terminal's width and colour, the journal (SPEC 7).

Data that programs read never comes through here, and what is no terminal gets the text as it stands.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from itertools import groupby
from typing import TextIO

_NARROWEST = 40  # columns; below, words would be all that a line holds
_COLOURS = {"good": "32", "bad": "31", "doubtful": "33"}  # ECMA-48, Select Graphic Rendition
_KINDS = {
    **dict.fromkeys(("OK", "DUNNO"), "good"),
    **dict.fromkeys(("REJECT", "DEFER", "error"), "bad"),
    **dict.fromkeys(("warning:",), "doubtful"),
}


class HelpFormatter(argparse.HelpFormatter):
    """The texts of a help in lines of the terminal's width; what is indented in them keeps its lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for is_prose, group in groupby(text.strip("\n").split("\n"), lambda line: line[:1].strip() != ""):
            for line in [" ".join(group)] if is_prose else group:
                lines += wrapped(line, width)
        return "".join(f"{indent}{line}\n" for line in lines)


def wrapped(line: str, width: int) -> list[str]:
    """A line as one or more of at most `width` columns, the later ones set in. A word is never cut."""
    if len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 2 * line.startswith(" "))
    wrapper = textwrap.TextWrapper(
        max(width, _NARROWEST), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(line)


def fitted(line: str) -> list[str]:
    """A line of standard output, for a terminal in its width."""
    return wrapped(line, shutil.get_terminal_size().columns) if sys.stdout.isatty() else [line]


def is_journal(stream: TextIO) -> bool:
    """Whether a stream goes to journald, as systemd says of it (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file
        return False
    return (str(found.st_dev), str(found.st_ino)) == (device, inode)


def coloured(line: str, word: str, like: str = "", stream: TextIO | None = None) -> str:
    """The line with `word` in the colour of an action or a severity (`like`, or the word itself).

    On a terminal only (`stream`, or standard output), and not where NO_COLOR is set.
    """
    colour = _COLOURS.get(_KINDS.get(like or word, ""))
    if (
        not colour
        or not (stream or sys.stdout).isatty()
        or os.environ.get("NO_COLOR")
        or os.environ.get("TERM") == "dumb"
    ):
        return line
    return line.replace(word, f"\x1b[{colour}m{word}\x1b[0m", 1)
