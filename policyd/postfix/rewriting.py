"""What becomes of a message after policyd was asked: smuggled ones, and addresses that Postfix completes (SPEC 7).

Part of `policyd check --postfix`; see `wiring`. A bare newline must not end a message (postconf(5),
smtpd_forbid_bare_newline; www.postfix.org/smtp-smuggling.html), and a bare host name must stay what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from policyd.config.problems import subject
from policyd.config.settings import Configuration
from policyd.config.text import clean, quoted
from policyd.policy.names import canonical, is_below
from policyd.policy.networks import Network
from policyd.postfix.clients import networks_of
from policyd.postfix.findings import Findings
from policyd.postfix.messages import Message
from policyd.postfix.postconf import Smtpd
from policyd.postfix.restrictions import words

_FORBID, _EXCLUSIONS = "smtpd_forbid_bare_newline", "smtpd_forbid_bare_newline_exclusions"
_APPEND = "append_dot_mydomain"
_FORBIDDEN = ("yes", "normalize", "reject")  # `note` only logs


def check_rewriting(findings: Findings, configuration: Configuration | None, asking: Sequence[Smtpd | None]) -> None:
    """Bare newlines at the services that ask policyd, and completed host names, which are main.cf's matter alone."""
    for service in asking:
        _check_bare_newline(findings, service)
    if configuration is not None and findings.postfix.value(_APPEND).lower() == "yes":
        _check_append_dot(findings, configuration)


def _check_bare_newline(findings: Findings, service: Smtpd | None) -> None:
    postfix = findings.postfix
    value = postfix.value(_FORBID, service)
    if value.lower() not in _FORBIDDEN:
        shown = clean(value) or f"not known to Postfix {postfix.value('mail_version')}"
        findings.add("warning", _FORBID, service, Message.BARE_NEWLINE, value=shown)
        return
    mynetworks = postfix.value("mynetworks", service)
    trusted = [*networks_of(mynetworks)]
    written = {word.text for word in words(mynetworks)}  # tables, too
    for word in words(postfix.value(_EXCLUSIONS, service)):
        if word.text not in written and not any(_lies_in(network, trusted) for network in networks_of(word.text)):
            findings.add("warning", _EXCLUSIONS, service, Message.BARE_NEWLINE_EXCLUSIONS, network=clean(word.text))


def _lies_in(network: Network, others: Iterable[Network]) -> bool:
    ends = (network.family, network.first), (network.family, network.last)
    return any(all(map(other.holds, ends)) for other in others)


def _check_append_dot(findings: Findings, configuration: Configuration) -> None:
    mydomain = canonical(findings.postfix.value("mydomain"))
    for owner, name in _accepted(configuration):
        if mydomain is not None and is_below(name, mydomain):
            short = name.removesuffix(f".{mydomain}")
            values = {"domain": quoted(name), "owner": owner, "short": quoted(short)}
            findings.add_of_many("error", _APPEND, None, Message.APPEND_DOT, **values)


def _accepted(configuration: Configuration) -> Iterator[tuple[str, str]]:
    for organization in configuration.rules.organizations:
        for pattern in organization.accepted_domains:
            yield subject(("organizations", organization.name)), pattern.name
