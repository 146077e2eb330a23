"""Every text about the wiring into Postfix that an administrator can read (SPEC 7, check --postfix).

As in `config.messages`: what is wrong, what it leads to, and what to do. A place to fill is a name in braces without
blanks; braces with blanks are Postfix's own.
"""

from __future__ import annotations

import re

from policyd.config.messages import Finding

DEFER = "{ default_action = 451 4.3.5 Connector policy unavailable }"


class Message(Finding):
    """What can be wrong between Postfix and policyd. Tests hold an example of each."""

    POSTFIX_NOT_READ = "{reason}"
    REMARK = "postconf says: {remark}"
    AND_MORE = "{count} more findings like the ones above: {start} ..."

    # is policyd asked?
    NOT_ASKED = (
        "no restriction list asks policyd; put `{recommended}` directly before reject_unauth_destination in "
        "smtpd_recipient_restrictions, and set `smtpd_relay_restrictions =`"
    )
    OTHER_ADDRESS = (
        "check_policy_service asks {server}, but policyd listens on {listen}; if that is meant to be policyd, make the "
        "two the same (a unix path in main.cf is relative to {queue}), else ask policyd, too"
    )
    LIST_OF_ITS_OWN = (
        "{list} of main.cf asks policyd, but this service has a list of its own in its place, which does not; take it "
        "out of master.cf, or ask policyd there, too"
    )
    CHROOT_PATH = (
        "smtpd is chrooted to {queue} and does not find {server} there; put the socket below that folder and write the "
        "path relative to it: {relative}"
    )
    ONLY_ELSEWHERE = (
        "policyd is asked in {lists} only, where an OK grants nothing; ask it directly before "
        "reject_unauth_destination in smtpd_recipient_restrictions, and set `smtpd_relay_restrictions =`"
    )
    ALSO_ELSEWHERE = "policyd is asked in {lists} too, where an OK grants nothing; take it out there"
    TWICE = (
        "policyd is asked in smtpd_relay_restrictions and in smtpd_recipient_restrictions, so twice for each "
        "recipient; keep one"
    )

    # the order in its list
    AFTER_REFUSAL = (
        "policyd stands behind {restriction}, so it is never asked about mail to outside; put it directly before"
    )
    OTHER_LIST_REFUSES = (
        "{restriction} in {list} refuses relaying whatever policyd answers in {asked}, since both lists must let a "
        "recipient pass; {advice}"
    )
    NOTHING_REFUSES = (
        "nothing behind policyd refuses relaying, so a DUNNO lets everybody relay; put reject_unauth_destination "
        "directly behind it"
    )
    PERMIT_BEFORE = (
        "{restriction} stands before policyd: whom it permits may send anything anywhere, and policyd is not asked; "
        "take it out, and give those clients connectors"
    )
    PERMIT_AUTH_BEFORE = (
        "permit_auth_destination stands before policyd: about mail to Postfix's own domains policyd is not asked, so "
        "partners, connectors_only and protect_sender_domains do nothing; take it out, or put it behind policyd"
    )
    TABLE_BEFORE = (
        "{restriction} {argument} stands before policyd: an OK in it lets its clients relay anywhere; move it to "
        "smtpd_client_, _helo_ or _sender_restrictions, where an OK grants nothing"
    )
    TABLE_PERMITS = (
        "{restriction} {argument} stands before policyd and permits {key}: such mail may go anywhere, and policyd is "
        "not asked; move the table to smtpd_client_, _helo_ or _sender_restrictions, where an OK grants nothing"
    )
    SERVICE_BEFORE = (
        "another policy service, {argument}, stands before policyd: its OK lets clients relay anywhere; move it to "
        "smtpd_client_, _helo_ or _sender_restrictions, where an OK grants nothing"
    )
    ONLY_WARNS = (
        "warn_if_reject stands before policyd: what it refuses passes on, what it permits is relayed; take it out when "
        "the trial is over"
    )

    # the options of check_policy_service
    DEFAULT_OK = (
        "default_action = {action} lets everybody relay when policyd is down; write `" + DEFER + "` into the braces"
    )
    DEFAULT_BOUNCES = (
        "default_action = {action}: when policyd is down, mail of connectors is bounced, not deferred; write `"
        + DEFER
        + "` into the braces"
    )
    BRACES = (
        "{option} is not where an option can stand: smtpd dies of it or answers every recipient with a configuration "
        "error. Options stand in braces, a value with blanks in its own: `{recommended}`"
    )
    NO_TIMEOUT = (
        "there is no timeout for policyd: when it is slow, Postfix waits twice {timeout} for each recipient; write "
        "timeout=10s into the braces"
    )
    LONG_TIMEOUT = "timeout={timeout} for policyd: when it is slow, Postfix waits twice that long; write timeout=10s"

    # TLS
    NO_TLS = (
        "smtpd_tls_security_level is {level}, so clients cannot use TLS and show no certificates; "
        "set `smtpd_tls_security_level = may`, and a certificate for the hub"
    )
    NO_HUB_CERTIFICATE = (
        "Postfix has no certificate of its own, so it offers no TLS and sees no certificates of clients; set "
        "smtpd_tls_chain_files"
    )
    HUB_CERTIFICATE_NOT_READ = (
        "{setting}: {file} cannot be read ({reason}), so Postfix has no certificate to show, STARTTLS fails, and no "
        "certificate of a client arrives; put the hub's certificate and key there, or correct the name"
    )
    CA_NOT_READ = (
        "smtpd_tls_CAfile: {file} cannot be read ({reason}), so Postfix switches TLS off; put the CAs there that "
        "connectors' certificates come from"
    )
    NO_ASK_CCERT = (
        "smtpd_tls_ask_ccert is no, so clients show no certificates, and connectors and partners by certificate never "
        "match; set `smtpd_tls_ask_ccert = yes`"
    )
    FINGERPRINT_DIGEST_WEAK = (
        "smtpd_tls_fingerprint_digest is {digest}, which can be forged or soon will be; set it to sha256 and make the "
        "pins anew (policyd certificate)"
    )
    PIN_LENGTH = (
        "{value} of {owner} is a {digest} fingerprint, but smtpd_tls_fingerprint_digest is {expected}, so it never "
        "matches; make it anew (policyd certificate), or use certificate_files, which match in every digest"
    )
    NO_CA = (
        "there are certificate_names, but Postfix knows no CA of clients' certificates and so sends no names; set "
        "smtpd_tls_CAfile to the CAs that connectors' certificates come from"
    )
    SYSTEM_CAS = (
        "{setting}: every public CA can sign a name of certificate_names; set smtpd_tls_CAfile to a file with only the "
        "CAs that connectors' certificates come from"
    )

    # who else may choose
    XCLIENT = (
        "smtpd_authorized_xclient_hosts = {hosts}: these hosts can claim any client address, and so any connector; "
        "empty it"
    )
    CONNECTOR_IN_MYNETWORKS = (
        "{address} of {owner} is in mynetworks ({network}), so permit_mynetworks lets it send anything anywhere, and "
        "policyd is not asked; take it out of mynetworks"
    )

    # domains
    DOMAIN_UNKNOWN = (
        "Postfix does not know {domain} of {owner}: mail to it that policyd allows goes out to the Internet again, and "
        "past the tables of known recipients; add it to relay_domains (or to mydestination, virtual_mailbox_domains, "
        "virtual_alias_domains)"
    )
    SUBDOMAINS_UNKNOWN = (
        "Postfix knows {name}, but not the names below it, which {domain} of {owner} covers; put it into relay_domains "
        "(where it covers them), or accept {name} alone"
    )
    DOMAIN_NOT_ACCEPTED = (
        "no organization accepts {domain} of {setting}, so policyd refuses mail to it from strangers; give it to an "
        "organization (the hub's own names to one of their own), or take it out of Postfix"
    )
    OUTSIDE_DOMAIN_KNOWN = (
        "Postfix takes {domain} for its own, which {owner} has in outside_domains: neither its locks nor its "
        "protection hold there, and its mail arrives here all the same; begin relay_domains with `!` and that name, or "
        "take it out of outside_domains"
    )
    TABLE_NOT_READ = "{table} of {setting} cannot be looked into ({reason}), so it is not compared"

    # what becomes of a message
    BARE_NEWLINE = (
        "smtpd_forbid_bare_newline is {value}: a message within a connector's message leaves with any sender of its "
        "own (SMTP smuggling); set `smtpd_forbid_bare_newline = yes` (Postfix 3.5.23, 3.6.13, 3.7.9, 3.8.4 and later)"
    )
    BARE_NEWLINE_EXCLUSIONS = (
        "smtpd_forbid_bare_newline_exclusions holds {network}, which lies outside of mynetworks: from there a message "
        "within a connector's message leaves with any sender of its own (SMTP smuggling); take it out"
    )
    APPEND_DOT = (
        "append_dot_mydomain is yes: Postfix makes {domain} of a recipient's {short} after policyd was asked, so "
        "another name than was decided about, and one of {owner}; set `append_dot_mydomain = no`"
    )

    # stamping
    NO_DATA_RESTRICTION = (
        "attribution_header is set, but smtpd_data_restrictions does not ask policyd; set "
        "`smtpd_data_restrictions = check_policy_service { {server}, timeout=10s }`"
    )
    HEADER_NOT_REPLACED = (
        "attribution_header is set, but header_checks does `{action}` to it; write `REPLACE X-Org-Attribution: $1` for "
        "the secret name, and IGNORE for the public one only"
    )
    NO_HEADER_CHECKS = (
        "attribution_header is set, but header_checks does nothing with it, so the secret name goes out with the mail; "
        "replace it there by a public one"
    )


def fill(message: Message, values: dict[str, str]) -> str:
    """The text of a message."""
    return re.sub(r"\{(\w+)\}", lambda name: values[name[1]], message.value)
