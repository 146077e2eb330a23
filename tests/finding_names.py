"""Names for what `policyd check --postfix` prints, so that tables of tests need not repeat its texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from policyd.postfix.messages import Message


def name_of(message: str) -> str:
    """The name in `Wiring` of a finding's text."""
    for kind in Message:
        parts = enumerate(re.split(r"\{(\w+)\}", kind.value))
        if re.fullmatch("".join(".*" if number % 2 else re.escape(text) for number, text in parts), message):
            return kind.name
    raise AssertionError(f"no text of policyd check --postfix: {message}")


def names_of(problems: Iterable[Mapping[str, object]]) -> list[str]:
    """`SEVERITY NAME` of each finding among the problems that `policyd check --json` prints, sorted."""
    of_postfix = [one for one in problems if str(one["file"]).endswith(("/main.cf", "/master.cf"))]
    return sorted(f"{one['severity']} {name_of(str(one['message']))}" for one in of_postfix)
