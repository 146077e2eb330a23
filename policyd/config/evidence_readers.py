"""Readers of evidence and domains: names, addresses, fingerprints, certificates (SPEC 4)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from policyd.config import suspicious_values
from policyd.config.certificates import CertificateFile, CertificateRefused, read_certificate, read_certificate_text
from policyd.config.messages import Message
from policyd.config.problems import KeyPath, Report
from policyd.config.public_suffixes import is_public_suffix
from policyd.config.readers import Reader, Refused, elements, evidence, parsed_list
from policyd.config.text import clean, quoted
from policyd.policy.fingerprints import DIGESTS, STRONG, parse_fingerprint
from policyd.policy.model import StoredCertificate
from policyd.policy.names import LONGEST_NAME, Pattern, is_host_name, parse_pattern, unicode_form
from policyd.policy.networks import DISGUISED_V4, LOOPBACK, Network, parse_address, parse_network

WIDEST = {4: 1 << 16, 6: 1 << 96}  # addresses (SPEC 4)
_WIDEST_TEXT = {4: "/16", 6: "/32"}
# By far the most names as they are written: canonical already, of two labels or more, and no address.
_USUAL_PATTERN = re.compile(r"(\*\.)?((?:[a-z0-9_-]{1,63}\.)+[a-z][a-z0-9_-]{0,62})")


def pattern_of(text: str) -> Pattern:
    """`x` or `*.x` as the administrator writes domains and certificate names. Raises Refused."""
    usual = _USUAL_PATTERN.fullmatch(text)
    if usual is not None and len(text) <= LONGEST_NAME and "xn--" not in text:
        return Pattern(usual[2], usual[1] is not None)
    pattern = None if text.startswith((".", "*.*")) else parse_pattern(text)
    if pattern is None:
        raise _no_name(text)
    if not is_host_name(pattern.name):
        if parse_address(text) is not None:
            raise Refused(Message.IS_ADDRESS, value=quoted(text))
        raise Refused(Message.NO_HOST_NAME, value=quoted(text), hint=": its last label is a number")
    if pattern.wildcard and "." not in pattern.name:
        raise Refused(Message.WHOLE_TLD, value=quoted(text))
    return pattern


def _no_name(text: str) -> Refused:
    value = quoted(text)
    if text in ("*", "*.", "*.*"):
        return Refused(Message.EVERYTHING, value=value)
    if text.startswith(".") and parse_pattern(text[1:]) is not None:
        hint = f"; for a name and all below it write {quoted('*' + text)}"
    elif "*" in text.removeprefix("*."):
        return Refused(Message.INNER_WILDCARD, value=value)
    elif parse_address(text.strip("[]").removeprefix("IPv6:").partition("/")[0]) is not None:
        return Refused(Message.IS_ADDRESS, value=value)
    elif not text:
        hint = ": it is empty; take it out"
    elif "," in text or any(c.isspace() for c in text.strip()):
        hint = "; write each name as an entry of its own, in its own quotes"
    elif text != text.strip():
        hint = "; take the blanks out"
    elif "@" in text:
        hint = "; write only what follows the @"
    elif "/" in text or ":" in text:
        hint = "; write the bare name, without scheme, port or path"
    elif ".." in text:
        hint = "; there is a dot too many"
    elif len(text) > 63 and max(map(len, text.split("."))) > 63:
        hint = ": a label is longer than 63 octets"
    elif len(text) > 253:
        hint = ": it is longer than 253 octets"
    else:
        hint = "; labels are of letters, digits, hyphen and underscore (or what IDNA 2008 allows)"
    return Refused(Message.NO_HOST_NAME, value=value, hint=hint)


def _pattern(text: str, path: KeyPath, report: Report) -> Pattern | None:
    try:
        return pattern_of(text)
    except Refused as refused:
        report.error(path, refused.message, **refused.fills)
        return None


def patterns(example: str) -> Reader:
    """A list of names and `*.` patterns."""
    read_list = parsed_list(_pattern, example)

    def read(value: object, path: KeyPath, report: Report) -> Sequence[Pattern] | None:
        parsed: tuple[Pattern, ...] | None = read_list(value, path, report)
        if parsed and len(parsed) > 1:
            suspicious_values.within_wildcard(parsed, value, path, report)
        return parsed

    return read


def own_names(example: str) -> Reader:
    """As `patterns`, for names that can be somebody's own: no public suffixes (SPEC 4)."""
    read_list = patterns(example)

    def read(value: object, path: KeyPath, report: Report) -> Sequence[Pattern] | None:
        parsed: Sequence[Pattern] | None = read_list(value, path, report)
        suffixes = set(filter(is_public_suffix, parsed or ()))
        if not suffixes:
            return parsed
        for index, text in enumerate(value if isinstance(value, list) else ()):
            pattern = parse_pattern(text) if isinstance(text, str) else None
            if pattern in suffixes:
                own = quoted(f"contoso.{unicode_form(pattern.name)}")
                report.error((*path, index), Message.PUBLIC_SUFFIX, value=quoted(text), example=own)
        return tuple(pattern for pattern in parsed or () if pattern not in suffixes)

    return read


accepted_domains = own_names("contoso.com")


def sender_domains(value: object, path: KeyPath, report: Report) -> tuple[tuple[Pattern, ...], bool] | None:
    """The patterns of a partner's senders, and whether `*` is among them."""
    if not isinstance(value, list) or "*" not in value:
        senders = _sender_patterns(value, path, report)
        return None if senders is None else (senders, False)
    if len(value) > 1:
        report.warning((*path, value.index("*")), Message.STAR_AND_OTHERS)
    others = [(index, element) for index, element in elements(value, path, report, "") or () if element != "*"]
    parsed = (_pattern(element, (*path, index), report) for index, element in others)
    return tuple(dict.fromkeys(pattern for pattern in parsed if pattern is not None)), True


