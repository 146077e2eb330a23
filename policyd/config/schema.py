"""Mapping -> model: which keys there are, and what a whole table means (SPEC 4).

The tables of keys below are the only list of them: the reader goes by it, the reference documentation is made from
it, and an unknown key is compared with it. Works on plain mappings from any Source; opens no file but those of
`certificate_files`. What concerns several organizations is in `conflicts`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policyd.config import service_values as service
from policyd.config import values
from policyd.config.draft import Draft
from policyd.config.messages import Message, clean, did_you_mean, listed, quoted
from policyd.config.report import Report, Source
from policyd.config.settings import Configuration, LogSettings, ServiceSettings
from policyd.config.toml_lines import KeyPath
from policyd.policy.model import Connector, Organization, Partner, Rules

MOST_WORKERS = 256
MOST_CONNECTIONS = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table."""

    name: str
    read: values.Reader
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


_LISTS = "list of texts"

_EVIDENCE = (
    Key(
        "description",
        values.text,
        "text",
        '""',
        "A note for people; `explain` shows it.",
        '"Exchange 2019 in Utrecht"',
    ),
    Key(
        "enabled",
        values.boolean,
        "true or false",
        "true",
        "false takes it out without deleting it: it matches nobody, and `explain` names it.",
        "false",
    ),
    Key(
        "certificate_names",
        values.evidence(values.patterns("mail.contoso.com")),
        _LISTS,
        "",
        "Names of certificates that Postfix has verified (the first CN): `x` for that name only, `*.x` for x, every "
        "name below it and its wildcard certificates. As safe as every CA in smtpd_tls_CAfile.",
        '["*.contoso.com"]',
    ),
    Key(
        "certificate_files",
        values.certificate_files,
        "list of file names",
        "",
        "PEM files; the certificate or its public key matches by fingerprint, in whatever digest Postfix uses. "
        "At most 64 KiB each; the first certificate in a file counts.",
        '["certs/appliance.pem"]',
        "stored_certificates",
    ),
    Key(
        "certificate_fingerprints",
        values.fingerprints,
        _LISTS,
        "",
        "Fingerprints of certificates, in the digest of smtpd_tls_fingerprint_digest: hex of 16, 20, 32, 48 or 64 "
        "octets, colons or not. They match also when the certificate has expired or is not trusted.",
        '["F2:A0:09:09:AD:94:15:08:09:F2:8D:CA:A2:5A:FB:3E:BE:01:AC:6C:E6:4F:89:28:74:50:34:C8:D4:99:1A:99"]',
    ),
    Key(
        "public_key_fingerprints",
        values.fingerprints,
        _LISTS,
        "",
        "Fingerprints of public keys, likewise; they stay the same when a certificate is renewed with its old key.",
        '["6E:3B:0E:6B:D2:82:67:DC:94:FE:BA:47:22:9B:4C:B7:49:CB:D6:68:5E:E8:28:6F:B8:CD:82:D4:DE:A9:97:90"]',
    ),
    Key(
        "addresses",
        values.addresses,
        _LISTS,
        "",
        "Client addresses: single ones, networks, and ranges `a-b`, IPv4 and IPv6. Beside certificate evidence both "
        "must match. At most a /16 (IPv4) or /32 (IPv6) in one entry.",
        '["203.0.113.0/28", "2001:db8:c::/64", "192.0.2.32-192.0.2.47"]',
    ),
    Key(
        "require_tls",
        values.boolean,
        "true or false",
        "false",
        "The connection must be encrypted.",
        "true",
    ),
)
EVIDENCE_KEYS = frozenset(
    ("certificate_names", "certificate_files", "certificate_fingerprints", "public_key_fingerprints", "addresses")
)

