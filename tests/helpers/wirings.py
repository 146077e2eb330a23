"""A good wiring of Postfix with policyd, and the configuration it is judged for: what the checks of a wiring change.

As `postconf -x` prints it (tests/unit/postfix), and as files that a real postconf reads (tests/postfix).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from policyd.config.problems import Problem
from policyd.config.settings import Configuration
from policyd.loading.load import load
from tests.finding_names import name_of
from tests.helpers.hub import hub_folder

RELAY, RECIPIENT, CLIENT = "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_client_restrictions"
SENDER, DATA = "smtpd_sender_restrictions", "smtpd_data_restrictions"
DEFER = "{ default_action = 451 4.3.5 Connector policy unavailable }"
POLICY = f"check_policy_service {{ inet:127.0.0.1:10045, timeout=10s, {DEFER} }}"
PERMITS = "permit_mynetworks permit_sasl_authenticated"
DEBIAN = f"{PERMITS} defer_unauth_destination"
PIN = ":".join(["A1"] * 32)
CERTIFICATES = hub_folder()
HUB = f"{CERTIFICATES}/hub.pem"  # key and certificate

# What `postconf -x` prints of a hub that is wired as the guide says (a part).
GOOD = {
    "compatibility_level": "3.6",
    "queue_directory": "/var/spool/postfix",
    RELAY: "",
    RECIPIENT: f"{PERMITS} POLICY reject_unauth_destination",
    "mydestination": "hub.example, localhost",
    "relay_domains": "contoso.com",
    "parent_domain_matches_subdomains": "debug_peer_list,relay_domains,smtpd_access_maps",
    "mynetworks": "127.0.0.0/8 [::1]/128 [::ffff:127.0.0.0]/104",
    "smtpd_policy_service_default_action": "451 4.3.5 Server configuration problem",
    "smtpd_policy_service_timeout": "100s",
    "smtpd_tls_security_level": "may",
    "smtpd_tls_ask_ccert": "yes",
    "smtpd_tls_chain_files": HUB,
    **{f"smtpd_tls_{kind}cert_file": "" for kind in ("", "ec", "d")},
    **{f"smtpd_tls_{kind}key_file": "" for kind in ("", "ec", "d")},  # by default $smtpd_tls_cert_file and so on
    "smtpd_tls_CAfile": f"{CERTIFICATES}/cas.pem",
    "smtpd_tls_fingerprint_digest": "sha256",
    "tls_append_default_CA": "no",
    "smtpd_forbid_bare_newline": "yes",
    "smtpd_forbid_bare_newline_exclusions": "",
    "append_dot_mydomain": "no",
    "mydomain": "example",
}
SMTP = "smtp inet n - y - - smtpd\n"

TOML = """\
[service]
listen = ["inet:127.0.0.1:10045"]
[organizations.contoso]
accepted_domains = ["contoso.com"]
[organizations.contoso.connectors.cert]
certificate_names = ["mail.contoso.com"]
[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]
[organizations.hub]
accepted_domains = ["hub.example"]
[organizations.hub.connectors.cert]
certificate_names = ["hub.example"]
"""


def configuration_of(folder: Path, replaced: Mapping[str, str]) -> Configuration:
    """The configuration that TOML makes, with some of its texts replaced."""
    text = TOML
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "policyd.toml"
    path.write_text(text, "utf-8")
    loaded = load(str(path))
    assert loaded.configuration is not None, loaded.problems
    return loaded.configuration


def spelled(settings: Mapping[str, str]) -> str:
    """Settings as postconf prints them."""
    return "".join(f"{name} = {value.replace('POLICY', POLICY)}\n" for name, value in settings.items())


def names_of(problems: Sequence[Problem]) -> list[str]:
    """SEVERITY NAME of each finding."""
    return [f"{problem.severity} {name_of(problem.id)}" for problem in problems]
