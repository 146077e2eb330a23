"""`policyd check --postfix`: what must be found in which Postfix (SPEC 7).

A case changes the good wiring in one respect and names every finding that must come of it, and no other. The same is
then asked of a real postconf for the eight wirings of the guide.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from policyd.cli.service_user import rights_of
from policyd.postfix.options import default_action_kind
from policyd.postfix.postconf import Postfix, parse_postfix
from policyd.postfix.wiring import findings_in
from tests.helpers.programs import needs_root
from tests.helpers.wirings import (
    CERTIFICATES,
    CLIENT,
    DATA,
    DEBIAN,
    GOOD,
    HUB,
    PERMITS,
    PIN,
    RECIPIENT,
    RELAY,
    SENDER,
    SMTP,
    configuration_of,
    names_of,
    spelled,
)


@dataclass(frozen=True)
class Case:
    """One change to the good wiring; `found`: SEVERITY NAME of each finding."""

    why: str
    found: Sequence[str]
    main: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)  # of smtp/inet
    services: str = SMTP
    toml: Mapping[str, str] = field(default_factory=dict)  # texts of TOML to replace
    remarks: Sequence[str] = ()
    text: str = ""  # stands in one of the findings


ADDRESS_ONLY = {'certificate_names = ["mail.contoso.com"]': 'addresses = ["192.0.2.1"]'}
ADDRESS_ONLY |= {'certificate_names = ["hub.example"]': 'addresses = ["192.0.2.2"]'}
UNIX = {"inet:127.0.0.1:10045": "unix:/var/spool/postfix/policyd/policyd.sock"}


def before(restriction: str) -> dict[str, str]:
    """The recommended list with something more at its front."""
    return {RECIPIENT: f"{restriction} {PERMITS} POLICY reject_unauth_destination"}


def asked(service: str) -> dict[str, str]:
    """The recommended list with another question to policyd."""
    return {RECIPIENT: f"{PERMITS} check_policy_service {service} reject_unauth_destination"}


def pair(kind: str, certificate: str, key: str | None = None) -> dict[str, str]:
    """Certificate and key in the old parameters; without a key it is the same file, as by default."""
    names = f"smtpd_tls_{kind}cert_file", f"smtpd_tls_{kind}key_file"
    return {"smtpd_tls_chain_files": "", names[0]: certificate, names[1]: certificate if key is None else key}


SMUGGLING = "smtpd_forbid_bare_newline"
OUTSIDE = {'["contoso.com"]': '["contoso.com"]\noutside_domains = ["news.contoso.com"]'}
CASES = [
    # what becomes of a message
    Case("bare newlines end messages", ["warning BARE_NEWLINE"], {SMUGGLING: "no"}, text="is no:"),
    Case("they are only logged", ["warning BARE_NEWLINE"], {SMUGGLING: "note"}),
    Case("an old Postfix", ["warning BARE_NEWLINE"], {SMUGGLING: "", "mail_version": "3.4.1"}, text="Postfix 3.4.1:"),
    Case("they are mended", [], {SMUGGLING: "normalize"}),
    Case("they are refused", [], {SMUGGLING: "reject"}),
    Case(
        "a service lets them in",
        ["warning BARE_NEWLINE"],
        overrides={f"smtp/inet/{SMUGGLING}": "no"},
        text='service "smtp/inet"',
    ),
    Case("as by default", [], {f"{SMUGGLING}_exclusions": "127.0.0.0/8 [::1]/128 [::ffff:127.0.0.0]/104"}),
    Case("some of mynetworks are left out", [], {f"{SMUGGLING}_exclusions": "127.0.0.1, [::1]"}),
    Case(
        "a connector is left out",
        ["warning BARE_NEWLINE_EXCLUSIONS"],
        {f"{SMUGGLING}_exclusions": "127.0.0.0/8, 203.0.113.5"},
        text="holds 203.0.113.5,",
    ),
    Case(
        "everybody and a table are left out",
        ["warning BARE_NEWLINE_EXCLUSIONS"] * 2,
        {f"{SMUGGLING}_exclusions": "0.0.0.0/0 cidr:/etc/postfix/old"},
    ),
    Case(
        "a table of mynetworks is trusted",
        [],
        {"mynetworks": "127.0.0.0/8 cidr:/nowhere", f"{SMUGGLING}_exclusions": "127.0.0.0/8 cidr:/nowhere"},
    ),
    Case("host names are completed, and none is ours", [], {"append_dot_mydomain": "yes", "mydomain": "other.example"}),
    Case(
        "host names are completed",
        ["error APPEND_DOT"],
        {"append_dot_mydomain": "yes", "mydomain": "com"},
        text='makes "contoso.com" of a sender\'s or recipient\'s "contoso" after',
    ),
    Case("the domain itself is not below", [], {"append_dot_mydomain": "yes", "mydomain": "contoso.com"}),
    # domains that are hosted elsewhere
    Case(
        "Postfix takes what is hosted elsewhere",
        ["error OUTSIDE_DOMAIN_KNOWN"],
        toml=OUTSIDE,
        text='"news.contoso.com"',
    ),
    Case("names below are not covered", [], {"parent_domain_matches_subdomains": ""}, toml=OUTSIDE),
    Case("it is left out", [], {"relay_domains": "!news.contoso.com contoso.com"}, toml=OUTSIDE),
    Case("W2, recommended", []),
    Case("W3, in the relay list", [], {RELAY: f"{PERMITS} POLICY reject_unauth_destination", RECIPIENT: ""}),
    Case("W8", [], {RECIPIENT: "POLICY permit_auth_destination reject"}),
    Case("commas for blanks", [], {RECIPIENT: "permit_mynetworks,POLICY,reject_unauth_destination"}),
    Case("W1: Debian's relay list", ["error OTHER_LIST_REFUSES"], {RELAY: DEBIAN}, text=f"set `{RELAY} =`"),
    Case(
        "W1 as tried: nothing behind policyd in its own list",
        ["error OTHER_LIST_REFUSES"],
        {RELAY: DEBIAN, RECIPIENT: "POLICY"},
        text="put reject_unauth_destination directly behind policyd",
    ),
    Case(
        "the mirror of W1",
        ["error OTHER_LIST_REFUSES"],
        {
            RELAY: f"{PERMITS} POLICY reject_unauth_destination",
            RECIPIENT: "permit_mynetworks reject_unauth_destination",
        },
        text=f"take it out of {RECIPIENT}",
    ),
    Case(
        "warn_if_reject makes a refusal none",
        ["error SMTPD_DIES"],
        {RECIPIENT: "POLICY warn_if_reject reject_unauth_destination"},
    ),
    Case(
        "W4: asked twice",
        ["warning TWICE"],
        {RELAY: f"{PERMITS} POLICY reject_unauth_destination", RECIPIENT: "POLICY"},
    ),
    Case("W5: behind the refusal", ["error AFTER_REFUSAL"], {RECIPIENT: "reject_unauth_destination POLICY"}),
    Case("W7: in the client list", ["error ONLY_ELSEWHERE"], {RELAY: DEBIAN, RECIPIENT: "", CLIENT: "POLICY"}),
    Case("right, and in the sender list too", ["warning ALSO_ELSEWHERE"], {SENDER: "POLICY"}),
    Case("nowhere", ["error NOT_ASKED"], {RELAY: DEBIAN, RECIPIENT: ""}),
    Case(
        "only in a class that no list names",
        ["error NOT_ASKED", "error SMTPD_DIES"],
        {RECIPIENT: "", "ours": "POLICY"},
    ),
    Case("in a class", [], {"smtpd_restriction_classes": "ours", "ours": "POLICY", RECIPIENT: "ours, reject"}),
    Case(
        "classes that hold each other",
        ["error NOT_ASKED"],
        {"smtpd_restriction_classes": "a b", "a": "b b", "b": "a a", RECIPIENT: "a, reject"},
    ),
    Case("permit comes before the refusal", ["error SMTPD_DIES"], {RECIPIENT: "POLICY permit reject"}),
    Case(
        "a class permits before the refusal",
        ["error NOTHING_REFUSES"],
        {"smtpd_restriction_classes": "all", "all": "permit", RECIPIENT: "POLICY all reject"},
    ),
    Case("permit comes before the other list's refusal", [], {RELAY: "permit reject"}),
    Case("no refusal at all", ["error SMTPD_DIES"], {RECIPIENT: f"{PERMITS} POLICY"}),
    Case("trial", ["warning ONLY_WARNS"], {RECIPIENT: f"{PERMITS} warn_if_reject POLICY reject_unauth_destination"}),
    Case(
        "submission has lists of its own and needs no policyd",
        [],
        services=SMTP + "submission inet n - y - - smtpd\n",
        overrides={
            "submission/inet/smtpd_relay_restrictions": "permit_sasl_authenticated,reject",
            "submission/inet/smtpd_recipient_restrictions": "permit_sasl_authenticated,reject",
        },
    ),
    Case(
        "what an override breaks is reported at the service",
        ["error OTHER_LIST_REFUSES"],
        overrides={f"smtp/inet/{RELAY}": DEBIAN},
        text='/nowhere/master.cf: service "smtp/inet": defer_unauth_destination',
    ),
    Case(
        "asked at one port only",
        [],
        {RELAY: DEBIAN, RECIPIENT: ""},
        services=SMTP + "2525 inet n - y - - smtpd\n",
        overrides={f"2525/inet/{RELAY}": "", f"2525/inet/{RECIPIENT}": "POLICY reject"},
    ),
    Case("no smtpd in master.cf", [], services="pickup unix n - y 60 1 pickup\n"),
    Case(
        "submission that closes one list only, as it did for years",
        [],
        services=SMTP + "submission inet n - y - - smtpd\n587 inet n - y - - smtpd\n",
        overrides={
            "submission/inet/smtpd_relay_restrictions": "permit_sasl_authenticated,reject",
            "587/inet/smtpd_client_restrictions": "permit_sasl_authenticated,reject",
            "587/inet/smtpd_tls_ask_ccert": "no",
        },
    ),
    Case(
        "but the only port that asks must not be closed",
        ["error OTHER_LIST_REFUSES"],
        overrides={f"smtp/inet/{RELAY}": "permit_mynetworks,reject"},
    ),
    Case(
        "port 25 has a list of its own",
        ["error LIST_OF_ITS_OWN"],
        services=SMTP + "submission inet n - y - - smtpd\n",
        overrides={
            f"smtp/inet/{RECIPIENT}": "permit_mynetworks,reject_unauth_destination",
            "submission/inet/smtpd_relay_restrictions": "permit_sasl_authenticated,reject",
        },
        text='/nowhere/master.cf: service "smtp/inet": smtpd_recipient_restrictions of main.cf',
    ),
    Case(
        "the only port has a list of its own",
        ["error LIST_OF_ITS_OWN"],
        overrides={f"smtp/inet/{RECIPIENT}": "permit_mynetworks,reject_unauth_destination"},
    ),
    Case(
        "another port has a list of its own",
        ["warning LIST_OF_ITS_OWN"],
        services=SMTP + "2525 inet n - y - - smtpd\n",
        overrides={f"2525/inet/{RECIPIENT}": "reject_unauth_destination"},
    ),
    Case(
        "a content filter's way back is for mynetworks only",
        [],
        services=SMTP + "10026 inet n - y - - smtpd\n",
        overrides={f"10026/inet/{RECIPIENT}": "permit_mynetworks,reject", "10026/inet/mynetworks": "127.0.0.0/8"},
    ),
    Case("postscreen", [], services="smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd\n"),
    # who can say OK before
    Case("certificates", ["error PERMIT_BEFORE"], before("permit_tls_clientcerts"), text="permit_tls_clientcerts"),
    Case(
        "a DNS whitelist",
        ["warning ALLOW_LIST_BEFORE"],
        before("permit_dnswl_client list.example"),
        text="permit_dnswl_client",
    ),
    Case("everything accepted", ["error PERMIT_AUTH_BEFORE"], before("permit_auth_destination")),
    Case("everybody: smtpd does not start", ["error SMTPD_DIES"], before("permit")),
    Case(
        "everybody, by a class",
        ["error PERMIT_BEFORE"],
        {"smtpd_restriction_classes": "all", "all": "permit", **before("all")},
        text="permit (of the class all)",
    ),
    Case("an access table", ["warning TABLE_BEFORE"], before("check_client_access hash:/etc/a"), text="hash:/etc/a"),
    Case("a table by itself", ["warning TABLE_BEFORE"], before("cidr:/etc/a"), text="cidr:/etc/a"),
    Case("an access table that permits", ["error TABLE_PERMITS"], before("check_client_access cidr:{folder}/permits")),
    Case(
        "one for recipients", ["warning TABLE_PERMITS_SOME"], before("check_recipient_access regexp:{folder}/patterns")
    ),
    Case("an access table that only refuses", [], before("check_client_access cidr:{folder}/refuses")),
    Case(
        "one with a class that there is not",
        ["error UNKNOWN_RESTRICTION"],
        before("check_client_access cidr:{folder}/class"),
    ),
    Case("greylisting", ["warning SERVICE_BEFORE"], before("check_policy_service inet:127.0.0.1:10023"), text="10023"),
    Case(
        "behind policyd they are no matter",
        [],
        {RECIPIENT: "POLICY permit_tls_clientcerts check_client_access hash:/a reject_unauth_destination"},
    ),
    Case("in other lists they are no matter", [], {CLIENT: "permit_tls_clientcerts check_client_access hash:/a"}),
    Case(
        "refusing tables of DNS are no matter", [], before("reject_rbl_client bl.example, reject_unknown_sender_domain")
    ),
    # options
    Case("OK when down", ["error DEFAULT_OK"], asked("{ inet:127.0.0.1:10045, timeout=10s, default_action=OK }")),
    Case("a bare number", ["error DEFAULT_OK"], asked("{ inet:127.0.0.1:10045, timeout=10s, default_action=550 }")),
    Case(
        "OK for all services",
        ["error DEFAULT_OK"],
        asked("{ inet:127.0.0.1:10045, timeout=10s }")
        | {"smtpd_policy_service_default_action": "permit_mynetworks, permit"},
    ),
    Case("Postfix's own default defers", [], asked("{ inet:127.0.0.1:10045, timeout=10s }")),
    Case(
        "DUNNO when down",
        ["warning DEFAULT_BOUNCES"],
        asked("{ inet:127.0.0.1:10045, timeout=10s, default_action=DUNNO }"),
    ),
    Case(
        "DUNNO when down is right while watching",
        [],
        {
            RELAY: "check_policy_service { inet:127.0.0.1:10045, timeout=10s, default_action=DUNNO } "
            "permit_tls_clientcerts reject_unauth_destination",
            RECIPIENT: "",
        },
        toml={"[service]": '[service]\nmode = "monitor"'},
    ),
    Case(
        "REJECT when down",
        ["warning DEFAULT_BOUNCES"],
        asked("{ inet:127.0.0.1:10045, timeout=10s, default_action=REJECT }"),
    ),
    Case("no timeout", ["warning NO_TIMEOUT"], asked("inet:127.0.0.1:10045"), text="100s"),
    Case("a short one for all", [], asked("inet:127.0.0.1:10045") | {"smtpd_policy_service_timeout": "10s"}),
    Case("long", ["warning LONG_TIMEOUT"], asked("{ inet:127.0.0.1:10045, timeout=2m }"), text="2m"),
    Case(
        "the inner braces are missing",
        ["error BRACES"],
        asked("{ inet:127.0.0.1:10045, timeout=10s, default_action = 451 4.3.5 Try later }"),
        text='"default_action"',
    ),
    Case(
        "the outer braces are missing",
        ["error OPTION_OUTSIDE", "warning NO_TIMEOUT"],
        asked("inet:127.0.0.1:10045 timeout=10s"),
    ),
    Case(
        "an option that there is not",
        ["error BRACES", "warning NO_TIMEOUT"],
        asked("{ inet:127.0.0.1:10045, time_out=10s }"),
        text='"time_out=10s"',
    ),
    Case(
        "a brace too many",
        ["error OPTION_OUTSIDE", "error UNKNOWN_RESTRICTION", "warning NO_TIMEOUT"],
        asked("{ inet:127.0.0.1:10045 }, timeout=10s }"),
    ),
    # addresses
    Case("localhost", [], asked("{ inet:localhost:10045, timeout=10s }")),
    Case("another port", ["error NOT_ASKED"], asked("{ inet:127.0.0.1:10046, timeout=10s }"), text="10046"),
    Case("policyd listens everywhere", [], toml={"inet:127.0.0.1:10045": "inet:0.0.0.0:10045"}),
    Case("systemd's sockets are not known", [], toml={"inet:127.0.0.1:10045": "systemd:policyd"}),
    Case("a unix socket", [], asked("{ unix:policyd/policyd.sock, timeout=10s }"), toml=UNIX),
    Case("another socket", ["error NOT_ASKED"], asked("{ unix:private/policyd, timeout=10s }"), toml=UNIX),
    Case(
        "an absolute path for a chrooted smtpd",
        ["error CHROOT_PATH"],
        asked("{ unix:/var/spool/postfix/policyd/policyd.sock, timeout=10s }"),
        toml=UNIX,
        text="unix:policyd/policyd.sock",
    ),
    Case(
        "an absolute path without chroot",
        [],
        asked("{ unix:/var/spool/postfix/policyd/policyd.sock, timeout=10s }"),
        services="smtp inet n - n - - smtpd\n",
        toml=UNIX,
    ),
    Case(
        "greylisting alone is not policyd at another address",
        ["error NOT_ASKED"],
        {RECIPIENT: f"{PERMITS} reject_unauth_destination check_policy_service inet:127.0.0.1:10023"},
    ),
    Case(
        "nor is SPF, whatever its name",
        ["error NOT_ASKED"],
        {RECIPIENT: f"{PERMITS} reject_unauth_destination check_policy_service unix:private/policyd-spf"},
        toml={"inet:127.0.0.1:10045": "systemd:policyd"},
    ),
    Case(
        "SPF behind is no matter",
        [],
        {RECIPIENT: f"{PERMITS} POLICY reject_unauth_destination check_policy_service unix:private/policyd-spf"},
    ),
    Case(
        "two services, neither known: nobody is asked",
        ["error NOT_ASKED"],
        {RECIPIENT: "check_policy_service inet:127.0.0.1:1 check_policy_service inet:127.0.0.1:2 reject"},
    ),
    # TLS
    Case("no TLS", ["error NO_TLS"], {"smtpd_tls_security_level": ""}, text="empty"),
    Case("TLS switched off", ["error NO_TLS"], {"smtpd_tls_security_level": "none"}, text="none"),
    Case("the old way to switch it on", [], {"smtpd_tls_security_level": "", "smtpd_use_tls": "yes"}),
    Case("nobody needs TLS", ["warning NO_TLS"], {"smtpd_tls_security_level": ""}, toml=ADDRESS_ONLY),
    Case("no certificates asked for", ["error NO_ASK_CCERT"], {"smtpd_tls_ask_ccert": "no"}),
    Case("nobody needs them", ["warning NO_ASK_CCERT"], {"smtpd_tls_ask_ccert": "no"}, toml=ADDRESS_ONLY),
    Case("in other letters", [], {"smtpd_tls_ask_ccert": "YES"}),
    Case("demanded", [], {"smtpd_tls_ask_ccert": "no", "smtpd_tls_req_ccert": "yes"}),
    Case("asked for at the one port", [], {"smtpd_tls_ask_ccert": "no"}, {"smtp/inet/smtpd_tls_ask_ccert": "yes"}),
    Case(
        "one port switches them off",
        ["warning NO_ASK_CCERT"],
        services=SMTP + "2525 inet n - y - - smtpd\n",
        overrides={"smtp/inet/smtpd_tls_ask_ccert": "no"},
        text='/nowhere/master.cf: warning: service "smtp/inet": smtpd_tls_ask_ccert',
    ),
    Case(
        "one port switches TLS off",
        ["warning NO_TLS"],
        services=SMTP + "2525 inet n - y - - smtpd\n",
        overrides={"smtp/inet/smtpd_tls_security_level": "none"},
        text='service "smtp/inet": smtpd_tls_security_level is none',
    ),
    Case("TLS from the start", [], {"smtpd_tls_security_level": "", "smtpd_tls_wrappermode": "yes"}),
    Case("the hub has no certificate", ["error NO_HUB_CERTIFICATE"], {"smtpd_tls_chain_files": ""}),
    Case("it is in the old parameter", [], pair("", HUB)),
    Case("and its key beside it", [], pair("", HUB, HUB)),
    Case("no certificate by name", ["error NO_HUB_CERTIFICATE"], pair("", "None")),
    Case("nor in the new parameter", ["error NO_HUB_CERTIFICATE"], {"smtpd_tls_chain_files": "none"}),
    Case("none but one for elliptic curves", [], {**pair("", "none"), **pair("ec", HUB)}),
    Case(
        "the hub's certificate is not there",
        ["error HUB_CERTIFICATE_NOT_READ"],
        {"smtpd_tls_chain_files": "/nowhere/hub.pem"},
        text='smtpd_tls_chain_files: "/nowhere/hub.pem" cannot be read (No such file or directory)',
    ),
    Case(
        "nor are two of three",
        ["error HUB_CERTIFICATE_NOT_READ"] * 2,
        {"smtpd_tls_chain_files": f"/nowhere/hub.key,{HUB}  /nowhere/ec.pem"},
        text='"/nowhere/ec.pem"',
    ),
    Case(
        "and nobody needs TLS",
        ["warning HUB_CERTIFICATE_NOT_READ"],
        {"smtpd_tls_chain_files": "/nowhere/hub.pem"},
        toml=ADDRESS_ONLY,
    ),
    Case(
        "it is empty",
        ["error HUB_CERTIFICATE_NOT_READ"],
        {"smtpd_tls_chain_files": "{folder}/empty"},
        text="it is empty",
    ),
    Case("a folder", ["error HUB_CERTIFICATE_NOT_READ"], {"smtpd_tls_chain_files": "/"}, text="no regular file"),
    Case("a name in the queue", [], {"smtpd_tls_chain_files": "hub.pem", "queue_directory": str(CERTIFICATES)}),
    Case("the new parameter is the one that counts", [], {"smtpd_tls_cert_file": "/nowhere/hub.pem"}),
    Case(
        "the old parameter names nothing; its key is in the same file",
        ["error HUB_CERTIFICATE_NOT_READ"],
        pair("", "/nowhere/hub.pem", "/nowhere/hub.pem"),
        text="smtpd_tls_cert_file: ",
    ),
    Case(
        "no key",
        ["error HUB_CERTIFICATE_NOT_READ"],
        pair("", HUB, "/nowhere/hub.key"),
        text='smtpd_tls_key_file: "/nowhere/hub.key"',
    ),
    Case(
        "an empty name of a key", ["error HUB_CERTIFICATE_NOT_READ"], pair("", HUB, ""), text='smtpd_tls_key_file: ""'
    ),
    Case("a key without a certificate is not asked for", [], {**pair("", HUB), "smtpd_tls_eckey_file": "/nowhere/k"}),
    Case(
        "none is a name there",
        ["error HUB_CERTIFICATE_NOT_READ"],
        {**pair("", HUB), **pair("ec", "none")},
        text='smtpd_tls_eccert_file: "none"',
    ),
    Case(
        "a port has a certificate of its own, which is not there",
        ["error HUB_CERTIFICATE_NOT_READ"],
        {"smtpd_tls_chain_files": ""},
        services=SMTP + "2525 inet n - y - - smtpd\n",
        overrides={
            "smtp/inet/smtpd_tls_cert_file": HUB,
            "2525/inet/smtpd_tls_cert_file": "/nowhere/hub.pem",
        },
        text='/nowhere/master.cf: service "2525/inet": smtpd_tls_cert_file: "/nowhere/hub.pem"',
    ),
    Case(
        "or a key",
        ["error HUB_CERTIFICATE_NOT_READ"],
        pair("", HUB),
        overrides={"smtp/inet/smtpd_tls_key_file": "/nowhere/hub.key"},
        text='/nowhere/master.cf: service "smtp/inet": smtpd_tls_key_file',
    ),
    Case("the file of CAs is empty", ["error CA_NOT_READ"], {"smtpd_tls_CAfile": "{folder}/empty"}, text="it is empty"),
    Case("a file of CAs in the queue", [], {"smtpd_tls_CAfile": "cas.pem", "queue_directory": str(CERTIFICATES)}),
    Case("no such file of CAs", ["error CA_NOT_READ"], {"smtpd_tls_CAfile": "/nowhere/cas.pem"}),
    Case("md5", ["warning FINGERPRINT_DIGEST_WEAK"], {"smtpd_tls_fingerprint_digest": "md5"}),
    Case(
        "pins of another digest",
        ["warning FINGERPRINT_DIGEST_WEAK", "error PIN_LENGTH"],
        {"smtpd_tls_fingerprint_digest": "sha1"},
        toml={'addresses = ["203.0.113.0/28"]': f'public_key_fingerprints = ["{PIN}"]'},
        text='of organization "contoso", connector "branch" is a sha256 fingerprint',
    ),
    Case(
        "pins of the right digest",
        [],
        toml={'addresses = ["203.0.113.0/28"]': f'certificate_fingerprints = ["{PIN}"]'},
    ),
    Case(
        "pins of another digest than one port's",
        ["error PIN_LENGTH"],
        services=SMTP + "2525 inet n - y - - smtpd\n",
        overrides={"2525/inet/smtpd_tls_fingerprint_digest": "sha512"},
        toml={'addresses = ["203.0.113.0/28"]': f'public_key_fingerprints = ["{PIN}"]'},
        text='/nowhere/master.cf: service "2525/inet": "A1:A1',
    ),
    Case("no CA", ["error NO_CA"], {"smtpd_tls_CAfile": ""}),
    Case("no CA, no names", [], {"smtpd_tls_CAfile": ""}, toml=ADDRESS_ONLY),
    Case("the system's CAs", ["warning SYSTEM_CAS"], {"smtpd_tls_CAfile": "/etc/ssl/certs/ca-certificates.crt"}),
    Case("a copy of the system's CAs", ["warning SYSTEM_CAS"], {"smtpd_tls_CAfile": "{folder}/many.pem"}),
    Case(
        "a folder of the system's CAs",
        ["warning SYSTEM_CAS"],
        {"smtpd_tls_CApath": "/etc/ssl/certs"},
        services="smtp inet n - n - - smtpd\n",
    ),
    Case("the system's CAs, no names", [], {"smtpd_tls_CApath": "/etc/ssl/certs"}, toml=ADDRESS_ONLY),
    Case("the system's CAs by default", ["warning SYSTEM_CAS"], {"tls_append_default_CA": "yes"}),
    # clients
    Case("XCLIENT", ["warning XCLIENT"], {"smtpd_authorized_xclient_hosts": "127.0.0.0/8"}, text="127.0.0.0/8"),
    Case(
        "a connector in mynetworks",
        ["error CONNECTOR_IN_MYNETWORKS"],
        {"mynetworks": "127.0.0.0/8, 203.0.113.0/24, hash:/etc/postfix/networks, !203.0.113.9"},
        text='"203.0.113.0/28" of organization "contoso", connector "branch"',
    ),
    Case(
        "mynetworks of one port",
        ["error CONNECTOR_IN_MYNETWORKS"],
        overrides={"smtp/inet/mynetworks": "203.0.113.0/24"},
        text='/nowhere/master.cf: service "smtp/inet": "203.0.113.0/28"',
    ),
    Case("mynetworks is not permitted", [], {"mynetworks": "0.0.0.0/0", RECIPIENT: "POLICY reject"}),
    # domains
    Case("not in Postfix", ["warning DOMAIN_UNKNOWN"], {"relay_domains": ""}, text='"contoso.com"'),
    Case("in other letters of case", [], {"relay_domains": "CONTOSO.com"}),
    Case(
        "a file that is not there",
        ["warning TABLE_NOT_READ"],
        {"relay_domains": "/nowhere/x"},
    ),
    Case("no file", ["warning TABLE_NOT_READ"], {"relay_domains": "/dev/null"}, text="no regular file"),
    Case(
        "a domain in one of its two forms",
        ["warning DOMAIN_UNKNOWN"],
        {"relay_domains": "contoso.com, bücher.example"},
        toml={'"contoso.com"': '"contoso.com", "bücher.example"'},
        text='"xn--bcher-kva.example"',
    ),
    Case(
        "a domain in both of its forms",
        [],
        {"relay_domains": "contoso.com, bücher.example, xn--bcher-kva.example"},
        toml={'"contoso.com"': '"contoso.com", "bücher.example"'},
    ),
    Case(
        "its other form cannot come without SMTPUTF8",
        [],
        {"relay_domains": "contoso.com, xn--bcher-kva.example", "smtputf8_enable": "no"},
        toml={'"contoso.com"': '"contoso.com", "bücher.example"'},
    ),
    Case("an entry that is taken out", ["warning DOMAIN_UNKNOWN"], {"relay_domains": "!contoso.com contoso.com"}),
    Case(
        "a dot covers nothing where entries cover what is below",
        ["warning DOMAIN_UNKNOWN"],
        {"relay_domains": "contoso.com .contoso.net"},
        toml={'"contoso.com"': '"contoso.com", "a.contoso.net"'},
    ),
    Case(
        "nor in mydestination",
        ["warning SUBDOMAINS_UNKNOWN"],
        {"relay_domains": "", "mydestination": "hub.example contoso.com .contoso.com"},
        toml={'"contoso.com"': '"*.contoso.com"'},
    ),
    Case(
        "names below that nobody accepts",
        ["warning DOMAIN_NOT_ACCEPTED"],
        {"relay_domains": "contoso.com .contoso.com", "parent_domain_matches_subdomains": ""},
        text='".contoso.com"',
    ),
    Case("subdomains by relay_domains", [], toml={'"contoso.com"': '"*.contoso.com", "a.b.contoso.com"'}),
    Case(
        "no subdomains in mydestination",
        ["warning SUBDOMAINS_UNKNOWN"],
        {"relay_domains": "", "mydestination": "hub.example contoso.com"},
        toml={'"contoso.com"': '"*.contoso.com"'},
    ),
    Case(
        "subdomains the other way",
        [],
        {"relay_domains": "contoso.com .contoso.com", "parent_domain_matches_subdomains": ""},
        toml={'"contoso.com"': '"*.contoso.com"'},
    ),
    Case("nobody's", ["warning DOMAIN_NOT_ACCEPTED"], {"virtual_alias_domains": "fabrikam.com"}, text='"fabrikam.com"'),
    Case(
        "localhost and a bare name are nobody's",
        [],
        {"mydestination": "hub.example, hub, localhost, localhost.example"},
    ),
    # the header
    Case(
        "stamping without a question at DATA and without header_checks",
        ["error NO_DATA_RESTRICTION", "error NO_HEADER_CHECKS"],
        toml={"[organizations.contoso]\n": '[policy]\nattribution_header = "X-Secret"\n[organizations.contoso]\n'},
    ),
    Case("a question at DATA for nothing", ["warning ALSO_ELSEWHERE"], {DATA: "POLICY"}),
    # postconf itself
    Case(
        "a misspelt parameter",
        ["warning REMARK"],
        remarks=["/nowhere/main.cf: unused parameter: smtpd_tls_ask_cert=yes"],
        text="/nowhere/main.cf: warning: postconf says: unused parameter: smtpd_tls_ask_cert=yes",
    ),
    Case(
        "what postconf says of other things is no matter",
        [],
        remarks=[
            "/nowhere/main.cf: unused parameter: smtp_tls_foo=yes",
            "/nowhere/master.cf: undefined parameter: mua_client_restrictions",
            "My hostname x is not a fully qualified name - set myhostname or mydomain in main.cf",
        ],
    ),
    Case(
        "the same parameter twice",
        ["warning REMARK"],
        remarks=["/nowhere/main.cf, line 7: overriding earlier entry: relay_domains=x"],
        text="/nowhere/main.cf:7: warning: postconf says: overriding earlier entry: relay_domains=x",
    ),
    Case(
        "many pins of another digest",
        ["error PIN_LENGTH"] * 25 + ["error AND_MORE"],
        {"smtpd_tls_fingerprint_digest": "sha512"},
        toml={
            'addresses = ["203.0.113.0/28"]': "public_key_fingerprints = "
            + json.dumps([f"{number:064X}" for number in range(30)])
        },
        text="5 more findings",
    ),
]


FILES = {
    "permits": "# who\n192.0.2.77/32\n  ok\n192.0.2.0/24 REJECT\n",
    "patterns": "!/^postmaster@/ REJECT\nif /x/\n/^abuse@.*/i 200\nendif\n",
    "refuses": "192.0.2.0/24 REJECT no\n192.0.2.9 554 5.7.1 no\n192.0.2.10 DUNNO\n",
    "class": "192.0.2.0/24 our_class, reject\n",
    "empty": "",
    "many.pem": (CERTIFICATES / "cas.pem").read_text() * 41,
}


def recorded(case: Case, folder: Path) -> Postfix:
    """The Postfix of a case; `{folder}` in a value is the one with FILES."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    parameters, overrides = spelled({**GOOD, **case.main}), spelled(case.overrides)
    parameters = parameters.replace("{folder}", str(folder))
    return parse_postfix("/nowhere", parameters, case.services, overrides, case.remarks)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
