"""What an access table holds, listed: for `policyd check --postfix` and `policyd import postfix` (SPEC 7).

Reads tables by postmap, and the texts of cidr, regexp and pcre tables, in files or in braces (access(5), cidr_table(5),
pcre_table(5)). What an entry does is for `actions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from policyd.postfix.postconf import Postfix
from policyd.postfix.restrictions import words
from policyd.postfix.text import logical_lines, read_text

EVERY_KEY = "everything"  # of a table that answers alike whatever it is asked


def actions(postfix: Postfix, table: str) -> Iterator[tuple[str, str]]:
    """The keys of `type:name`, each with its action. Raises PostconfError, also where it is a kind without a list."""
    kind, _, name = table.removeprefix("proxy:").partition(":")
    if kind in ("cidr", "regexp", "pcre"):
        for line in _inner(name) if name.startswith("{") else [line for _, line in logical_lines(read_text(name))]:
            if not re.match(r"(?:if|endif)\b", line, re.IGNORECASE):
                yield _network(line) if kind == "cidr" else _pattern(line)
    elif kind == "static":
        yield EVERY_KEY, name[1:-1].strip() if name.startswith("{") else name
    elif kind == "randmap":
        yield from ((EVERY_KEY, value) for value in _inner(name))
    elif kind == "unionmap":
        for member in _inner(name):
            yield from actions(postfix, member)
    else:
        yield from postfix.entries(table)


def _inner(name: str) -> list[str]:
    """What stands in the braces of a table that is written out in its name."""
    (inside,) = words(name)
    return [word.text for word in words(inside.text)]


def _network(line: str) -> tuple[str, str]:
    key, *action = line.split(maxsplit=1)
    return key, "".join(action)


def _pattern(line: str) -> tuple[str, str]:
    """`/pattern/flags action`; any character may stand for the slashes, and in the pattern behind a backslash."""
    start = line.removeprefix("!").lstrip()
    end = re.compile(rf"(?:[^\\{re.escape(start[0])}]|\\.)*{re.escape(start[0])}\S*").match(start, 1) if start else None
    return (start[: end.end()], start[end.end() :].strip()) if end is not None else (line, "")
