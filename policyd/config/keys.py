"""Which keys there are: the only list of them (SPEC 4).

`tables` reads by it and compares unknown keys with it, the documentation is made from it. Reads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from policyd.config import evidence_readers, readers
from policyd.config import setting_readers as service
from policyd.config.text import listed, quoted

MOST_WORKERS = 256
MOST_CONNECTIONS = 1_000_000
SHORTEST_REFRESH = 5  # seconds
LONGEST_REFRESH = 86400


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table."""

    name: str
    read: readers.Reader
    type: str  # for people
    default: str  # in TOML; empty: none
    meaning: str
    example: str  # in TOML
    field: str = ""  # of the model, where it is not the key's own name


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of table and its keys."""

    title: str  # as its header is written
    meaning: str
    keys: tuple[Key, ...]
    tables: tuple[str, ...] = ()  # the tables in it

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that may stand in it."""
        return (*(key.name for key in self.keys), *self.tables)


# What reads a value, and what it is in words for people.
_Kind = tuple[readers.Reader, str]
_BOOLEAN: _Kind = readers.boolean, "true or false"


def _texts(read: readers.Reader) -> _Kind:
    return read, "list of texts"


def _one_of(*choices: str) -> _Kind:
    return readers.one_of(*choices), listed(choices, "or")


def _number(low: int, high: int, *words: str) -> _Kind:
    text = f"number from {low} to {high}"
    return readers.whole_number(low, high, *words), ", or ".join([text, *map(quoted, words)])


_EVIDENCE = (
    Key(
        "description",
        readers.text,
        "text",
        '""',
        "A note for people; `explain` shows it.",
        '"Exchange 2019 in Utrecht"',
    ),
    Key(
        "enabled",
        *_BOOLEAN,
        "true",
        "false takes it out without deleting it: it counts nowhere; `explain` names such a connector.",
        "false",
    ),
    Key(
        "certificate_names",
        *_texts(readers.evidence(evidence_readers.own_names("mail.contoso.com"))),
        "",
        "Names of certificates that Postfix has verified (the first CN): `x` for that name only, `*.x` for x, every "
        "name below it and its wildcard certificates. As safe as every CA in smtpd_tls_CAfile.",
        '["*.contoso.com"]',
    ),
    Key(
        "certificate_files",
        evidence_readers.certificate_files,
        "list of file names",
        "",
        "PEM files; the certificate or its public key matches by fingerprint, in whatever digest Postfix uses. "
        "At most 64 KiB each; the first certificate in a file counts.",
        '["certs/appliance.pem"]',
        "stored_certificates",
    ),
    Key(
        "certificates",
        *_texts(evidence_readers.certificates),
        "",
        "The same with the PEM text itself in place of a file's name.",
        '["-----BEGIN CERTIFICATE-----\\nMIIB...\\n-----END CERTIFICATE-----\\n"]',
        "stored_certificates",
    ),
    Key(
        "certificate_fingerprints",
        *_texts(evidence_readers.fingerprints),
        "",
        "Fingerprints of certificates, in the digest of smtpd_tls_fingerprint_digest: hex of 16, 20, 32, 48 or 64 "
        "octets, colons or not. They match also when the certificate has expired or is not trusted.",
        '["F2:A0:09:09:AD:94:15:08:09:F2:8D:CA:A2:5A:FB:3E:BE:01:AC:6C:E6:4F:89:28:74:50:34:C8:D4:99:1A:99"]',
    ),
    Key(
        "public_key_fingerprints",
        *_texts(evidence_readers.fingerprints),
        "",
        "Fingerprints of public keys, likewise; they stay the same when a certificate is renewed with its old key.",
        '["6E:3B:0E:6B:D2:82:67:DC:94:FE:BA:47:22:9B:4C:B7:49:CB:D6:68:5E:E8:28:6F:B8:CD:82:D4:DE:A9:97:90"]',
    ),
    Key(
        "tlsa",
        *_texts(readers.not_carried_out(readers.evidence(evidence_readers.tlsa))),
        "",
        "Hosts whose TLSA records (usage 3) at `_25._tcp.HOST` pin their certificates; a name that begins with `_` is "
        "looked up as it stands. Not carried out by this version: no client matches by it.",
        '["mail.contoso.com"]',
    ),
    Key(
        "addresses",
        *_texts(evidence_readers.addresses),
        "",
        "Client addresses: single ones, networks, and ranges `a-b`, IPv4 and IPv6. Beside certificate evidence both "
        "must match. At most a /16 (IPv4) or /32 (IPv6) in one entry.",
        '["203.0.113.0/28", "2001:db8:c::/64", "192.0.2.32-192.0.2.47"]',
    ),
    Key("require_tls", *_BOOLEAN, "false", "The connection must be encrypted.", "true"),
    Key(
        "until",
        readers.not_carried_out(readers.moment),
        "date or date-time",
        "",
        "When it ends: a date is the end of that day, times are UTC. Not carried out by this version.",
        "2027-01-31",
    ),
)
EVIDENCE_KEYS = frozenset(key.name for key in _EVIDENCE) - {"description", "enabled", "require_tls", "until"}
_SUSPENDED = Key(
    "suspended",
    readers.reason,
    "text",
    "",
    "Why the operator has suspended it: its clients get a temporary refusal for every recipient. The text is logged "
    "and never sent.",
    '"ticket 4711"',
)


