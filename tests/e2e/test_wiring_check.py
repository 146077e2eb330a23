"""`policyd check --postfix` and the Postfix that it judges: what it finds, and what that Postfix does with mail.

Each row of CASES changes one thing in the main.cf or master.cf of a running hub that is wired as recommended, names
every finding that must come of it, and the replies to RCPT that show why. The wirings W1 to W8 are those of
`test_wirings`, whose table says more about their replies.
"""

from __future__ import annotations

import json
import random
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from policyd.cli.main import main
from policyd.postfix.restrictions import parse_list, refusal
from tests.e2e.hub import (
    BRANCH,
    RELAY_DOMAINS,
    STRANGER,
    Hub,
    Mail,
    policy_service,
    relay_settings,
    write_configuration,
)
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Sink
from tests.finding_names import names_of
from tests.helpers.certificates import CertificateFiles
from tests.helpers.programs import why_no_postfix

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

RELAY, RECIPIENT, CLIENT = "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_client_restrictions"
PERMITS = "permit_mynetworks permit_sasl_authenticated"
DEBIAN = f"{PERMITS} defer_unauth_destination"

CONNECTOR_OUT = Mail("kate@contoso.com", ("x@other.example",), address=BRANCH)
CONNECTOR_FORGES = Mail("john@elsewhere.example", ("x@other.example",), address=BRANCH)
CERTIFICATE_OUT = Mail("kate@contoso.com", ("x@other.example",), certificate="contoso")
PINNED_OUT = Mail("kate@contoso.com", ("x@other.example",), certificate="pinned-self-signed")
STRANGER_IN = Mail("john@elsewhere.example", ("kate@contoso.com",))
STRANGER_OUT = Mail("john@elsewhere.example", ("x@other.example",))
STRANGER_WITH_CERTIFICATE = Mail("john@elsewhere.example", ("x@other.example",), certificate="unknown")

SHOWS_NO_CERTIFICATE = "TLS is not to be had"  # for a reply: STARTTLS is refused, or leads to nothing


def to(recipient: str) -> Mail:
    """A stranger's mail to somebody."""
    return Mail("john@elsewhere.example", (recipient,))


@dataclass(frozen=True)
class Case:
    """One change to the recommended wiring."""

    why: str
    found: Sequence[str] = ()  # SEVERITY NAME
    replies: Sequence[tuple[Mail, str]] = ()
    main: Mapping[str, str] = field(default_factory=dict)
    service: Mapping[str, str] = field(default_factory=dict)  # -o settings in master.cf
    chroot: bool = False
    policyd: str = "enforcing"  # or "watching", or "dead": nobody listens
    default_action: str = "451 4.3.5 Connector policy unavailable"


def behind(restriction: str) -> dict[str, str]:
    """The recommended list with something in front of policyd."""
    return {RECIPIENT: f"{PERMITS} {restriction} POLICY reject_unauth_destination"}


