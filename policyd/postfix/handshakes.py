"""What becomes of clients' certificates on the way to policyd: STARTTLS, versions, demands, shared sessions (SPEC 7).

Part of `policyd check --postfix`; see `wiring`. Facts by version: raw public keys from 3.9, certificates of servers and
sessions apart for each service from 3.12.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from policyd.config.problems import Severity
from policyd.config.text import clean
from policyd.policy.model import Evidence
from policyd.policy.networks import format_address
from policyd.postfix.authorities import CA_FILE, CA_FOLDER, differing
from policyd.postfix.findings import Findings
from policyd.postfix.mails import ANYWHERE
from policyd.postfix.messages import Message
from policyd.postfix.postconf import Listener, Postfix
from policyd.postfix.restrictions import words
from policyd.postfix.tables import Tables
from policyd.postfix.trust import is_local

_VERSIONS = ("sslv2", "sslv3", "tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
_OF_TODAY = {"tlsv1.2", "tlsv1.3"}
_KEYWORDS, _KEYWORD_MAPS = "smtpd_discard_ehlo_keywords", "smtpd_discard_ehlo_keyword_address_maps"
_TRUST = (CA_FILE, CA_FOLDER, "tls_append_default_CA")
_SESSIONS_APART = (3, 12)


def says_yes(postfix: Postfix, service: Listener | None, *names: str) -> bool:
    """Whether one of the parameters is yes."""
    return any(postfix.value(name, service).lower() == "yes" for name in names)


def encrypts(postfix: Postfix, service: Listener | None) -> bool:
    """Whether a service speaks TLS."""
    level = postfix.value("smtpd_tls_security_level", service)
    if says_yes(postfix, service, "smtpd_tls_wrappermode"):
        return True
    return level != "none" if level else says_yes(postfix, service, "smtpd_use_tls", "smtpd_enforce_tls")


def demands_tls(postfix: Postfix, service: Listener | None) -> bool:
    """Whether a service takes no mail without TLS."""
    level = postfix.value("smtpd_tls_security_level", service)
    return level == "encrypt" or (not level and says_yes(postfix, service, "smtpd_enforce_tls"))


def asks_certificates(postfix: Postfix, service: Listener | None) -> bool:
    """Whether a service asks clients for certificates."""
    return encrypts(postfix, service) and says_yes(postfix, service, "smtpd_tls_ask_ccert", "smtpd_tls_req_ccert")


def check_handshakes(
    findings: Findings, evidence: Sequence[Evidence], services: Sequence[Listener | None], tables: Tables
) -> None:
    """`services`: those that ask policyd; `evidence`: all connectors and partners that count."""
    certificates = any(client.asks_for_certificate for client in evidence)
    for service in services:
        if certificates or any(client.require_tls for client in evidence):
            _check_starttls(findings, evidence, service, tables)
            _check_protocols(findings, service)
        _check_required(findings, evidence, service, services)
        if certificates and encrypts(findings.postfix, service):
            _check_kinds(findings, evidence, service)
    if any(client.certificate_names for client in evidence):
        _check_sessions(findings, services)


def _check_starttls(findings: Findings, evidence: Sequence[Evidence], service: Listener | None, tables: Tables) -> None:
    value = findings.postfix.value
    if _hides_starttls(value(_KEYWORDS, service)):
        findings.add("error", _KEYWORDS, service, Message.NO_STARTTLS, setting=_KEYWORDS)
    known = [
        format_address((network.family, network.first))
        for client in evidence
        if client.asks_for_certificate or client.require_tls
        for network in client.addresses
    ]
    for word in words(value(_KEYWORD_MAPS, service)):
        answers = tables.answers(word.text, (*ANYWHERE, *known)) or {}
        hidden = {address for address, keywords in answers.items() if _hides_starttls(keywords)}
        if hidden.issuperset(ANYWHERE) or not hidden.isdisjoint(known):
            setting = clean(f"{_KEYWORD_MAPS} ({word.text})")
            findings.add("error", _KEYWORD_MAPS, service, Message.NO_STARTTLS, setting=setting)


def _hides_starttls(keywords: str) -> bool:
    return "starttls" in re.split(r"[,\s]+", keywords.lower())


def _check_protocols(findings: Findings, service: Listener | None) -> None:
    postfix = findings.postfix
    if not encrypts(postfix, service):
        return
    mandatory = demands_tls(postfix, service) or says_yes(postfix, service, "smtpd_tls_wrappermode")
    setting = "smtpd_tls_mandatory_protocols" if mandatory else "smtpd_tls_protocols"
    value = postfix.value(setting, service)
    if not allowed_versions(value) & _OF_TODAY:
        findings.add("error", setting, service, Message.OLD_PROTOCOLS, setting=setting, value=clean(value))


def allowed_versions(value: str) -> set[str]:
    """The versions of SSL and TLS that smtpd_tls_protocols leaves: named, excluded by `!`, or from and to a bound."""
    named: set[str] = set()
    excluded: set[str] = set()
    lowest, highest = 0, len(_VERSIONS)
    for word in re.split(r"[:,\s]+", re.sub(r"([<>]=)\s+", r"\1", value.lower())):
        bare = word.lstrip("!<>=")
        if bare not in _VERSIONS:
            continue
        if word.startswith(">="):
            lowest = _VERSIONS.index(bare)
        elif word.startswith("<="):
            highest = _VERSIONS.index(bare) + 1
        else:
            (excluded if word.startswith("!") else named).add(bare)
    return (named or set(_VERSIONS[lowest:highest])) - excluded


def _check_required(
    findings: Findings, evidence: Sequence[Evidence], service: Listener | None, services: Sequence[Listener | None]
) -> None:
    """A certificate of a known CA as a condition: only a port for connectors by name can ask for that."""
    postfix = findings.postfix
    if not _requires(postfix, service):
        return
    others = [other for other in services if not _requires(postfix, other)]
    name = service.name if service is not None else "smtp/inet"
    is_public = re.search(r"(?:^|:)(?:smtp|25)/inet$|/pass$", name) is not None
    refused = ["mail from strangers never arrives"] if is_public else []
    if is_public or not others:
        if any(client.addresses and not client.asks_for_certificate for client in evidence):
            refused.append("connectors by address never match")
        if any(_pins(client) for client in evidence):
            refused.append("pinned certificates of other CAs never match")
    if refused:
        values = {"who": ", and ".join(refused)}
        findings.add("warning", "smtpd_tls_req_ccert", service, Message.REQUIRED_CERTIFICATE, **values)


def _requires(postfix: Postfix, service: Listener | None) -> bool:
    return says_yes(postfix, service, "smtpd_tls_req_ccert") and demands_tls(postfix, service)


def _pins(client: Evidence) -> bool:
    return bool(client.certificate_fingerprints or client.public_key_fingerprints or client.stored_certificates)


def _check_kinds(findings: Findings, evidence: Sequence[Evidence], service: Listener | None) -> None:
    """Certificates in place of which Postfix takes something else: raw public keys, certificates of servers."""
    postfix = findings.postfix
    if says_yes(postfix, service, "smtpd_tls_enable_rpk") and any(
        client.certificate_names or client.certificate_fingerprints for client in evidence
    ):
        findings.add("warning", "smtpd_tls_enable_rpk", service, Message.RAW_PUBLIC_KEYS)
    if says_yes(postfix, service, "tls_trust_server_ccerts") and any(client.certificate_names for client in evidence):
        severity: Severity = "error" if says_yes(postfix, service, "tls_append_default_CA") else "warning"
        findings.add(severity, "tls_trust_server_ccerts", service, Message.SERVER_CERTIFICATES, setting=CA_FILE)


def _check_sessions(findings: Findings, services: Sequence[Listener | None]) -> None:
    """A session that began at a service with other CAs can be resumed at one that asks policyd."""
    postfix = findings.postfix
    if postfix.version >= _SESSIONS_APART:
        return
    interfaces = postfix.value("inet_interfaces")
    sharing = [
        service
        for service in postfix.services
        if asks_certificates(postfix, service)
        and not is_local(interfaces, service)
        and "no_ticket" not in postfix.value("tls_ssl_options", service).lower()
    ]
    told: set[frozenset[str]] = set()
    for service in services:
        if service not in sharing or service is None:
            continue
        for other in sharing:
            names = differing(postfix, service, other, _TRUST)
            pair = frozenset((service.name, other.name))
            if names and pair not in told:
                told.add(pair)
                parameter = next((name for name in names if name in other.overrides or name in service.overrides), "")
                place = other if parameter in other.overrides else service
                values = {"service": service.name, "other": other.name, "settings": ", ".join(names)}
                findings.add("error", parameter, place, Message.SHARED_SESSIONS, **values)
