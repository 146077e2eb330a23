"""What becomes of a message after policyd was asked: smuggled ones, and addresses that Postfix completes (SPEC 7).

Part of `policyd check --postfix`; see `wiring`. A bare newline must not end a message (postconf(5),
smtpd_forbid_bare_newline; www.postfix.org/smtp-smuggling.html), and a bare host name must stay what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policyd.config.problems import subject
from policyd.config.settings import Configuration
from policyd.config.text import clean, quoted
from policyd.policy.names import Pattern, canonical, is_below
from policyd.policy.networks import Network
from policyd.postfix.findings import Findings
from policyd.postfix.messages import Message
from policyd.postfix.networks import connectors_of, trusted_by
from policyd.postfix.postconf import Listener
from policyd.postfix.restrictions import words
from policyd.postfix.tables import Tables

_FORBID, _EXCLUSIONS = "smtpd_forbid_bare_newline", "smtpd_forbid_bare_newline_exclusions"
_APPEND = "append_dot_mydomain"
_FORBIDDEN = ("yes", "normalize", "reject")  # `note` only logs


def check_rewriting(
    findings: Findings,
    configuration: Configuration | None,
    asking: Sequence[tuple[Listener | None, bool]],
    tables: Tables,
) -> None:
    """Bare newlines at the services that ask policyd, and completed host names, which are main.cf's matter alone.

    `asking`: each service, and whether mynetworks lets mail past policyd there.
    """
    clients = [*connectors_of(configuration)]
    for service, trusting in asking:
        _check_bare_newline(findings, service, tables, [] if trusting else clients)
    if configuration is not None and findings.postfix.value(_APPEND).lower() == "yes":
        _check_append_dot(findings, configuration)


def _check_bare_newline(
    findings: Findings, service: Listener | None, tables: Tables, clients: Sequence[tuple[str, Network]]
) -> None:
    """`clients`: connectors that can do no harm but by smuggling; none where mynetworks lets them relay anyway."""
    postfix = findings.postfix
    value = postfix.value(_FORBID, service)
    if value.lower() not in _FORBIDDEN:
        shown = clean(value) or f"not known to Postfix {postfix.value('mail_version')}"
        findings.add("warning", _FORBID, service, Message.BARE_NEWLINE, value=shown)
        return
    mynetworks = postfix.value("mynetworks", service)
    trusted = trusted_by(mynetworks, tables)
    written = {word.text for word in words(mynetworks)}  # tables, too
    for word in words(postfix.value(_EXCLUSIONS, service)):
        excluded = trusted_by(word.text, tables, [network for _, network in clients])
        who = next((owner for owner, network in clients if excluded.holding(network) is not None), "")
        if word.text not in written and (excluded.unread or excluded.outside(trusted.networks)):
            who = "clients outside of mynetworks"
        if who:
            values = {"network": clean(word.text), "who": who}
            findings.add("warning", _EXCLUSIONS, service, Message.BARE_NEWLINE_EXCLUSIONS, **values)


def _check_append_dot(findings: Findings, configuration: Configuration) -> None:
    mydomain = canonical(findings.postfix.value("mydomain"))
    for owner, pattern in _accepted(configuration):
        if mydomain is None:
            break
        short = pattern.name.removesuffix(f".{mydomain}")
        below = pattern.wildcard and (mydomain == pattern.name or is_below(mydomain, pattern.name))
        if below or (short != pattern.name and "." not in short):  # a name with a dot in it is not completed
            domain, short = (str(Pattern(mydomain, wildcard=True)), "host") if below else (pattern.name, short)
            values = {"domain": quoted(domain), "owner": owner, "short": quoted(short)}
            findings.add_of_many("error", _APPEND, None, Message.APPEND_DOT, **values)


def _accepted(configuration: Configuration) -> Iterator[tuple[str, Pattern]]:
    for organization in configuration.rules.organizations:
        for pattern in organization.accepted_domains:
            yield subject(("organizations", organization.name)), pattern
