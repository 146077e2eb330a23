"""`policyd certificate`: what it says of tests/certs, and the connector that it makes (SPEC 7)."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from policyd.cli.main import main
from policyd.config.certificates import read_certificate
from policyd.config.load import load

CERTS = Path(__file__).resolve().parent.parent / "certs"
FILES = sorted(CERTS.glob("*.pem"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_description(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certificate", str(path)]) == 0
    told, found = capsys.readouterr().out, read_certificate(str(path), "x")
    for text in (*found.certificate_fingerprints.values(), *found.public_key_fingerprints.values()):
        assert text in told
    for name in found.stored.names:
        assert name in told.partition("policyd counts:")[2].partition("\n")[0]
    assert ("the first" in told) is (found.certificates > 1)
    assert ("no name" in told) is (not found.stored.names or found.common_name is None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_connector_recognises_the_certificate(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certificate", str(path), "--connector", "gw", "--organization", "contoso"]) == 0
    told = capsys.readouterr().out
    written = tmp_path / "policyd.toml"
    written.write_text(told, "utf-8")
    configuration = load(str(written)).configuration
    assert configuration is not None
    (organization,) = configuration.rules.organizations
    (connector,) = organization.connectors
    assert (organization.name, connector.name) == ("contoso", "gw")
    stored = read_certificate(str(path), "x").stored
    assert set(connector.public_key_fingerprints) & stored.public_key_fingerprints
    for line in told.splitlines():
        if line.startswith("# certificate_"):
            assert tomllib.loads(line[2:])


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certificate", "--json", *map(str, FILES)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in told] == [str(path) for path in FILES]
    assert told[FILES.index(CERTS / "san-only.pem")]["common_name"] is None


def test_one_bad_file_among_good_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    assert main(["certificate", str(bad), str(CERTS / "cn-only.pem")]) == 65
    told = capsys.readouterr()
    assert "mail.contoso.com" in told.out
    assert told.err == f"policyd certificate: {bad}: holds no PEM certificate (-----BEGIN CERTIFICATE-----)\n"


@pytest.mark.parametrize("option", ["--connector", "--organization"])
def test_names(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certificate", str(CERTS / "cn-only.pem"), option, "a b"]) == 64
    assert capsys.readouterr().err.startswith(f"policyd certificate: {option}: a name is")
