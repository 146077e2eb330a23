"""Whether Postfix can verify clients' certificates and show its own: the files of CAs, the hub's key (SPEC 7).

Part of `policyd check --postfix`; see `wiring`. smtpd reads its files as root before it enters the chroot, but looks
for CAs in smtpd_tls_CApath from within. Says nothing about what this process may not read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from policyd.config.certificates import Authority, CertificateRefused, authorities_of, pair_problem
from policyd.config.problems import Severity
from policyd.config.regular_file import FileRefused, read_regular
from policyd.config.text import clean, quoted
from policyd.postfix.findings import Findings
from policyd.postfix.messages import Message
from policyd.postfix.postconf import Listener, Postfix
from policyd.postfix.text import LARGEST_FILE

CHAIN = "smtpd_tls_chain_files"  # where it is set, the pairs do not count
PAIRS = tuple((f"smtpd_tls_{kind}cert_file", f"smtpd_tls_{kind}key_file") for kind in ("", "ec", "d"))
CA_FILE, CA_FOLDER = "smtpd_tls_CAfile", "smtpd_tls_CApath"

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # what c_rehash makes
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


Place = tuple[str, str]  # a parameter, and the file that it names


def hub_files(postfix: Postfix, service: Listener | None) -> list[Place]:
    """The files of the hub's own certificates and keys, each with the parameter that names it; none: it has none."""
    chain = _chain(postfix, service)
    if chain is not None:
        return chain
    pairs = _pairs(postfix, service)
    return list(dict.fromkeys(place for pair in pairs for place in pair))


def _chain(postfix: Postfix, service: Listener | None) -> list[Place] | None:
    chain = postfix.value(CHAIN, service)
    if not chain:
        return None
    return [(CHAIN, path) for path in re.split(r"[,\s]+", chain) if path] if chain.lower() != "none" else []


def _pairs(postfix: Postfix, service: Listener | None) -> list[tuple[Place, Place]]:
    """Certificates and keys by the old parameters; by default a key is in the file of its certificate."""
    pairs = []
    for certificate, key in PAIRS:
        path = postfix.value(certificate, service)
        if not path or (certificate == PAIRS[0][0] and path.lower() == "none"):
            continue
        own = service is not None and key in service.overrides
        by_default = not own and postfix.parameters.get(key) in (None, postfix.parameters.get(certificate))
        place = (certificate, path)
        pairs.append((place, place if by_default else (key, postfix.value(key, service))))
    return pairs


def check_hub_key(findings: Findings, service: Listener | None, severity: Severity) -> None:
    """Whether the hub's keys belong to its certificates."""
    postfix = findings.postfix
    chain = _chain(postfix, service)
    if chain:
        contents = [_content(postfix, path) for _, path in chain]
        if all(contents):
            _tell_key(findings, service, severity, chain[0], b"".join(filter(None, contents)), None)
    elif chain is None:
        for certificate, key in _pairs(postfix, service):
            of_certificate, of_key = _content(postfix, certificate[1]), _content(postfix, key[1])
            if of_certificate and of_key:
                _tell_key(findings, service, severity, key, of_key, of_certificate)


def _tell_key(
    findings: Findings,
    service: Listener | None,
    severity: Severity,
    place: Place,
    key: bytes,
    certificate: bytes | None,
) -> None:
    """`certificate`: None where it stands behind its key."""
    setting, path = place
    problem = pair_problem(key, key if certificate is None else certificate)
    if not problem and certificate is None and key.find(b"PRIVATE KEY-----") > key.find(_CERTIFICATE):
        problem = "begins with a certificate, and not with its key"
    if problem:
        values = {"setting": setting, "file": quoted(path), "problem": problem}
        findings.add(severity, setting, service, Message.HUB_KEY, **values)