CASES = (
    Case("W1", ["error OTHER_LIST_REFUSES"], [(CONNECTOR_OUT, "454 4.7.1")], {RELAY: DEBIAN, RECIPIENT: "POLICY"}),
    Case("bare newlines", ["warning BARE_NEWLINE"], [(CONNECTOR_OUT, "250")], {"smtpd_forbid_bare_newline": "no"}),
    Case("W2, recommended", [], [(CONNECTOR_OUT, "250"), (STRANGER_IN, "250"), (STRANGER_OUT, "554 5.7.1")]),
    Case(
        "W3",
        [],
        [(CONNECTOR_OUT, "250"), (STRANGER_OUT, "554 5.7.1")],
        {RELAY: f"{PERMITS} POLICY reject_unauth_destination", RECIPIENT: ""},
    ),
    Case(
        "W4",
        ["warning TWICE"],
        [(CONNECTOR_OUT, "250"), (STRANGER_OUT, "554 5.7.1")],
        {RELAY: f"{PERMITS} POLICY reject_unauth_destination", RECIPIENT: "POLICY"},
    ),
    Case(
        "W5",
        ["error AFTER_REFUSAL"],
        [(CONNECTOR_OUT, "554 5.7.1"), (STRANGER_IN, "250")],
        {RECIPIENT: f"{PERMITS} reject_unauth_destination POLICY"},
    ),
    Case(
        "W6",
        ["error OTHER_LIST_REFUSES"],
        [(CONNECTOR_OUT, "454 4.7.1")],
        {RELAY: DEBIAN, RECIPIENT: "POLICY", "smtpd_relay_before_recipient_restrictions": "no"},
    ),
    Case(
        "W7",
        ["error ONLY_ELSEWHERE"],
        [(CONNECTOR_OUT, "454 4.7.1"), (STRANGER_IN, "250")],
        {RELAY: DEBIAN, RECIPIENT: "", CLIENT: "POLICY"},
    ),
    Case(
        "W8",
        [],
        [(CONNECTOR_OUT, "250"), (STRANGER_IN, "250"), (STRANGER_OUT, "554 5.7.1")],
        {RECIPIENT: "POLICY permit_auth_destination reject"},
    ),
    Case("policyd is down", [], [(CONNECTOR_OUT, "451 4.3.5"), (STRANGER_OUT, "451 4.3.5")], policyd="dead"),
    Case(
        "watching",
        [],
        [(CONNECTOR_OUT, "454 4.7.1"), (STRANGER_IN, "250")],
        {RELAY: f"POLICY {DEBIAN}", RECIPIENT: ""},
        policyd="watching",
        default_action="DUNNO",
    ),
    Case(
        "the same, and policyd enforces: what it allows is relayed, but bounced when it is down",
        ["warning DEFAULT_BOUNCES"],
        [(CONNECTOR_OUT, "250"), (STRANGER_OUT, "554 5.7.1")],
        {RELAY: f"POLICY {DEBIAN}", RECIPIENT: ""},
        default_action="DUNNO",
    ),
    # at one port only
    Case(
        "Debian's list, at this port alone",
        ["error OTHER_LIST_REFUSES"],
        [(CONNECTOR_OUT, "454 4.7.1")],
        service={RELAY: DEBIAN},
    ),
    Case(
        "a list without policyd at this port",
        ["error LIST_OF_ITS_OWN"],
        [(CONNECTOR_OUT, "554 5.7.1")],
        service={RECIPIENT: f"{PERMITS} reject_unauth_destination"},
    ),
    Case(
        "a chrooted smtpd does not find the socket",
        ["error CHROOT_PATH"],
        [(CONNECTOR_OUT, "451 4.3.5")],
        {RECIPIENT: "SOCKET reject_unauth_destination"},
        chroot=True,
    ),
    Case(
        "another does",
        [],
        [(CONNECTOR_OUT, "250"), (STRANGER_OUT, "554 5.7.1")],
        {RECIPIENT: "SOCKET reject_unauth_destination"},
    ),
    # the options
    Case(
        "an OK when policyd is down",
        ["error DEFAULT_OK"],
        [(STRANGER_OUT, "250")],
        policyd="dead",
        default_action="OK",
    ),
    Case(
        "a number without a text is an OK",
        ["error DEFAULT_OK"],
        [(STRANGER_OUT, "250")],
        policyd="dead",
        default_action="550",
    ),
    Case(
        "DUNNO when policyd is down",
        ["warning DEFAULT_BOUNCES"],
        [(CONNECTOR_OUT, "554 5.7.1")],
        policyd="dead",
        default_action="DUNNO",
    ),
    Case(
        "options without braces",
        ["error OPTION_OUTSIDE", "warning NO_TIMEOUT"],
        [(CONNECTOR_OUT, "250"), (STRANGER_IN, "250")],
        {RECIPIENT: "check_policy_service ADDRESS timeout=10s reject_unauth_destination"},
    ),
    Case(
        "options without braces, with policyd down",
        ["error OPTION_OUTSIDE", "warning NO_TIMEOUT"],
        [(STRANGER_IN, "451 4.3.5")],
        {RECIPIENT: "check_policy_service ADDRESS default_action=DUNNO reject_unauth_destination"},
        policyd="dead",
    ),
    Case(
        "a trial",
        ["warning ONLY_WARNS"],
        [(CONNECTOR_OUT, "250"), (STRANGER_OUT, "454 4.7.1")],
        {RECIPIENT: f"warn_if_reject POLICY {DEBIAN}"},
    ),
    # who can say OK before policyd
    Case(
        "an access table that permits",
        ["error TABLE_PERMITS"],
        [(STRANGER_OUT, "250")],
        behind(f"check_client_access inline:{{ {STRANGER}=OK }}"),
    ),
    Case(
        "an access table that only refuses",
        [],
        [(STRANGER_OUT, "554 5.7.1")],
        behind(f"check_client_access inline:{{ {{{STRANGER}=REJECT no}}, 192.0.2.9=DUNNO }}"),
    ),
    Case(
        "whoever has a certificate",
        ["error PERMIT_BEFORE"],
        [(STRANGER_WITH_CERTIFICATE, "250")],
        behind("permit_tls_all_clientcerts"),
    ),
    Case("another service", ["warning SERVICE_BEFORE"], [(STRANGER_OUT, "250")], behind("check_policy_service OTHER")),
    Case(
        "a connector in mynetworks",
        ["error CONNECTOR_IN_MYNETWORKS"],
        [(CONNECTOR_FORGES, "250")],
        {"mynetworks": "203.0.113.0/28"},
    ),
    # TLS
    Case(
        "no certificates are asked for",
        ["error NO_ASK_CCERT"],
        [(CERTIFICATE_OUT, "554 5.7.1")],
        {"smtpd_tls_ask_ccert": "no"},
    ),
    Case("they are", [], [(CERTIFICATE_OUT, "250"), (PINNED_OUT, "250")]),
    Case(
        "no TLS",
        ["error NO_TLS"],
        [(CERTIFICATE_OUT, SHOWS_NO_CERTIFICATE)],
        {"smtpd_tls_security_level": "none"},
    ),
    Case(
        "the hub has no certificate",
        ["error NO_HUB_CERTIFICATE"],
        [(CERTIFICATE_OUT, SHOWS_NO_CERTIFICATE)],
        {"smtpd_tls_chain_files": ""},
    ),
    Case(
        "the hub's certificate is not there",
        ["error HUB_CERTIFICATE_NOT_READ"],
        [(CERTIFICATE_OUT, SHOWS_NO_CERTIFICATE)],
        {"smtpd_tls_chain_files": "KEY, CERTIFICATE, /nowhere/more.pem"},
    ),
    Case(
        "its key is not there",
        ["error HUB_CERTIFICATE_NOT_READ"],
        [(CERTIFICATE_OUT, SHOWS_NO_CERTIFICATE)],
        {
            "smtpd_tls_chain_files": "",
            "smtpd_tls_cert_file": "CERTIFICATE",
            "smtpd_tls_key_file": "/nowhere/hub.key",
        },
    ),
    Case(
        "of this parameter `none` is the name of a file",
        ["error HUB_CERTIFICATE_NOT_READ"],
        [(CERTIFICATE_OUT, SHOWS_NO_CERTIFICATE)],
        {
            "smtpd_tls_chain_files": "",
            "smtpd_tls_cert_file": "CERTIFICATE",
            "smtpd_tls_key_file": "KEY",
            "smtpd_tls_eccert_file": "none",
        },
    ),
    Case(
        "names in the queue, and an old parameter that no more counts",
        [],
        [(CERTIFICATE_OUT, "250")],
        {"smtpd_tls_chain_files": "hub.pem", "smtpd_tls_cert_file": "/nowhere/hub.pem"},
    ),
    Case(
        "a file of CAs that is not there",
        ["error CA_NOT_READ"],
        [(CERTIFICATE_OUT, SHOWS_NO_CERTIFICATE)],
        {"smtpd_tls_CAfile": "/nowhere/connector-cas.pem"},
    ),
    Case(
        "no CA",
        ["error NO_CA"],
        [(CERTIFICATE_OUT, "554 5.7.1"), (PINNED_OUT, "250")],
        {"smtpd_tls_CAfile": ""},
    ),
    Case(
        "md5, and the pins are sha256",
        ["warning FINGERPRINT_DIGEST_WEAK", *["error PIN_LENGTH"] * 5],
        [(PINNED_OUT, "554 5.7.1"), (CERTIFICATE_OUT, "250")],
        {"smtpd_tls_fingerprint_digest": "md5"},
    ),
    Case(
        "the same at one port",
        ["error PIN_LENGTH"] * 5,
        [(PINNED_OUT, "554 5.7.1")],
        service={"smtpd_tls_fingerprint_digest": "sha512"},
    ),
    # domains
    Case(
        "an accepted domain that Postfix does not know: unknown users are no more refused",
        ["warning DOMAIN_UNKNOWN"],
        [(to("nobody@fabrikam.com"), "250"), (to("nobody@contoso.com"), "550 5.1.1")],
        {"relay_domains": RELAY_DOMAINS.replace("fabrikam.com", "")},
    ),
    Case(
        "one of its two spellings",
        ["warning DOMAIN_UNKNOWN"],
        [(to("nobody@xn--bcher-kva.example"), "250"), (to("nobody@bücher.example"), "550 5.1.1")],
        {"relay_domains": RELAY_DOMAINS.replace("xn--bcher-kva.example", "")},
    ),
    Case(
        "the names below it",
        ["warning SUBDOMAINS_UNKNOWN"],
        [(to("nobody@x.contoso.net"), "250"), (to("nobody@contoso.net"), "550 5.1.1")],
        {"relay_domains": RELAY_DOMAINS.replace(" .contoso.net", "")},
    ),
    Case(
        "an entry covers what is below, and needs no dot",
        [],
        [(to("nobody@x.contoso.net"), "550 5.1.1")],
        {
            "relay_domains": RELAY_DOMAINS.replace(" .contoso.net", ""),
            "parent_domain_matches_subdomains": "relay_domains",
        },
    ),
    Case(
        "a domain that nobody accepts",
        ["warning DOMAIN_NOT_ACCEPTED"],
        [(to("kate@adatum.example"), "554 5.7.1")],
        {"relay_domains": f"{RELAY_DOMAINS} adatum.example", "relay_recipient_maps": ""},
    ),
    Case(
        "a table that cannot be read: nothing is said of what may be in it",
        ["warning TABLE_NOT_READ"],
        [],
        {"relay_domains": "mysql:/etc/postfix/no-such-file.cf"},
    ),
    Case(
        "a table of patterns",
        [],
        [(to("kate@contoso.com"), "250"), (to("kate@x.y.contoso.net"), "250")],
        {
            "relay_domains": "regexp:PATTERNS",
            "relay_recipient_maps": "",
            "parent_domain_matches_subdomains": "relay_domains",
        },
    ),
    # what Postfix leaves to its administrator, and policyd has nothing to say against
    Case(
        "classes, $-expansions and tables in braces",
        [],
        [(CONNECTOR_OUT, "250"), (STRANGER_OUT, "554 5.7.1"), (to("nobody@fabrikam.com"), "550 5.1.1")],
        {
            "smtpd_restriction_classes": "connectors, own_people",
            "connectors": "$ask_policyd",
            "ask_policyd": "POLICY",
            "own_people": PERMITS,
            RECIPIENT: "own_people, connectors, reject_unauth_destination, check_policy_service OTHER",
            "relay_domains": "inline:{ " + ", ".join(f"{name}=x" for name in RELAY_DOMAINS.split()) + " }",
        },
    ),
)


