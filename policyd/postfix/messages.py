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
        "no restriction list asks policyd{elsewhere}; put `{recommended}` directly before {refusal} in {list}{more}"
    )
    OTHER_INSTANCE = (
        "no restriction list of this instance asks policyd; multi_instance_directories names more instances of this "
        "Postfix: {folders}; check each with `policyd check --postfix FOLDER`"
    )
    LIST_OF_ITS_OWN = (
        "{list} of main.cf asks policyd, but this service has a list of its own in its place, which does not; take it "
        "out of master.cf, or ask policyd there, too"
    )
    SERVICE_NOT_ASKED = (
        "service {service} does not ask policyd, so strangers reach {organizations} there, past connectors_only, "
        "protect_sender_domains and partners; ask policyd there, too, or let only those in who log in"
    )
    INTERFACES_LOCAL = (
        "inet_interfaces = {interfaces}: Postfix listens on this machine's loopback only, so no connector reaches it; "
        "set `inet_interfaces = all`, or name the addresses of this host"
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
    SMTPD_DIES = (
        "smtpd of service {service} does not start: neither smtpd_relay_restrictions nor smtpd_recipient_restrictions "
        "has a reject_unauth_destination, defer_unauth_destination, reject or defer that can be reached; put "
        "reject_unauth_destination into one of them"
    )
    NOTHING_REFUSES = (
        "nothing behind policyd refuses relaying, so a DUNNO lets everybody relay; put reject_unauth_destination "
        "directly behind it"
    )
    PERMIT_BEFORE = (
        "{restriction} stands before policyd: whom it permits may send anything anywhere, and policyd is not asked; "
        "take it out, and give those clients connectors"
    )
    PERMIT_WITHOUT = (
        "service {service}: {restriction} in {list} lets clients send {what}, and policyd is not asked there; take it "
        "out, and give those clients connectors at a service that asks policyd"
    )
    BACKUP_BEFORE = (
        "permit_mx_backup stands before policyd: mail for every domain whose MX records name this host is relayed, and "
        "about mail to Postfix's own domains policyd is not asked; take it out, and name such domains in relay_domains"
    )
    ALLOW_LIST_BEFORE = (
        "{restriction} stands before policyd: Postfix ignores it for mail to outside, but strangers on that list reach "
        "Postfix's own domains unasked, so partners, connectors_only and protect_sender_domains do nothing for them; "
        "move it to smtpd_client_restrictions"
    )
    PERMIT_AUTH_BEFORE = (
        "{restriction} stands before policyd: about mail to Postfix's own domains policyd is not asked, so "
        "partners, connectors_only and protect_sender_domains do nothing; take it out, or put it behind policyd"
    )
    TABLE_BEFORE = (
        "{restriction} stands before policyd and cannot be looked into here: an OK in it lets its clients relay "
        "anywhere; move it to smtpd_client_, _helo_ or _sender_restrictions, where an OK grants nothing"
    )
    TABLE_PERMITS = (
        "{restriction} in {list} stands before policyd and permits {key} (by {action}): such mail may go anywhere, and "
        "policyd is not asked; move the table to smtpd_client_, _helo_ or _sender_restrictions, where an OK grants "
        "nothing"
    )
    TABLE_OPENS_RECIPIENT = (
        "{restriction} in {list} stands before policyd and permits {key} (by {action}): everybody may send there, to "
        "domains that are not the hub's, too, and policyd is not asked; take that entry out, or write DUNNO"
    )
    TABLE_OPENS_LOCKED = (
        "{restriction} in {list} stands before policyd and permits {key} (by {action}): strangers reach {owner}, whose "
        "connectors_only, partners or protect_sender_domains do nothing for such mail; write DUNNO"
    )
    TABLE_PERMITS_SOME = (
        "{restriction} in {list} stands before policyd and permits what {key} matches (by {action}): about such mail "
        "policyd is not asked; write DUNNO, or move the table to an early list, where an OK grants nothing"
    )
    TABLE_OPENS_OWN = (
        "{restriction} in {list} stands before policyd and permits mail to Postfix's own domains for {key} (by "
        "{action}): there partners, connectors_only and protect_sender_domains do nothing; put it behind policyd"
    )
    OK_NOT_TAKEN = (
        "{restriction} in {list} says OK for {key}: Postfix takes no OK from a table of this kind and answers 451 to "
        "such mail; write DUNNO in its place"
    )
    SERVICE_BEFORE = (
        "another policy service, {argument}, stands before policyd: its OK lets clients relay anywhere; move it to "
        "smtpd_client_, _helo_ or _sender_restrictions, where an OK grants nothing"
    )
    SERVICE_DEFAULT_OK = (
        "default_action = {action} of another policy service, {argument}, which stands before policyd, lets everybody "
        "relay when that service is down; write `{ default_action = DUNNO }` into its braces, or move it to "
        "smtpd_client_, _helo_ or _sender_restrictions"
    )
    ONLY_WARNS = (
        "warn_if_reject stands before policyd: what it refuses passes on, what it permits is relayed; take it out when "
        "the trial is over"
    )

    # the options of check_policy_service
    DEFAULT_OK = (
        "default_action = {action} lets everybody relay when policyd is down; write `" + DEFER + "` into the braces"
    )
    DEFAULT_DISCARDS = (
        "default_action = {action}: when policyd is down, mail is taken and thrown away; write `" + DEFER + "` into "
        "the braces"
    )
    DEFAULT_BOUNCES = (
        "default_action = {action}: when policyd is down, mail of connectors is bounced, not deferred; write `"
        + DEFER
        + "` into the braces"
    )
    BRACES = (
        "{option} is no option of check_policy_service, or its braces are wrong: smtpd dies of it or answers every "
        "recipient with a configuration error. Options stand in braces, a value with blanks in its own: `{recommended}`"
    )
    OPTION_OUTSIDE = (
        "{option} stands outside of braces, so Postfix takes it for a restriction, which it does not know: 451 to all "
        "mail about which policyd says DUNNO or nothing. Options stand in braces: `{recommended}`"
    )
    NO_TIMEOUT = (
        "there is no timeout for policyd: when it is slow, Postfix waits twice {timeout} for each recipient; write "
        "timeout=10s into the braces"
    )
    LONG_TIMEOUT = "timeout={timeout} for policyd: when it is slow, Postfix waits twice that long; write timeout=10s"

    # what keeps mail from policyd
    UNKNOWN_RESTRICTION = (
        "{restriction} in {list} is unknown to Postfix, which answers 451 to all mail that comes to it{hint}; correct "
        "it, or name the class in smtpd_restriction_classes"
    )
    NOT_HERE = (
        "{restriction} in {list}: a table by itself cannot stand in this list, Postfix answers 451 to all mail; write "
        "check_client_access, check_sender_access or what it is for before it"
    )
    TABLE_MISSING = (
        "{restriction} in {list}: Postfix cannot open the table ({reason}) and answers 451 to all mail that comes to "
        "it; make the file (postmap, for an indexed table), or take the table out"
    )
    TABLE_IN_BRACES = (
        "{restriction} in {list} has its table in braces: Postfix does not take them there and answers 451 to all mail "
        "that comes to it; take the braces away"
    )
    LIST_REFUSES = (
        "{restriction} in {list} refuses all mail to outside ({action}), whoever sends it, so connectors' mail is "
        "refused {when}; take it out, or set `{list} =` for the service that connectors use"
    )
    CONNECTOR_REFUSED = (
        "{restriction} in {list} refuses mail of {owner} ({what}: {action}) {when}; take that entry out, or write DUNNO"
    )
    UNLISTED_SENDERS = (
        "{setting} refuses senders of {domain} of {owner} that {maps} does not list, so mail of its connectors, before "
        "policyd is asked; take it out, or list all senders"
    )
    LOGIN_MISMATCH = (
        "{restriction} in {list} refuses senders that smtpd_sender_login_maps gives to a login, and a connector does "
        "not log in; take it out, or let it stand at the submission service only"
    )
    EARLY_DECISION = (
        "smtpd_delay_reject is no: {restriction} in {list} is asked before the client's certificate and the recipient "
        "are known, so it says nothing for connectors; set `smtpd_delay_reject = yes`"
    )
    REPLIES_REWRITTEN = (
        "smtpd_reject_filter_maps = {maps} rewrites what policyd and Postfix answer: a temporary refusal can become a "
        "final one, and the reference in policyd's texts is gone; leave replies with `(ref ` and 4xx codes alone"
    )

    # TLS
    REQUIRED_CERTIFICATE = (
        "smtpd_tls_req_ccert is yes: clients without a certificate of a CA that Postfix knows are refused before "
        "policyd is asked, so {who}; set `smtpd_tls_ask_ccert = yes` and `smtpd_tls_req_ccert = no`"
    )
    NO_STARTTLS = (
        "{setting} takes STARTTLS out of what Postfix offers, so clients show no certificates, and connectors by "
        "certificate never match; take the word starttls out there"
    )
    OLD_PROTOCOLS = (
        "{setting} = {value} leaves neither TLS 1.2 nor TLS 1.3: clients of today cannot use TLS, and show no "
        "certificates; set `{setting} = >=TLSv1.2` (before Postfix 3.6: !SSLv2, !SSLv3, !TLSv1, !TLSv1.1)"
    )
    RAW_PUBLIC_KEYS = (
        "smtpd_tls_enable_rpk is yes: a client that shows a raw public key has no name and no certificate fingerprint, "
        "so connectors by name or certificate fingerprint never match it; set it to no, or pin public keys"
    )
    SERVER_CERTIFICATES = (
        "tls_trust_server_ccerts is yes: a certificate made for a server passes for a client's, so whoever gets one of "
        "a CA that Postfix knows can have its name; set it to no unless {setting} has CAs of your own only"
    )
    SHARED_SESSIONS = (
        "service {other} trusts other CAs than {service} ({settings}), and services of one Postfix share TLS sessions: "
        "a certificate that is trusted there is trusted here when the session is resumed; give both the same CAs, or "
        "one of them `-o tls_ssl_options=NO_TICKET` (an empty session cache does not help)"
    )
    HUB_KEY = (
        "{setting}: {file} {problem}, so Postfix switches TLS off, and no certificate of a client arrives; put the "
        "hub's key there, then its certificate and the chain"
    )
    CA_IS_NONE = (
        "smtpd_tls_CAfile: {file} {problem}, so Postfix trusts no client's certificate, and certificate_names never "
        "match; put the CAs there, with their roots, that connectors' certificates come from"
    )
    CA_FOLDER = "smtpd_tls_CApath: {folder} {problem}, so Postfix finds no CA there; {advice}"
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
        "smtpd_authorized_xclient_hosts = {hosts}: these hosts, more than one, can claim any client address, and so "
        "any connector; name the proxy's address alone, or empty it"
    )
    XCLIENT_EVERYBODY = (
        "smtpd_authorized_xclient_hosts = {hosts} lets {who} claim any client address, and so any connector; name the "
        "proxy's address alone, or empty it"
    )
    PROXY_PROTOCOL = (
        "smtpd_upstream_proxy_protocol = {protocol}: service {service} believes the client address that the peer "
        "names, so whoever reaches it directly is any connector; let it listen on loopback, or where only the proxy "
        "reaches it"
    )
    POSTSCREEN_PROXY_PROTOCOL = (
        "postscreen_upstream_proxy_protocol = {protocol}: service {service} believes the client address that the peer "
        "names, and smtpd behind it, too, so whoever reaches it directly is any connector; let it listen on loopback, "
        "or where only the proxy reaches it"
    )
    MYNETWORKS_EVERYBODY = (
        "mynetworks holds {networks}, so as good as everybody: permit_mynetworks lets strangers relay, and policyd is "
        "not asked; leave only the hub's own addresses in it"
    )
    MYNETWORKS_PROVIDER = (
        "mynetworks holds {networks}, from where {provider} sends mail of all its customers: permit_mynetworks lets "
        "each of them relay, in everybody's name; take it out, and make a connector with a certificate"
    )
    MYNETWORKS_WIDE = (
        "mynetworks holds {networks}, more addresses of the Internet than one organization has, and permit_mynetworks "
        "lets all of them relay; leave only the hub's own addresses in it"
    )
    MYNETWORKS_BEHIND_PROXY = (
        "mynetworks holds {networks}, and proxy_interfaces says that a proxy or NAT stands before this host: where it "
        "hands on connections under an address of its own, every client is in mynetworks; take that address out"
    )
    CONNECTOR_IN_MYNETWORKS = (
        "{address} of {owner} is in mynetworks ({network}), so permit_mynetworks lets it send anything anywhere, and "
        "policyd is not asked; take it out of mynetworks"
    )
    QMQPD_OPEN = (
        "service {service} is a qmqpd, which knows no restriction lists, and qmqpd_authorized_clients lets {who} send "
        "anything anywhere; take the service out of master.cf, or name hosts of your own alone"
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
        "smtpd_forbid_bare_newline_exclusions holds {network}, and with it {who}: from there a message within a "
        "connector's message leaves with any sender of its own (SMTP smuggling); take it out"
    )
    APPEND_DOT = (
        "append_dot_mydomain is yes: Postfix makes {domain} of a sender's or recipient's {short} after policyd was "
        "asked, so another name than was decided about, and one of {owner}; set `append_dot_mydomain = no`"
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
