"""Certificate files: fingerprints as openssl has them, names, and dates against a clock (SPEC 3.2 and 4)."""

from __future__ import annotations

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


# What `openssl x509 -noout -fingerprint -DIGEST` and `openssl dgst -DIGEST` of the DER public key said of two-deep.pem.
OPENSSL = {
    "md5": ("1B45C6FDF2052EBE79CA40C0C18BAC23", "A381B13BA439AA9C9E5A8638EDD9CFF1"),
    "sha1": ("4F139C4AA1203FB633D9F5F7B87279DE0DAE696D", "DD7F4B8020D73F89CFEC2FFCB88FFAF2BC76C41F"),
    "sha256": (
        "158011C77ED866868C1AC77D7DE729D4F69E5CC27FA7DAE3EA93366CDDDBD008",
        "10FA6BA60C12AF67B3299CB0D73D7A4CE5C0FC41E6E0FFEA302AD34EA181CC49",
    ),
    "sha384": (
        "6E7F58F3850A7C029DC1CFE873C02B8C368F6646083DA0092D1B4669E4067C0262C3468EF11FEBB8424B4113A29C436A",
        "F0B2355DF13628A796FF26D5F86ABDD31488EC0AD43B36D6C575885CDBB830BB0831976A58A76130486E96E40E3F8FCD",
    ),
    "sha512": (
        (
            "D438F0064B02408182E6484253EE2EA28BB92FE231CC3A66AA1B9A9833D0E989"
            "A18AEA0A7786AD61D799E32D85A99C2FA0B6D6A427ACAB77A036E7BF7BF52D31"
        ),
        (
            "EBB8F51C5E0713DD94D8C9CDC4AADFB1E94385278A74159FC23DB6083D64D18D"
            "498AEFA44E05D5322B63ABDBF287F362E42435CA4B6FD48211F731DC84597F42"
        ),
    ),
}


@pytest.mark.parametrize("digest", DIGESTS.values())
def test_fingerprints_are_those_of_openssl(digest: str) -> None:
    found = read_certificate(str(CERTS / "two-deep.pem"), "x")
    certificate, key = OPENSSL[digest]
    assert found.certificate_fingerprints[digest].replace(":", "") == certificate
    assert found.public_key_fingerprints[digest].replace(":", "") == key
    assert key in found.stored.public_key_fingerprints


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
