"""`policyd check --postfix`: each kind of door in other spellings than tests/wirings has (SPEC 7).

A case changes the good wiring of tests/wirings/clean-recipient-list and names every finding that must come of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from policyd.loading.load import load
from policyd.postfix.messages import Message
from policyd.postfix.postconf import read_postfix
from policyd.postfix.wiring import findings_in
from tests.helpers.programs import needs_postconf
from tests.postfix.test_wirings import NAMES, as_of, case_of, copied
from tests.unit.postfix import test_wiring

pytestmark = needs_postconf

RECIPIENT, RELAY = "smtpd_recipient_restrictions", "smtpd_relay_restrictions"
POLICY = (
    "check_policy_service { inet:127.0.0.1:10045, timeout=10s, "
    "{ default_action = 451 4.3.5 Connector policy unavailable } }"
)
PORT = "2525 inet n - n - - smtpd\n"
SUBMISSION = "submission inet n - n - - smtpd\n"


@dataclass(frozen=True)
class Case:
    """A change to the good wiring; `found`: `SEVERITY IDENTIFIER` of each finding. DIR in a text is its folder."""

    why: str
    found: Sequence[str]
    main: Mapping[str, str] = field(default_factory=dict)
    master: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    toml: Mapping[str, str] = field(default_factory=dict)
    later: str = ""  # the version of Postfix that is meant
    text: str = ""  # stands in one of the findings


def before(restriction: str) -> dict[str, str]:
    """The list with something before policyd."""
    return {RECIPIENT: f"permit_mynetworks, {restriction}, {POLICY}, reject_unauth_destination"}


def classes(**lists: str) -> dict[str, str]:
    """Restriction classes."""
    return {"smtpd_restriction_classes": " ".join(lists), **lists}


CERTIFICATES_ONLY = {'addresses = ["203.0.113.7"]': 'certificate_names = ["branch.contoso.example"]'}
CERTIFICATES_ONLY |= {'addresses = ["198.51.100.20"]': 'certificate_names = ["mail.fabrikam.example"]'}
PIN = ":".join(["A1"] * 32)

CASES = [
    Case("as it is", []),
    # networks
    Case(
        "everybody in a file that a file names",
        ["error connector-in-mynetworks", "error mynetworks-everybody"],
        {"mynetworks": "DIR/a"},
        files={"a": "127.0.0.0/8\nDIR/b\n", "b": "0.0.0.0/0\n"},
    ),
    Case(
        "everybody by an inline cidr table",
        ["error mynetworks-everybody"],
        {"mynetworks": "127.0.0.0/8 cidr:{{0.0.0.0/0 x}}"},
        toml=CERTIFICATES_ONLY,
    ),
    Case(
        "everybody by a pattern",
        ["error mynetworks-everybody"],
        {"mynetworks": "pcre:DIR/all"},
        files={"all": "/./ ok\n"},
        toml=CERTIFICATES_ONLY,
    ),
    Case(
        "a pattern with the hub's own network",
        [],
        {"mynetworks": "regexp:DIR/own"},
        files={"own": "/^192\\.0\\.2\\./ ok\n"},
    ),
    Case(
        "all but private networks in a cidr table",
        ["error mynetworks-everybody"],
        {"mynetworks": "cidr:DIR/not"},
        files={"not": "!10.0.0.0/8 x\n"},
        toml=CERTIFICATES_ONLY,
    ),
    Case(
        "four quarters",
        ["error mynetworks-everybody"],
        {"mynetworks": "0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/2"},
        toml=CERTIFICATES_ONLY,
    ),
    Case("half of IPv6", ["error mynetworks-everybody"], {"mynetworks": "127.0.0.0/8 [2000::]/3"}),
    Case("everybody is excluded first", [], {"mynetworks": "127.0.0.0/8 !0.0.0.0/0 0.0.0.0/0"}),
    Case(
        "a provider's network",
        ["error mynetworks-provider"],
        {"mynetworks": "127.0.0.0/8 40.107.0.0/16"},
        text="Microsoft",
    ),
    Case("a large network of the Internet", ["warning mynetworks-wide"], {"mynetworks": "127.0.0.0/8 141.28.0.0/14"}),
    Case("a network of one's own", [], {"mynetworks": "127.0.0.0/8 192.0.2.0/24"}),
    Case(
        "private networks behind NAT",
        ["warning mynetworks-behind-proxy"],
        {"mynetworks": "127.0.0.0/8 172.16.0.0/12", "proxy_interfaces": "192.0.2.1"},
    ),
    Case(
        "a connector in a table of single addresses",
        ["error connector-in-mynetworks"],
        {"mynetworks": "127.0.0.0/8 texthash:DIR/hosts"},
        files={"hosts": "198.51.100.20 fabrikam\n"},
    ),
    Case(
        "a connector in a pattern",
        ["error connector-in-mynetworks"],
        {"mynetworks": "127.0.0.0/8 pcre:DIR/hosts"},
        files={"hosts": "/^198\\.51\\.100\\./ fabrikam\n"},
    ),
    Case("a table that cannot be asked is no matter", [], {"mynetworks": "127.0.0.0/8 mysql:/etc/postfix/networks"}),
    Case(
        "everybody, where nobody is permitted by it, but may end messages by bare newlines",
        ["warning bare-newline-exclusions"],
        {"mynetworks": "0.0.0.0/0", RECIPIENT: f"{POLICY}, reject_unauth_destination"},
    ),
    Case(
        "everybody at submission",
        ["error mynetworks-everybody"],
        {"mynetworks": "127.0.0.0/8"},
        SUBMISSION + f"  -o mynetworks=static:all\n  -o {RELAY}=permit_mynetworks,permit_sasl_authenticated,reject\n"
        f"  -o {RECIPIENT}=\n",
        toml=CERTIFICATES_ONLY,
    ),
    # who may say where he comes from
    Case("XCLIENT of the proxy alone", [], {"smtpd_authorized_xclient_hosts": "192.0.2.130"}),
    Case("XCLIENT of a network", ["warning xclient"], {"smtpd_authorized_xclient_hosts": "192.0.2.128/28"}),
    Case(
        "XCLIENT of a connector",
        ["error xclient-everybody"],
        {"smtpd_authorized_xclient_hosts": "198.51.100.20"},
        text='organization "fabrikam"',
    ),
    Case(
        "XCLIENT by a pattern",
        ["error xclient-everybody"],
        {"smtpd_authorized_xclient_hosts": "pcre:DIR/all"},
        files={"all": "/^[0-9]/ x\n"},
    ),
    Case(
        "PROXY lines on loopback",
        [],
        master="127.0.0.1:10024 inet n - n - - smtpd\n  -o smtpd_upstream_proxy_protocol=haproxy\n",
    ),
    Case(
        "PROXY lines at one port",
        ["warning proxy-protocol"],
        master=PORT + "  -o smtpd_upstream_proxy_protocol=haproxy\n",
        text="2525/inet",
    ),
    Case(
        "QMQP for a connector",
        ["error qmqpd-open"],
        {"qmqpd_authorized_clients": "198.51.100.20"},
        "628 inet n - n - - qmqpd\n",
    ),
    Case(
        "QMQP for everybody by a table",
        ["error qmqpd-open"],
        {"qmqpd_authorized_clients": "cidr:DIR/q"},
        "628 inet n - n - - qmqpd\n",
        {"q": "0.0.0.0/0 x\n"},
    ),
    Case(
        "QMQP for everybody, on loopback",
        [],
        {"qmqpd_authorized_clients": "0.0.0.0/0"},
        "127.0.0.1:628 inet n - n - - qmqpd\n",
    ),
    Case("QMQP for private networks", [], {"qmqpd_authorized_clients": "10.0.0.0/8"}, "628 inet n - n - - qmqpd\n"),
    # permits before policyd
    Case(
        "a class within a class permits",
        ["error permit-before"],
        classes(a="b", b="reject_non_fqdn_sender permit") | before("a"),
        text="permit (of the class b)",
    ),
    Case(
        "a class that refuses strangers, by its name",
        ["error table-permits"],
        classes(reject_strangers="check_client_access inline:{198.51.100.99=OK}") | before("reject_strangers"),
    ),
    Case(
        "a parameter with a table",
        ["error table-permits"],
        before("$friends") | {"friends": "check_client_access cidr:{{198.51.100.0/25 ok}}"},
    ),
    Case("a static table", ["error table-permits"], before("check_client_access static:permit")),
    Case(
        "a union of tables",
        ["error table-permits"],
        before("check_client_access unionmap:{inline:{198.51.100.99=OK}, inline:{192.0.2.9=REJECT}}"),
    ),
    Case(
        "a pattern of senders", ["error table-permits"], before("check_sender_access pcre:{{/@adatum\\.example$$/ OK}}")
    ),
    Case(
        "a table that refuses own recipients and permits",
        ["error table-opens-own"],
        before("check_client_access inline:{{198.51.100.99 = reject_unauth_destination, permit}}"),
    ),
    Case("a table of this machine", [], before("check_client_access inline:{127.0.0.1=OK}")),
    Case("a table of private networks", [], before("check_client_access cidr:{{10.0.0.0/8 OK}}")),
    Case(
        "what is behind reject in a table is never reached",
        ["error connector-refused"],
        before("check_client_access inline:{{198.51.100.20 = reject, permit}}"),
    ),
    Case("permit by the backup MX", ["error backup-before"], before("permit_mx_backup")),
    Case("an allow list of addresses", ["warning allow-list-before"], before("permit_dnswl_client list.example")),
    Case("nobody is in relay_clientcerts", [], before("permit_tls_clientcerts") | {"relay_clientcerts": ""}),
    Case("all verified certificates", ["error permit-before"], before("permit_tls_all_clientcerts")),
    Case(
        "an OK for the client's PTR name is none",
        ["warning ok-not-taken"],
        before("check_reverse_client_hostname_access inline:{mail.example=OK}"),
    ),
    Case(
        "own recipients, in a class",
        ["error permit-auth-before"],
        classes(own="permit_auth_destination") | before("own"),
    ),
    Case(
        "both lists ask, and one permits before",
        ["warning twice"],
        {RELAY: f"check_client_access inline:{{198.51.100.99=OK}}, {POLICY}, reject_unauth_destination"},
    ),
    Case(
        "a table in the other list is no matter",
        [],
        {RELAY: before("permit_sasl_authenticated")[RECIPIENT], RECIPIENT: "check_client_access static:OK"},
    ),
    # recipients
    Case("any postmaster", ["error table-opens-recipient"], before("check_recipient_access inline:{postmaster@=OK}")),
    Case(
        "a domain elsewhere",
        ["error table-opens-recipient"],
        before("check_recipient_access inline:{northwind.example=OK}"),
    ),
    Case(
        "one address of a locked organization",
        ["warning table-opens-locked"],
        before("check_recipient_access inline:{abuse@tailspin.example=OK}"),
    ),
    Case("an open organization", [], before("check_recipient_access inline:{contoso.example=OK}")),
    Case(
        "a pattern of all postmasters",
        ["error table-opens-recipient"],
        before("check_recipient_access regexp:{{/^(postmaster|abuse)@/ OK}}"),
    ),
    Case(
        "a pattern of a locked domain",
        ["warning table-opens-locked"],
        before("check_recipient_access pcre:{{/@tailspin\\.example$$/ OK}}"),
    ),
    Case("everybody's recipients", ["error table-opens-recipient"], before("check_recipient_access static:OK")),
    # other policy services
    Case("SPF before", ["warning service-before"], before("check_policy_service unix:private/spf")),
    Case(
        "its default action is a class that permits",
        ["error service-default-ok"],
        classes(fine="permit") | before("check_policy_service { unix:private/spf, default_action=fine }"),
    ),
    Case(
        "mail is thrown away when policyd is down",
        ["error default-discards"],
        {
            RECIPIENT: POLICY.replace(
                "{ default_action = 451 4.3.5 Connector policy unavailable }", "default_action=DISCARD"
            )
            + ", reject_unauth_destination"
        },
    ),
    # services that do not ask
    Case(
        "certificates at a port, not reached",
        [],
        master=PORT + f"  -o smtpd_client_restrictions=permit_sasl_authenticated,reject\n  -o {RELAY}=\n"
        f"  -o {RECIPIENT}=permit_tls_all_clientcerts,reject\n",
    ),
    Case(
        "strangers are permitted by a table",
        ["warning list-of-its-own", "error permit-without"],
        {"tenants": "check_sender_access inline:{contoso.example=OK}"},
        PORT + f"  -o {RELAY}=\n  -o {{ {RECIPIENT} = permit_auth_destination, $tenants, reject }}\n",
    ),
    Case(
        "a port without policyd, and without a list of its own",
        ["warning service-not-asked"],
        {RECIPIENT: "permit_mynetworks, reject_unauth_destination"},
        f"smtp inet n - n - - smtpd\n  -o {{ {RECIPIENT} = {POLICY}, reject_unauth_destination }}\n{PORT}",
        text="2525/inet",
    ),
    Case(
        "nothing refuses but a class that does not",
        ["error permit-without", "warning list-of-its-own"],
        classes(none="permit"),
        PORT + f"  -o {RELAY}=none,reject\n  -o {RECIPIENT}=none,reject\n",
    ),
    Case(
        "smtpd of a port does not start",
        ["error smtpd-dies"],
        master=PORT + f"  -o {RELAY}=permit\n  -o {RECIPIENT}=permit\n",
    ),
    # what refuses
    Case(
        "the class of a table refuses",
        ["error connector-refused"],
        classes(shut="reject_unlisted_recipient, reject")
        | {"smtpd_client_restrictions": "check_client_access cidr:{{198.51.100.0/24 shut}}"},
    ),
    Case(
        "a static table refuses", ["error list-refuses"], {"smtpd_helo_restrictions": "check_helo_access static:reject"}
    ),
    Case(
        "a table of the sender list, by itself",
        ["error connector-refused"],
        {"smtpd_sender_restrictions": "inline:{fabrikam.example=REJECT}"},
        text='"someone@fabrikam.example"',
    ),
    Case("a table by itself at DATA", ["error not-here"], {"smtpd_data_restrictions": "inline:{a=b}"}),
    Case("only a warning", [], {"smtpd_client_restrictions": "warn_if_reject reject"}),
    Case("permit comes first", [], {"smtpd_client_restrictions": "permit, reject"}),
    Case("defer for outside", ["error list-refuses"], {"smtpd_helo_restrictions": "defer_unauth_destination"}),
    Case(
        "connectors by certificate may pass",
        ["error list-refuses"],
        {"smtpd_client_restrictions": "permit_tls_all_clientcerts, reject"},
    ),
    Case(
        "all connectors pass, and nobody else shall",
        [],
        {
            "smtpd_client_restrictions": "check_client_access inline:{203.0.113.7=OK, 198.51.100.20=OK}, "
            "permit_tls_all_clientcerts, reject"
        },
    ),
    Case(
        "a pattern of addresses is asked about names, too",
        ["error list-refuses"],
        {"smtpd_client_restrictions": "check_client_access pcre:{{!/^(198\\.51|203\\.0)\\./ REJECT}}"},
    ),
    Case(
        "before the certificate is known",
        ["error list-refuses", "warning early-decision"],
        {"smtpd_client_restrictions": "permit_tls_all_clientcerts, reject", "smtpd_delay_reject": "no"},
        toml=CERTIFICATES_ONLY,
    ),
    Case(
        "nobody knows the recipient yet",
        [],
        {"smtpd_client_restrictions": "reject_unauth_destination", "smtpd_delay_reject": "no"},
    ),
    Case(
        "an unknown word in a class of a table",
        ["error unknown-restriction"],
        classes(odd="permit_mynetwork") | {"smtpd_sender_restrictions": "check_sender_access inline:{a.example=odd}"},
    ),
    Case(
        "a restriction that Postfix 3.9 no longer knows",
        ["error unknown-restriction"],
        {"smtpd_client_restrictions": "reject_maps_rbl"},
        later="3.9",
    ),
    Case("and 3.7 does", [], {"smtpd_client_restrictions": "reject_maps_rbl"}),
    Case(
        "an unknown word in a table",
        ["error unknown-restriction"],
        {"smtpd_sender_restrictions": "check_sender_access inline:{a.example=reject_everybody}"},
    ),
    Case(
        "what is behind reject is never reached",
        ["error list-refuses"],
        {"smtpd_client_restrictions": "reject, reject_nonsense"},
    ),
    Case(
        "a table that is not there, in a class",
        ["error table-missing"],
        classes(tables="check_client_access texthash:DIR/nothing") | {"smtpd_client_restrictions": "tables"},
    ),
    Case(
        "logins own a tenant's senders",
        ["warning login-mismatch"],
        {
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sender_login_maps": "inline:{@contoso.example=x}",
            "smtpd_sender_restrictions": "reject_unauthenticated_sender_login_mismatch",
        },
    ),
    Case(
        "logins own nobody's senders here",
        [],
        {
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sender_login_maps": "inline:{kate@adatum.example=x}",
            "smtpd_sender_restrictions": "reject_sender_login_mismatch",
        },
    ),
    Case(
        "unlisted senders in a list",
        ["warning unlisted-senders"] * 2,
        {"smtpd_sender_restrictions": "reject_unlisted_sender", "relay_recipient_maps": "inline:{a@contoso.example=x}"},
    ),
    Case("unlisted senders, and no list of recipients", [], {"smtpd_reject_unlisted_sender": "yes"}),
    Case("loopback only", ["error interfaces-local"], {"inet_interfaces": "localhost"}),
    # certificates on their way
    Case(
        "STARTTLS hidden from all by a table",
        ["error no-starttls"],
        {"smtpd_discard_ehlo_keyword_address_maps": "cidr:{{0.0.0.0/0 starttls}}"},
    ),
    Case("TLS 1.1 at most", ["error old-protocols"], {"smtpd_tls_protocols": "<=TLSv1.1"}),
    Case("the old way to forbid", [], {"smtpd_tls_protocols": "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1"}),
    Case("mandatory ones do not count", [], {"smtpd_tls_mandatory_protocols": "TLSv1"}),
    Case(
        "but where TLS is demanded",
        ["error old-protocols"],
        {"smtpd_tls_mandatory_protocols": "!TLSv1.2, !TLSv1.3", "smtpd_tls_security_level": "encrypt"},
    ),
    Case(
        "a port for connectors by name may demand certificates",
        [],
        master=PORT + "  -o smtpd_tls_security_level=encrypt\n  -o smtpd_tls_req_ccert=yes\n",
    ),
    Case("without TLS they are only asked for", [], {"smtpd_tls_req_ccert": "yes"}),
    Case(
        "other CAs by CApath",
        ["error shared-sessions"],
        master=SUBMISSION
        + f"  -o smtpd_tls_CApath=/etc/ssl/certs\n  -o {RECIPIENT}=permit_sasl_authenticated,reject\n",
    ),
    Case(
        "other CAs, and no tickets",
        [],
        master=SUBMISSION + f"  -o smtpd_tls_CApath=/etc/ssl/certs\n  -o tls_ssl_options=NO_TICKET\n"
        f"  -o {RECIPIENT}=permit_sasl_authenticated,reject\n",
    ),
    Case(
        "other CAs, and certificates are not asked for",
        [],
        master=SUBMISSION + f"  -o smtpd_tls_CApath=/etc/ssl/certs\n  -o smtpd_tls_ask_ccert=no\n"
        f"  -o {RECIPIENT}=permit_sasl_authenticated,reject\n",
    ),
    Case(
        "sessions apart",
        [],
        later="3.12",
        master=SUBMISSION
        + f"  -o smtpd_tls_CApath=/etc/ssl/certs\n  -o {RECIPIENT}=permit_sasl_authenticated,reject\n",
    ),
    Case(
        "pins only: sessions are no matter",
        [],
        master=SUBMISSION
        + f"  -o smtpd_tls_CApath=/etc/ssl/certs\n  -o {RECIPIENT}=permit_sasl_authenticated,reject\n",
        toml={
            f'certificate_names = ["{name}"]': f'public_key_fingerprints = ["{PIN[:-2]}{n}"]'
            for n, name in zip(
                ("A2", "A3", "A4"), ("mx.hoster.example", "mail.contoso.example", "mail.tailspin.example"), strict=True
            )
        },
    ),
    Case("raw public keys", ["warning raw-public-keys"], {"smtpd_tls_enable_rpk": "yes"}, later="3.9"),
    Case(
        "CAs in a folder that the chroot does not have",
        ["error ca-folder"],
        {"smtpd_tls_CAfile": "", "smtpd_tls_CApath": "DIR/cas"},
        "smtp inet n - y - - smtpd\n",
        {"cas/0a1b2c3d.0": "x"},
        text="chrooted",
    ),
]


def changed(text: str, settings: Mapping[str, str]) -> str:
    """main.cf with other values."""
    kept = []
    skipping = False
    for line in text.splitlines():
        skipping = line.partition("=")[0].strip() in settings if not line[:1].isspace() else skipping
        if not skipping:
            kept.append(line)
    return "\n".join([*kept, *(f"{name} = {value}" for name, value in settings.items())]) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
def test_spelling(case: Case, tmp_path: Path) -> None:
    folder = copied("clean-recipient-list", case_of("clean-recipient-list"), tmp_path / "wiring")
    for name, text in case.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace("DIR", str(folder)))
    main_cf, master_cf, toml = folder / "main.cf", folder / "master.cf", folder / "policyd.toml"
    main_cf.write_text(changed(main_cf.read_text(), case.main).replace("DIR", str(folder)))
    services = master_cf.read_text()
    if case.master.startswith("smtp "):  # in the place of the first one
        services = "\n".join(line for line in services.splitlines() if not line.startswith("smtp      inet")) + "\n"
    master_cf.write_text(services + case.master)
    rules = toml.read_text()
    for old, new in case.toml.items():
        assert old in rules
        rules = rules.replace(old, new)
    toml.write_text(rules)
    loaded = load(str(toml))
    assert loaded.configuration is not None, loaded.problems
    postfix = read_postfix(str(folder))
    if case.later:
        postfix = as_of(postfix, case.later)
    found = findings_in(postfix, loaded.configuration)
    assert sorted({f"{one.severity} {one.id}" for one in found}) == sorted(set(case.found)), found
    assert case.text in "\n".join(map(str, found))


def test_each_finding_is_shown() -> None:
    """Each finding has an example: in a wiring, in a spelling, or in a case of test_wiring."""
    elsewhere = {"header-not-replaced", "postfix-not-read"}  # test_wiring.test_stamping, test_configurations
    shown = {identifier for name in NAMES for identifier in case_of(name)["finds"]}
    shown |= {found.partition(" ")[2] for case in CASES for found in case.found}
    shown |= {Message[found.partition(" ")[2]].id for case in test_wiring.CASES for found in case.found}
    assert shown | elsewhere == {message.id for message in Message}
