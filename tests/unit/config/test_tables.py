"""Whole tables, and what single values mean (SPEC 4)."""

from __future__ import annotations

import tomllib

import pytest

from policyd.config.evidence_readers import network_of
from policyd.config.keys import EVIDENCE_KEYS, TABLES, Key, Table
from policyd.config.problems import KeyPath, Report
from policyd.policy.fingerprints import parse_fingerprint
from policyd.policy.networks import Network, parse_network


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


NETWORKS = [
    "203.0.113.7",
    "203.0.113.7/29",
    "203.0.113.0/29",
    "203.0.113.4-203.0.113.9",
    "0.0.0.0/0",
    "2001:db8::1/64",
    "2001:db8::/32",
    "::ffff:1.2.3.4",
    "::ffff:1.2.3.4/120",
    "::ffff:0:0/96",
    "::ffff:0:0/95",
    "::/0",
    "1::/16",
    "1::/15",
    "1f::ff1f:1.2.3.0/1",
    "8000::/1",
    "::1:0:0:0/79",
    "::1:0:0:0/80",
    "10.0.0.0/33",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "10.0.0.0/\u0663",
    "fe80::1%eth0",
    "x",
    "",
]


def said(parse: object, text: str) -> tuple[Network, bool] | str:
    """What it gives or raises."""
    try:
        return parse(text)  # type: ignore[operator, no-any-return]
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("text", NETWORKS)
def test_the_quick_way_reads_as_parse_network(text: str) -> None:
    assert said(network_of, text) == said(parse_network, text)


def test_a_v6_network_that_holds_mapped_addresses_is_refused() -> None:
    with pytest.raises(ValueError, match="IPv4-mapped"):
        network_of("1f::ff1f:1.2.3.0/1")


@pytest.mark.parametrize("octets", range(70))
def test_fingerprints(octets: int) -> None:
    plain = "AB" * octets
    expected = plain if octets in (16, 20, 32, 48, 64) else None
    assert parse_fingerprint(plain.lower()) == parse_fingerprint(":".join(["aB"] * octets)) == expected
    assert parse_fingerprint(plain + ":") is None
