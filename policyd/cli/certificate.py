"""`policyd certificate`: what a certificate file says, and the connector to make of it (SPEC 7)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from policyd.cli.common import Exit, say

if TYPE_CHECKING:
    from policyd.config.certificates import CertificateFile

_HELP = "names, dates and fingerprints of certificate files"
_DESCRIPTION = "Prints what policyd and Postfix see in certificates; with --connector the TOML of a connector."
_EPILOG = """\
A file is PEM; of several certificates in it the first counts. Of .pfx, .p7b, DER and the like the command that makes
PEM of them is told. A FILE of - is standard input.
The fingerprints are as Postfix sends and logs them, one for each value of smtpd_tls_fingerprint_digest.

Exit codes: 0; 64 --connector or --organization is no name; 65 a file holds no usable certificate, or with --connector
a CA's or one that many parties present.

Examples:
  policyd certificate /etc/policyd/certs/appliance.pem
  policyd certificate appliance.pem --connector appliance --organization contoso   a connector to paste
  openssl s_client -connect mail.contoso.com:25 -starttls smtp </dev/null | policyd certificate -
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd certificate`."""
    parser = subparsers.add_parser("certificate", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("files", nargs="+", metavar="FILE", help="a PEM file with the client's certificate")
    parser.add_argument("--connector", metavar="NAME", help="print a connector that recognises these certificates")
    text = "the organization of that connector"
    parser.add_argument("--organization", metavar="NAME", default="organization", help=text)
    parser.add_argument("--json", action="store_true", help="print a JSON list, an object for each file")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Describes; exit code 0, 64 or 65."""
    from policyd.config.certificates import CertificateRefused
    from policyd.config.tables import is_name

    for option in ("connector", "organization"):
        name = getattr(arguments, option)
        if name is not None and not is_name(name):
            say(f"policyd certificate: --{option}: a name is 1 to 64 of A-Z a-z 0-9 . _ -")
            return Exit.USAGE
    certificates: list[CertificateFile] = []
    for path in arguments.files:
        try:
            certificates.append(_read(path))
        except CertificateRefused as refused:
            say(f"policyd certificate: {path}: {refused}")
    if arguments.json:
        print(json.dumps([_as_json(certificate) for certificate in certificates], indent=2))
    elif arguments.connector is None:
        print("\n".join(_description(certificate) for certificate in certificates), end="")
    elif certificates := [
        certificate for certificate in certificates if not _is_shared(certificate) and not _is_ca(certificate)
    ]:
        print(_connector(certificates, arguments.organization, arguments.connector), end="")
        if arguments.organization == "organization":
            say("policyd certificate: put the organization's name into the header, or give it with --organization")
    return Exit.OK if len(certificates) == len(arguments.files) else Exit.DATA


def _read(path: str) -> CertificateFile:
    from policyd.config.certificates import LARGEST_FILE, certificate_of, read_certificate

    if path != "-":
        return read_certificate(path, path)
    return certificate_of(sys.stdin.buffer.read(LARGEST_FILE), "-", "-")


def _description(certificate: CertificateFile) -> str:
    """What people want to know, a line for each thing."""
    from policyd.config.text import clean

    usage = certificate.extended_key_usage
    others = "; this is the first, the others do not count" if certificate.certificates > 1 else ""
    rows = [
        ("subject", clean(certificate.subject)),
        ("issuer", clean(certificate.issuer)),
        *_kind(certificate),
        ("Postfix sends", _sent(certificate)),
        ("DNS names", ", ".join(map(clean, certificate.alternative_names)) or "none"),
        ("policyd counts", ", ".join(certificate.stored.names) or "no name: none is a host name"),
        ("valid from", _moment(certificate.not_before)),
        ("valid until", _moment(certificate.not_after)),
        ("key usage", "any (no extended key usage)" if usage is None else ", ".join(usage) or "none"),
        ("certificates", f"{certificate.certificates} in this file{others}"),
    ]
    lines = [clean(certificate.stored.source), *(f"  {label + ':':16}{text}" for label, text in rows)]
    for title, prints in (
        ("fingerprint of the certificate (certificate_fingerprints)", certificate.certificate_fingerprints),
        ("fingerprint of the public key (public_key_fingerprints)", certificate.public_key_fingerprints),
    ):
        lines += [f"  {title}:", *(f"    {digest + ':':8}{text}" for digest, text in prints.items())]
    return "\n".join(lines) + "\n"


def _kind(certificate: CertificateFile) -> Iterator[tuple[str, str]]:
    """What is to be said before all else."""
    if certificate.is_ca:
        yield "this is", "a CA's certificate: clients show one that it issued, so no connector can use it"
    elif certificate.authority:
        yield "this is", "self-signed, and marked as a CA: pin it. In smtpd_tls_CAfile it could sign any name"
    if certificate.private_key:
        yield "private key", "in this file, too: whoever reads it can send as this client; take it out"


def _sent(certificate: CertificateFile) -> str:
    """The name that Postfix sends, or why it sends none."""
    from policyd.config.text import clean

    now = datetime.now(UTC)
    if not certificate.for_clients:
        return "no name (the extended key usage lacks clientAuth, so Postfix does not trust it): pin it"
    if not certificate.not_before <= now <= certificate.not_after:
        when = "has expired" if now > certificate.not_after else "is not valid yet"
        return f"no name (it {when}, so Postfix does not trust it): only a pin matches"
    if certificate.common_name is None:
        return "no name (there is no CN): pin it"
    if certificate.self_signed:
        return "no name unless its CA is in smtpd_tls_CAfile, and this one is self-signed: pin it"
    name = f"{clean(certificate.common_name)} (no name unless its CA is in smtpd_tls_CAfile)"
    if len(certificate.common_names) > 1:
        all_names = ", ".join(map(clean, certificate.common_names))
        name += f". It is the first of {all_names}: a container's, or many servers'; pin it"
    return name


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _is_shared(certificate: CertificateFile) -> bool:
    """Whether many parties present it, which is told: then neither its name nor its key says whose the mail is."""
    from policyd.config.certificates import host_pattern
    from policyd.config.many_parties import shipped_names

    pattern = host_pattern(certificate.common_name or "")
    shared = pattern is not None and any(name.covers(pattern.name) for name in shipped_names())
    if shared:
        told = f"many parties present a certificate named {pattern}: no connector can use it"
        say(f"policyd certificate: {certificate.stored.source}: {told}")
    return shared


def _is_ca(certificate: CertificateFile) -> bool:
    """Whether no client shows it itself, which is told."""
    if certificate.is_ca:
        told = "a CA's certificate: clients show one that it issued, and that is what a connector needs"
        say(f"policyd certificate: {certificate.stored.source}: {told}")
    return certificate.is_ca


def _connector(certificates: list[CertificateFile], organization: str, name: str) -> str:
    """A connector that pins the keys; what else would do stands in comments."""
    from policyd.config.toml.writing import dumps

    pins = list(dict.fromkeys(certificate.public_key_fingerprints["sha256"] for certificate in certificates))
    table = {"organizations": {organization: {"connectors": {name: {"public_key_fingerprints": pins}}}}}
    text = dumps(table)
    paths = [certificate.stored.path for certificate in certificates if certificate.stored.source != "-"]
    if not all(path == path.encode("utf-8", "ignore").decode("utf-8") for path in paths):
        paths = []  # TOML has no way to write such a name
    text += "# Or the file: then its names count too (for bounces and forwarded mail), in any digest of Postfix.\n"
    text += _commented(dumps({"certificate_files": paths})) if paths else "# certificate_files = [...]\n"
    names = [name for name in map(_entry, certificates) if name is not None]
    if names:
        text += "# Or the name, where Postfix verifies the certificate (its CA is in smtpd_tls_CAfile, clientAuth).\n"
        text += _commented(dumps({"certificate_names": list(dict.fromkeys(names))}))
    return text


def _entry(certificate: CertificateFile) -> str | None:
    """The entry of `certificate_names` for the name that Postfix sends; None where no entry can match it, or none may.

    Never a name that is not one server's own: a container's before the server's, a single label. Nor that of a
    self-signed certificate, which would have to become a CA for it.
    """
    from policyd.config.certificates import host_pattern
    from policyd.config.public_suffixes import is_public_suffix

    if certificate.self_signed or len(certificate.common_names) > 1 or not certificate.for_clients:
        return None
    pattern = host_pattern(certificate.common_name or "")
    if pattern is None or "." not in pattern.name or is_public_suffix(pattern):
        return None
    return str(pattern)


def _commented(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def _as_json(certificate: CertificateFile) -> dict[str, object]:
    return {
        "file": certificate.stored.source,
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "common_name": certificate.common_name,
        "common_names": list(certificate.common_names),
        "self_signed": certificate.self_signed,
        "ca": certificate.is_ca,
        "private_key_in_file": certificate.private_key,
        "dns_names": list(certificate.alternative_names),
        "names": list(certificate.stored.names),
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "extended_key_usage": None if certificate.extended_key_usage is None else list(certificate.extended_key_usage),
        "trusted_for_clients": certificate.for_clients,
        "certificates": certificate.certificates,
        "certificate_fingerprints": certificate.certificate_fingerprints,
        "public_key_fingerprints": certificate.public_key_fingerprints,
    }