# `x` beside `*.x` is no warning here: in Exchange, where partners come from, the one does not cover the other.
_sender_patterns = evidence(parsed_list(_pattern, "bank.example"))


def _tlsa(text: str, path: KeyPath, report: Report) -> str | None:
    """A host, or an owner name that begins with `_` (SPEC 10)."""
    pattern = _pattern(text, path, report)
    if pattern is not None and pattern.wildcard:
        report.error(path, Message.NO_HOST_NAME, value=quoted(text), hint="; write the name of one host")
        return None
    return None if pattern is None else pattern.name


tlsa = parsed_list(_tlsa, "mail.contoso.com")


def _any_network(text: str, path: KeyPath, report: Report, own: bool = False) -> Network | None:
    try:
        network, host_bits = parse_network(text)
    except ValueError as error:
        if own and re.fullmatch(r"[0-9A-Fa-f:.]+/[0-9]{1,2}", text) and "others" in str(error):  # ::/0 and such
            report.error(path, Message.TOO_WIDE, value=quoted(text), limit=_WIDEST_TEXT[6])
            return None
        report.error(path, Message.BAD_NETWORK, value=quoted(text), reason=_reason(text, str(error)))
        return None
    if host_bits:
        report.warning(path, Message.HOST_BITS, value=quoted(text), network=str(network))
    return network


def _reason(text: str, error: str) -> str:
    if text != text.strip() or " " in text:
        return "it has blanks in it; take them out, and write each address as an entry of its own"
    if "," in text:
        return "write each address as an entry of its own, in its own quotes"
    if text.startswith("["):
        return "write it without brackets"
    if text and not any(c.isdigit() for c in text):
        return "it is no IPv4 or IPv6 address; names are not looked up, write the address"
    if "/" in text and text.count(".") == 6:
        return "write the mask as a prefix length, like 203.0.113.0/24"
    if "-" in text and text.count("-") == 1 and "." not in text.partition("-")[2] and ":" not in text:
        return "write both ends of a range in full, like 203.0.113.4-203.0.113.9"
    return clean(error) + ("; write an address, a network like 203.0.113.0/28, or a range a-b" if text else "")


def _own_network(text: str, path: KeyPath, report: Report) -> Network | None:
    """A network that a connector or partner may have."""
    network = _any_network(text, path, report, own=True)
    if network is None:
        return None
    if network.size > WIDEST[network.family]:
        report.error(path, Message.TOO_WIDE, value=quoted(text), limit=_WIDEST_TEXT[network.family])
        return None
    disguised = next(filter(network.overlaps, DISGUISED_V4), None)
    if disguised is not None and network not in LOOPBACK:
        report.error(path, Message.DISGUISED_V4, value=quoted(text), network=str(disguised))
        return None
    suspicious_values.network(text, network, path, report)
    return network


networks = parsed_list(_any_network, "203.0.113.0/28")
addresses = evidence(parsed_list(_own_network, "203.0.113.7"))


def _fingerprint(text: str, path: KeyPath, report: Report) -> str | None:
    plain = parse_fingerprint(text)
    if plain is None:
        report.error(path, Message.BAD_FINGERPRINT, value=quoted(text), reason=_why_no_fingerprint(text))
        return None
    if len(plain) < STRONG:
        report.warning(path, Message.WEAK_DIGEST, value=quoted(text), digest=DIGESTS[len(plain)])
    return plain


def _why_no_fingerprint(text: str) -> str:
    if "=" in text:
        return "write only what follows the ="
    digits = text.replace(":", "")
    if not re.fullmatch(r"[0-9A-Fa-f]*", digits):
        return "it holds other characters than hexadecimal digits and colons"
    if len(digits) % 2 or (":" in text and len(digits) in DIGESTS):
        return "a digit or a colon is missing or too many"
    return f"it has {len(digits) // 2} octets"


fingerprints = evidence(parsed_list(_fingerprint, "F0:99:F0:45:..."))


def _certificate(text: str, path: KeyPath, report: Report) -> StoredCertificate | None:
    full = os.path.join(report.source.folder, text)
    try:
        if not text:
            raise CertificateRefused("this is no file name")
        certificate = read_certificate(full, text)
    except CertificateRefused as refused:
        report.error(path, Message.CERTIFICATE_FILE, value=quoted(text), reason=clean(str(refused)))
        return None
    return _own(text, certificate, path, report)


def _own(text: str, certificate: CertificateFile, path: KeyPath, report: Report) -> StoredCertificate | None:
    """A certificate that a client itself can show: not a CA's."""
    if certificate.is_ca:
        hint = " (of several in a file the first counts)" if certificate.certificates > 1 else ""
        subject = clean(certificate.subject)
        report.error(path, Message.CERTIFICATE_OF_CA, value=quoted(text), subject=subject, hint=hint)
        return None
    suspicious_values.certificate(text, certificate, path, report)
    return certificate.stored


certificate_files = evidence(parsed_list(_certificate, "certs/appliance.pem"))


def _certificate_text(text: str, path: KeyPath, report: Report) -> StoredCertificate | None:
    try:
        certificate = read_certificate_text(text)
    except CertificateRefused as refused:
        first = text.strip().split("\n", 1)[0][:40]
        report.error(path, Message.CERTIFICATE_TEXT, value=quoted(first), reason=clean(str(refused)))
        return None
    return _own(certificate.subject, certificate, path, report)


certificates = evidence(parsed_list(_certificate_text, "-----BEGIN CERTIFICATE-----"))
