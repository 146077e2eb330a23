"""What smtpd does at an answer of an access table, or at a default action (SPEC 7; access(5))."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from policyd.postfix.restrictions import Restriction, parse_list

# permits: an OK. refuses, defers: the mail is not taken (now). discards: it is taken and thrown away. goes on: the list
# does. fails: smtpd does not understand it and answers 451. restrictions: a list of them is carried out.
Kind = Literal["permits", "refuses", "defers", "discards", "goes on", "fails", "restrictions"]

_GOES_ON = frozenset("dunno defer_if_reject hold filter redirect bcc prepend warn info".split())
_WORDS: dict[str, Kind] = {
    "ok": "permits",
    "reject": "refuses",
    "defer_if_permit": "refuses",  # a refusal later in the list counts in its place
    "defer": "defers",
    "discard": "discards",
    **dict.fromkeys(_GOES_ON, "goes on"),
}


@dataclass(frozen=True, slots=True)
class Action:
    """An answer, understood."""

    text: str
    kind: Kind
    restrictions: tuple[Restriction, ...] = ()


def read_action(text: str, classes: Mapping[str, str]) -> Action:
    """What an answer means; `classes` are the restriction classes. All digits are an OK, a code with a text is not."""
    word, _, rest = text.strip().partition(" ")
    if not word:
        return Action(text, "goes on")
    kind = _WORDS.get(word.lower())
    if kind is not None:
        return Action(text, kind)
    if word.isascii() and word.isdigit() and not rest.strip():
        return Action(text, "permits")
    if re.fullmatch(r"[0-9]{3}", word):
        return Action(text, "defers" if word[0] == "4" else "refuses" if word[0] == "5" else "fails")
    restrictions = tuple(parse_list(text, classes))
    known = all(restriction.is_known for restriction in restrictions)
    return Action(text, "restrictions" if known else "fails", restrictions)


def permits(text: str) -> bool:
    """Whether an answer permits, or is a list of restrictions in which one may. Claims nothing about classes."""
    action = read_action(text, {})
    return action.kind == "permits" or any(one.name.startswith("permit") for one in action.restrictions)


def refuses(text: str) -> bool:
    """Whether an answer keeps mail out, or is a list that begins with what refuses. Claims nothing about classes."""
    action = read_action(text, {})
    if action.restrictions:
        return action.restrictions[0].name.startswith(("reject", "defer"))
    return action.kind in ("refuses", "defers", "discards")
