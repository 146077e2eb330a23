"""What the single values of a configuration mean: TOML value -> value of the model, or problems (SPEC 4).

A reader takes a value, its key path and the report. It gives the parsed value, or None after it has reported why
there is none; of a list it gives the good elements. `keys` says which key has which reader.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeVar

from policyd.config.messages import Message
from policyd.config.problems import KeyPath, Report
from policyd.config.text import clean, did_you_mean, listed, quoted, type_of
from policyd.policy.model import RelayLimit

T = TypeVar("T")
Reader = Callable[[Any, KeyPath, Report], Any]


_RELAY_LIMIT = re.compile(r"([1-9][0-9]{0,8})/(minute|hour|day)")
_YES, _NO = ("yes", "on", "true", "1"), ("no", "off", "false", "0")


class Refused(ValueError):
    """A text that cannot be what it is meant for; `message` with `fills` in its braces says why."""

    def __init__(self, message: Message, **fills: str) -> None:
        super().__init__(message.name)
        self.message = message
        self.fills = fills


# --- plain values


def boolean(value: object, path: KeyPath, report: Report) -> bool | None:
    """true or false."""
    if isinstance(value, bool):
        return value
    known = str(value).lower() if isinstance(value, str | int) else ""
    hint = f"; write {path[-1]} = {'true' if known in _YES else 'false'}" if known in (*_YES, *_NO) else ""
    wrong_type(value, path, report, "true or false", hint)
    return None


def text(value: object, path: KeyPath, report: Report) -> str | None:
    """Any text."""
    if isinstance(value, str):
        return value
    wrong_type(value, path, report, "a text in quotes")
    return None


def reason(value: object, path: KeyPath, report: Report) -> str | None:
    """A text for the operator that says something."""
    found = text(value, path, report)
    if found is not None and not found.strip():
        report.error(path, Message.NO_REASON, key=str(path[-1]))
        return None
    return found


def moment(value: object, path: KeyPath, report: Report) -> int | None:
    """A TOML date or date-time as Unix time; a date is the end of that day, what has no offset is UTC (SPEC 4.1)."""
    if isinstance(value, datetime):
        return math.ceil((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
    if isinstance(value, date) and value < date.max:
        midnight = datetime.combine(value + timedelta(days=1), time.min, UTC)
        return int(midnight.timestamp())
    wrong_type(value, path, report, "a date or a date-time without quotes", f"; write {path[-1]} = 2027-01-31")
    return None


def not_carried_out(read: Reader) -> Reader:
    """As `read`, with a warning wherever something is asked for that this version does not do."""

    def warn(value: object, path: KeyPath, report: Report) -> Any:
        if value:
            report.warning(path, Message.NOT_CARRIED_OUT, key=str(path[-1]))
        return read(value, path, report)

    return warn


def one_of(*choices: str) -> Reader:
    """One of a few words, spelt exactly so."""
    words = listed(choices, "or")

    def read(value: object, path: KeyPath, report: Report) -> str | None:
        if not isinstance(value, str):
            wrong_type(value, path, report, words)
            return None
        if value in choices:
            return value
        hint = did_you_mean(value, choices)
        report.error(path, Message.NOT_ONE_OF, key=str(path[-1]), value=quoted(value), choices=words, hint=hint)
        return None

    return read


def whole_number(low: int, high: int, *words: str) -> Reader:
    """A number from `low` to `high`, or one of the words."""
    expected = " or ".join([f"a number from {low} to {high}", *(quoted(word) for word in words)])

    def read(value: object, path: KeyPath, report: Report) -> int | str | None:
        if isinstance(value, str) and value in words:
            return value
        if not isinstance(value, int) or isinstance(value, bool):
            hint = did_you_mean(value, words) if isinstance(value, str) else ""
            if isinstance(value, str) and value.isascii() and value.isdigit():
                hint = f"; write {path[-1]} = {value[:20]} without quotes"
            wrong_type(value, path, report, expected, hint)
            return None
        if not low <= value <= high:
            shown = str(value) if abs(value) < 10**18 else "a huge number"
            fills = {"key": str(path[-1]), "value": shown, "low": str(low), "high": str(high), "hint": ""}
            report.error(path, Message.OUT_OF_RANGE, **fills)
            return None
        return value

    return read


def wrong_type(value: object, path: KeyPath, report: Report, expected: str, hint: str = "") -> None:
    """Reports that the value is of the wrong type."""
    key = str(path[-1])
    report.error(path, Message.WRONG_TYPE, key=clean(key), expected=expected, found=type_of(value), hint=hint)


# --- lists


def elements(value: object, path: KeyPath, report: Report, example: str) -> list[tuple[int, str]] | None:
    """The texts of a list with their indexes; elements of other types are reported and left out."""
    if not isinstance(value, list):
        shown = quoted(value if isinstance(value, str) and value else example)
        wrong_type(value, path, report, "a list of texts", f"; write {path[-1]} = [{shown}]")
        return None
    texts = []
    for index, element in enumerate(value):
        if isinstance(element, str):
            texts.append((index, element))
        else:
            report.error((*path, index), Message.ELEMENT_TYPE, key=str(path[-1]), found=type_of(element))
    return texts


def parsed_list(parse: Callable[[str, KeyPath, Report], T | None], example: str) -> Reader:
    """A list whose elements `parse` understands; an entry that stands twice is warned of (once is enough)."""

    def read(value: object, path: KeyPath, report: Report) -> tuple[T, ...] | None:
        if type(value) is list and len(value) == 1 and type(value[0]) is str:  # by far the most
            only = parse(value[0], (*path, 0), report)
            return () if only is None else (only,)
        texts = elements(value, path, report, example)
        if texts is None:
            return None
        indexes: dict[T, int] = {}
        for index, element in texts:
            parsed = parse(element, (*path, index), report)
            if parsed is None:
                continue
            if parsed in indexes:
                _twice(element, path, index, indexes[parsed], report)
            else:
                indexes[parsed] = index
        return tuple(indexes)

    return read


def _twice(element: str, path: KeyPath, index: int, first: int, report: Report) -> None:
    twice, place = (*path, index), report.place((*path, first))
    if path[-1] == "accepted_domains":
        report.error(twice, Message.DOMAIN_TWICE, value=quoted(element), place=place)
    else:
        report.warning(twice, Message.ENTRY_TWICE, value=quoted(element), key=str(path[-1]), place=place)


def _relay_limit(element: str, path: KeyPath, report: Report) -> RelayLimit | None:
    match = _RELAY_LIMIT.fullmatch(element)
    if match is None:
        report.error(path, Message.BAD_LIMIT, value=quoted(element))
        return None
    return RelayLimit(int(match[1]), match[2])  # type: ignore[arg-type]


def relay_limits(value: object, path: KeyPath, report: Report) -> tuple[RelayLimit, ...] | None:
    """`N/minute`, `N/hour`, `N/day`, each window once (SPEC 3.7)."""
    texts = elements(value, path, report, "2000/hour")
    if texts is None:
        return None
    limits: dict[str, RelayLimit] = {}
    for index, text in texts:
        limit = _relay_limit(text, (*path, index), report)
        if limit is not None and limits.setdefault(limit.window, limit) is not limit:
            report.error((*path, index), Message.WINDOW_TWICE, window=limit.window)
    return tuple(limits.values())


def evidence(read: Reader) -> Reader:
    """A list that must not be empty: an empty one would silently ask for nothing."""

    def read_evidence(value: object, path: KeyPath, report: Report) -> Any:
        if value == []:
            report.error(path, Message.EMPTY_LIST, key=str(path[-1]))
            return None
        return read(value, path, report)

    return read_evidence