def check_trusted(findings: Findings, service: Listener | None) -> None:
    """Whether Postfix can trust any client's certificate by smtpd_tls_CAfile or smtpd_tls_CApath."""
    postfix = findings.postfix
    file, folder = postfix.value(CA_FILE, service), postfix.value(CA_FOLDER, service)
    if postfix.value("tls_append_default_CA", service).lower() == "yes":
        return
    of_file = _file_problem(postfix, service, file) if file else ""
    problem, advice = _folder_problem(postfix, service, folder) if folder else ("", "")
    if of_file and (problem or not folder):
        findings.add("error", CA_FILE, service, Message.CA_IS_NONE, file=clean(file), problem=of_file)
    if problem:
        values = {"folder": clean(folder), "problem": problem, "advice": advice}
        severity: Severity = "warning" if file and not of_file else "error"
        findings.add(severity, CA_FOLDER, service, Message.CA_FOLDER, **values)


def _file_problem(postfix: Postfix, service: Listener | None, file: str) -> str:
    """Why no client's certificate can be trusted by a file; empty where one can, or where that is told elsewhere."""
    content = _content(postfix, file)
    if not content or b"-----BEGIN TRUSTED" in content:
        return ""
    if _CERTIFICATE not in content:
        return "holds no certificate"
    try:
        certificates = authorities_of(content)
    except CertificateRefused as refused:
        return f"cannot be read ({clean(str(refused))})"
    own = _own_certificate(postfix, service)
    others = [certificate for certificate in certificates if certificate.fingerprint != own]
    authorities = [certificate for certificate in others if certificate.is_ca]
    now = datetime.now(UTC)
    valid = [one for one in authorities if one.not_before <= now <= one.not_after]
    if not others:
        return "holds the hub's own certificate only, by which no client's was made"
    if not authorities:
        return "holds no CA"
    if not valid:
        return "holds no CA that is valid today (they have expired, or are not yet valid)"
    if not any(_reaches_root(one, valid) for one in valid):
        return "holds intermediate CAs without their root"
    return ""


def _reaches_root(authority: Authority, authorities: Sequence[Authority]) -> bool:
    by_subject = {one.subject: one for one in authorities}
    for _ in authorities:
        if authority.is_root:
            return True
        issuer = by_subject.get(authority.issuer)
        if issuer is None:
            return False
        authority = issuer
    return authority.is_root


def _own_certificate(postfix: Postfix, service: Listener | None) -> str:
    """The fingerprint of the hub's own certificate; empty where that cannot be said."""
    for _, path in hub_files(postfix, service):
        content = _content(postfix, path)
        if content and _CERTIFICATE in content:
            try:
                return authorities_of(content)[0].fingerprint
            except CertificateRefused:
                return ""
    return ""


def _folder_problem(postfix: Postfix, service: Listener | None, folder: str) -> tuple[str, str]:
    """What is wrong with a folder of CAs, and what to do; two empty texts where nothing is."""
    queue = postfix.value("queue_directory")
    if service is not None and service.chroot:
        inside = os.path.join(queue, folder.lstrip("/"))
        if not os.path.isdir(inside):
            return (
                f"is not there for smtpd, which is chrooted to {clean(queue)}",
                f"use {CA_FILE}, which is read before",
            )
        path = inside
    else:
        path = os.path.join(queue, folder)
    try:
        names = os.listdir(path)
    except PermissionError:
        return "", ""
    except OSError as error:
        return f"cannot be read ({error.strerror})", f"make it, or use {CA_FILE}"
    if not any(_HASHED.fullmatch(name) for name in names):
        return "has no names that OpenSSL looks for", f"run `openssl rehash {clean(folder)}`, or use {CA_FILE}"
    return "", ""


def _content(postfix: Postfix, path: str) -> bytes | None:
    """What a file holds; None where it cannot be read, which is told elsewhere or is not ours to know."""
    try:
        return read_regular(os.path.join(postfix.value("queue_directory"), path), LARGEST_FILE)
    except FileRefused:
        return None


def differing(postfix: Postfix, one: Listener | None, other: Listener | None, names: Iterable[str]) -> list[str]:
    """Those of some parameters that two services have not alike."""
    return [name for name in names if postfix.value(name, one) != postfix.value(name, other)]
