"""Whether Postfix can recognise clients as policyd's configuration wants it: TLS, certificates, addresses.

Part of `policyd check --postfix` (SPEC 7); see `wiring`. What a service of master.cf sets for itself counts there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence

from policyd.config.problems import Severity, subject
from policyd.config.settings import Configuration
from policyd.config.text import clean, quoted
from policyd.policy.fingerprints import DIGESTS, colons
from policyd.policy.model import Evidence
from policyd.policy.networks import Network, Networks, parse_network
from policyd.postfix.findings import Findings
from policyd.postfix.messages import Message
from policyd.postfix.postconf import Postfix, Smtpd
from policyd.postfix.restrictions import words
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
_CHAIN = "smtpd_tls_chain_files"  # where it is set, the pairs do not count
_PAIRS = tuple((f"smtpd_tls_{kind}cert_file", f"smtpd_tls_{kind}key_file") for kind in ("", "ec", "d"))
_LEVEL, _ASK = "smtpd_tls_security_level", "smtpd_tls_ask_ccert"
_DIGEST, _CA_FILE = "smtpd_tls_fingerprint_digest", "smtpd_tls_CAfile"

Owned = tuple[str, Evidence]  # `organization "contoso", connector "branch"`, and it
Services = Sequence[Smtpd | None]  # those that ask policyd; None where master.cf names none


def check_clients(
    findings: Findings, configuration: Configuration | None, asking: Services, trusting: Services
) -> None:
    """TLS, the digest of pins, CAs, mynetworks, XCLIENT. `trusting`: permit_mynetworks stands before policyd there."""
    evidence = [*_evidence(configuration)]
    services = asking or [None]
    _check_tls(findings, evidence, services)
    for service in _distinct(services, _DIGEST):
        _check_digest(findings, evidence, service)
    if any(client.certificate_names for _, client in evidence):
        for service in _distinct(services, _CA_FILE, "smtpd_tls_CApath", "tls_append_default_CA"):
            _check_authorities(findings, service)
    for service in _distinct(trusting, "mynetworks"):
        _check_mynetworks(findings, evidence, service)
    for service in services:
        hosts = findings.postfix.value("smtpd_authorized_xclient_hosts", service)
        if hosts:
            findings.add("warning", "smtpd_authorized_xclient_hosts", service, Message.XCLIENT, hosts=clean(hosts))


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

    def says_yes(service: Smtpd | None, *names: str) -> bool:
        return any(postfix.value(name, service).lower() == "yes" for name in names)

    def encrypts(service: Smtpd | None) -> bool:
        level = postfix.value(_LEVEL, service)
        always = says_yes(service, "smtpd_tls_wrappermode")
        return always or (level != "none" if level else says_yes(service, "smtpd_use_tls", "smtpd_enforce_tls"))

    encrypting = [service for service in services if encrypts(service)]
    for service in _without(services, encrypting, _LEVEL):
        level = clean(postfix.value(_LEVEL, service)) or "empty"
        serious: Severity = "error" if tls and not encrypting else "warning"
        findings.add(serious, _LEVEL, service, Message.NO_TLS, level=level)
    if encrypting and not any(_hub_files(postfix, service) for service in encrypting):
        findings.add(severity, _CHAIN, encrypting[0], Message.NO_HUB_CERTIFICATE)
    for service in encrypting:
        for name, path in _hub_files(postfix, service):
            if reason := _unusable(postfix, path):
                values = {"setting": name, "file": quoted(path), "reason": reason}
                findings.add(severity, name, service, Message.HUB_CERTIFICATE_NOT_READ, **values)
        path = postfix.value(_CA_FILE, service)
        if path and (reason := _unusable(postfix, path)):
            values = {"file": clean(path), "reason": reason}
            findings.add(severity, _CA_FILE, service, Message.CA_NOT_READ, **values)
    asking = [service for service in services if says_yes(service, _ASK, "smtpd_tls_req_ccert")]
    for service in _without(services, asking, _ASK):
        findings.add("error" if certificates and not asking else "warning", _ASK, service, Message.NO_ASK_CCERT)


def _without(services: Services, able: Services, name: str) -> Services:
    """The first service where none is able to; else those that are not, since they have set `name` themselves."""
    if not able:
        return services[:1]
    others = [service for service in services if service not in able]
    return [service for service in others if service is not None and name in service.overrides]


def _hub_files(postfix: Postfix, service: Smtpd | None) -> list[tuple[str, str]]:
    """The files of the hub's own certificates and keys, each with the parameter that names it; none: it has none."""
    chain = postfix.value(_CHAIN, service)
    if chain:
        return [(_CHAIN, path) for path in re.split(r"[,\s]+", chain) if path] if chain.lower() != "none" else []
    files = []
    for certificate, key in _PAIRS:
        path = postfix.value(certificate, service)
        if not path or (certificate == _PAIRS[0][0] and path.lower() == "none"):
            continue
        files.append((certificate, path))
        own = service is not None and key in service.overrides
        by_default = not own and postfix.parameters.get(key) in (None, postfix.parameters.get(certificate))
        if not by_default:  # else the key is in the same file
            files.append((key, postfix.value(key, service)))
    return files


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


def _check_digest(findings: Findings, evidence: Sequence[Owned], service: Smtpd | None) -> None:
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


def _check_authorities(findings: Findings, service: Smtpd | None) -> None:
    postfix = findings.postfix
    file, folder = postfix.value(_CA_FILE, service), postfix.value("smtpd_tls_CApath", service)
    appended = postfix.value("tls_append_default_CA", service).lower() == "yes"
    if not file and not folder and not appended:
        findings.add("error", _CA_FILE, service, Message.NO_CA)
    if appended:
        setting = "tls_append_default_CA"
        findings.add("warning", setting, service, Message.SYSTEM_CAS, setting=f"{setting} = yes")
    if file.startswith(_SYSTEM_FILES) or _authorities_in(file) > MOST_AUTHORITIES:
        findings.add("warning", _CA_FILE, service, Message.SYSTEM_CAS, setting=clean(f"{_CA_FILE} = {file}"))
    if folder.startswith(_SYSTEM_FOLDERS):
        values = {"setting": clean(f"smtpd_tls_CApath = {folder}")}
        findings.add("warning", "smtpd_tls_CApath", service, Message.SYSTEM_CAS, **values)


def _authorities_in(file: str) -> int:
    try:
        return read_text(file).count("-----BEGIN ") if file else 0
    except PostconfError:
        return 0


def _check_mynetworks(findings: Findings, evidence: Sequence[Owned], service: Smtpd | None) -> None:
    trusted = Networks(networks_of(findings.postfix.value("mynetworks", service)))
    for owner, client in evidence:
        for network in client.addresses:
            touched = trusted.overlapping(network) if "connector " in owner else None
            if touched is not None:
                values = {"address": quoted(str(network)), "owner": owner, "network": str(touched)}
                findings.add_of_many("warning", "mynetworks", service, Message.CONNECTOR_IN_MYNETWORKS, **values)


def networks_of(mynetworks: str) -> Iterator[Network]:
    """The networks that stand in the value itself; tables, files and exclusions are left out."""
    for word in words(mynetworks):
        address, slash, length = word.text.partition("/")
        try:
            yield parse_network(address.strip("[]") + slash + length)[0]
        except ValueError:
            continue
