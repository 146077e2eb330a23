"""`policyd check --postfix` read a second time: bad wirings are found by name, and good ones give no finding at all.

Written without a look at the judge. Each row changes a hub that is wired as the guide says. What a real Postfix does
with such wirings was tried for every kind: `tests/e2e/test_doors.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from policyd.cli.main import main
from tests.helpers.certificates import make

pytestmark = pytest.mark.skipif(shutil.which("postconf") is None, reason="Postfix is not installed")

POLICYD_TOML = """\
[service]
listen = ["inet:127.0.0.1:10045", "unix:/var/spool/postfix/private/policyd"]

[organizations.hoster]
accepted_domains = ["hoster.example", "mx.hoster.example"]

[organizations.contoso]
accepted_domains = ["contoso.example"]

[organizations.contoso.connectors.hq]
certificate_names = ["mail.contoso.example"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.7"]

[organizations.fabrikam]
accepted_domains = ["fabrikam.example"]

[organizations.fabrikam.connectors.office]
addresses = ["198.51.100.20"]

[organizations.tailspin]
accepted_domains = ["tailspin.example"]
connectors_only = true
protect_sender_domains = true

[organizations.tailspin.connectors.main]
certificate_names = ["mail.tailspin.example"]
"""
RELAY, RECIPIENT = "smtpd_relay_restrictions", "smtpd_recipient_restrictions"
CLIENT, HELO, SENDER = "smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions"
CLASSES = "smtpd_restriction_classes"
DEFER = "{ default_action = 451 4.3.5 Connector policy unavailable }"
POLICY = f"check_policy_service {{ inet:127.0.0.1:10045, timeout=10s, {DEFER} }}"
PERMITS = "permit_mynetworks, permit_sasl_authenticated"
MAIN = {
    "compatibility_level": "3.6",
    "myhostname": "mx.hoster.example",
    "mydomain": "hoster.example",
    "mydestination": "$myhostname, $mydomain",
    "relay_domains": "contoso.example, fabrikam.example, tailspin.example",
    "mynetworks": "127.0.0.0/8, [::1]/128",
    "local_recipient_maps": "",
    "alias_maps": "",
    "alias_database": "",
    "append_dot_mydomain": "no",
    "smtpd_tls_security_level": "may",
    "smtpd_tls_chain_files": "$config_directory/hub.pem",
    "smtpd_tls_ask_ccert": "yes",
    "smtpd_tls_CAfile": "$config_directory/connector-cas.pem",
    "smtpd_tls_fingerprint_digest": "sha256",
    "smtpd_tls_loglevel": "1",
    "smtpd_forbid_bare_newline": "yes",
    RELAY: "",
    RECIPIENT: f"{PERMITS}, {POLICY}, reject_unauth_destination",
}
SMTP = "smtp inet n - n - - smtpd\n"


def service(line: str, *options: str) -> str:
    """A service of master.cf, with settings of its own."""
    return f"{line}\n" + "".join(f" -o {option}\n" for option in options)


@dataclass(frozen=True)
class Wiring:
    """A change of main.cf, and of master.cf's services; and what is said of it: one of these, at least so severe."""

    name: str
    main: Mapping[str, str] = field(default_factory=dict)
    says: str = ""  # identifiers; empty: nothing
    master: str = SMTP
    files: Mapping[str, str] = field(default_factory=dict)
    severity: str = "error"


def before(restriction: str, **others: str) -> dict[str, str]:
    """The list of the guide with something in front of policyd."""
    return {RECIPIENT: f"{PERMITS}, {restriction}, {POLICY}, reject_unauth_destination", **others}


def asking(service: str) -> dict[str, str]:
    """The list of the guide with another service in the place of policyd's usual one."""
    return {RECIPIENT: f"{PERMITS}, check_policy_service {service}, reject_unauth_destination"}


def answering(action: str, **others: str) -> dict[str, str]:
    return asking(f"{{ inet:127.0.0.1:10045, timeout=10s, {{ default_action = {action} }} }}") | others


OPEN = "table-permits"
BAD = (
    # mynetworks by content
    Wiring("halves of IPv6", {"mynetworks": "127.0.0.0/8 [::]/1 [8000::]/1"}, "mynetworks-everybody"),
    Wiring("any pattern", {"mynetworks": "regexp:$config_directory/n"}, "mynetworks-everybody", files={"n": "/./ x\n"}),
    Wiring("four quarters", {"mynetworks": "0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/2"}, "mynetworks-everybody"),
    Wiring("a table of one connector", {"mynetworks": "inline:{ 203.0.113.7=x }"}, "connector-in-mynetworks"),
    Wiring("a negated neighbour", {"mynetworks": "!198.51.100.21 198.51.100.16/28"}, "connector-in-mynetworks"),
    Wiring("Exchange Online's", {"mynetworks": "127.0.0.0/8, 40.92.0.0/15"}, "mynetworks-provider mynetworks-wide"),
    Wiring(
        "behind a proxy",
        {"mynetworks": "127.0.0.0/8 10.0.0.0/8", "proxy_interfaces": "192.0.2.1"},
        "mynetworks-behind-proxy",
        severity="warning",
    ),
    Wiring(
        "in words of the administrator's own",
        {"all_v4": "0.0.0.0/0", "trusted": "10.0.0.0/8 $all_v4", "mynetworks": "${trusted}"},
        "mynetworks-everybody",
    ),
    Wiring("at one service in braces", {}, "mynetworks-everybody", SMTP + " -o { mynetworks = 0.0.0.0/0 }\n"),
    # permits before policyd
    Wiring(
        "a warning does not take a permit back", before("warn_if_reject permit_tls_all_clientcerts"), "permit-before"
    ),
    Wiring("a name in upper case", before("PERMIT_TLS_ALL_CLIENTCERTS"), "permit-before"),
    Wiring("permit_mx_backup", before("permit_mx_backup"), "backup-before"),
    Wiring("any client, pcre inline", before("check_client_access pcre:{ {/./ OK} }"), OPEN),
    Wiring("cidr inline, in words", before("check_client_access cidr:{ {198.51.100.0/24 permit} }"), OPEN),
    Wiring(
        "within if",
        before("check_client_access cidr:$config_directory/n"),
        OPEN,
        files={"n": "if 198.0.0.0/8\n198.51.100.0/24 OK\nendif\n"},
    ),
    Wiring("static OK", before("check_client_access static:OK"), OPEN),
    Wiring("static, in braces", before("check_client_access static:{OK now}"), OPEN),
    Wiring("without a name", before("check_client_access inline:{ unknown=OK }"), OPEN),
    Wiring("without a sender", before("check_sender_access inline:{ <>=OK }"), OPEN),
    Wiring(
        "a domain outside",
        before("check_recipient_access inline:{ northwind.example=OK }"),
        "table-permits table-opens-recipient",
    ),
    Wiring("a table by itself", before("inline:{ northwind.example=OK }"), "table-permits table-opens-recipient"),
    Wiring(
        "abuse of everybody",
        before("check_recipient_access regexp:$config_directory/n"),
        "table-opens-locked table-permits-some table-opens-recipient table-permits",
        files={"n": "/^abuse@/ OK\n"},
        severity="warning",
    ),
    Wiring(
        "a class of a class, by a table",
        before(
            "check_helo_access inline:{ gw.example=outer }",
            **{CLASSES: "outer inner", "outer": "reject_invalid_helo_hostname, inner", "inner": "permit"},
        ),
        f"{OPEN} permit-before",
    ),
    Wiring(
        "the own domains, by a table",
        before("check_sender_access static:permit_auth_destination"),
        "table-opens-own",
        severity="warning",
    ),
    Wiring(
        "in the relay list",
        {RELAY: f"check_client_access inline:{{ 192.0.2.99=OK }}, {POLICY}, reject_unauth_destination", RECIPIENT: ""},
        OPEN,
    ),
    Wiring("a number", before("check_sender_access inline:{ adatum.example=200 }"), OPEN),
    Wiring("a fingerprint", before("check_ccert_access inline:{ AB:CD=OK }"), OPEN),
    # when policyd is down
    Wiring("a number when down", answering("250"), "default-ok"),
    Wiring("thrown away when down", answering("DISCARD"), "default-discards"),
    Wiring("the own domains when down", answering("permit_auth_destination"), "default-bounces", severity="warning"),
    Wiring("returned when down", answering("reject_unauth_destination"), "default-bounces", severity="warning"),
    Wiring(
        "a class of permits when down",
        answering("down", **{CLASSES: "down", "down": "reject_unknown_client_hostname, permit"}),
        "default-ok",
    ),
    # other services
    Wiring(
        "submissions with certificates",
        {},
        "permit-without",
        SMTP
        + service(
            "465 inet n - n - - smtpd",
            "{ smtpd_relay_restrictions = permit_sasl_authenticated, permit_tls_all_clientcerts, reject }",
            "smtpd_recipient_restrictions=",
        ),
    ),
    Wiring(
        "two addresses",
        {},
        "list-of-its-own service-not-asked",
        service("192.0.2.25:smtp inet n - n - - smtpd")
        + service("192.0.2.26:smtp inet n - n - - smtpd", "smtpd_recipient_restrictions=reject_unauth_destination"),
        severity="warning",
    ),
    Wiring(
        "behind postscreen, with a list of its own",
        {},
        "list-of-its-own not-asked",
        service("smtp inet n - n - 1 postscreen")
        + service(
            "smtpd pass - - n - - smtpd", "smtpd_recipient_restrictions=permit_mynetworks,reject_unauth_destination"
        ),
    ),
    Wiring(
        "QMQP for a connector",
        {"qmqpd_authorized_clients": "203.0.113.7"},
        "qmqpd-open",
        SMTP + service("628 inet n - n - - qmqpd"),
    ),
    Wiring(
        "QMQP for all but one",
        {"qmqpd_authorized_clients": "!192.0.2.1, static:all"},
        "qmqpd-open",
        SMTP + service("628 inet n - n - - qmqpd"),
    ),
    Wiring("XCLIENT for a connector", {"smtpd_authorized_xclient_hosts": "198.51.100.20"}, "xclient-everybody"),
    Wiring("XCLIENT in halves", {"smtpd_authorized_xclient_hosts": "0.0.0.0/1, 128.0.0.0/1"}, "xclient-everybody"),
    Wiring(
        "a PROXY line at one port",
        {},
        "proxy-protocol",
        SMTP + service("2525 inet n - n - - smtpd", "smtpd_upstream_proxy_protocol=haproxy"),
        severity="warning",
    ),
    Wiring(
        "CAs of staff at submission",
        {},
        "shared-sessions",
        SMTP
        + service(
            "submission inet n - n - - smtpd",
            "smtpd_tls_CAfile=",
            "smtpd_tls_CApath=$config_directory",
            "smtpd_relay_restrictions=permit_sasl_authenticated,reject",
            "smtpd_recipient_restrictions=",
        ),
    ),
    Wiring(
        "the system's CAs besides, at submission",
        {},
        "shared-sessions",
        SMTP
        + service(
            "submission inet n - n - - smtpd",
            "tls_append_default_CA=yes",
            "smtpd_relay_restrictions=permit_sasl_authenticated,reject",
            "smtpd_recipient_restrictions=",
        ),
    ),
    # refused before policyd is asked
    Wiring("deferred, if permitted", {CLIENT: "defer_if_permit"}, "list-refuses"),
    Wiring("only whom we know", {CLIENT: f"{PERMITS}, permit_tls_clientcerts, reject"}, "list-refuses"),
    Wiring(
        "a network of a connector", {CLIENT: "check_client_access inline:{ 198.51.100=REJECT }"}, "connector-refused"
    ),
    Wiring(
        "deferred by its network",
        {CLIENT: "check_client_access cidr:{ {198.51.100.16/28 450 later} }"},
        "connector-refused",
    ),
    Wiring(
        "all but one network",
        {CLIENT: "check_client_access cidr:$config_directory/n"},
        "connector-refused list-refuses",
        files={"n": "!198.51.100.0/24 REJECT\n"},
    ),
    Wiring(
        "who logs in",
        {SENDER: "check_sender_access inline:{ {contoso.example = permit_sasl_authenticated, reject} }"},
        "connector-refused",
    ),
    Wiring(
        "a class for senders",
        {
            SENDER: "check_sender_access inline:{ contoso.example=ours }",
            CLASSES: "ours",
            "ours": "permit_mynetworks, reject",
        },
        "connector-refused",
    ),
    Wiring(
        "at the end of the data",
        {"smtpd_end_of_data_restrictions": "check_client_access static:REJECT"},
        "list-refuses",
    ),
    Wiring("a table that always fails", {CLIENT: "check_client_access fail:x"}, "table-missing list-refuses"),
    Wiring("misspelt, in upper case", before("REJECT_UNKNOWN_SENDERDOMAIN"), "unknown-restriction"),
    Wiring(
        "an action that is none",
        {SENDER: "check_sender_access inline:{ contoso.example=REFUSE }"},
        "unknown-restriction connector-refused",
    ),
    Wiring(
        "both lists refuse",
        {RELAY: f"{POLICY}, reject_unauth_destination", RECIPIENT: "reject_unauth_destination"},
        "other-list-refuses",
    ),
    Wiring("deferred in the other list", {RELAY: "permit_mynetworks, defer"}, "other-list-refuses"),
    Wiring(
        "a class that refuses, in the other list",
        {RELAY: "fence", CLASSES: "fence", "fence": "reject_unauth_destination"},
        "other-list-refuses",
    ),
    Wiring(
        "a table that refuses, in the other list",
        {RELAY: "check_client_access static:reject_unauth_destination"},
        "other-list-refuses list-refuses",
    ),
    Wiring(
        "permit_auth_destination and reject, in the other list",
        {RELAY: f"{PERMITS}, permit_auth_destination, reject"},
        "other-list-refuses",
    ),
    Wiring(
        "logins by a pattern",
        {
            SENDER: "reject_unauthenticated_sender_login_mismatch",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sender_login_maps": "regexp:$config_directory/n",
        },
        "login-mismatch",
        files={"n": "/@contoso\\.example$/ kate\n"},
        severity="warning",
    ),
    # what is open in the end
    Wiring("nothing is refused in the end", {RECIPIENT: f"{POLICY}, permit, reject_unauth_destination"}, "smtpd-dies"),
    Wiring("both lists empty at port 25", {}, "smtpd-dies", SMTP + " -o smtpd_recipient_restrictions=\n"),
    Wiring(
        "submission that permits",
        {},
        "smtpd-dies",
        SMTP
        + service(
            "submission inet n - n - - smtpd",
            "smtpd_relay_restrictions=permit_sasl_authenticated,permit,reject",
            "smtpd_recipient_restrictions=",
        ),
        severity="warning",
    ),
    Wiring(
        "a class of the trial",
        {RECIPIENT: "trial, reject_unauth_destination", CLASSES: "trial", "trial": f"warn_if_reject {POLICY}"},
        "only-warns",
        severity="warning",
    ),
    Wiring(
        "smuggling from everywhere",
        {RECIPIENT: f"{POLICY}, reject_unauth_destination", "mynetworks": "0.0.0.0/0"},
        "bare-newline-exclusions mynetworks-everybody",
        severity="warning",
    ),
    # TLS
    Wiring("below TLS 1.2", {"smtpd_tls_protocols": "<=TLSv1.1"}, "old-protocols"),
    Wiring("without 1.2 and 1.3", {"smtpd_tls_protocols": "!TLSv1.2 !TLSv1.3"}, "old-protocols"),
    Wiring("STARTTLS hidden by a table", {"smtpd_discard_ehlo_keyword_address_maps": "static:starttls"}, "no-starttls"),
    Wiring(
        "an empty file of CAs", {"smtpd_tls_CAfile": "$config_directory/n"}, "ca-is-none ca-not-read", files={"n": ""}
    ),
    Wiring(
        "no CA but a text",
        {"smtpd_tls_CAfile": "$config_directory/n"},
        "ca-is-none ca-not-read",
        files={"n": "no certificate\n"},
    ),
    # who is policyd?
    Wiring("IPv6 loopback, where policyd is not", asking("inet:[::1]:10045"), "not-asked other-address"),
    Wiring("another socket", asking("unix:private/policy"), "not-asked other-address"),
    Wiring("only noted", {"smtpd_forbid_bare_newline": "note"}, "bare-newline", severity="warning"),
)
GOOD = (
    Wiring("the guide's"),
    Wiring("by permit_auth_destination", {RECIPIENT: f"{POLICY}, permit_auth_destination, reject"}),
    Wiring(
        "the relay list's",
        {RELAY: f"{PERMITS}, {POLICY}, reject_unauth_destination", RECIPIENT: "reject_non_fqdn_recipient"},
    ),
    Wiring(
        "a class that asks",
        before("reject_non_fqdn_sender") | {RECIPIENT: "ask, reject_unauth_destination", CLASSES: "ask", "ask": POLICY},
    ),
    Wiring(
        "a class that a table names asks",
        {RECIPIENT: "check_client_access static:ask, reject_unauth_destination", CLASSES: "ask", "ask": POLICY},
    ),
    Wiring("private networks", {"mynetworks": "127.0.0.0/8 10.0.0.0/8 [fd00::]/8"}),
    Wiring("a table of the hub's own", {"mynetworks": "cidr:$config_directory/n"}, files={"n": "192.0.2.25/32 x\n"}),
    Wiring("negated before it counts", {"mynetworks": "!198.51.100.20 198.51.100.16/28 127.0.0.0/8"}),
    Wiring("DUNNO for everybody", before("check_client_access static:DUNNO")),
    Wiring("refusals in words", before("check_client_access cidr:{ {192.0.2.96/28 521 no}, {192.0.2.112/28 reject} }")),
    Wiring(
        "a class that only refuses",
        before("strict", **{CLASSES: "strict", "strict": "reject_non_fqdn_sender, reject_unknown_sender_domain"}),
    ),
    Wiring(
        "greylisting behind",
        {RECIPIENT: f"{PERMITS}, {POLICY}, reject_unauth_destination, check_policy_service inet:127.0.0.1:10023"},
    ),
    Wiring("greylisting early", {SENDER: "check_policy_service inet:127.0.0.1:10023"}),
    Wiring(
        "an OK early",
        {CLIENT: "check_client_access static:OK", SENDER: "check_sender_access inline:{ contoso.example=OK }"},
    ),
    Wiring("a refusal of strangers early", {CLIENT: "check_client_access cidr:{ {192.0.2.0/24 REJECT} }"}),
    Wiring(
        "senders of others refused",
        {SENDER: "check_sender_access inline:{ adatum.example=REJECT, hoster.example=REJECT }"},
    ),
    Wiring("names below it refused", {SENDER: "check_sender_access inline:{ .contoso.example=REJECT }"}),
    Wiring("ETRN refused", {"smtpd_etrn_restrictions": "reject"}),
    Wiring(
        "pipelining refused", {"smtpd_data_restrictions": "reject_unauth_pipelining, reject_multi_recipient_bounce"}
    ),
    Wiring("XCLIENT for the proxy", {"smtpd_authorized_xclient_hosts": "10.0.0.1"}),
    Wiring("XFORWARD for all", {"smtpd_authorized_xforward_hosts": "static:all"}),
    Wiring(
        "QMQP on loopback",
        {"qmqpd_authorized_clients": "static:all"},
        master=SMTP + service("127.0.0.1:628 inet n - n - - qmqpd"),
    ),
    Wiring(
        "QMQP for nobody", {"qmqpd_authorized_clients": "!0.0.0.0/0"}, master=SMTP + service("628 inet n - n - - qmqpd")
    ),
    Wiring(
        "a PROXY line on loopback",
        master=SMTP + service("127.0.0.1:2525 inet n - n - - smtpd", "smtpd_upstream_proxy_protocol=haproxy"),
    ),
    Wiring("TLS 1.3 alone", {"smtpd_tls_protocols": ">=TLSv1.3"}),
    Wiring("STARTTLS hidden from one", {"smtpd_discard_ehlo_keyword_address_maps": "cidr:{ {192.0.2.9/32 starttls} }"}),
    Wiring("DSN hidden", {"smtpd_discard_ehlo_keywords": "silent-discard, dsn"}),
    Wiring("a socket of the queue", asking(f"{{ unix:private/policyd, timeout=10s, {DEFER} }}")),
    Wiring("by name", asking(f"{{ inet:localhost:10045, timeout=10s, {DEFER} }}")),
    Wiring(
        "completed, with another domain",
        {
            "append_dot_mydomain": "yes",
            "mydomain": "other.example",
            "mydestination": "hoster.example mx.hoster.example",
        },
    ),
    Wiring(
        "no tickets at submission",
        {},
        master=SMTP
        + service(
            "submission inet n - n - - smtpd",
            "smtpd_tls_CAfile=$config_directory/staff-cas.pem",
            "tls_ssl_options=NO_TICKET",
            "smtpd_relay_restrictions=permit_sasl_authenticated,reject",
            "smtpd_recipient_restrictions=",
        ),
    ),
    Wiring(
        "submission that asks for no certificate",
        {},
        master=SMTP
        + service(
            "submission inet n - n - - smtpd",
            "smtpd_tls_CAfile=",
            "smtpd_tls_ask_ccert=no",
            "smtpd_relay_restrictions=permit_sasl_authenticated,reject",
            "smtpd_recipient_restrictions=",
        ),
    ),
    Wiring(
        "loopback permits",
        {},
        master=SMTP
        + service(
            "127.0.0.1:10026 inet n - n - - smtpd",
            "smtpd_recipient_restrictions=permit_mynetworks,reject",
            "smtpd_relay_restrictions=",
        ),
    ),
    Wiring(
        "permits in a list that refuses nothing",
        {RELAY: f"{PERMITS}, permit_tls_all_clientcerts, check_client_access static:OK"},
    ),
    Wiring("permit in a list that refuses nothing", {RELAY: "permit"}),
    Wiring(
        "an OK in the list behind",
        {
            RELAY: f"{PERMITS}, {POLICY}, reject_unauth_destination",
            RECIPIENT: "permit_tls_all_clientcerts, check_client_access static:OK, reject_rbl_client zen.example",
        },
    ),
    Wiring(
        "permit at the end",
        {
            RECIPIENT: f"{PERMITS}, {POLICY}, reject_unauth_destination, permit",
            SENDER: "reject_non_fqdn_sender, permit",
        },
    ),
    Wiring(
        "over several lines",
        {
            RECIPIENT: f"\n permit_mynetworks\n# logins\n permit_sasl_authenticated\n\n {POLICY}"
            "\n reject_unauth_destination"
        },
    ),
    Wiring("a refusal that only warns, before", before("warn_if_reject reject_unauth_destination")),
    Wiring("waiting before", before("sleep 1")),
    Wiring(
        "the list by a parameter at port 25",
        {"ours": f"{POLICY}, reject_unauth_destination"},
        master=SMTP + " -o smtpd_recipient_restrictions=$ours\n",
    ),
    Wiring("no depth", {"smtpd_tls_ccert_verifydepth": "0"}),
    Wiring("TLS by the old parameter", {"smtpd_tls_security_level": "", "smtpd_use_tls": "yes"}),
    Wiring("decided early, with nothing early", {"smtpd_delay_reject": "no"}),
    Wiring("senders that nobody lists", {"smtpd_reject_unlisted_sender": "yes"}),
    Wiring(
        "Debian's submission",
        {},
        master=SMTP
        + service(
            "submission inet n - y - - smtpd",
            "syslog_name=postfix/submission",
            "smtpd_tls_security_level=encrypt",
            "smtpd_sasl_auth_enable=yes",
            "smtpd_tls_auth_only=yes",
            "smtpd_reject_unlisted_recipient=no",
            "smtpd_client_restrictions=$mua_client_restrictions",
            "smtpd_helo_restrictions=$mua_helo_restrictions",
            "smtpd_sender_restrictions=$mua_sender_restrictions",
            "smtpd_recipient_restrictions=",
            "smtpd_relay_restrictions=permit_sasl_authenticated,reject",
            "milter_macro_daemon_name=ORIGINATING",
        ),
    ),
    Wiring(
        "a content filter",
        {"content_filter": "smtp-amavis:[127.0.0.1]:10024"},
        master=SMTP
        + service("smtp-amavis unix - - n - 2 smtp")
        + service(
            "127.0.0.1:10025 inet n - n - - smtpd",
            "content_filter=",
            "smtpd_delay_reject=no",
            "smtpd_client_restrictions=permit_mynetworks,reject",
            "smtpd_helo_restrictions=",
            "smtpd_sender_restrictions=",
            "smtpd_restriction_classes=",
            "smtpd_recipient_restrictions=permit_mynetworks,reject",
            "mynetworks=127.0.0.0/8",
        ),
    ),
    Wiring(
        "postscreen",
        {},
        master=service("smtp inet n - n - 1 postscreen")
        + service("smtpd pass - - n - - smtpd")
        + service("dnsblog unix - - n - 0 dnsblog")
        + service("tlsproxy unix - - n - 0 tlsproxy"),
    ),
    Wiring(
        "block lists",
        {
            CLIENT: "permit_mynetworks, reject_rbl_client zen.example, reject_unknown_reverse_client_hostname",
            HELO: "reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname",
        },
    ),
    Wiring(
        "logins of nobody here",
        {SENDER: "reject_sender_login_mismatch", "smtpd_sender_login_maps": "inline:{ x@hoster.example=x }"},
    ),
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hub.pem with its key first, and two files of CAs."""
    folder = tmp_path_factory.mktemp("certificates")
    hub = make("mx.hoster.example")
    (folder / "hub.pem").write_bytes(hub.key_as_pem() + hub.as_pem())
    for name in ("connector-cas", "staff-cas"):
        (folder / f"{name}.pem").write_bytes(make(name, authority=True).as_pem())
    return folder


def findings(wiring: Wiring, certificates: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Identifier: severity, of what is said about Postfix; the exit status fits."""
    postfix, config = folder / "postfix", folder / "policyd.toml"
    shutil.copytree(certificates, postfix)
    config.write_text(POLICYD_TOML, "utf-8")
    main_cf = "".join(f"{name} = {value}\n" for name, value in {**MAIN, **wiring.main}.items())
    for name, text in {"main.cf": main_cf, "master.cf": wiring.master, **wiring.files}.items():
        (postfix / name).write_text(text, "utf-8")
        os.utime(postfix / name, (1e9, 1e9))
    status = main(["check", "-c", str(config), "--json", "--postfix", str(postfix)])
    problems = [one for one in json.loads(capsys.readouterr().out)["problems"] if str(postfix) in one["file"]]
    assert status == (78 if any(one["severity"] == "error" for one in problems) else 0)
    return {one["id"]: one["severity"] for one in sorted(problems, key=lambda one: one["severity"], reverse=True)}


@pytest.mark.parametrize("wiring", BAD, ids=lambda wiring: wiring.name)
def test_bad(wiring: Wiring, certificates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(wiring, certificates, tmp_path, capsys)
    severities = {found.get(name) for name in wiring.says.split()}
    assert severities & {wiring.severity, "error"}, found


@pytest.mark.parametrize("wiring", GOOD, ids=lambda wiring: wiring.name)
def test_good(wiring: Wiring, certificates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(wiring, certificates, tmp_path, capsys) == {}
