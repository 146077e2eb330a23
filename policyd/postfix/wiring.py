"""What is wrong between Postfix and policyd: the restriction lists, and all else in order (SPEC 7, check --postfix).

The rule behind it: both smtpd_relay_restrictions and smtpd_recipient_restrictions must let a recipient pass, and an OK
ends its own list only. So policyd stands directly before reject_unauth_destination in the list that has it, nothing but
permit_mynetworks and permit_sasl_authenticated can say OK before it, and no other list refuses relaying. Options are
looked at in `options`, TLS and clients in `clients`, domains in `domains`, what becomes of a message after that in
`rewriting`. Changes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from difflib import get_close_matches

from policyd.config.problems import Problem
from policyd.config.settings import Configuration
from policyd.config.text import clean
from policyd.postfix.clients import check_clients
from policyd.postfix.course import Course
from policyd.postfix.domains import SETTINGS, compare_domains
from policyd.postfix.doors import Doors
from policyd.postfix.findings import Findings
from policyd.postfix.lists import DATA, DECIDING, OTHER_LISTS, RECIPIENT, RELAY, Lists, read_lists, servers_of
from policyd.postfix.messages import Message
from policyd.postfix.options import check_options, check_stamping, recommended_service, stops_nothing
from policyd.postfix.passage import Passages
from policyd.postfix.postconf import Postfix, default_folder, read_postfix
from policyd.postfix.refusals import Refusals
from policyd.postfix.restrictions import refusal, starts
from policyd.postfix.rewriting import check_rewriting
from policyd.postfix.tables import Tables
from policyd.postfix.text import PostconfError
from policyd.postfix.trust import Trust, are_local, is_local

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


def check_wiring(folder: str, configuration: Configuration | None) -> list[Problem]:
    """Everything that is wired wrong between the Postfix in `folder` and a policyd of this configuration.

    An empty `folder` is the one of the Postfix that is installed. Without a configuration (it has errors) what depends
    on it is left out.
    """
    try:
        folder = os.path.abspath(folder) if folder else default_folder()
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
    tables = Tables(postfix)
    every = [Passages(Course(lists, tables)) for lists in read_lists(postfix, configuration)]
    for passages in every:
        check_options(findings, passages.lists, configuration)
    asking = _check_asked(findings, configuration, every)
    _check_doors(findings, configuration, tables, every, asking)
    watching = configuration is not None and configuration.service.mode == "monitor"
    for passages in asking:
        _check_order(findings, passages, every, watching)
        Refusals(findings, configuration, passages).look()
        if configuration is not None and configuration.attribution_header:
            check_stamping(findings, passages.lists, configuration)
    services = [passages.lists.service for passages in asking]
    check_clients(findings, configuration, services, tables)
    trusting = [(passages.lists.service, passages.trusts_networks) for passages in asking]
    check_rewriting(findings, configuration, trusting, tables)
    if configuration is not None:
        compare_domains(findings, configuration)
    return findings.problems()


def _matters(remark: str) -> bool:
    """Whether what postconf complains of can be about policyd's wiring: a parameter that is looked at, or nearly so."""
    name = re.search(r"(?:unused parameter|overriding earlier entry|undefined parameter): (\w+)", remark)
    if name is not None:
        return bool(get_close_matches(name[1], _LOOKED_AT, n=1, cutoff=0.9))
    return not re.search(r"fully qualified|^open \"\w+\" configuration", remark)  # a table's own file: see the domains


def _check_asked(findings: Findings, configuration: Configuration | None, every: Sequence[Passages]) -> list[Passages]:
    """Where policyd stands in the lists of each smtpd; gives those that ask it where an OK counts."""
    stamping = configuration is not None and bool(configuration.attribution_header)
    asking = [passages for passages in every if passages.asks]
    open_ones = [passages for passages in asking if not passages.lists.is_closed]
    apart = _lists_of_their_own(findings, every)
    for lists, name in apart:
        findings.add("warning" if open_ones else "error", name, lists.service, Message.LIST_OF_ITS_OWN, list=name)
    asking = open_ones or ([] if apart else asking)
    asked_anywhere = bool(asking or apart)
    for passages in every:
        lists = passages.lists
        elsewhere = [name for name in OTHER_LISTS if lists.asks(name) and not (stamping and name == DATA)]
        if elsewhere:
            asked_anywhere = True
            named = " and ".join(elsewhere)
            if passages.asks:
                findings.add("warning", elsewhere[0], lists.service, Message.ALSO_ELSEWHERE, lists=named)
            elif not asking:
                findings.add("error", elsewhere[0], lists.service, Message.ONLY_ELSEWHERE, lists=named)
    if not asked_anywhere:
        _tell_not_asked(findings, configuration, every[0].lists)
    return asking


def _tell_not_asked(findings: Findings, configuration: Configuration | None, lists: Lists) -> None:
    """Nobody asks policyd: where it belongs, and what is asked in its place."""
    value = findings.postfix.value
    folders = value("multi_instance_directories")
    if folders and value("multi_instance_enable").lower() == "yes":
        findings.add("error", "multi_instance_directories", None, Message.OTHER_INSTANCE, folders=clean(folders))
        return
    servers = clean(", ".join(servers_of(findings.postfix)))
    listen = configuration.service.listen if configuration is not None else ()
    elsewhere = ""
    if servers and any(endpoint.kind == "systemd" for endpoint in listen):
        elsewhere = f": systemd has its sockets, and what is asked ({servers}) are not those of policyd.socket"
    elif servers:
        listening = clean(" and ".join(map(str, listen)))
        elsewhere = f": it listens on {listening}, and what is asked ({servers}) leads elsewhere"
    of_relay, of_recipient = refusal(lists.all[RELAY]), refusal(lists.all[RECIPIENT])
    values = {
        "elsewhere": elsewhere,
        "recommended": recommended_service(findings.postfix, configuration),
        "refusal": of_relay or of_recipient or "a reject_unauth_destination",
        "list": RELAY if of_relay else RECIPIENT,
        "more": f", and take {of_recipient} out of {RECIPIENT}" if of_relay and of_recipient else "",
    }
    findings.add("error", RECIPIENT, None, Message.NOT_ASKED, **values)


