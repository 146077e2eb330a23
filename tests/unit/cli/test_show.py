"""`policyd show`: what it prints is a configuration that means the same (SPEC 7)."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from policyd.cli.main import main
from policyd.config.settings import Configuration
from policyd.loading.load import load
from tests.places import TESTS

CASES = TESTS / "cases"
CONFIGURATIONS = sorted(CASES.glob("config*.toml"))


def shown(path: Path, capfd: pytest.CaptureFixture[str], *options: str) -> str:
    """What `policyd show` prints."""
    assert main(["show", "-c", str(path), *options]) == 0
    told = capfd.readouterr()
    assert told.err == ""
    return told.out


def in_order(configuration: Configuration | None) -> Configuration:
    """With everything sorted whose order means nothing, and without names of files as they were written."""
    assert configuration is not None
    organizations = []
    for one in sorted(configuration.rules.organizations, key=lambda one: one.name):
        connectors = tuple(
            replace(
                connector,
                addresses=tuple(sorted(connector.addresses)),
                certificate_names=tuple(sorted(connector.certificate_names)),
                stored_certificates=tuple(replace(stored, source="") for stored in connector.stored_certificates),
            )
            for connector in sorted(one.connectors, key=lambda connector: connector.name)
        )
        organizations.append(
            replace(
                one,
                accepted_domains=tuple(sorted(one.accepted_domains)),
                connectors=connectors,
                partners=tuple(sorted(one.partners, key=lambda partner: partner.name)),
            )
        )
    return replace(configuration, rules=replace(configuration.rules, organizations=tuple(organizations)))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_fixed_point(path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, again = shown(path, capfd), tmp_path / "again.toml"
    again.write_text(first, "utf-8")
    assert main(["check", "-c", str(again)]) == 0
    capfd.readouterr()
    assert shown(again, capfd) == first
    assert in_order(load(str(again)).configuration) == in_order(load(str(path)).configuration)


def test_json_says_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    path = CASES / "config.toml"
    assert json.loads(shown(path, capfd, "--json")) == tomllib.loads(shown(path, capfd))


def test_canonical(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policyd.toml"
    path.write_text(
        '[organizations.contoso]\naccepted_domains = ["Bücher.example.", "*.A.example"]\n'
        '[organizations.contoso.connectors.c]\naddresses = ["2001:DB8:0::1", "203.0.113.7/29", "::ffff:10.0.0.1"]\n'
        f'public_key_fingerprints = ["{"ab" * 32}"]\nrequire_tls = false\n',
        "utf-8",
    )
    data = tomllib.loads(shown(path, capfd))
    assert data["service"]["workers"] == 1
    contoso = data["organizations"]["contoso"]
    assert contoso["accepted_domains"] == ["*.a.example", "xn--bcher-kva.example"]
    assert contoso["connectors"]["c"] == {
        "addresses": ["10.0.0.1", "203.0.113.0/29", "2001:db8::1"],
        "public_key_fingerprints": [":".join(["AB"] * 32)],
    }


def test_errors(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policyd.toml"
    path.write_text("x = 1\n")
    assert main(["show", "-c", str(path)]) == 78
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"{path}:1: unknown key")
