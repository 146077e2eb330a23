"""Files in place of a PEM certificate: what each is said to be, and that the command it tells makes PEM of it."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PublicFormat, pkcs7, pkcs12
from cryptography.x509 import CertificateSigningRequestBuilder, Name

from policyd.cli.main import main
from policyd.config.certificates import LARGEST_FILE, CertificateRefused, read_certificate, read_certificate_text
from tests.helpers.certificates import make

MADE = make("mail.contoso.com")
PEM = MADE.as_pem()
DER = MADE.certificate.public_bytes(Encoding.DER)
PFX = pkcs12.serialize_key_and_certificates(b"x", MADE.private_key, MADE.certificate, None, NoEncryption())
# As Windows and Java write it: the outermost length is left open (BER).
OPEN_ENDED = b"\x30\x80" + PFX[4 if PFX[1] == 0x82 else 3 :] + b"\0\0"
P7B = pkcs7.serialize_certificates([MADE.certificate], Encoding.DER)
REQUEST = CertificateSigningRequestBuilder().subject_name(Name([])).sign(MADE.private_key, SHA256())
PUBLIC_KEY = MADE.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

CONVERTED: dict[str, tuple[bytes, str]] = {
    "der": (DER, "holds DER, not PEM; convert it: openssl x509 -inform DER -in "),
    "p7b": (P7B, "holds PKCS #7 (.p7b), not PEM: openssl pkcs7 -inform DER -in "),
    "p7b in PEM": (
        pkcs7.serialize_certificates([MADE.certificate], Encoding.PEM),
        "holds PKCS #7 (.p7b) in PEM: openssl pkcs7 -in ",
    ),
    "pfx": (PFX, "holds PKCS #12 (.pfx), a certificate with its private key: openssl pkcs12 -in "),
    "utf-16": (PEM.decode().encode("utf-16"), "holds UTF-16, not PEM: iconv -f UTF-16 -t ASCII "),
    "base64": (base64.encodebytes(DER), "holds base64 without PEM's first and last line: base64 -d "),
    "x509": (PEM.replace(b"CERTIFICATE", b"X509 CERTIFICATE"), "holds a certificate under an old name: openssl x509 "),
}
SAID: dict[str, tuple[bytes, str]] = {
    "open-ended pfx": (OPEN_ENDED, "holds PKCS #12 (.pfx), a certificate with its private key: openssl pkcs12 -in "),
    "java": (b"\xfe\xed\xfe\xed\0\0", "holds a Java keystore: keytool -exportcert -rfc -keystore "),
    "utf-16 without a mark": (PEM.decode().encode("utf-16-le"), "holds UTF-16, not PEM: iconv "),
    "trusted": (
        PEM.replace(b"BEGIN C", b"BEGIN TRUSTED C"),
        "holds a certificate with OpenSSL's trust settings: open",
    ),
    "request": (REQUEST.public_bytes(Encoding.PEM), "holds a certificate request; name the certificate that"),
    "request in DER": (REQUEST.public_bytes(Encoding.DER), "holds DER that is no certificate"),
    "private key": (MADE.key_as_pem(), "holds a private key and no certificate; name the certificate's file"),
    "public key": (PUBLIC_KEY, "holds a public key and no certificate; put the key's fingerprint"),
    "cut DER": (DER[:-1], "holds DER that is no certificate"),
    "nothing": (b" \r\n", "holds nothing; export the certificate again as PEM"),
    "page": (b"<html>404</html>", "holds no PEM certificate (-----BEGIN CERTIFICATE-----)"),
}


@pytest.mark.parametrize("kind", [*CONVERTED, *SAID])
def test_what_it_is(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, said = (CONVERTED | SAID)[kind]
    path = tmp_path / "gateway.crt"
    path.write_bytes(content)
    assert main(["certificate", str(path)]) == 65
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"policyd certificate: {path}: {said}")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("kind", CONVERTED)
def test_the_command_makes_pem_of_it(kind: str, tmp_path: Path) -> None:
    for program in ("openssl", "iconv", "base64"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    for name in ("a gateway's.crt", "gateway.pem"):  # one to be quoted, one that must not be overwritten
        path = tmp_path / name
        path.write_bytes(CONVERTED[kind][0])
        with pytest.raises(CertificateRefused) as refused:
            read_certificate(str(path), "x")
        command = str(refused.value).partition(": ")[2] + (" -passin pass:" if kind == "pfx" else "")
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, timeout=60)
        assert path.read_bytes() == CONVERTED[kind][0]
        made = tmp_path / ("NEW.pem" if name.endswith(".pem") else "a gateway's.pem")
        assert read_certificate(str(made), "x").certificate_fingerprints["sha256"] == MADE.fingerprint()


def test_a_text_in_the_configuration_names_no_file() -> None:
    with pytest.raises(CertificateRefused, match=r"openssl x509 -in FILE -out NEW\.pem"):
        read_certificate_text(CONVERTED["x509"][0].decode())


@pytest.mark.parametrize("first", [b"\x30", b"\x30\x80", b"\x30\x82", b"\xff\xfe", b"A"])
def test_long_files_of_nothing_are_told_at_once(first: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(first * (LARGEST_FILE // len(first)))
    with pytest.raises(CertificateRefused, match=r"^holds "):
        read_certificate(str(path), "x")


@pytest.mark.parametrize("name", ["ca.contoso.com", "Contoso CA"])
def test_who_is_a_ca(name: str, tmp_path: Path) -> None:
    """What `openssl req -x509` makes is marked as a CA: of a host it is the host's own certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out x.pem -subj"
    subprocess.run([*command.split(), f"/CN={name}"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    found = read_certificate(str(tmp_path / "x.pem"), "x")
    assert (found.authority, found.is_ca) == (True, name == "Contoso CA")
    assert read_certificate(str(make(name, authority=True).write(tmp_path, "y").pem), "y").is_ca
    assert not read_certificate(str(make(name).write(tmp_path, "z").pem), "z").is_ca
