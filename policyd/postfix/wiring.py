"""What is wrong between Postfix and policyd: the restriction lists, and all else in order (SPEC 7, check --postfix).

The rule behind it: both smtpd_relay_restrictions and smtpd_recipient_restrictions must let a recipient pass, and an OK
ends its own list only. So policyd stands directly before reject_unauth_destination in the list that has it, nothing but
permit_mynetworks and permit_sasl_authenticated can say OK before it, and no other list refuses relaying. Options are
looked at in `options`, TLS and clients in `clients`, domains in `domains`, what becomes of a message after that in
`rewriting`. Changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from policyd.config.problems import Problem
from policyd.config.settings import Configuration
from policyd.config.text import clean
from policyd.postfix.access_tables import can_permit
from policyd.postfix.clients import check_clients
from policyd.postfix.domains import SETTINGS, compare_domains
from policyd.postfix.findings import Findings
from policyd.postfix.lists import DATA, DECIDING, OTHER_LISTS, RECIPIENT, RELAY, Lists, read_lists
from policyd.postfix.messages import Message
from policyd.postfix.options import check_options, check_stamping, recommended_service
from policyd.postfix.postconf import Postfix, default_folder, read_postfix
from policyd.postfix.restrictions import Restriction, refusal
from policyd.postfix.rewriting import check_rewriting
from policyd.postfix.text import PostconfError

# What a misspelt parameter of main.cf may have been meant for.
_LOOKED_AT = (
    *(*DECIDING, *OTHER_LISTS, *SETTINGS, "smtpd_restriction_classes", "mynetworks", "header_checks"),
    *("smtpd_tls_security_level", "smtpd_tls_ask_ccert", "smtpd_tls_req_ccert", "smtpd_tls_CAfile"),
    *("smtpd_tls_CApath", "smtpd_tls_fingerprint_digest", "smtpd_tls_chain_files", "smtpd_tls_cert_file"),
    *("smtpd_tls_key_file", "smtpd_tls_eccert_file", "smtpd_tls_eckey_file"),
    *("smtpd_policy_service_default_action", "smtpd_policy_service_timeout", "parent_domain_matches_subdomains"),
    *("smtpd_relay_before_recipient_restrictions", "smtpd_authorized_xclient_hosts", "nested_header_checks"),
    *("smtpd_forbid_bare_newline", "smtpd_forbid_bare_newline_exclusions", "append_dot_mydomain"),
)
_NEVER_HARMFUL = ("permit_mynetworks", "permit_sasl_authenticated")


def check_wiring(folder: str, configuration: Configuration | None) -> list[Problem]:
    """Everything that is wired wrong between the Postfix in `folder` and a policyd of this configuration.

    An empty `folder` is the one of the Postfix that is installed. Without a configuration (it has errors) what depends
    on it is left out.
    """
    try:
        folder = folder or default_folder()
        postfix = read_postfix(folder)
    except PostconfError as error:
        return [Problem(folder or "postconf", 0, "error", "", clean(str(error)), Message.POSTFIX_NOT_READ.id)]
    return findings_in(postfix, configuration)


def findings_in(postfix: Postfix, configuration: Configuration | None) -> list[Problem]:
    """As check_wiring, for a Postfix that was read."""
    findings = Findings(postfix)
    for remark in postfix.remarks:
        if _matters(remark):
            findings.add_remark(remark)
    asking = _check_lists(findings, configuration)
    trusting = [lists.service for lists in asking if lists.trusts_networks_first]
    check_clients(findings, configuration, [lists.service for lists in asking], trusting)
    check_rewriting(findings, configuration, [lists.service for lists in asking])
    if configuration is not None:
        compare_domains(findings, configuration)
    return findings.problems()


def _matters(remark: str) -> bool:
    """Whether what postconf complains of can be about policyd's wiring: a parameter that is looked at, or nearly so."""
    name = re.search(r"(?:unused parameter|overriding earlier entry|undefined parameter): (\w+)", remark)
    if name is not None:
        return bool(get_close_matches(name[1], _LOOKED_AT, n=1, cutoff=0.9))
    return not re.search(r"fully qualified|^open \"\w+\" configuration", remark)  # a table's own file: see the domains


