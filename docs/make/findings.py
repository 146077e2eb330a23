"""docs/reference/findings.md: what `policyd check --postfix` can find, each with why, a proof and a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from policyd.postfix.messages import Message

_HEAD = """\
# Findings about Postfix

<!-- Made by `python docs/make`: change policyd/postfix/messages.py or docs/make/findings.py, not this file. -->

`policyd check --postfix` tells what is wired wrong between Postfix and policyd. Each finding ends with its identifier,
which stands in `--json` as `id` and does not change between versions. With an error the exit status is 78. Words in
capitals stand for what the finding names.

*Proof* is what a client of a real Postfix got; most were repeated with Postfix 3.7 and 3.10, with the remedy, too, by
`tests/e2e/test_doors.py` and `tests/e2e/test_wiring_check.py`. A stranger is a client that is no connector; POLICY is
the `check_policy_service { ... }` of the [guide](../guide.md).
"""


class Entry(NamedTuple):
    """What the page says beside the text of a finding."""

    why: str
    proof: str
    remedy: str


_RELAYS = "A stranger's mail to outside: `250`."
_HELD_UP = "A connector's mail: `451 4.3.5 Server configuration error`."
_LOCKED = "A stranger's mail to an organization with `connectors_only`: `250`."
_NEVER = "A connector by certificate: `554 5.7.1`, and `reason=certificate-untrusted` or `no-connector` in the log."
_EARLY = "`smtpd_client_restrictions`, `smtpd_helo_restrictions` or `smtpd_sender_restrictions`"

_ENTRIES: dict[str, Entry] = {
    "postfix-not-read": Entry(
        "All is asked of `postconf -c FOLDER`, so it must be installed and the folder readable.",
        "`policyd check --postfix /nowhere` says so.",
        "Run it as root on the host with Postfix, or name the folder that has main.cf and master.cf.",
    ),
    "remark": Entry(
        "postconf complains of what Postfix ignores: a misspelt parameter, or one that is set twice.",
        "`postconf -c FOLDER` prints the same line.",
        "Correct the name, or take the earlier line out.",
    ),
    "and-more": Entry(
        "Of one kind at most 25 are told, so that others are seen.",
        "As those above it.",
        "As for those; then run the check again.",
    ),
    "not-asked": Entry(
        "Only the service that `[service] listen` names is policyd; greylisting, SPF or quota services are others.",
        "A connector's mail to outside: `554 5.7.1 Relay access denied`; policyd's log has no line.",
        "`policyd-postfix-setup enforce`, or POLICY directly before `reject_unauth_destination`.",
    ),
    "other-instance": Entry(
        "Each instance of Postfix has a folder of its own, and another one may ask policyd.",
        "As not-asked, at this instance.",
        "Run the check on each folder of `multi_instance_directories`.",
    ),
    "list-of-its-own": Entry(
        "A list in master.cf (`-o`) replaces the one of main.cf; it is not added to it.",
        "At port 25 a connector's mail: `554`; at another port " + _LOCKED[0].lower() + _LOCKED[1:],
        "Take the list out of master.cf, or put POLICY into it.",
    ),
    "service-not-asked": Entry(
        "What policyd protects is open wherever strangers get in without it being asked.",
        _LOCKED,
        "Put POLICY into the lists of that service, or `permit_sasl_authenticated, reject`.",
    ),
    "interfaces-local": Entry(
        "Where the name of a service has no address, `inet_interfaces` says where Postfix listens.",
        "A client from outside gets no connection.",
        "`inet_interfaces = all`.",
    ),
    "chroot-path": Entry(
        "A chrooted smtpd sees its queue directory as `/`; Debian's master.cf has `y` in that column.",
        "Everybody's mail: `451 4.3.5 Connector policy unavailable`.",
        "`unix:policyd/policyd.sock`, with policyd listening below the queue directory.",
    ),
    "only-elsewhere": Entry(
        "An OK ends its own list only; in an early list it grants no relaying.",
        "A connector's mail to outside: `454 4.7.1 Relay access denied`.",
        "Move POLICY directly before `reject_unauth_destination`.",
    ),
    "also-elsewhere": Entry(
        "With `smtpd_delay_reject` all lists are asked at RCPT TO, each with the same request.",
        "policyd's log has several lines for one recipient.",
        "Take POLICY out of the early list.",
    ),
    "twice": Entry(
        "Both lists are asked about every recipient.",
        "policyd's log has two lines for one recipient.",
        "Keep POLICY in the list that has `reject_unauth_destination`.",
    ),
    "after-refusal": Entry(
        "A refusal ends all: nothing behind it is asked about mail to outside.",
        "A connector's mail to outside: `554 5.7.1 Relay access denied`; to accepted domains `250`.",
        "POLICY, then `reject_unauth_destination`.",
    ),
    "other-list-refuses": Entry(
        "Both lists must let a recipient pass. Debian's main.cf sets `smtpd_relay_restrictions`, and so does Postfix's "
        "default.",
        "A connector's mail to outside: `454 4.7.1 Relay access denied`, although policyd's log has `action=OK`.",
        "`smtpd_relay_restrictions =`, with POLICY and `reject_unauth_destination` in the other.",
    ),
    "smtpd-dies": Entry(
        "smtpd wants one refusal that can be reached in one of the two lists, so that nobody opens a relay by mistake.",
        "Clients hang without a greeting; the mail log has `fatal: in parameter smtpd_relay_restrictions or ...`.",
        "Put `reject_unauth_destination` into one list.",
    ),
    "open-relay": Entry(
        "smtpd's own test only looks for a word of refusal; it does not see that a class permits all before it.",
        _RELAYS,
        "`reject_unauth_destination` in the list, and nothing before it that permits strangers.",
    ),
    "nothing-refuses": Entry(
        "policyd answers DUNNO in monitor mode, and where `policy.incoming` says so; then the rest of the list counts.",
        'With `mode = "monitor"`, a stranger\'s mail to outside: `250`.',
        "`reject_unauth_destination` directly behind POLICY.",
    ),
    "permit-before": Entry(
        "A permit ends the list before policyd is asked: its clients relay in everybody's name. A class is judged by "
        "what it holds, not by its name.",
        "A certificate of `relay_clientcerts`, with another organization's sender, to outside: `250`.",
        "Take it out, and give those clients [connectors](../howto/permit-tls-clientcerts.md).",
    ),
    "permit-without": Entry(
        "At a port that does not ask policyd the permits decide alone. A `reject` behind them closes nothing for whom "
        "they permit.",
        "At that port, with any certificate of the CA and another organization's sender, to outside: `250`.",
        "`permit_sasl_authenticated, reject` there, or POLICY in the place of the permit.",
    ),
    "backup-before": Entry(
        "`permit_mx_backup` believes the DNS of the recipient's domain, which its owner writes.",
        "With an MX record that names the hub behind another: `250` for a stranger.",
        "Take it out, and name those domains in `relay_domains`.",
    ),
    "allow-list-before": Entry(
        "Postfix takes an OK of `permit_dnswl_client` and `permit_rhswl_client` for its own domains only.",
        _LOCKED + " To outside: `554`.",
        "Move it to `smtpd_client_restrictions`.",
    ),
    "permit-auth-before": Entry(
        "`permit_auth_destination` permits all mail to Postfix's own domains.",
        _LOCKED,
        "Take it out, or put it behind POLICY.",
    ),
    "table-before": Entry(
        "A table in a database or behind a socket is not opened by the check; it may hold an OK.",
        "As table-permits, where it does.",
        f"Move it to {_EARLY}.",
    ),
    "table-permits": Entry(
        "An OK, `permit`, a bare number, or a class that permits ends the list before policyd is asked; so does an "
        "entry that refuses first and permits then.",
        _RELAYS,
        f"Write DUNNO, or move the table to {_EARLY}.",
    ),
    "table-opens-recipient": Entry(
        "`postmaster@` as a key is the postmaster of every domain, a pattern whatever it matches.",
        "A stranger's mail to postmaster@ of a locked organization: `250`.",
        "Write the whole address of the hub's own postmaster, or DUNNO.",
    ),
    "table-opens-locked": Entry(
        "An OK for a recipient opens the way to it for everybody.",
        _LOCKED,
        "Write DUNNO, or take the entry out.",
    ),
    "table-permits-some": Entry(
        "A pattern permits what it matches, and nobody can list that.",
        "Mail that it matches: `250`, and policyd's log has no line.",
        f"Write DUNNO, or move the table to {_EARLY}.",
    ),
    "table-opens-own": Entry(
        "The entry ends the list for mail to Postfix's own domains.",
        _LOCKED,
        "Put the table behind POLICY.",
    ),
    "ok-not-taken": Entry(
        "Postfix takes no OK for a host's name or a mail exchanger, which strangers choose in their DNS.",
        "A sender whose exchanger is in the table: `451 4.3.5 Server configuration error`.",
        "Write DUNNO.",
    ),
    "service-before": Entry(
        "Another service's OK ends the list as one of a table does.",
        "With a service that answers OK: `250` for a stranger's mail to outside.",
        "Put it behind `reject_unauth_destination`, or into an early list.",
    ),
    "service-default-ok": Entry(
        "When that service is down, Postfix takes its `default_action` for its answer.",
        "With the service stopped: `250` for a stranger's mail to outside.",
        "`{ default_action = DUNNO }` in its braces.",
    ),
    "only-warns": Entry(
        "`warn_if_reject` only logs a refusal (`reject_warning`); an OK counts.",
        _LOCKED,
        "`policyd-postfix-setup enforce`.",
    ),
    "default-ok": Entry(
        "Postfix takes `default_action` for policyd's answer when policyd does not give one. A number without a text, "
        "and a class that permits, are an OK.",
        "With policyd stopped: `250` for a stranger's mail to outside.",
        "`{ default_action = 451 4.3.5 Connector policy unavailable }`.",
    ),
    "default-discards": Entry(
        "DISCARD takes the mail and drops it; the sender is told nothing.",
        "With policyd stopped: `250`, and the mail log has `discard`.",
        "`{ default_action = 451 4.3.5 Connector policy unavailable }`.",
    ),
    "default-bounces": Entry(
        "With DUNNO the refusal behind policyd decides, with REJECT the mail is returned; only 4xx is tried again.",
        "With policyd stopped, a connector's mail to outside: `554`.",
        "`{ default_action = 451 4.3.5 Connector policy unavailable }`, once policyd enforces.",
    ),
    "braces": Entry(
        "Options are `name=value`; a value with blanks needs braces of its own. `postfix check` does not look.",
        "Clients hang without a greeting; the mail log has `fatal: malformed option`.",
        "Copy the element from `contrib/postfix/main.cf.enforce`.",
    ),
    "option-outside": Entry(
        "Outside of braces a blank ends the element; what follows is a restriction of its own.",
        "With DUNNO of policyd: `451 4.3.5 Server configuration error`.",
        "Copy the element from `contrib/postfix/main.cf.enforce`.",
    ),
    "no-timeout": Entry(
        "Postfix waits 100 s for an answer, and asks a second time.",
        "With a policyd that does not answer: 201 s for a recipient.",
        "`timeout=10s` in the braces.",
    ),
    "long-timeout": Entry(
        "A slow service is asked twice, with the whole timeout each time.",
        "With a policyd that does not answer: twice the timeout, and one second.",
        "`timeout=10s` in the braces.",
    ),
    "unknown-restriction": Entry(
        "A word that Postfix does not know is an error of the whole list, found only when mail comes to it.",
        _HELD_UP,
        "Correct the word, or name the class in `smtpd_restriction_classes`.",
    ),
    "not-here": Entry(
        "Only the list that is about the table's key takes a table by itself.",
        _HELD_UP,
        "Write `check_client_access`, `check_sender_access`, ... before the table.",
    ),
    "table-missing": Entry(
        "A table that cannot be opened is a temporary error for all mail that comes to it.",
        _HELD_UP,
        "Make the file; for `hash:` and `lmdb:` run `postmap`.",
    ),
    "table-in-braces": Entry(
        "The braces of `check_policy_service` are its own; before a table they are a part of its name.",
        _HELD_UP,
        "`check_sender_access inline:{ ... }`, without braces around it.",
    ),
    "list-refuses": Entry(
        "All lists must let a recipient pass, and the early ones are asked before policyd.",
        "A connector's mail: `554 5.7.1 Client host rejected: Access denied`; policyd's log has no line.",
        "Take the refusal out of that list, or set the list for submission alone, in master.cf.",
    ),
    "connector-refused": Entry(
        "An entry of a table refuses a connector's address, name or sender before policyd is asked.",
        "That connector's mail: the entry's own text; policyd's log has no line.",
        "Take the entry out, or write DUNNO.",
    ),
    "unlisted-senders": Entry(
        "`smtpd_reject_unlisted_sender` looks for senders in the tables of recipients.",
        "A connector's mail with a sender that is not listed: `550 5.1.0 Sender address rejected`.",
        "`smtpd_reject_unlisted_sender = no`.",
    ),
    "login-mismatch": Entry(
        "The restriction wants the login that `smtpd_sender_login_maps` names; it counts only with SASL switched on.",
        "A connector's mail: `553 5.7.1 Sender address rejected: not logged in`.",
        "Let it stand at submission only, with `-o` in master.cf.",
    ),
    "early-decision": Entry(
        "With `smtpd_delay_reject = no` each list is asked as soon as it can be, before STARTTLS and RCPT TO.",
        "policyd is asked without a recipient, which it does not decide.",
        "`smtpd_delay_reject = yes`.",
    ),
    "replies-rewritten": Entry(
        "Postfix 3.11 and later send replies through that table.",
        "Documented (postconf(5)); not run.",
        "Let the table leave 4xx codes and texts with `(ref ` alone.",
    ),
    "required-certificate": Entry(
        "Postfix ends the session of a client without a certificate of a known CA, a pinned one of its own included.",
        "A connector by address: `421 4.7.1 Error: No client certificate presented`.",
        "`smtpd_tls_ask_ccert = yes`, `smtpd_tls_req_ccert = no`.",
    ),
    "no-starttls": Entry(
        "Clients use STARTTLS only where it is offered.",
        "EHLO does not offer it; a connector by certificate: `554`.",
        "Take the word `starttls` out.",
    ),
    "old-protocols": Entry(
        "TLS libraries of today speak 1.2 and 1.3 only.",
        "The handshake ends with `alert protocol version`.",
        "`smtpd_tls_protocols = >=TLSv1.2`.",
    ),
    "raw-public-keys": Entry(
        "With RFC 7250 a client may show a key alone (Postfix 3.9 and later, OpenSSL 3.2).",
        "Postfix 3.10, a client that shows its raw key: `554`; with the certificate: `250`.",
        "`smtpd_tls_enable_rpk = no`, or `public_key_fingerprints`.",
    ),
    "server-certificates": Entry(
        "Public CAs give certificates for servers to whoever has the name (Postfix 3.12 and later take them).",
        "Documented (postconf(5)); not run.",
        "`tls_trust_server_ccerts = no`, unless the CA file has CAs of your own alone.",
    ),
    "shared-sessions": Entry(
        "All services of one instance have one key for tickets and one cache (before 3.12): what one service trusted, "
        "the other takes as trusted when the session is resumed, with TLS 1.2 and 1.3.",
        "A certificate of another CA with a connector's name: `554` at port 25; after a session at port 587, whose CA "
        "file knows it, resumed at port 25: `250`.",
        "One `smtpd_tls_CAfile` for all services, or `-o tls_ssl_options=NO_TICKET` for one of them, or another "
        "instance. An empty session cache does not help.",
    ),
    "hub-key": Entry(
        "Without a key that fits there is no TLS at all.",
        "STARTTLS: `454 4.7.0 TLS not available due to local problem`.",
        "`smtpd_tls_chain_files`: the key, its certificate, the chain, in this order.",
    ),
    "ca-is-none": Entry(
        "Only a certificate that may sign others, is valid, and leads to a root in the same file, is a CA to Postfix.",
        _NEVER,
        "Put CA and root into the file.",
    ),
    "ca-folder": Entry(
        "OpenSSL finds CAs in a folder by the hash of their names (`openssl rehash`).",
        _NEVER,
        "`openssl rehash FOLDER`, or a file in `smtpd_tls_CAfile`.",
    ),
    "no-tls": Entry(
        "Certificates come with TLS only.",
        "EHLO does not offer STARTTLS; a connector by certificate: `554`.",
        "`smtpd_tls_security_level = may`.",
    ),
    "no-hub-certificate": Entry(
        "A server without a certificate cannot offer TLS to clients of today.",
        "STARTTLS: `454 4.7.0 TLS not available due to local problem`.",
        "`smtpd_tls_chain_files`: the key, its certificate, the chain.",
    ),
    "hub-certificate-not-read": Entry(
        "A name without a slash counts from the queue directory.",
        "STARTTLS: `454 4.7.0 TLS not available due to local problem`.",
        "Correct the name, or put the file there.",
    ),
    "ca-not-read": Entry(
        "Postfix switches TLS off when it cannot read the CAs.",
        "STARTTLS: `454 4.7.0 TLS not available due to local problem`.",
        "Correct the name, or put the file there.",
    ),
    "no-ask-ccert": Entry(
        "A client shows a certificate only when the server asks.",
        "A connector by certificate: `554`, `reason=no-connector`.",
        "`smtpd_tls_ask_ccert = yes`.",
    ),
    "fingerprint-digest-weak": Entry(
        "Somebody can make two certificates with one MD5, and soon with one SHA-1.",
        "Known since 2008 (MD5) and 2017 (SHA-1).",
        "`smtpd_tls_fingerprint_digest = sha256`, and pins made anew.",
    ),
    "pin-length": Entry(
        "Postfix sends one digest, and a pin of another length is never equal to it.",
        "The pinned client: `554`, `reason=certificate-unknown`.",
        "`certificate_files`, or the pin in that digest.",
    ),
    "no-ca": Entry(
        "Postfix gives a name to policyd only of a certificate that it has verified.",
        _NEVER,
        "`smtpd_tls_CAfile` with the CAs of connectors' certificates.",
    ),
    "system-cas": Entry(
        "A public CA signs for whoever has a name for a moment; Postfix trusts all of them alike.",
        "A certificate of any CA in the file, with a connector's name: `250`.",
        "A file with the CAs of your connectors alone.",
    ),
    "xclient": Entry(
        "With XCLIENT the peer says which address it has; policyd sees that one.",
        "A host of the list, `XCLIENT ADDR=` a connector's, to outside: `250`.",
        "`smtpd_authorized_xclient_hosts =`, or the proxy alone.",
    ),
    "xclient-everybody": Entry(
        "With XCLIENT the peer says which address it has; policyd sees that one.",
        "A stranger, `XCLIENT ADDR=` a connector's, to outside: `250`.",
        "`smtpd_authorized_xclient_hosts =`, or the proxy alone.",
    ),
    "proxy-protocol": Entry(
        "Whoever connects writes the PROXY line; Postfix has no list of proxies.",
        "A stranger that sends `PROXY TCP4` with a connector's address, to outside: `250`.",
        "A service for the proxy alone: on loopback, or behind a packet filter.",
    ),
    "postscreen-proxy-protocol": Entry(
        "postscreen hands the address on to smtpd.",
        "As proxy-protocol.",
        "As proxy-protocol.",
    ),
    "mynetworks-everybody": Entry(
        "`permit_mynetworks` stands before policyd; a file, a `cidr:` table (whatever its results), `static:all`, two "
        "halves, or all but some networks are everybody, too.",
        _RELAYS,
        "`mynetworks = 127.0.0.0/8 [::1]/128`.",
    ),
    "mynetworks-provider": Entry(
        "All customers of a provider send from the same addresses.",
        "Any customer of it, in everybody's name, to outside: `250`.",
        "Take the networks out, and make a [connector](../howto/exchange-online.md).",
    ),
    "mynetworks-wide": Entry(
        "No organization has so many addresses of the Internet.",
        "Any host in the network, in everybody's name, to outside: `250`.",
        "The hub's own addresses alone.",
    ),
    "mynetworks-behind-proxy": Entry(
        "A proxy or NAT that hides the client's address makes strangers look like itself.",
        "A stranger that comes by the proxy, to outside: `250`.",
        "Take its address out of `mynetworks`.",
    ),
    "connector-in-mynetworks": Entry(
        "`permit_mynetworks` stands before policyd, so the organization's domains do not count.",
        "The connector, with another organization's sender, to outside: `250`.",
        "Take its address out of `mynetworks`.",
    ),
    "qmqpd-open": Entry(
        "qmqpd takes mail for anybody, by its own list of clients only.",
        "A stranger by QMQP, to outside: `Kok: queued as ...`.",
        "Take the service out of master.cf.",
    ),
    "domain-unknown": Entry(
        "An OK goes past Postfix's own list of domains, and past `relay_recipient_maps`.",
        "Mail to an unknown user of that domain: `250` instead of `550 5.1.1`.",
        "Add the domain to `relay_domains`.",
    ),
    "subdomains-unknown": Entry(
        "Only `relay_domains` covers names below an entry: those that begin with a dot, or all where "
        "`parent_domain_matches_subdomains` names it.",
        "Mail to an unknown user below that domain: `250` instead of `550 5.1.1`.",
        "`.DOMAIN` in `relay_domains`.",
    ),
    "domain-not-accepted": Entry(
        "policyd refuses what belongs to nobody, also where Postfix would take it.",
        "A stranger's mail to that domain: `554 5.7.1`.",
        "An organization for it; for the hub's own names, one of their own.",
    ),
    "outside-domain-known": Entry(
        "Postfix delivers such mail itself, although it should go outside.",
        "A stranger's mail to it: `250`.",
        "`!DOMAIN` first in `relay_domains`.",
    ),
    "table-not-read": Entry(
        "The table lies in a database, behind a socket, or cannot be opened, so it is not compared.",
        "`postmap -q KEY TABLE` tells why.",
        "Compare it by hand.",
    ),
    "bare-newline": Entry(
        "A lone dot between bare newlines ends a message where Postfix takes it for the end.",
        "A message within contoso's left with the sender of fabrikam.",
        "`smtpd_forbid_bare_newline = yes`.",
    ),
    "bare-newline-exclusions": Entry(
        "The clients in that list may end a message with bare newlines.",
        "From there a message within contoso's left with the sender of fabrikam.",
        "`smtpd_forbid_bare_newline_exclusions = $mynetworks`, or empty.",
    ),
    "append-dot": Entry(
        "Postfix completes a host name after policyd was asked about the short one.",
        "A connector's mail with the sender `bob@tailspintoys` left as that of a protected domain.",
        "`append_dot_mydomain = no`, Postfix's default since 3.0.",
    ),
    "no-data-restriction": Entry(
        "policyd writes its header at DATA, where it must be asked.",
        "Mail leaves without the header.",
        "The lines of `contrib/postfix/main.cf.stamp`.",
    ),
    "header-not-replaced": Entry(
        "header_checks see the header that policyd adds, too.",
        "IGNORE takes the genuine header out with the forged one.",
        "The lines of `contrib/postfix/header_checks`.",
    ),
    "no-header-checks": Entry(
        "Whoever knows the secret name can forge the header.",
        "The secret name stands in the mail that leaves.",
        "The lines of `contrib/postfix/header_checks`.",
    ),
}


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(f"\n{section}" for message in Message for section in _sections(message))


def _sections(message: Message) -> Iterator[str]:
    entry = _ENTRIES[message.id]
    yield f"## {message.id}\n"
    yield f"> {_shown(message.value)}\n"
    yield f"- Why: {entry.why}\n- Proof: {entry.proof}\n- Remedy: {entry.remedy}\n"


def _shown(text: str) -> str:
    """The text of a finding: what is filled in stands in capitals, and what is added to a word is left out."""
    return re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), re.sub(r"(?<=[\w}])\{\w+\}", "", text))
