"""The short ways of what is usual in long files: they find what the long ways find, and lose nothing."""

from __future__ import annotations

import random
import re

import pytest

from policyd.config import conflicts, evidence_readers, readers, suspicious
from policyd.config.conflicts import Conflict, PlacedProvider, find_conflicts
from policyd.config.messages import Message
from policyd.config.owners import DomainIndex
from policyd.config.parsed import Parsed
from policyd.config.tables import parse_organization
from policyd.config.text import quoted
from policyd.config.toml.file import TomlFile
from policyd.config.toml.lines import Lines
from policyd.policy.model import Rules
from policyd.policy.names import Pattern, parse_pattern
from policyd.policy.ruleset import NOBODY
from policyd.store.file import rule_set

LABELS = ["a", "example", "contoso", "com", "A", "Bü", "xn--bcher-kva", "xn--", "0", "10", "1a", "a_b", "-", "*", ""]
LABELS += ["a b", "x" * 63, "x" * 64, "ı", "ſ", "\n", "com\n", "@", "a:b", "\u3002"]


def outcome(text: str) -> Pattern | tuple[str, dict[str, str]]:
    """The pattern, or why there is none."""
    try:
        return evidence_readers.pattern_of(text)
    except readers.Refused as refused:
        return refused.message.name, refused.fills


def test_usual_names(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = random.Random(11)
    texts = [".".join(choose.choices(LABELS, k=choose.randint(1, 5))) for _ in range(5000)]
    texts += ["*." + text for text in texts[:2000]]
    texts += [".".join(["x" * 63] * 3 + ["y" * length]) for length in (60, 61, 62, 63)]  # up to 253 octets, and more
    quick = [outcome(text) for text in texts]
    usual = sum(evidence_readers._USUAL_PATTERN.fullmatch(text) is not None for text in texts)
    monkeypatch.setattr(evidence_readers, "_USUAL_PATTERN", re.compile(r"(?!)"))
    assert quick == [outcome(text) for text in texts]
    assert usual > 100
    assert all(found == parse_pattern(text) for text, found in zip(texts, quick, strict=True) if type(found) is Pattern)


def parsed_with(addresses: list[list[tuple[str, bool]]]) -> list[Parsed]:
    """An organization for each list of networks, which may be those of connectors that are disabled."""
    source = TomlFile("policyd.toml", {}, Lines(""))
    all_parsed = []
    for number, networks in enumerate(addresses):
        connectors = {
            f"c{index}": {"addresses": [network], "enabled": enabled}
            for index, (network, enabled) in enumerate(networks)
        }
        all_parsed.append(parse_organization(f"o{number}", {"connectors": connectors}, source, 0.0, number))
    return all_parsed


def test_whose_a_name_is() -> None:
    """The checks and the compiled rules say the same of every name, and warn of what does not belong, and only that."""
    choose = random.Random(13)
    names = ["a", "x", "b.a", "c.b.a", "d.b.a", "e.d.b.a", "f.e.d.b.a", "b.x", "c.b.x", "d.c.b.x"]
    source = TomlFile("policyd.toml", {}, Lines(""))
    told = 0
    for _ in range(500):
        sample = choose.sample(names[2:], choose.randint(0, 6))
        entries = [(choose.randrange(3), choose.choice(("", "*.")) + name) for name in sample]
        certificate_names = [choose.choice(("", "*.")) + choose.choice(names[2:]) for _ in range(3)]
        all_parsed = []
        for number in range(3):
            connectors = {"c": {"certificate_names": certificate_names[number : number + 1]}}
            accepted = [entry for holder, entry in entries if holder == number]
            table = {"accepted_domains": accepted, "connectors": connectors}
            all_parsed.append(parse_organization(f"o{number}", table, source, 0.0, number))
        domains = DomainIndex(all_parsed)
        rules = rule_set(Rules(organizations=tuple(parsed.organization for parsed in all_parsed)))
        for name in names:
            assert domains.place(name) == rules.place(name), (entries, name)
        for parsed in all_parsed:
            (pattern,) = parsed.organization.connectors[0].certificate_names
            outside = rules.zone(pattern.name) in (parsed.organization.name, NOBODY) and not rules.belongs(
                pattern.name, parsed.organization.name
            )
            warnings = [problem.message for problem in suspicious.within(parsed, domains)]
            warning = Message.NAME_OUTSIDE.value.format(value=quoted(str(pattern)))
            assert (warning in warnings) == outside, (entries, warnings)
            told += outside
    assert 100 < told < 1400


def test_overlapping_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing overlaps where no network overlaps the next one: as if that had not been asked."""
    choose = random.Random(12)

    def network() -> str:
        host = choose.randrange(24)
        four = choose.choice([f"192.0.2.{host}", f"192.0.2.{host & ~7}/29", f"192.0.2.{host}-192.0.2.{host + 2}"])
        return choose.choice([four, four, f"2001:db8::{host:x}", f"2001:db8::{host & ~3:x}/126", f"::c000:2{host:02x}"])

    def found(all_parsed: list[Parsed]) -> list[Conflict]:
        return find_conflicts(all_parsed, PlacedProvider(), DomainIndex(all_parsed))

    configurations = [
        parsed_with([[(network(), choose.random() < 0.8) for _ in range(choose.randint(0, 2))] for _ in range(3)])
        for _ in range(1000)
    ]
    quick = [found(all_parsed) for all_parsed in configurations]
    without = quick.count([])
    monkeypatch.setattr(conflicts, "pairwise", lambda claims: [(claims[0], claims[0])] if claims else [])
    assert quick == [found(all_parsed) for all_parsed in configurations]
    assert 100 < without < 900
