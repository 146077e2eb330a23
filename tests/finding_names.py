"""Names for what `policyd check --postfix` prints, so that tables of tests need not repeat its texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from policyd.postfix.messages import Message


def name_of(identifier: str) -> str:
    """The name in `Message` of a finding's identifier."""
    return Message[identifier.upper().replace("-", "_")].name


def names_of(problems: Iterable[Mapping[str, object]]) -> list[str]:
    """`SEVERITY NAME` of each finding among the problems that `policyd check --json` prints, sorted."""
    of_postfix = [one for one in problems if str(one["file"]).endswith(("/main.cf", "/master.cf"))]
    return sorted(f"{one['severity']} {name_of(str(one['id']))}" for one in of_postfix)
