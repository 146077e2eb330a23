"""What is allowed and probably not meant in a single value: warnings of SPEC 4, called by the readers.

Warnings about whole organizations are in `suspicious`. None of them changes what is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from policyd.config.certificates import CertificateFile
from policyd.config.messages import Message
from policyd.config.problems import KeyPath, Report
from policyd.config.text import quoted
from policyd.config.unusable_addresses import unusable
from policyd.policy.names import Pattern, parse_pattern
from policyd.policy.networks import Network

MANY = {4: 256, 6: 1 << 64}  # addresses
EXPIRES_SOON = 30 * 86400  # seconds


def network(text: str, meant: Network, path: KeyPath, report: Report) -> None:
    """Many addresses, or such as no client on the Internet has."""
    if meant.size > MANY[meant.family]:
        limit = "256" if meant.family == 4 else "a /64"
        report.warning(path, Message.WIDE, value=quoted(text), limit=limit)
    for message in unusable(meant):
        report.warning(path, message, value=quoted(text))


def certificate(text: str, file: CertificateFile, path: KeyPath, report: Report) -> None:
    """The dates of a certificate file, and what it holds besides."""
    value, until = quoted(text), file.not_after.timestamp() - report.now
    if until < 0:
        report.warning(path, Message.CERTIFICATE_EXPIRED, value=value, date=_date(file.not_after))
    elif until < EXPIRES_SOON:
        days = int(until // 86400)
        left = "within a day" if days < 1 else f"in {days} day{'s' * (days != 1)}"
        report.warning(path, Message.CERTIFICATE_EXPIRES, value=value, date=_date(file.not_after), days=left)
    if file.not_before.timestamp() > report.now:
        report.warning(path, Message.CERTIFICATE_NOT_YET, value=value, date=_date(file.not_before))
    if file.certificates > 1:
        report.warning(path, Message.CERTIFICATE_SEVERAL, value=value, count=str(file.certificates))
    if file.private_key:
        report.warning(path, Message.CERTIFICATE_AND_KEY, value=value)


def within_wildcard(patterns: Sequence[Pattern], raw: object, path: KeyPath, report: Report) -> None:
    """`x` beside `*.x`."""
    wildcards = {pattern.name for pattern in patterns if pattern.wildcard}
    if not wildcards:
        return
    doubled = {pattern.name for pattern in patterns if not pattern.wildcard and pattern.name in wildcards}
    if not doubled or not isinstance(raw, list):
        return
    places = {parse_pattern(text): index for index, text in reversed(list(enumerate(raw))) if isinstance(text, str)}
    for name in sorted(doubled):
        index, wildcard_index = places[Pattern(name)], places[Pattern(name, True)]
        report.warning(
            (*path, index),
            Message.WITHIN_WILDCARD,
            value=quoted(raw[index]),
            other=quoted(raw[wildcard_index]),
            place=report.place((*path, wildcard_index)),
        )


def _date(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"