ROOT = Table(
    "",
    "Outside all tables, so above the first one.",
    (
        Key(
            "include",
            values.parsed_list(lambda text, path, report: text, "organizations.d/*.toml"),
            "list of file name patterns",
            "[]",
            "Further files, relative to this one; `*`, `?` and `[...]` as in a shell, read in the order of their "
            "names. They hold [organizations] only. A pattern that matches no file is an error.",
            '["organizations.d/*.toml"]',
        ),
    ),
    ("service", "log", "metrics", "policy", "organizations"),
)
SERVICE = Table(
    "service",
    "The server.",
    (
        Key(
            "listen",
            service.listen,
            _LISTS,
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
            values.one_of("enforce", "monitor"),
            '"enforce" or "monitor"',
            '"enforce"',
            '"monitor" decides and logs, but answers DUNNO: Postfix goes on as if policyd were not there.',
            '"monitor"',
        ),
        Key(
            "workers",
            values.whole_number(1, MOST_WORKERS, "auto"),
            f'number from 1 to {MOST_WORKERS}, or "auto"',
            "1",
            'Processes; "auto" starts one for each CPU.',
            '"auto"',
        ),
        Key(
            "max_connections",
            values.whole_number(1, MOST_CONNECTIONS),
            f"number from 1 to {MOST_CONNECTIONS}",
            "10000",
            "Connections at one time; each smtpd process of Postfix keeps one.",
            "10000",
        ),
    ),
)
LOG = Table(
    "log",
    "What is logged.",
    (
        Key(
            "decisions",
            values.one_of("all", "rejects", "none"),
            '"all", "rejects" or "none"',
            '"all"',
            "Which decisions get a line.",
            '"rejects"',
        ),
        Key(
            "addresses",
            values.one_of("full", "domain"),
            '"full" or "domain"',
            '"full"',
            '"domain" leaves the local parts of mail addresses out of the log.',
            '"domain"',
        ),
        Key(
            "file",
            service.log_file,
            "file name",
            "",
            "The log file, reopened on SIGHUP. Without it the log goes to stderr, for journald.",
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
POLICY = Table(
    "policy",
    "What holds for all organizations.",
    (
        Key(
            "incoming",
            values.one_of("OK", "DUNNO", "REJECT"),
            '"OK", "DUNNO" or "REJECT"',
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
            values.networks,
            _LISTS,
            "[]",
            "The hub's own and shared networks: no connector may claim an address in them.",
            '["198.51.100.0/24"]',
        ),
        Key(
            "provider_certificate_names",
            values.patterns("mail.protection.outlook.com"),
            _LISTS,
            "[]",
            "Names that many parties present: no connector may claim them. `*.x` covers x and every name below it.",
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
            values.accepted_domains,
            _LISTS,
            "[]",
            "The organization's own domains, verified by the operator of the hub. `*.x` covers x and every name below "
            "it, at any depth. A domain has one owner; one below another organization's must be delegated by that.",
            '["contoso.com", "*.contoso.net", "bücher.example"]',
        ),
        Key(
            "delegated_domains",
            values.patterns("lab.contoso.net"),
            _LISTS,
            "[]",
            "Names below the organization's own that another organization may have, with all below them.",
            '["lab.contoso.net"]',
        ),
        Key(
            "pending_domains",
            values.patterns("contoso-new.com"),
            _LISTS,
            "[]",
            "Claimed and not yet verified: they count nowhere, and `explain` names them.",
            '["contoso-new.com"]',
        ),
        Key(
            "protect_sender_domains",
            values.boolean,
            "true or false",
            "false",
            "Refuse mail with a sender in these domains from everybody but the organization's connectors.",
            "true",
        ),
        Key(
            "connectors_only",
            values.boolean,
            "true or false",
            "false",
            "Refuse mail to these domains from everybody but the organization's connectors and such partners as show a "
            "certificate or come from a stated address.",
            "true",
        ),
    ),
    ("connectors", "partners"),
)
CONNECTOR = Table(
    "organizations.NAME.connectors.NAME",
    "How one of the organization's own mail servers is recognised. It needs certificate evidence, addresses, or both.",
    _EVIDENCE,
)
PARTNER = Table(
    "organizations.NAME.partners.NAME",
    "A foreign sender domain whose mail to this organization must arrive in a stated way. It needs sender_domains and "
    "at least one requirement; what is listed must all be met.",
    (
        Key(
            "sender_domains",
            values.sender_domains,
            _LISTS,
            "",
            'The sender domains that it is about; `*.x` covers x and every name below it, `["*"]` every sender.',
            '["*.bank.example"]',
        ),
        *_EVIDENCE,
    ),
)
TABLES = (ROOT, SERVICE, LOG, METRICS, POLICY, ORGANIZATION, CONNECTOR, PARTNER)

_KEYS = {table.title: {key.name: key for key in table.keys} for table in TABLES}

# What people call our keys elsewhere: Postfix, Exchange Online, plain English.
_ALSO_CALLED = {
    "domains": "accepted_domains",
    "verified_domains": "accepted_domains",
    "domain": "accepted_domains",
    "ips": "addresses",
    "ip": "addresses",
    "address": "addresses",
    "ip_addresses": "addresses",
    "client_addresses": "addresses",
    "networks": "addresses",
    "mynetworks": "provider_networks",
    "senderipaddresses": "addresses",
    "sender_ip_addresses": "addresses",
    "tlssendercertificatename": "certificate_names",
    "tls_sender_certificate_name": "certificate_names",
    "restrictdomainstocertificate": "certificate_names",
    "requiretls": "require_tls",
    "tls": "require_tls",
    "names": "certificate_names",
    "certificates": "certificate_files",
    "certificate": "certificate_files",
    "cert_files": "certificate_files",
    "fingerprints": "certificate_fingerprints",
    "fingerprint": "certificate_fingerprints",
    "public_keys": "public_key_fingerprints",
    "disabled": "enabled",
    "senderdomains": "sender_domains",
    "comment": "description",
    "subdomains": "delegated_domains",
    "port": "listen",
    "bind": "listen",
    "includes": "include",
    "logfile": "file",
    "header": "attribution_header",
}


def is_name(text: str) -> bool:
    """Whether an organization, connector or partner can be called so."""
    return _NAME.fullmatch(text) is not None


def read_table(raw: Mapping[str, Any], table: Table, path: KeyPath, report: Report) -> dict[str, Any]:
    """The readable values of a table by field of the model; everything else is reported."""
    found: dict[str, Any] = {}
    keys = _KEYS[table.title]
    for name, value in raw.items():
        key = keys.get(name)
        if key is not None:
            parsed = key.read(value, (*path, name), report)
            if parsed is not None:
                found[key.field or name] = parsed
        elif name not in table.tables:
            unknown_key(name, table, (*path, name), report)
    return found


def unknown_key(name: str, table: Table, path: KeyPath, report: Report) -> None:
    """Reports a key that is not known here, with the likeliest known one, or where it belongs."""
    hint = ""
    known = table.names
    elsewhere = [other for other in TABLES if other is not table and name in other.names]
    near = _ALSO_CALLED.get(name.lower().replace("-", "_"))
    if near in known:
        hint = f"; did you mean {quoted(near)}?"
    elif elsewhere:
        hint = f"; it belongs {_where(elsewhere[0])}"
    else:
        hint = did_you_mean(name, known) or f"; known here: {listed(known)}"
    report.error(path, Message.UNKNOWN_KEY, key=quoted(name), hint=hint)


def _where(table: Table) -> str:
    return f"into [{table.title}]" if table.title else "to the top of the file, above the first table"


def table_of(raw: Mapping[str, Any], name: str, path: KeyPath, report: Report) -> Mapping[str, Any]:
    """The table `name` in `raw`; empty where there is none, or no table."""
    value = raw.get(name, {})
    if isinstance(value, Mapping):
        return value
    header = ".".join(str(part) for part in (*path, name))
    hint = f"; write it once, as [{header}]" if isinstance(value, list) else f"; write [{header}] above its keys"
    values.wrong_type(value, (*path, name), report, "a table", clean(hint))
    return {}


# --- [service], [log], [metrics], [policy]


def read_settings(raw: Mapping[str, Any], report: Report) -> Configuration:
    """Everything but the organizations; defaults stand where a value could not be read."""
    for name in raw:
        if name not in ROOT.names:
            unknown_key(name, ROOT, (name,), report)
    of = {
        table.title: read_table(table_of(raw, table.title, (), report), table, (table.title,), report)
        for table in (SERVICE, LOG, METRICS, POLICY)
    }
    _check_header_and_workers(of, report)
    _check_metrics_listen(of, report)
    if of["service"].get("workers") == "auto":
        of["service"]["workers"] = min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    incoming = of["policy"].pop("incoming", "OK")
    names = tuple(str(pattern) for pattern in of["policy"].pop("provider_certificate_names", ()))
    return Configuration(
        service=ServiceSettings(**of["service"]),
        log=LogSettings(**of["log"]),
        **of["metrics"],
        **of["policy"],
        provider_certificate_names=names,
        rules=Rules(incoming=incoming),
    )


def _check_header_and_workers(of: Mapping[str, Mapping[str, Any]], report: Report) -> None:
    header, workers = of["policy"].get("attribution_header", ""), of["service"].get("workers", 1)
    if not header or workers == 1:
        return
    two: list[KeyPath] = [("policy", "attribution_header"), ("service", "workers")]
    later = max(two, key=report.source.line)
    report.error(later, Message.HEADER_AND_WORKERS, header=report.place(two[0]), workers=report.place(two[1]))


def _check_metrics_listen(of: Mapping[str, Mapping[str, Any]], report: Report) -> None:
    mine = of["metrics"].get("metrics_listen")
    for endpoint in of["service"].get("listen", ServiceSettings().listen):
        if mine is not None and service.collide(mine, endpoint):
            two: list[KeyPath] = [("metrics", "listen"), ("service", "listen")]
            later, other = sorted(two, key=report.source.line, reverse=True)
            here, there = (mine, endpoint) if later == two[0] else (endpoint, mine)
            place = report.place(other)
            report.error(later, Message.LISTEN_TWICE, value=str(here), other=str(there), place=place)
            return


# --- organizations


def parse_organization(name: str, raw: object, source: Source, now: float, number: int = 0) -> Draft:
    """One organization, as far as it can be read, with all its problems. Other organizations are no matter here.

    `raw` is the table [organizations.NAME]. `number` is its place in the order of reading, for `conflicts`.
    """
    report = Report(source, now)
    path: KeyPath = ("organizations", name)
    _check_name(name, "an organization", path, report)
    if not isinstance(raw, Mapping):
        hint = f"; write [organizations.{name}] above its keys"
        values.wrong_type(raw, path, report, "a table", clean(hint))
        raw = {}
    found = read_table(raw, ORGANIZATION, path, report)
    connectors = tuple(
        _connector(key, value, (*path, "connectors", key), report)
        for key, value in table_of(raw, "connectors", path, report).items()
    )
    partners = tuple(
        _partner(key, value, (*path, "partners", key), report)
        for key, value in table_of(raw, "partners", path, report).items()
    )
    return Draft(Organization(name=name, connectors=connectors, partners=partners, **found), raw, report, number)


def _check_name(name: str, what: str, path: KeyPath, report: Report) -> None:
    if is_name(name):
        return
    fitting = re.sub(r"[^A-Za-z0-9._-]+", "-", name[:64]).strip("-")
    hint = f"; for example {quoted(fitting)}" if fitting else ""
    report.error(path, Message.BAD_NAME, name=quoted(name), what=what, hint=hint)


def _connector(name: str, raw: object, path: KeyPath, report: Report) -> Connector:
    _check_name(name, "a connector", path, report)
    if not isinstance(raw, Mapping):
        values.wrong_type(raw, path, report, "a table", _table_hint(path))
        return Connector(name=name)
    if EVIDENCE_KEYS.isdisjoint(raw):
        report.error(path, Message.NO_EVIDENCE)
    return Connector(name=name, **read_table(raw, CONNECTOR, path, report))


def _partner(name: str, raw: object, path: KeyPath, report: Report) -> Partner:
    _check_name(name, "a partner", path, report)
    if not isinstance(raw, Mapping):
        values.wrong_type(raw, path, report, "a table", _table_hint(path))
        return Partner(name=name)
    if "sender_domains" not in raw:
        report.error(path, Message.NO_SENDER_DOMAINS)
    found = read_table(raw, PARTNER, path, report)
    if EVIDENCE_KEYS.isdisjoint(raw) and found.get("require_tls", "require_tls" in raw) is False:
        report.error(path, Message.NO_REQUIREMENT)
    patterns, every = found.pop("sender_domains", ((), False))
    return Partner(name=name, sender_domains=patterns, every_sender=every, **found)


def _table_hint(path: KeyPath) -> str:
    return clean(f"; write [{'.'.join(str(part) for part in path)}] above its keys")
