"""`policyd certificate`: what it says of tests/certs, and the connector that it makes (SPEC 7)."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from policyd.cli.main import main
from policyd.config.certificates import read_certificate
from policyd.loading.load import load
from policyd.policy.identity import Client, certificate_name, name_matches
from policyd.policy.names import parse_pattern
from tests.helpers.certificates import in_days, make
from tests.make_certs import CERTIFICATES
from tests.places import TESTS

CERTS = TESTS / "certs"
CA = make("Contoso CA", authority=True)
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
    assert found.self_signed
    assert ("there is no CN" in told) is (found.common_name is None)
    assert ("no name unless its CA is in smtpd_tls_CAfile, and this one" in told) is (found.common_name is not None)


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


def commented_names(told: str) -> list[str]:
    """What the proposed connector's comment lists as certificate_names."""
    lines = [line[2:] for line in told.splitlines() if line.startswith("# certificate_names")]
    return [name for line in lines for name in tomllib.loads(line)["certificate_names"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_name_in_the_comment_is_the_one_that_postfix_sends(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same names under a CA; of a self-signed certificate there is none, since nobody shall trust it."""
    assert main(["certificate", str(path), "--connector", "gw"]) == 0
    assert commented_names(capsys.readouterr().out) == []
    names = CERTIFICATES[path.name]
    issued = make(*filter(None, [names.common_name]), dns_names=names.dns, issuer=CA).write(tmp_path, "issued").pem
    assert main(["certificate", str(issued), "--connector", "gw"]) == 0
    proposed = commented_names(capsys.readouterr().out)
    sent = certificate_name(names.common_name)
    if sent[0] is None:
        assert proposed == []
        return
    pattern = parse_pattern(proposed[0])
    assert pattern is not None
    assert name_matches(pattern.name, pattern.wildcard, Client(None, *sent, "", "", False))


@pytest.mark.parametrize(
    ("common_name", "dates", "sent", "proposed"),
    [
        ("Contoso Gateway", (-1, 1), "Contoso Gateway", []),
        ("*.contoso.com", (-1, 1), "*.contoso.com", ["*.contoso.com"]),
        ("*.com", (-1, 1), "*.com", []),
        ("computers", (-1, 1), "computers", []),
        ("*.co.uk", (-1, 1), "*.co.uk", []),
        ("192.0.2.1", (-1, 1), "192.0.2.1", []),
        ("mail.contoso.com", (-2, -1), "no name (it has expired", ["mail.contoso.com"]),
        ("mail.contoso.com", (1, 2), "no name (it is not valid yet", ["mail.contoso.com"]),
    ],
)
def test_what_postfix_sends(
    common_name: str,
    dates: tuple[int, int],
    sent: str,
    proposed: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = make(common_name, dns_names=("mail.contoso.com",), dates=in_days(*dates), issuer=CA)
    path = made.write(tmp_path, "made").pem
    assert main(["certificate", str(path)]) == 0
    sent += "" if sent.startswith("no name") else " (no name unless its CA is in smtpd_tls_CAfile)\n"
    assert f"Postfix sends:  {sent}" in capsys.readouterr().out
    assert main(["certificate", str(path), "--connector", "gw"]) == 0
    assert commented_names(capsys.readouterr().out) == proposed


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certificate", "--json", *map(str, FILES)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in told] == [str(path) for path in FILES]
    assert told[FILES.index(CERTS / "san-only.pem")]["common_name"] is None


def test_a_file_whose_name_no_toml_can_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / "b\udcfcro.pem"
    odd.write_bytes((CERTS / "cn-only.pem").read_bytes())
    assert main(["certificate", str(odd), "--connector", "gw"]) == 0
    assert "# certificate_files = [...]\n" in capsys.readouterr().out


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


@pytest.mark.parametrize("names", [("Computers", "exch01.contoso.com"), ("exch01.contoso.com", "server.contoso.com")])
def test_of_several_names_none_is_proposed(
    names: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Active Directory's certificates have the container's CN before the server's, and Postfix sends the first."""
    path = make(*names, issuer=CA).write(tmp_path, "made").pem
    assert main(["certificate", str(path)]) == 0
    sent = f"{names[0]} (no name unless its CA is in smtpd_tls_CAfile). It is the first of {', '.join(names)}: "
    assert f"Postfix sends:  {sent}" in capsys.readouterr().out
    assert main(["certificate", str(path), "--connector", "gw"]) == 0
    assert commented_names(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("name", "said", "proposed"),
    [
        ("hp.pem", "no name unless its CA is in smtpd_tls_CAfile, and this one is self-signed: pin it", []),
        ("dcstyle.pem", "It is the first of Computers, EXCH01.contoso.com: a container's", []),
        ("le-classic.pem", "no name (the extended key usage lacks clientAuth", []),
        ("sanonly-client.pem", "no name (there is no CN): pin it", []),
    ],
)
def test_samples(name: str, said: str, proposed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = str(TESTS / "samples" / "certificates" / name)
    assert main(["certificate", path]) == 0
    assert said in capsys.readouterr().out
    assert main(["certificate", path, "--connector", "gw"]) == 0
    assert commented_names(capsys.readouterr().out) == proposed


def test_a_ca_makes_no_connector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = CA.write(tmp_path, "ca").pem
    assert main(["certificate", str(path)]) == 0
    assert "this is:        a CA's certificate: clients show one that it issued" in capsys.readouterr().out
    assert main(["certificate", str(path), "--connector", "gw"]) == 65
    told = capsys.readouterr()
    assert (told.out, f"{path}: a CA's certificate" in told.err) == ("", True)
    assert main(["certificate", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["ca"] is True


def test_a_private_key_beside_the_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make("mail.contoso.com", issuer=CA)
    for content in (made.as_pem() + made.key_as_pem(), made.key_as_pem() + made.as_pem()):
        (tmp_path / "both.pem").write_bytes(content)
        assert main(["certificate", str(tmp_path / "both.pem")]) == 0
        assert "private key:    in this file, too: whoever reads it can send" in capsys.readouterr().out


def test_no_connector_of_what_many_parties_present(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make("mail.protection.outlook.com", dates=in_days(-1, 1)).write(tmp_path, "made").pem
    assert main(["certificate", str(path), "--connector", "gw"]) == 65
    told = capsys.readouterr()
    assert told.out == ""
    assert "many parties present a certificate named mail.protection.outlook.com" in told.err
    assert main(["certificate", str(path)]) == 0
