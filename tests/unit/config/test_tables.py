"""Whole tables, and what single values mean (SPEC 4)."""

from __future__ import annotations

import tomllib

import pytest

from policyd.config.keys import EVIDENCE_KEYS, TABLES, Key, Table
from policyd.config.problems import KeyPath, Report
from policyd.policy.fingerprints import parse_fingerprint


class Nowhere:
    """A source without a file."""

    file, number, folder = "example", 0, "/nowhere"

    def file_of(self, path: KeyPath) -> str:
        """The same everywhere."""
        return self.file

    def line(self, path: KeyPath) -> int:
        """No lines."""
        return len(path) * 0


KEYS = [(table, key) for table in TABLES for key in table.keys if key.name not in ("certificate_files", "certificates")]


@pytest.mark.parametrize(("table", "key"), KEYS, ids=lambda value: getattr(value, "name", getattr(value, "title", "")))
def test_examples_and_defaults_are_good(table: Table, key: Key) -> None:
    for text in (key.example, key.default):
        if text and not (text == "[]" and key.name in EVIDENCE_KEYS):
            report = Report(Nowhere(), 0)
            assert key.read(tomllib.loads(f"x = {text}")["x"], (table.title, key.name), report) is not None
            assert [problem for problem in report.problems if problem.severity == "error"] == []


@pytest.mark.parametrize("octets", range(70))
def test_fingerprints(octets: int) -> None:
    plain = "AB" * octets
    expected = plain if octets in (16, 20, 32, 48, 64) else None
    assert parse_fingerprint(plain.lower()) == parse_fingerprint(":".join(["aB"] * octets)) == expected
    assert parse_fingerprint(plain + ":") is None
