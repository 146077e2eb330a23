"""Certificate files: fingerprints against openssl, names, and dates against a clock (SPEC 3.2 and 4)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from policyd.config.certificates import CertificateRefused, certificate_of, read_certificate
from policyd.loading.load import load
from policyd.policy.fingerprints import DIGESTS
from tests.make_certs import CERTIFICATES
from tests.places import TESTS

CERTS = TESTS / "certs"
FILES = sorted(CERTS.glob("*.pem"))
DAY = 86400


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_names(path: Path) -> None:
    found, made = read_certificate(str(path), path.name), CERTIFICATES[path.name]
    assert found.common_name == made.common_name
    assert found.alternative_names == made.dns
    assert found.stored.source == path.name
    assert found.stored.path == str(path)
    assert found.certificates == (1 if made.followed_by is None else 2)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("digest", DIGESTS.values())
def test_fingerprints_are_those_of_openssl(digest: str) -> None:
    path = CERTS / "two-deep.pem"
    found = read_certificate(str(path), "x")
    told = subprocess.check_output(["openssl", "x509", "-in", path, "-noout", "-fingerprint", f"-{digest}"], text=True)
    assert found.certificate_fingerprints[digest] == told.strip().partition("=")[2]
    pem = subprocess.check_output(["openssl", "x509", "-in", path, "-noout", "-pubkey"])
    der = subprocess.check_output(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem)
    told = subprocess.check_output(["openssl", "dgst", f"-{digest}", "-r"], input=der).decode().split()[0]
    assert found.public_key_fingerprints[digest].replace(":", "") == told.upper()
    assert told.upper() in found.stored.public_key_fingerprints


@pytest.mark.parametrize(
    ("until_end", "text"),
    [(31 * DAY, ""), (29.5 * DAY, "in 29 days"), (1.5 * DAY, "in 1 day;"), (60, "within a day"), (-60, "expired on")],
)
def test_expiry(until_end: float, text: str, tmp_path: Path) -> None:
    path = tmp_path / "policyd.toml"
    certificate = CERTS / "cn-only.pem"
    path.write_text(
        '[organizations.contoso]\naccepted_domains = ["contoso.com"]\n[organizations.contoso.connectors.c]\n'
        f'certificate_files = ["{certificate}"]\n'
    )
    end = read_certificate(str(certificate), "x").stored.not_after
    loaded = load(str(path), end - until_end)
    assert loaded.configuration is not None
    assert [problem.line for problem in loaded.problems] == [4] * (text != "")
    assert all(text in problem.message for problem in loaded.problems)


def test_damage_is_refused() -> None:
    content = (CERTS / "cn-only.pem").read_bytes()
    assert certificate_of(content, "x", "x").common_name == "mail.contoso.com"
    for cut in range(0, len(content) - 30, 7):
        with pytest.raises(CertificateRefused):
            certificate_of(content[:cut], "x", "x")
