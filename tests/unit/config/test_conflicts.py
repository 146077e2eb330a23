"""Which addresses of several organizations are in conflict, and with whom it is told (SPEC 4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.config.conflicts import Conflict, PlacedProvider, find_conflicts
from policyd.config.owners import DomainIndex
from policyd.config.tables import parse_organization
from policyd.database.documents import SOURCE

Range = tuple[str, int, int, bool]  # organization, first and last of 203.0.113.x, whether the connector is enabled


def conflicts(ranges: Sequence[Range]) -> list[Conflict]:
    """Of organizations that have a connector for each of their ranges."""
    tables: dict[str, dict[str, object]] = {}
    for number, (name, first, last, enabled) in enumerate(ranges):
        connector = {"addresses": [f"203.0.113.{first}-203.0.113.{last}"], "enabled": enabled}
        tables.setdefault(name, {"connectors": {}})["connectors"][f"c{number}"] = connector  # type: ignore[index]
    parsed = [parse_organization(name, table, SOURCE, 0.0, n) for n, (name, table) in enumerate(tables.items())]
    assert all(one.sound for one in parsed)
    return find_conflicts(parsed, PlacedProvider(), DomainIndex(parsed))


def told(ranges: Sequence[Range]) -> list[tuple[str, frozenset[str]]]:
    """Severity, and between whom."""
    return [(one.problem.severity, frozenset(one.organizations)) for one in conflicts(ranges)]


@pytest.mark.parametrize(
    ("ranges", "errors", "warnings"),
    [
        ([("a", 0, 9, True), ("b", 9, 20, True)], 1, 0),
        ([("a", 0, 9, True), ("b", 10, 20, True)], 0, 0),
        ([("a", 0, 9, True), ("a", 5, 20, True)], 0, 0),
        # of several that have the same addresses each but the first is told
        ([(name, 0, 9, True) for name in "abc"], 2, 0),
        ([(name, 0, 9, True) for name in "abcd"], 3, 0),
        # the one that reaches furthest is of the same organization: it is compared with the next one
        ([("a", 0, 10, True), ("b", 1, 50, True), ("b", 9, 9, True)], 2, 0),
        ([("a", 0, 90, True), ("b", 1, 20, True), ("a", 5, 6, True), ("c", 6, 6, True)], 3, 0),
        # of the others the one that reaches furthest counts, not the last
        ([("a", 0, 90, True), ("b", 1, 50, True), ("b", 2, 3, True), ("a", 40, 41, True)], 3, 0),
        # b is over when c comes
        ([("a", 0, 90, True), ("b", 1, 2, True), ("c", 50, 60, True)], 2, 0),
        # of disabled ones it is only warned
        ([("a", 0, 9, False), ("b", 5, 20, True)], 0, 1),
        ([("a", 0, 9, True), ("b", 5, 20, False)], 0, 1),
        ([("a", 0, 9, False), ("b", 5, 20, False)], 0, 1),
        ([("a", 0, 9, True), ("b", 5, 9, True), ("c", 7, 9, False)], 1, 1),
    ],
)
def test_overlaps(ranges: list[Range], errors: int, warnings: int) -> None:
    found = told(ranges)
    assert [severity for severity, _ in found].count("error") == errors
    assert [severity for severity, _ in found].count("warning") == warnings
    named = frozenset[str]().union(*(names for _, names in found))
    assert named == {name for name, first, last, _ in ranges if _overlaps_another(name, first, last, ranges)}


def _overlaps_another(name: str, first: int, last: int, ranges: Sequence[Range]) -> bool:
    return any(other != name and low <= last and first <= high for other, low, high, _ in ranges)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 20), st.integers(0, 20), st.booleans()).map(
            lambda one: (one[0], min(one[1:3]), max(one[1:3]), one[3])
        ),
        max_size=7,
        unique_by=lambda one: one[:3],
    )
)
def test_whoever_overlaps_is_told(ranges: list[Range]) -> None:
    """As comparing each with each finds it: everybody who shares an address is named, and nobody else."""
    found = told(ranges)
    errors, warnings = set(), set()
    for (one, first, last, enabled), (other, low, high, also) in combinations(ranges, 2):
        if one != other and low <= last and first <= high:
            (errors if enabled and also else warnings).update((one, other))
    assert frozenset[str]().union(*(names for severity, names in found if severity == "error")) == errors
    assert frozenset[str]().union(*(names for severity, names in found if severity == "warning")) <= warnings
    assert bool(warnings) == any(severity == "warning" for severity, _ in found)
    assert all(len(names) == 2 for _, names in found)


def both(first: dict[str, object], second: dict[str, object]) -> list[Conflict]:
    """The conflicts of a and b."""
    parsed = [
        parse_organization(name, table, SOURCE, 0.0, n)
        for n, (name, table) in enumerate(zip("ab", (first, second), strict=True))
    ]
    return find_conflicts(parsed, PlacedProvider(), DomainIndex(parsed))


def test_addresses_of_two_kinds_never_overlap() -> None:
    """Although ::1 is a smaller number than any IPv4 address."""
    v4, v6 = ({"connectors": {"c": {"addresses": [text]}}} for text in ("203.0.113.1", "::1"))
    assert both(v4, v6) == both(v6, v4) == []
    assert len(both(v6, v6)) == 1


def test_a_domain_below_several_of_another_is_told_once() -> None:
    below = {"accepted_domains": ["x.b.a.example"]}
    assert len(both({"accepted_domains": ["a.example", "*.b.a.example"]}, below)) == 1
    delegated = {"accepted_domains": ["a.example", "*.b.a.example"], "delegated_domains": ["x.b.a.example"]}
    assert both(delegated, below) == []
