"""Every text about the configuration that an administrator can read, in one place (SPEC 4).

Each says what is wrong and what to do next. What stands in braces is filled in by a `Report`; texts of the
administrator's own go through `quoted` first. ASCII but for what is quoted.
"""

from __future__ import annotations

from enum import Enum


class Finding(Enum):
    """Texts about what can be wrong; each has a name that stays, whatever becomes of its text."""

    @property
    def id(self) -> str:
        """The identifier of the finding, for programs and for the reference: `addresses-of-two`."""
        return self.name.lower().replace("_", "-")


class Message(Finding):
    """What can be wrong in a configuration. Tests hold an example of each."""

    # files
    FILE_MISSING = "no such file; check the name, or create it (a commented example comes with policyd)"
    FILE_BROKEN_LINK = "a symbolic link to a file that does not exist; mend or remove it"
    FILE_IS_FOLDER = 'a folder, not a file; name a file in it, or write the include pattern as "folder/*.toml"'
    FILE_NOT_REGULAR = "no regular file; policyd reads its configuration from regular files"
    FILE_IS_PIPE = "it is a pipe; a reload needs a file to read again"
    FILE_NO_PERMISSION = (
        "permission denied; the file must be readable for the user that policyd runs as, and "
        "every folder above it open to that user (chgrp policyd, chmod 640; folders 750)"
    )
    FILE_UNREADABLE = "cannot be read: {reason}"
    FILE_TOO_LARGE = "larger than 1 GiB; this is hardly a configuration"
    FILE_UTF16 = "the file is UTF-16; save it as UTF-8"
    FILE_NOT_UTF8 = "the file is not UTF-8 (octet {octet} on this line); save it as UTF-8"
    FILE_BYTE_ORDER_MARK = "the file begins with a byte order mark; save it as UTF-8 without one"
    TOML_SYNTAX = "not valid TOML: {error}{hint}"
    TOML_TWICE = "{name} is already defined at {place}; a key or table stands once: merge the two, or rename one"
    TOML_TOO_DEEP = "arrays or tables are nested too deeply; nothing in a configuration of policyd needs that"

    # include
    INCLUDE_NO_MATCH = "the include pattern {pattern} matches no file{hint}; correct it, or take it out"
    INCLUDE_FOLDER = "the include pattern {pattern}: cannot read the folder {folder}: {reason}"
    INCLUDE_ITSELF = (
        "the include pattern {pattern} matches this file itself; use a folder of its own for included files"
    )
    INCLUDED_KEY = "{key} does not belong into an included file, which holds [organizations] only; move it to {main}"
    ORGANIZATION_TWICE = "this organization is already defined at {place}; keep all of it in one file"

    # keys and types
    UNKNOWN_KEY = "unknown key {key}{hint}"
    WRONG_TYPE = "{key} must be {expected}, not {found}{hint}"
    ELEMENT_TYPE = "{key} must hold texts in quotes only; this element is {found}"
    BAD_NAME = "{name} is no name for {what}: use 1 to 64 of A-Z a-z 0-9 . _ -{hint}"
    NOT_ONE_OF = "{key} cannot be {value}; it is one of {choices}{hint}"
    OUT_OF_RANGE = "{key} = {value} is out of range; write a number from {low} to {high}"
    EMPTY_LIST = "{key} is empty, which would mean that nothing is asked for; list something, or take the key out"
    NOTHING_TO_LISTEN = 'listen is empty; name where Postfix reaches policyd, for example "inet:127.0.0.1:10045"'
    BAD_PATH = "{key}: {value} is no file name{hint}"

    # [service], [log], [metrics], [policy]
    BAD_ENDPOINT = "{value} is no address to listen on: {reason}"
    LISTEN_TWICE = "{value} and {other} ({place}) cannot both be listened on; take one out"
    BAD_UNIX_MODE = 'unix_mode must be an octal number in quotes, like "0660", not {value}'
    UNIX_MODE_USELESS = "unix_mode {value} lets nobody write to the socket, so nobody could connect; use 0660"
    BAD_HEADER = "{value} is no header field name{hint}"
    RESERVED_HEADER = (
        "{value} is a header of mail itself; choose a name that nobody else uses, like X-Internal-2f9c61d0a7"
    )
    HEADER_AND_WORKERS = (
        "attribution_header ({header}) needs workers = 1 ({workers}), since one process must see all requests of a "
        'message; set workers = 1, or attribution_header = ""'
    )

    # [database]
    BAD_DSN = (
        'dsn is neither a URI like "postgresql://policyd@db.example.com/policyd" nor a text like '
        '"host=db.example.com dbname=policyd user=policyd"'
    )
    NO_DSN = 'the table has no dsn, so there is nothing to connect to; write dsn = "postgresql://...", or take it out'
    DATABASE_AWAY = "{reason}"
    DATABASE_SNAPSHOT = "{reason}; the rows of {time} (UTC) are used"
    FILE_HAS_IT = "a file defines this organization already ({place}), and the file counts; take it out of one of them"
    ORGANIZATION_TOO_LARGE = (
        "all of it is more than 1 MiB, so none of its connectors is read; take out what it does not need, or divide it"
    )
    LAST_GOOD_ROWS = (
        "left out for what is said about it; its last good rows (revision {revision}) stay in force, less what the "
        "latest no longer have, and with the restrictions of both"
    )
    HELD = (
        "left out for what is said about it, and there are no good rows from before: its domains still count as its "
        "own, and its connectors match nobody"
    )
    NO_LONGER_ANY = "the database has no organizations any more; those of before stay in force until a restart"

    # names and domains
    NO_HOST_NAME = "{value} is no host name{hint}"
    IS_ADDRESS = "{value} is an address, no host name; addresses belong into addresses"
    EVERYTHING = '{value} would cover every name; write the domain itself, like "contoso.com" or "*.contoso.com"'
    WHOLE_TLD = '{value} would cover a whole top-level domain; write the domain itself, like "*.contoso.com"'
    INNER_WILDCARD = '{value}: an asterisk stands at the front only and for whole labels, like "*.contoso.com"'
    DOMAIN_TWICE = "the accepted domain {value} is already accepted at {place}; take one out"
    DOMAIN_OF_TWO = (
        "the accepted domain {value} belongs to two organizations: {organization} accepts {other} at {place}; "
        "a domain has one owner, take it out of one of them"
    )
    DOMAIN_BELOW = (
        "the accepted domain {lower} of {lower_organization} lies below {upper} of {upper_organization} (see also "
        "{place}); if that is right, put {name} into delegated_domains of {upper_organization}, else take it out"
    )

    OUTSIDE_NOT_BELOW = (
        "the outside domain {value} lies below no accepted domain of the organization, so it cuts out nothing; correct "
        "it, or take it out"
    )
    OUTSIDE_AND_MORE = "the outside domain {value} stands in {key}, too ({place}); take it out of one of them"
    FOLDS_INTO_OTHER = (
        "Postfix folds the letter case of {folding}, an accepted domain of {organization}, and reads {fold}, which "
        "lies in {into}, an accepted domain of {into_organization} (see also {place}); mail for one would reach the "
        "other: take one of them out"
    )
    PUBLIC_SUFFIX = (
        "{value} is a public suffix, below which anybody registers domains; write the organization's own, like "
        "{example}"
    )

    # what a connector may do
    NO_REASON = '{key} is empty; write why, like "ticket 4711", or take it out'
    BAD_LIMIT = '{value} is no limit; write a number from 1 and minute, hour or day, like "2000/hour"'
    WINDOW_TWICE = "there are two limits for one {window}; keep one"
    FOREIGN_WITHOUT_CERTIFICATE = (
        "foreign_senders says what a certificate's own domain allows, and this connector asks for no certificate; take "
        "it out"
    )
    NOT_ACCEPTED = "{value} of for_domains is none of the organization's accepted domains{hint}"
    TLSA_OF_OTHER = (
        "the host {value} lies in {other}, an accepted domain of {organization} ({place}); whoever has the domain "
        "says which keys are pinned, so it cannot be used here"
    )
    TLSA_OF_TWO = (
        "the host {value} is one of {that}, too ({place}); whoever has its key could relay as either: give each its own"
    )
    NOT_CARRIED_OUT = "{key} is read and not carried out by this version of policyd"

    # evidence
    NO_EVIDENCE = (
        "the connector has nothing that a client could be recognised by; give it certificate_names, certificate_files, "
        "certificate_fingerprints, public_key_fingerprints, tlsa or addresses"
    )
    NO_SENDER_DOMAINS = 'the partner has no sender_domains; list the domains whose mail it is about, or ["*"] for all'
    NO_REQUIREMENT = (
        "the partner asks for nothing; give it require_tls = true, a certificate (certificate_names, ...) or addresses"
    )
    BAD_NETWORK = "the address {value}: {reason}"
    TOO_WIDE = "{value} is wider than {limit}; no connector or partner owns that many addresses: list the ones it has"
    DISGUISED_V4 = "{value} touches {network}, where IPv4 addresses are dressed up as IPv6; write the IPv4 addresses"
    PROVIDER_NETWORK = (
        "{value} touches {network} of provider_networks ({place}), which many share: no connector may claim it; "
        "list only addresses that belong to this organization alone"
    )
    ADDRESSES_OF_TWO = (
        "{value} overlaps {other} of {that} ({place}); addresses identify one organization only: "
        "give each its own, or use certificates"
    )
    PROVIDER_NAME = (
        "{value} claims {name} of provider_certificate_names ({place}), which many parties present: it would let in "
        "all of them. Use what only this organization's server has, a certificate of its own or its address"
    )
    MANY_PARTIES = (
        "{value} claims {name}, with which the mail of all customers of a provider comes (a list that ships with "
        "policyd): it would let in all of them. Use what only this organization's server has, a certificate of its own "
        "or its address"
    )
    NAME_OF_OTHER = (
        "the certificate name {value} lies in {other}, an accepted domain of {organization} ({place}); a connector "
        "cannot use another organization's name: correct it, or move the connector to {organization}"
    )
    BAD_FINGERPRINT = (
        "{value} is no fingerprint: {reason}; write it as hex, colons or not, of 16 (md5), 20 (sha1), 32 (sha256), "
        "48 (sha384) or 64 (sha512) octets"
    )
    CERTIFICATE_FILE = "the certificate file {value}: {reason}"
    CERTIFICATE_OF_CA = (
        "{value} is the certificate of a CA ({subject}): a client shows one that the CA issued, which does not match; "
        "name the client's own{hint}"
    )
    CERTIFICATE_TEXT = "the certificate that begins with {value}: {reason}"

    # warnings: one value
    HOST_BITS = (
        "{value} has bits set behind its prefix length, so it means {network}; write that, or the single address"
    )
    WIDE = "{value} holds more addresses than {limit}; is each of them this organization's own?"
    LOOPBACK = "{value} holds loopback addresses: every program on this machine is then a client of the connector"
    LINK_LOCAL = "{value} holds link-local addresses, which any machine on the same wire can take"
    PRIVATE = (
        "{value} holds private addresses: if it is a container's or NAT gateway, every client arrives with it; have "
        "Postfix see the clients' own (PROXY protocol or XCLIENT of the proxy, the host's network for the container)"
    )
    WEAK_DIGEST = "{value} is {digest}, which can be forged or soon will be; use sha256"
    CERTIFICATE_EXPIRED = "{value} expired on {date}; its fingerprint still matches. Replace it, or take it out"
    CERTIFICATE_EXPIRES = "{value} expires on {date}, {days}; get the new one in time, and list both meanwhile"
    CERTIFICATE_NOT_YET = "{value} is not valid before {date}"
    CERTIFICATE_SEVERAL = "{value} holds {count} certificates; only the first counts, so it must be the client's own"
    CERTIFICATE_AND_KEY = (
        "{value} holds a private key, too, and whoever reads it can send as this client; the certificate is enough: "
        "take the key out"
    )
    ENTRY_TWICE = "{value} stands twice in {key} (also at {place}); take one out"
    STAR_AND_OTHERS = 'sender_domains holds "*", which covers the other entries too; take them or the "*" out'
    FOLD_NOT_ACCEPTED = (
        "Postfix folds the letter case of {value} and reads {fold}, which nobody accepts: mail to its U-label is "
        "refused. Accept {fold}, too"
    )
    TLSA_OUTSIDE = "the host {value} lies outside the organization's domains: who has that domain chooses the keys"
    WIDER_BESIDE = (
        "the connector {other} matches {value}, too, and takes more senders (foreign_senders = {wider}); what this one "
        "does not take, that one does"
    )
    LIMIT_ABOVE = "{value} is above the organization's {limit}, which counts too; it never comes to this one"
    SINGLE_LABEL = "the accepted domain {value} has a single label; is a part missing, as in {value}.example?"
    UNIX_MODE_OTHERS = "unix_mode {value} lets every local user ask policyd; 0660 with the group postfix is enough"

    # warnings: the machine
    NOT_WRITABLE = "{value}: {reason}, so the server would not start; let {user} write there, or name another place"

    # notes
    LISTENS_ON_TCP = (
        "listen on TCP ({value}): while policyd is down, any local user can take the port and say OK in its place, and "
        "at any time ask it himself; a unix socket in Postfix's queue is for Postfix alone"
    )

    # warnings: none at all
    PACKAGE_MISSING = "[metrics] needs the Python package prometheus-client, which is not installed with this policyd"
    NO_ORGANIZATION = (
        "there is no organization, so policyd refuses every recipient that Postfix asks about (and only logs that with "
        'mode = "monitor"); write a table [organizations.NAME], here or in a file that include names'
    )

    # warnings: one organization
    WITHIN_WILDCARD = "{value} is covered by {other} (at {place}) already; take it out"
    ACCEPTED_AND_PENDING = (
        "{value} is pending, but also accepted (at {place}); accepted counts: take it out of one list"
    )
    DELEGATES_NOTHING = (
        "{value} of delegated_domains is not below an accepted domain of this organization; it does nothing"
    )
    NO_DOMAINS = "the organization has no accepted domains, so nothing belongs to it; list them in accepted_domains"
    NO_CONNECTORS = "the organization has no connectors; its own servers can only send as strangers do"
    CONNECTORS_DISABLED = "all connectors of the organization are disabled; its servers can only send as strangers do"
    ADDRESSES_ONLY = (
        "the organization has connectors by address only; its bounces and forwarded mail to outside will be refused, "
        "since only a certificate whose name is its own can carry them"
    )
    NAME_OUTSIDE = (
        "the certificate name {value} does not belong to the organization's accepted domains; bounces and forwarded "
        "mail of servers with that name will be refused"
    )

    NAME_GIVEN_AWAY = (
        "the certificate name {value} lies in what {organization} gives away (delegated_domains), so it is foreign to "
        "every connector: nothing matches by it until this organization accepts its domain"
    )

    # warnings: two organizations
    SAME_NAME = (
        "certificates can match both {value} here and {other} of {that} ({place}); "
        "whoever sends through it can relay as either organization"
    )
    SAME_KEY = (
        "{value} is the same certificate or key as {other} of {that} ({place}); "
        "whoever sends through it can relay as either organization"
    )
    OVERLAP_DISABLED = (
        "{value} overlaps {other} of {that} ({place}); one of the two is disabled: enabling it would be an error"
    )
    PENDING_ELSEWHERE = (
        "{name} is accepted by {accepted} and pending at {pending} (see also {place}); it can have one owner only: "
        "take it out of one of them"
    )