def test_findings(case: Case, tmp_path: Path) -> None:
    found = findings_in(recorded(case, tmp_path), configuration_of(tmp_path, case.toml))
    assert sorted(names_of(found)) == sorted(case.found), found
    assert case.text in "\n".join(map(str, found))
    assert all(str(problem).isascii() or "bücher" in str(problem) for problem in found)


@pytest.mark.parametrize("case", [case for case in CASES if not case.toml], ids=lambda case: case.why)
def test_without_a_configuration_the_lists_are_still_checked(case: Case, tmp_path: Path) -> None:
    found = findings_in(recorded(case, tmp_path), None)
    needs_configuration = {"NO_CA", "SYSTEM_CAS", "CONNECTOR_IN_MYNETWORKS", "DOMAIN_UNKNOWN"}
    needs_configuration |= {"DOMAIN_NOT_ACCEPTED", "TABLE_NOT_READ", "APPEND_DOT"}
    kinds = {name.partition(" ")[2] for name in case.found} - needs_configuration
    assert {name.partition(" ")[2] for name in names_of(found)} == kinds


@needs_root
def test_nothing_is_said_of_files_that_only_root_sees(tmp_path: Path) -> None:
    """smtpd opens them as root: who may not look into their folder cannot know."""
    with tempfile.TemporaryDirectory(dir="/tmp") as closed:  # 0700
        names = f"{closed}/hub.key, {closed}/hub.pem"
        case = Case("", [], {"smtpd_tls_chain_files": names, "smtpd_tls_CAfile": f"{closed}/cas.pem"})
        postfix, configuration = recorded(case, tmp_path), configuration_of(tmp_path, {})
        assert names_of(findings_in(postfix, configuration)) == [
            "error CA_NOT_READ",
            *["error HUB_CERTIFICATE_NOT_READ"] * 2,
        ]
        with rights_of("nobody"):
            assert findings_in(postfix, configuration) == []


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("OK", "relays"),
        ("ok let them", "relays"),
        ("550", "relays"),
        ("1", "relays"),
        ("451", "relays"),
        ("PERMIT", "relays"),
        ("permit_mynetworks, reject", "bounces"),
        ("permit_mynetworks, permit", "relays"),
        ("later", "relays"),
        ("never", "bounces"),
        ("DISCARD", "discards"),
        ("451 4.3.5 later", "defers"),
        ("421 later", "defers"),
        ("DEFER", "defers"),
        ("DEFER 4.3.0 later", "defers"),
        ("no_such_word", "defers"),
        ("250 fine", "defers"),
        ("DUNNO", "bounces"),
        ("", "bounces"),
        ("REJECT", "bounces"),
        ("550 5.7.1 no", "bounces"),
        ("DEFER_IF_PERMIT", "bounces"),
        ("PREPEND X: y", "bounces"),
    ],
)
def test_default_action(action: str, kind: str) -> None:
    assert default_action_kind(action, {"later": "permit", "never": "reject"}) == kind