@pytest.fixture(scope="module")
def postfix_of_cases(
    free_port: Callable[[], int], sink: Sink, certificates: Mapping[str, CertificateFiles]
) -> Iterator[Hub]:
    """One Postfix for all cases: each writes its configuration and reloads it."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    main_cf = {**relay_settings(sink.port, certificates), "smtpd_forbid_bare_newline": "yes"}
    with Postfix({"port": Listener(free_port(), {"smtpd_recipient_restrictions": "reject"})}, main_cf) as postfix:
        yield Hub(postfix, sink, certificates)


@pytest.fixture(scope="module")
def configurations(
    policyd: PolicydServer,
    watching_policyd: PolicydServer,
    services: Mapping[str, str],
    certificates: Mapping[str, CertificateFiles],
    scratch: Path,
) -> Mapping[str, Path]:
    """policyd.toml of the servers, and of one that does not run."""
    dead = write_configuration(scratch / "dead", [services["dead"]], certificates)
    return {"enforcing": policyd.config, "watching": watching_policyd.config, "dead": dead}


def check(config: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """`SEVERITY NAME` of each finding of `policyd check --postfix FOLDER`; the exit status fits them."""
    capsys.readouterr()
    status = main(["check", "-c", str(config), "--json", "--postfix", str(folder)])
    told = json.loads(capsys.readouterr().out)
    assert status == (78 if any(one["severity"] == "error" for one in told["problems"]) else 0)
    return names_of(told["problems"])


def wire(
    postfix: Postfix, main_cf: Mapping[str, str], service: Mapping[str, str] | None = None, *, chroot: bool = False
) -> None:
    """Give Postfix these settings, of main.cf and of its only smtpd."""
    # a dead service is tried once, which saves a second; no letters to the postmaster about what is wrong here
    postfix.settings = {**main_cf, "smtpd_policy_service_try_limit": "1", "notify_classes": ""}
    postfix.listeners["port"] = Listener(postfix.listeners["port"].port, service or {}, chroot)
    postfix.reload()


def reply_to(hub: Hub, mail: Mail) -> str:
    """The reply to RCPT; SHOWS_NO_CERTIFICATE where the client cannot use TLS."""
    with hub.postfix.connect("port") as client:
        client.ehlo()
        try:
            if mail.certificate is not None and not client.starttls(hub.certificates[mail.certificate]).accepted:
                client.quit()
                return SHOWS_NO_CERTIFICATE
        except (ssl.SSLError, ConnectionError):
            return SHOWS_NO_CERTIFICATE
        assert client.xclient(mail.address).accepted, client
        (recipient,) = mail.recipients
        client.mail(mail.sender, "" if recipient.isascii() else "SMTPUTF8")
        reply = client.rcpt(recipient)
        client.command("RSET")  # or cleanup would still be at work when Postfix is reloaded
        client.quit()
        return reply.text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
def test_findings_and_mail(
    case: Case,
    postfix_of_cases: Hub,
    configurations: Mapping[str, Path],
    services: Mapping[str, str],
    other_service: str,
    policyd: PolicydServer,
    sink: Sink,
    certificates: Mapping[str, CertificateFiles],
    capsys: pytest.CaptureFixture[str],
) -> None:
    postfix = postfix_of_cases.postfix
    patterns = postfix.folder / "patterns"
    patterns.write_text("/^(hub|b\u00fccher|xn--bcher-kva)\\.example$|(^|\\.)\\w+\\.(com|net)$/ OK\n", "utf-8")
    chain = [certificates["server"].key.read_text("ascii"), certificates["server"].pem.read_text("ascii")]
    (postfix.queue / "hub.pem").write_text("".join(chain), "ascii")
    address = services[case.policyd]
    (socket,) = [name for name in policyd.addresses if name.startswith("unix:")]
    spelled = {
        "POLICY": policy_service(address, case.default_action),
        "SOCKET": policy_service(socket),
        "ADDRESS": address,
        "OTHER": other_service,
        "PATTERNS": str(patterns),
        "KEY": str(certificates["server"].key),
        "CERTIFICATE": str(certificates["server"].pem),
    }
    settings = {RELAY: "", RECIPIENT: f"{PERMITS} POLICY reject_unauth_destination"}
    settings |= {**relay_settings(sink.port, certificates), "smtpd_forbid_bare_newline": "yes", **case.main}
    own = {name: _filled(value, spelled) for name, value in case.service.items()}
    wire(postfix, {name: _filled(value, spelled) for name, value in settings.items()}, own, chroot=case.chroot)

    found = check(configurations[case.policyd], postfix.folder / "etc", capsys)
    assert found == sorted(case.found)
    for mail, reply in case.replies:
        assert reply_to(postfix_of_cases, mail).startswith(reply), f"{mail}\n{postfix.log()[-2000:]}"


def _filled(text: str, spelled: Mapping[str, str]) -> str:
    return re.sub(r"\b(POLICY|SOCKET|ADDRESS|OTHER|PATTERNS|KEY|CERTIFICATE)\b", lambda word: spelled[word[0]], text)


# Any lists of these are wired; permits that nobody here could use are left out, since no mail would show their harm.
PIECES = (
    *("POLICY", "POLICY", "POLICY", "permit_mynetworks", "permit_sasl_authenticated", "permit"),
    *("reject_unauth_destination", "reject_unauth_destination", "defer_unauth_destination", "reject"),
    *("warn_if_reject reject_unauth_destination", "warn_if_reject reject", "reject_unlisted_recipient"),
    f"check_client_access inline:{{ {STRANGER}=OK }}",
    f"check_client_access inline:{{ {STRANGER}=REJECT }}",
)
WIRINGS = 16


def test_what_is_judged_and_what_happens_agree(
    postfix_of_cases: Hub,
    configurations: Mapping[str, Path],
    services: Mapping[str, str],
    sink: Sink,
    certificates: Mapping[str, CertificateFiles],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Lists at random: without an error connectors relay and strangers do not, nor anybody while policyd is down.

    And with an error one of these fails. Always the same lists; many hundreds of others were tried once.
    """
    chosen = random.Random(4)
    judged: Counter[bool] = Counter()
    while judged.total() < WIRINGS:
        lists = {name: " ".join(chosen.sample(PIECES, chosen.choice((0, 2, 3, 4)))) for name in (RELAY, RECIPIENT)}
        # smtpd refuses to run where no list refuses anything, and nobody needs to be told where policyd is not asked
        refuses = any(refusal(parse_list(text.replace("POLICY", "permit_mynetworks"), {})) for text in lists.values())
        if not refuses or not any("POLICY" in text for text in lists.values()):
            continue
        replies = {}
        for state in ("enforcing", "dead"):
            policy = policy_service(services[state])
            spelled = {name: text.replace("POLICY", policy) for name, text in lists.items()}
            wire(postfix_of_cases.postfix, {**relay_settings(sink.port, certificates), **spelled})
            if state == "enforcing":
                found = check(configurations[state], postfix_of_cases.postfix.folder / "etc", capsys)
            replies[state] = [reply_to(postfix_of_cases, mail) for mail in (CONNECTOR_OUT, STRANGER_OUT)]
        (connector, stranger), down = replies["enforcing"], replies["dead"]
        well = connector.startswith("250") and not any(reply.startswith("2") for reply in (stranger, *down))
        good = not any(name.startswith("error") for name in found)
        judged[good] += 1
        assert well == good, f"{lists}\n{found}\n{replies}"
    assert len(judged) == 2
