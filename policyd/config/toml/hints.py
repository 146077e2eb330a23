"""What to do about a line that is no TOML: the usual slips of people who write configurations (SPEC 4, "Errors").

Guesses from the text of the line alone; knows neither what the keys mean nor what tomllib said. Each hint begins with
"; " and goes behind its complaint. It shows of the line only what cannot be a secret: the file may be /etc/shadow, or
the value a password (docs/security.md, "Secrets").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from policyd.config.text import quoted

_LONGEST_LINE = 1000  # characters; what is wrong further to the right is not guessed
_BARE_VALUE = re.compile(r"^\s*([A-Za-z0-9_.-]+)\s*=\s*([^\s\"'\[{#][^#\n]*?)\s*(?:#.*)?$")
_YES = ("yes", "on", "true")
_NO = ("no", "off", "false")
_LEADING_ZERO = re.compile(r"0[0-7]+")
_WITH_UNIT = re.compile(r"[0-9_]+ *[A-Za-z]+")
_IN_QUOTES = re.compile(r"\"[^\"]*\"|'[^']*'")
_BARE_ELEMENT = re.compile(r"(?:[\[,]|^)\s*([A-Za-z0-9*][^\s\"'\[\]{},=#]*)\s*(?=[,\]#]|$)")
_TOML_ELEMENT = re.compile(
    r"true|false|inf|nan|[0-9_]+(?:\.[0-9_]+)?|\d{4}-\d\d-\d\d\S*|\d\d:\d\d\S*|0[xob][0-9A-Fa-f_]+"
)

# What may be shown: names, addresses, networks, ranges, listeners, and the words that settings have.
_PUBLIC = re.compile(
    r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+\.?"
    r"|[0-9.]+(?:[/-][0-9.]+)?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?:[/-][0-9A-Fa-f:.]+)?"
    r"|inet:[A-Za-z0-9_.:\[\]-]+|unix:/[A-Za-z0-9_./-]*|systemd:[A-Za-z0-9_-]+"
    r"|enforce|monitor|auto|all|rejects|none|full|domain|OK|DUNNO|REJECT"
)

_HOST_AND_PORT = re.compile(r"(?:[0-9.]+|localhost|\[[0-9A-Fa-f:.]+\]):[0-9]+")

_SLIPS = (
    (re.compile(r"^(<{7}|={7}|>{7})"), "; an unfinished merge: keep one side, and take the marks out"),
    (re.compile(r"^\s*(;|//|--)"), "; a comment begins with #"),
    (re.compile(r"^\s*[A-Za-z0-9_-]+\s*:(\s|$)"), "; between key and value stands =, not a colon"),
)
_QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u00ab\u00bb\u2033"  # as word processors and web pages write them
_UNSEEN = re.compile("[\u00a0\u2000-\u200f\u2028-\u202f\u2060\u3000\ufeff]")


def hint_for(lines: Sequence[str], line: int, at_end: bool) -> str:
    """What may be wrong with line `line` (from 1). `at_end`: the text ended while something was open."""
    text = lines[line - 1][:_LONGEST_LINE] if 0 < line <= len(lines) else ""
    for slip, hint in _SLIPS:
        if slip.match(text):
            return hint
    bare = _BARE_VALUE.match(text)
    if bare and (hint := _of_value(*bare.groups())):
        return hint
    outside = _IN_QUOTES.sub('""', text)
    for character in outside:
        if character in _QUOTES:
            return f"; write straight quotes, like {quoted('x')}, in place of {character}"
    unseen = _UNSEEN.search(outside)
    if unseen:
        return f"; the line holds a character that cannot be seen (U+{ord(unseen[0]):04X}): type its blanks anew"
    if not re.match(r"\s*\[", text) and not bare:
        for element in _BARE_ELEMENT.findall(outside.partition("=")[2] or outside):
            if not _TOML_ELEMENT.fullmatch(element):
                return _like(element)
    if at_end:
        return "; is a closing bracket, brace or quote missing?"
    return "; is a quote, comma or bracket missing here or on a line above?"


def _of_value(key: str, value: str) -> str:
    """For `key = value` without quotes."""
    if value.lower() in _YES:
        return f"; write {key} = true"
    if value.lower() in _NO:
        return f"; write {key} = false"
    if _LEADING_ZERO.fullmatch(value):
        return f"; a number does not begin with 0: write {key} = {quoted(value)}"
    if _WITH_UNIT.fullmatch(value):
        return "; a number stands without a unit, in digits only"
    if value[0] in _QUOTES:
        return ""
    if re.search(r"[.:/].*[.:/]", value):  # an address, a path: where one stands, a list may be asked for
        return _like(value)
    if not value[0].isdigit():
        return f"; a text stands in quotes: write {key} = {quoted(value)}" if _is_public(value) else _like(value)
    return ""


def _is_public(value: str) -> bool:
    return _PUBLIC.fullmatch(value) is not None


def _like(value: str) -> str:
    """That quotes are missing; with the value for an example, where it may be shown."""
    if _HOST_AND_PORT.fullmatch(value):
        value = f"inet:{value}"
    return "; a text stands in quotes" + (f", like {quoted(value)}" if _is_public(value) else "")