def _relay_limits(whose: str, example: str) -> Key:
    return Key(
        "relay_limits",
        *_texts(readers.not_carried_out(readers.relay_limits)),
        "",
        f"How many recipients may leave{whose}: N/minute, N/hour, N/day, at most one of each. Not carried out by this "
        "version.",
        example,
    )


ROOT = Table(
    "",
    "Outside all tables, so above the first one.",
    (
        Key(
            "include",
            readers.parsed_list(lambda text, path, report: text, "organizations.d/*.toml"),
            "list of file name patterns",
            "[]",
            "Further files, relative to this one; `*`, `?` and `[...]` as in a shell, read in the order of their "
            "names. They hold [organizations] only. A pattern that matches no file is an error.",
            '["organizations.d/*.toml"]',
        ),
    ),
    ("service", "log", "metrics", "database", "policy", "organizations"),
)
INCLUDED = Table("", "An included file.", (), ("organizations",))
SERVICE = Table(
    "service",
    "The server.",
    (
        Key(
            "listen",
            *_texts(service.listen),
            '["inet:127.0.0.1:10045"]',
            "Where Postfix reaches policyd: inet:host:port, unix:/path, or systemd:NAME for a socket of a socket unit "
            "(its FileDescriptorName=). The host is an address; an IPv6 address stands in brackets.",
            '["inet:127.0.0.1:10045", "unix:/var/spool/postfix/policyd/policyd.sock"]',
        ),
        Key(
            "unix_mode",
            service.unix_mode,
            "octal number in quotes",
            '"0660"',
            "The mode of unix sockets. Who can write to the socket can ask.",
            '"0660"',
        ),
        Key(
            "mode",
            *_one_of("enforce", "monitor"),
            '"enforce"',
            '"monitor" decides and logs, but answers DUNNO: Postfix goes on as if policyd were not there.',
            '"monitor"',
        ),
        Key("workers", *_number(1, MOST_WORKERS, "auto"), "1", 'Processes; "auto" starts one for each CPU.', '"auto"'),
        Key(
            "max_connections",
            *_number(1, MOST_CONNECTIONS),
            "10000",
            "Connections at one time, for each worker. Each smtpd process of Postfix keeps one for each spelling of "
            "the service.",
            "10000",
        ),
        Key(
            "control",
            service.control,
            "text",
            "",
            "The control socket, unix:/path: `policyd reload`, `explain --running` and `show --running` ask there. Its "
            "mode is 0660: root, policyd's user and the members of the socket's group. Without this key it is "
            '`control.sock` in `$RUNTIME_DIRECTORY`, which systemd sets, and there is none elsewhere; "" is none at '
            "all. With another path than `/run/policyd/control.sock` the commands need `--socket`, also in the unit's "
            "ExecReload.",
            '"unix:/run/policyd/control.sock"',
        ),
    ),
)
LOG = Table(
    "log",
    "What is logged.",
    (
        Key("decisions", *_one_of("all", "rejects", "none"), '"all"', "Which decisions get a line.", '"rejects"'),
        Key(
            "addresses",
            *_one_of("full", "domain"),
            '"full"',
            '"domain" leaves the local parts of mail addresses out of the log.',
            '"domain"',
        ),
        Key(
            "file",
            service.file_to_write("policyd.log"),
            "file name",
            "",
            "The log file, reopened on SIGUSR1 and at a reload. Without it the log goes to stderr, for journald.",
            '"/var/log/policyd/policyd.log"',
        ),
    ),
)
METRICS = Table(
    "metrics",
    "Counters for Prometheus; off without this table.",
    (
        Key(
            "listen",
            service.endpoint,
            "text",
            "",
            "Where Prometheus reads them, in the notation of [service] listen. Anybody who reaches it can read them.",
            '"inet:127.0.0.1:9645"',
            "metrics_listen",
        ),
    ),
)
DATABASE = Table(
    "database",
    "Organizations in PostgreSQL, beside those in the files or instead of them; off without this table. Needs the "
    "extra `postgresql`.",
    (
        Key(
            "dsn",
            service.dsn,
            "text",
            "",
            "How to connect, as a libpq URI or `key=value` text: a user that is a member of policyd_reader. A password "
            "may stand in it, or in a file that its `passfile` names; policyd never shows it.",
            '"postgresql://policyd@db.example.com/policyd?sslmode=verify-full"',
        ),
        Key(
            "snapshot_file",
            service.file_to_write("database.snapshot"),
            "file name",
            '"/var/lib/policyd/database.snapshot"',
            "Where the last rows are kept, readable for policyd only, for a start while the database is away. Empty: "
            "nowhere.",
            '"/var/lib/policyd/database.snapshot"',
        ),
        Key(
            "refresh_seconds",
            *_number(SHORTEST_REFRESH, LONGEST_REFRESH),
            "300",
            "How often everything is compared with the database, besides at each of its notifications.",
            "60",
        ),
    ),
)
POLICY = Table(
    "policy",
    "What holds for all organizations.",
    (
        _relay_limits(", for each organization that has none of its own", '["5000/hour"]'),
        Key(
            "incoming",
            *_one_of("OK", "DUNNO", "REJECT"),
            '"OK"',
            "The answer for mail from anybody to an accepted domain. DUNNO leaves it to Postfix's own tables, "
            "REJECT closes the hub for all but connectors.",
            '"DUNNO"',
        ),
        Key(
            "attribution_header",
            service.attribution_header,
            "header field name",
            '""',
            "The name of a header that tells organization and connector of a message; empty for none. Needs workers = "
            "1 and header_checks in Postfix that hide the name from outside.",
            '"X-Internal-2f9c61d0a7-Attribution"',
        ),
        Key(
            "provider_networks",
            *_texts(evidence_readers.networks),
            "[]",
            "The hub's own and shared networks: no connector may claim an address in them.",
            '["198.51.100.0/24"]',
        ),
        Key(
            "provider_certificate_names",
            *_texts(evidence_readers.patterns("mail.protection.outlook.com")),
            "[]",
            "Names that many parties present, besides those of the list that ships with policyd "
            "(`policyd/config/many_parties.toml`, each with its source): no connector may claim them. `*.x` covers x "
            "and every name below it.",
            '["mail.protection.outlook.com"]',
        ),
    ),
)
ORGANIZATION = Table(
    "organizations.NAME",
    "A customer of the hub. NAME is 1 to 64 of A-Z a-z 0-9 . _ -; a name with a dot stands in quotes.",
    (
        Key(
            "accepted_domains",
            *_texts(evidence_readers.accepted_domains),
            "[]",
            "The organization's own domains, verified by the operator of the hub. `*.x` covers x and every name below "
            "it, at any depth. A domain has one owner; one below another organization's must be delegated by that.",
            '["contoso.com", "*.contoso.net", "bücher.example"]',
        ),
        Key(
            "delegated_domains",
            *_texts(evidence_readers.patterns("lab.contoso.net")),
            "[]",
            "Names below the organization's own that another organization may have, with all below them.",
            '["lab.contoso.net"]',
        ),
        Key(
            "outside_domains",
            *_texts(evidence_readers.patterns("news.contoso.net")),
            "[]",
            "Names below the organization's own that are hosted elsewhere, with all below them: the hub treats them as "
            "foreign, without lock and protection.",
            '["news.contoso.net"]',
        ),
        Key(
            "pending_domains",
            *_texts(evidence_readers.patterns("contoso-new.com")),
            "[]",
            "Claimed and not yet verified: they count nowhere, and `explain` names them.",
            '["contoso-new.com"]',
        ),
        Key(
            "protect_sender_domains",
            *_BOOLEAN,
            "false",
            "Refuse mail with a sender in these domains from everybody but the organization's connectors.",
            "true",
        ),
        Key(
            "connectors_only",
            *_BOOLEAN,
            "false",
            "Refuse mail to these domains from everybody but the organization's connectors and such partners as show a "
            "certificate or come from a stated address.",
            "true",
        ),
        _relay_limits(" from all its connectors together; `[]` exempts it from the policy's", '["2000/hour"]'),
        _SUSPENDED,
    ),
    ("connectors", "partners"),
)
CONNECTOR = Table(
    "organizations.NAME.connectors.NAME",
    "How one of the organization's own mail servers is recognised. It needs certificate evidence, addresses, or both.",
    (
        *_EVIDENCE,
        Key(
            "for_domains",
            *_texts(readers.evidence(evidence_readers.patterns("contoso.com"))),
            "",
            "The accepted domains that it speaks for, spelt as there; without it, all of the organization's.",
            '["contoso.com"]',
        ),
        Key(
            "foreign_senders",
            *_one_of("allow", "bounces", "refuse"),
            '"allow"',
            "Which senders outside the organization's domains a certificate of its own domain may send with: any, the "
            "null sender only, none.",
            '"bounces"',
        ),
        _relay_limits(" from this connector", '["200/hour"]'),
        _SUSPENDED,
    ),
)
PARTNER = Table(
    "organizations.NAME.partners.NAME",
    "A foreign sender domain whose mail to this organization must arrive in a stated way. It needs sender_domains and "
    "at least one requirement; what is listed must all be met.",
    (
        Key(
            "sender_domains",
            *_texts(evidence_readers.sender_domains),
            "",
            'The sender domains that it is about; `*.x` covers x and every name below it, `["*"]` every sender.',
            '["*.bank.example"]',
        ),
        *_EVIDENCE,
    ),
)
TABLES = (ROOT, SERVICE, LOG, METRICS, DATABASE, POLICY, ORGANIZATION, CONNECTOR, PARTNER)

# What people call our keys elsewhere: Postfix, Exchange Online, plain English.
_OTHER_WORDS = {
    "accepted_domains": "domains verified_domains domain relay_domains mydestination virtual_mailbox_domains",
    "addresses": "ips ip address ip_addresses client_addresses networks mynetworks senderipaddresses "
    "sender_ip_addresses",
    "certificate_names": "tlssendercertificatename tls_sender_certificate_name restrictdomainstocertificate names",
    "require_tls": "requiretls tls",
    "certificates": "certificate pem",
    "certificate_files": "cert_files",
    "certificate_fingerprints": "fingerprints fingerprint",
    "public_key_fingerprints": "public_keys",
    "enabled": "disabled",
    "sender_domains": "senderdomains",
    "description": "comment",
    "delegated_domains": "subdomains",
    "listen": "port bind",
    "include": "includes",
    "file": "logfile",
    "attribution_header": "header",
}
ALSO_CALLED = {word: key for key, words in _OTHER_WORDS.items() for word in words.split()}
