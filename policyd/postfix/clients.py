"""Whether Postfix can recognise clients as policyd's configuration wants it: TLS, certificates, digests.

Part of `policyd check --postfix` (SPEC 7); see `wiring`. What a service of master.cf sets for itself counts there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from policyd.config.problems import Severity, subject
from policyd.config.settings import Configuration
from policyd.config.text import clean, quoted
from policyd.policy.fingerprints import DIGESTS, colons
from policyd.policy.model import Evidence
from policyd.postfix.authorities import CA_FILE, CA_FOLDER, CHAIN, check_hub_key, check_trusted, hub_files
from policyd.postfix.findings import Findings
from policyd.postfix.handshakes import check_handshakes, encrypts, says_yes
from policyd.postfix.messages import Message
from policyd.postfix.postconf import Listener, Postfix
from policyd.postfix.tables import Tables
from policyd.postfix.text import PostconfError, read_text

MOST_AUTHORITIES = 40  # certificates in a file of CAs; one with more is (a copy of) the system's, which has over 100

_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cert",
    "/etc/pki/ca-trust",
    "/usr/local/share/certs",
)
_SYSTEM_FOLDERS = ("/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust", "/usr/share/ca-certificates")
_LEVEL, _ASK = "smtpd_tls_security_level", "smtpd_tls_ask_ccert"
_DIGEST = "smtpd_tls_fingerprint_digest"

Owned = tuple[str, Evidence]  # `organization "contoso", connector "branch"`, and it
Services = Sequence[Listener | None]  # those that ask policyd; None where master.cf names none


def check_clients(findings: Findings, configuration: Configuration | None, asking: Services, tables: Tables) -> None:
    """TLS, the digest of pins, CAs. `asking`: the services that ask policyd."""
    evidence = [*_evidence(configuration)]
    services = asking or [None]
    _check_tls(findings, evidence, services)
    for service in _distinct(services, _DIGEST):
        _check_digest(findings, evidence, service)
    clients = [client for _, client in evidence]
    if any(client.certificate_names for client in clients):
        for service in _distinct(services, CA_FILE, CA_FOLDER, "tls_append_default_CA"):
            _check_authorities(findings, service)
        for service in services:  # each, since one is chrooted and the other is not
            check_trusted(findings, service)
    check_handshakes(findings, clients, services, tables)


def _distinct(services: Services, *names: str) -> Services:
    """The services, and those that set none of the parameters for themselves once only, as None."""
    own = [service for service in services if service is not None and any(name in service.overrides for name in names)]
    return own if len(own) == len(services) else [*own, None]


def _evidence(configuration: Configuration | None) -> Iterator[Owned]:
    """All enabled connectors and partners."""
    for organization in configuration.rules.organizations if configuration is not None else ():
        for kind, clients in (("connectors", organization.connectors), ("partners", organization.partners)):
            for client in clients:
                if client.enabled:
                    yield subject(("organizations", organization.name, kind, client.name)), client


def _check_tls(findings: Findings, evidence: Sequence[Owned], services: Services) -> None:
    """One service that can is enough: a hub may have a port of its own for certificates.

    A service that switches off for itself what others have is told of, as a warning.
    """
    postfix = findings.postfix
    certificates = any(client.asks_for_certificate for _, client in evidence)
    tls = certificates or any(client.require_tls for _, client in evidence)
    severity: Severity = "error" if tls else "warning"

    encrypting = [service for service in services if encrypts(postfix, service)]
    for service in _without(services, encrypting, _LEVEL):
        level = clean(postfix.value(_LEVEL, service)) or "empty"
        serious: Severity = "error" if tls and not encrypting else "warning"
        findings.add(serious, _LEVEL, service, Message.NO_TLS, level=level)
    if encrypting and not any(hub_files(postfix, service) for service in encrypting):
        findings.add(severity, CHAIN, encrypting[0], Message.NO_HUB_CERTIFICATE)
    for service in encrypting:
        for name, path in hub_files(postfix, service):
            if reason := _unusable(postfix, path):
                values = {"setting": name, "file": quoted(path), "reason": reason}
                findings.add(severity, name, service, Message.HUB_CERTIFICATE_NOT_READ, **values)
        path = postfix.value(CA_FILE, service)
        if path and (reason := _unusable(postfix, path)):
            values = {"file": clean(path), "reason": reason}
            findings.add(severity, CA_FILE, service, Message.CA_NOT_READ, **values)
        check_hub_key(findings, service, severity)
    asking = [service for service in services if says_yes(postfix, service, _ASK, "smtpd_tls_req_ccert")]
    for service in _without(services, asking, _ASK):
        findings.add("error" if certificates and not asking else "warning", _ASK, service, Message.NO_ASK_CCERT)


def _without(services: Services, able: Services, name: str) -> Services:
    """The first service where none is able to; else those that are not, since they have set `name` themselves."""
    if not able:
        return services[:1]
    others = [service for service in services if service not in able]
    return [service for service in others if service is not None and name in service.overrides]


def _unusable(postfix: Postfix, path: str) -> str:
    """Why smtpd, which opens it as root and in its queue, cannot use a file; empty also where we may not look."""
    try:
        status = os.stat(os.path.join(postfix.value("queue_directory"), path) if path else "")
    except PermissionError:
        return ""
    except (OSError, ValueError) as error:  # ValueError: NUL in a path
        return getattr(error, "strerror", None) or str(error)
    if not stat.S_ISREG(status.st_mode):
        return "no regular file"
    return "" if status.st_size else "it is empty"


def _check_digest(findings: Findings, evidence: Sequence[Owned], service: Listener | None) -> None:
    expected = findings.postfix.value(_DIGEST, service).lower()
    if expected in ("md5", "sha1"):
        findings.add("warning", _DIGEST, service, Message.FINGERPRINT_DIGEST_WEAK, digest=expected)
    if expected not in DIGESTS.values():
        return
    for owner, client in evidence:
        for pin in (*client.certificate_fingerprints, *client.public_key_fingerprints):
            digest = DIGESTS[len(pin)]
            if digest != expected:
                values = {"value": quoted(colons(pin)), "owner": owner, "digest": digest, "expected": expected}
                findings.add_of_many("error", _DIGEST, service, Message.PIN_LENGTH, **values)


def _check_authorities(findings: Findings, service: Listener | None) -> None:
    postfix = findings.postfix
    file, folder = postfix.value(CA_FILE, service), postfix.value("smtpd_tls_CApath", service)
    appended = postfix.value("tls_append_default_CA", service).lower() == "yes"
    if not file and not folder and not appended:
        findings.add("error", CA_FILE, service, Message.NO_CA)
    if appended:
        setting = "tls_append_default_CA"
        findings.add("warning", setting, service, Message.SYSTEM_CAS, setting=f"{setting} = yes")
    if file.startswith(_SYSTEM_FILES) or _authorities_in(file) > MOST_AUTHORITIES:
        findings.add("warning", CA_FILE, service, Message.SYSTEM_CAS, setting=clean(f"{CA_FILE} = {file}"))
    if folder.startswith(_SYSTEM_FOLDERS):
        values = {"setting": clean(f"smtpd_tls_CApath = {folder}")}
        findings.add("warning", "smtpd_tls_CApath", service, Message.SYSTEM_CAS, **values)


def _authorities_in(file: str) -> int:
    try:
        return read_text(file).count("-----BEGIN ") if file else 0
    except PostconfError:
        return 0
