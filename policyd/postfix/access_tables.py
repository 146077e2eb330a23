"""What an access table holds, and whether it can permit: for `policyd check --postfix` and `policyd import postfix`.

Reads tables by postmap, and the texts of cidr, regexp and pcre tables (access(5), cidr_table(5), pcre_table(5)).
Claims nothing about a table that cannot be read, nor about an action that it does not know. SPEC 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from policyd.postfix.postconf import Postfix
from policyd.postfix.restrictions import words
from policyd.postfix.text import PostconfError, logical_lines, read_text

Answer = Literal["permits", "never", "unknown"]

EVERY_KEY = "everything"  # of a table that answers alike whatever it is asked

# The first words of actions after which the list goes on, or the mail is not taken.
_NO_PERMISSION = re.compile(
    r"dunno|reject|defer|defer_if_permit|defer_if_reject|discard|hold|filter|redirect|bcc|prepend|warn|info|"
    r"(?:reject|defer)_\w+|[45]\d\d",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"dunno|defer_if_reject|hold|filter|redirect|bcc|prepend|warn|info", re.IGNORECASE)
_PERMISSION = re.compile(r"ok|permit\w*", re.IGNORECASE)


def can_permit(postfix: Postfix, table: str) -> tuple[Answer, str]:
    """Whether an entry of `type:name` permits, and the key of the first that does."""
    answer: Answer = "never"
    try:
        for key, action in actions(postfix, table):
            kind = kind_of(action)
            if kind == "permits":
                return "permits", key
            answer = "unknown" if kind == "unknown" else answer
    except PostconfError:
        return "unknown", ""
    return answer, ""


def kind_of(action: str) -> Answer:
    """Whether the right-hand side of an access table permits. All digits are an OK (access(5))."""
    word, *text = re.split(r"[,\s]+", action.strip(), maxsplit=1)
    if _PERMISSION.fullmatch(word) or (re.fullmatch(r"[0-9]+", word) and not text):
        return "permits"
    return "never" if _NO_PERMISSION.fullmatch(word) else "unknown"


def permits(action: str) -> bool:
    """Whether an action permits, or is a list of restrictions in which one may."""
    first, *rest = [word.text for word in words(action)] or [""]
    return kind_of(action) == "permits" or ("_" in first and any(kind_of(word) == "permits" for word in rest))


def refuses(action: str) -> bool:
    """Whether the right-hand side of an access table keeps mail from being relayed. Claims nothing about classes."""
    word = re.split(r"[,\s]+", action.strip(), maxsplit=1)[0]
    return kind_of(action) == "never" and _GOES_ON.fullmatch(word) is None


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