def _lists_of_their_own(findings: Findings, every: Sequence[Passages]) -> list[tuple[Lists, str]]:
    """Services for which a list of their own stands in the place of the one of main.cf that asks policyd."""
    replacing = []
    nobody_asks = not any(passages.asks for passages in every)
    for passages in every:
        lists = passages.lists
        if passages.asks or not passages.strangers_reach_own:
            continue
        if not nobody_asks and not _takes_mail(findings.postfix, lists):
            continue
        main = Lists(findings.postfix, None, lists.ours)
        for name in DECIDING:
            replaced = lists.service is not None and name in lists.service.overrides and main.asks(name)
            if replaced:
                replacing.append((lists, name))
    return replacing


def _takes_mail(postfix: Postfix, lists: Lists) -> bool:
    """Whether strangers reach the service."""
    return not is_local(postfix.value("inet_interfaces"), lists.service)


def _check_doors(
    findings: Findings,
    configuration: Configuration | None,
    tables: Tables,
    every: Sequence[Passages],
    asking: Sequence[Passages],
) -> None:
    """What lets mail past policyd at each service that strangers reach, and whom Postfix trusts by address."""
    doors, trust = Doors(findings, configuration, tables), Trust(findings, configuration, tables)
    watching = configuration is not None and configuration.service.mode == "monitor"
    apart = [lists for lists, _ in _lists_of_their_own(findings, every)]
    for passages in every:
        lists, asks = passages.lists, passages in asking
        if not asks and not _takes_mail(findings.postfix, lists):
            continue
        if asks:
            if any(starts(lists.all[name]) for name in DECIDING):  # else nobody gets in: see the order
                doors.before_policyd(passages)
            doors.refused_permits(lists)
        else:
            doors.elsewhere(passages)
            if asking and lists not in apart and not passages.asks:
                doors.unasked(passages)
        if passages.trusts_networks:
            trust.networks(lists.service)
        elif asks and _lets_networks_decide(passages, watching):
            trust.everybody(lists.service)
        if asks or passages.trusts_networks:
            trust.claimed_addresses(lists.service)
    trust.other_listeners()
    interfaces = findings.postfix.value("inet_interfaces")
    anywhere = [name for name in map(_host_of, every) if not name]
    if are_local(interfaces) and anywhere and asking:
        findings.add("error", "inet_interfaces", None, Message.INTERFACES_LOCAL, interfaces=clean(interfaces))


def _lets_networks_decide(passages: Passages, watching: bool) -> bool:
    """Whether permit_mynetworks counts behind policyd: where it watches, only warns, or is down and stops nothing."""
    lists = passages.lists
    restrictions = [restriction for name in passages.asked for restriction in lists.all[name]]
    asked = [restriction for restriction in restrictions if lists.is_policyd(restriction)]
    passes = any(restriction.only_warns or stops_nothing(lists, restriction) for restriction in asked)
    return (watching or passes) and any(restriction.name == "permit_mynetworks" for restriction in restrictions)


def _host_of(passages: Passages) -> str:
    """The host in the name of a service; empty where inet_interfaces says where it listens."""
    service = passages.lists.service
    if service is None or not service.name.endswith("/inet"):
        return "none"
    return service.name.rpartition("/")[0].rpartition(":")[0]


def _check_order(findings: Findings, passages: Passages, every: Sequence[Passages], watching: bool) -> None:
    """What refuses before and behind policyd, and in the other list, which nothing has to pass that is only watched."""
    lists, service, both = passages.lists, passages.lists.service, passages.asked
    for name in both:
        for restriction in passages.before(name):
            if restriction.refuses_relaying:
                values = {"restriction": clean(str(restriction))}
                findings.add("error", name, service, Message.AFTER_REFUSAL, **values)
    if len(both) == 2:
        findings.add("warning", RECIPIENT, service, Message.TWICE)
    (asked, *_) = both
    other = RELAY if asked == RECIPIENT else RECIPIENT
    refusing = passages.refuses_behind(asked) or any(one.refuses_relaying for one in passages.before(asked))
    blocking = refusal(lists.all[other])
    if blocking and len(both) == 1 and not watching:
        advice = _advice(lists, other, blocking, every)
        if not refusing:
            advice += ", and put reject_unauth_destination directly behind policyd"
        values = {"restriction": blocking, "list": other, "asked": asked, "advice": advice}
        findings.add("error", other, service, Message.OTHER_LIST_REFUSES, **values)
    elif not any(starts(lists.all[name]) for name in DECIDING):
        findings.add("error", asked, service, Message.SMTPD_DIES, service=clean(lists.name))
    elif not refusing and not blocking:
        findings.add("error", asked, service, Message.NOTHING_REFUSES)


def _advice(lists: Lists, other: str, blocking: str, every: Sequence[Passages]) -> str:
    """How the other list stops refusing; never by emptying it where another service has no other refusal."""
    if other == RECIPIENT:
        return f"take it out of {RECIPIENT}"
    needing = [
        one.lists
        for one in every
        if one.lists.service is None or RELAY not in one.lists.service.overrides
        if one.lists is not lists and not refusal(one.lists.all[RECIPIENT])
    ]
    if needing:
        return f"move policyd's line to directly before {blocking} in {RELAY}, which {needing[0].name} needs"
    return f"set `{RELAY} =`"
