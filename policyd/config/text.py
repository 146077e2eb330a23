"""Values of a configuration as problems show them: quoted, cut, with the likeliest meaning (SPEC 4)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_QUOTE = 160  # characters of the administrator's text that a message repeats


def quoted(text: str) -> str:
    """The administrator's text in double quotes, on one line whatever it holds, and not longer than needed."""
    if len(text) > LONGEST_QUOTE:
        text = text[: LONGEST_QUOTE - 3] + "..."
    if text.isprintable():
        return f'"{text}"'
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text) + '"'


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?`, or nothing where no known word is near."""
    folded = {word.lower(): word for word in known}
    near = get_close_matches(text[:100].lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    near = near or get_close_matches(text[:100].lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean {quoted(folded[near[0]])}?" if near else ""


def clean(text: str) -> str:
    """A text of somebody else's on one line: what is not printable is escaped, what is too long is cut."""
    return quoted(text)[1:-1]


def listed(words: Iterable[str], before_last: str = "and") -> str:
    """`"a", "b" and "c"`"""
    *most, last = [quoted(word) for word in words]
    return f"{', '.join(most)} {before_last} {last}" if most else last


def type_of(value: object) -> str:
    """What a TOML value is, in the words of a message."""
    names = {bool: "true or false", str: "a text", int: "a number", float: "a number with a point", list: "a list"}
    return names.get(type(value), "a table" if isinstance(value, dict) else "a date or time")