def _check_lists(findings: Findings, configuration: Configuration | None) -> list[Lists]:
    """Where policyd stands in the lists of each smtpd; gives those that ask it where an OK counts."""
    every = read_lists(findings, configuration)
    stamping = configuration is not None and bool(configuration.attribution_header)
    for lists in every:
        check_options(findings, lists, configuration)
    asking = [lists for lists in every if any(map(lists.asks, DECIDING))]
    open_ones = [lists for lists in asking if not lists.is_closed]
    apart = _lists_of_their_own(findings, every)
    for lists, name in apart:
        findings.add("warning" if open_ones else "error", name, lists.service, Message.LIST_OF_ITS_OWN, list=name)
    asking = open_ones or ([] if apart else asking)
    for lists in asking:
        _check_order(findings, lists)
        if stamping and configuration is not None:
            check_stamping(findings, lists, configuration)
    asked_anywhere = bool(asking or apart)
    for lists in every:
        elsewhere = [name for name in OTHER_LISTS if lists.asks(name) and not (stamping and name == DATA)]
        if elsewhere:
            asked_anywhere = True
            useful = any(map(lists.asks, DECIDING))
            named = " and ".join(elsewhere)
            if useful:
                findings.add("warning", elsewhere[0], lists.service, Message.ALSO_ELSEWHERE, lists=named)
            elif not asking:
                findings.add("error", elsewhere[0], lists.service, Message.ONLY_ELSEWHERE, lists=named)
    if not asked_anywhere:
        values = {"recommended": recommended_service(findings.postfix, configuration)}
        findings.add("error", RECIPIENT, None, Message.NOT_ASKED, **values)
    return asking


def _lists_of_their_own(findings: Findings, every: Sequence[Lists]) -> list[tuple[Lists, str]]:
    """Services for which a list of their own stands in the place of the one of main.cf that asks policyd."""
    replacing = []
    for lists in every:
        main = Lists(findings.postfix, None, lists.ours)
        for name in DECIDING:
            replaced = lists.service is not None and name in lists.service.overrides and main.asks(name)
            if replaced and not lists.is_closed and not any(map(lists.asks, DECIDING)):
                replacing.append((lists, name))
    return replacing


def _check_order(findings: Findings, lists: Lists) -> None:
    """What stands before and behind policyd, and in the other list."""
    service = lists.service
    both = [name for name in DECIDING if lists.asks(name)]
    for name in both:
        for restriction in lists.before(name):
            _check_before(findings, lists, name, restriction)
    if len(both) == 2:
        findings.add("warning", RECIPIENT, service, Message.TWICE)
    (asked, *_) = both
    other = RELAY if asked == RECIPIENT else RECIPIENT
    refusing = lists.refuses_behind(asked) or any(restriction.refuses_relaying for restriction in lists.before(asked))
    blocking = refusal(lists.all[other])
    if blocking and len(both) == 1:
        advice = f"set `{RELAY} =`" if other == RELAY else f"take it out of {RECIPIENT}"
        if not refusing:
            advice += ", and put reject_unauth_destination directly behind policyd"
        values = {"restriction": blocking, "list": other, "asked": asked, "advice": advice}
        findings.add("error", other, service, Message.OTHER_LIST_REFUSES, **values)
    elif not refusing and not blocking:
        findings.add("error", asked, service, Message.NOTHING_REFUSES)


def _check_before(findings: Findings, lists: Lists, name: str, restriction: Restriction) -> None:
    """One restriction that stands before policyd in its list."""
    values = {"restriction": clean(restriction.name), "argument": clean(restriction.argument)}
    if restriction.refuses_relaying:
        findings.add("error", name, lists.service, Message.AFTER_REFUSAL, **values)
    elif restriction.name == "permit_auth_destination":
        findings.add("error", name, lists.service, Message.PERMIT_AUTH_BEFORE)
    elif restriction.permits and restriction.name not in _NEVER_HARMFUL:
        findings.add("error", name, lists.service, Message.PERMIT_BEFORE, **values)
    elif restriction.is_table:
        answer, key = can_permit(lists.postfix, restriction.argument)
        if answer == "permits":
            severe = restriction.name != "check_recipient_access"  # there an OK opens the way to that recipient only
            values["key"] = clean(key)
            findings.add("error" if severe else "warning", name, lists.service, Message.TABLE_PERMITS, **values)
        elif answer == "unknown":
            findings.add("warning", name, lists.service, Message.TABLE_BEFORE, **values)
    elif restriction.service is not None:
        server = clean(restriction.service.server)
        findings.add("warning", name, lists.service, Message.SERVICE_BEFORE, argument=server)
