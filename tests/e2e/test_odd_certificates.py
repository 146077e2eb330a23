"""Certificates with odd names, and what a CA that is constrained to its own domain can still sign.

policyd sees of a certificate what Postfix tells: the first CN, if OpenSSL trusts the chain. Which names count is in
the tables; the last test is a warning that the documentation repeats, not a promise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.hub import Hub, Mail
from tests.helpers.certificates import CLIENT, CertificateFiles, make

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

KATE, OUTSIDE = "kate@contoso.com", "x@other.example"
OK, NO = "250 2.1.5", "554 5.7.1 "

# CNs signed by a trusted CA that are no name of a connector, though one can be read into them
NO_NAMES = (
    "mail.contoso.com,mail.fabrikam.com", "mail.contoso.com, CN=x", "CN=mail.contoso.com", "/CN=mail.contoso.com",
    "mail.contoso.com/x", "mail.contoso.com:25", "mail.contoso.com+", "mail+2Econtoso+2Ecom", "mail%2econtoso.com",
    "*", "*.", "*.com", "**.contoso.com", "*.*.contoso.com", "mail.*.contoso.com", "m*.contoso.com", "*.mail.*",
    ".contoso.com", "mail..contoso.com", "mail.contoso.com..", "mail.contoso.com.fabrikam.com", "mail,contoso.com",
    "mail.contoso.com\t", "mail.contoso.com\x7f", "mail.contoso.com\u2028", "mail.\u202econtoso.com",
    "[203.0.113.5]", "203.0.113.5", "::ffff:203.0.113.5", "contoso", "com", "mail.contoso.com ", "x" * 64,
    "kate@contoso.com", "mail.xn--.com", "mail.c\u043entoso.com",
)  # fmt: skip
# and those that are one all the same: case and one trailing dot do not count
NAMES = ("MAIL.Contoso.COM.", "_x.contoso.com", "*.CONTOSO.com")

# What a tenant's CA signs that may sign names of fabrikam.com only: common name, names in subjectAltName.
CONSTRAINED_REFUSED = (
    ("mail.contoso.com", ()),
    ("mail.contoso.com", ("mail.contoso.com",)),
    ("mail.fabrikam.com", ("mail.fabrikam.com", "mail.contoso.com")),
)
CONSTRAINED_TRUSTED = (
    ("mail.contoso.com", ("mail.fabrikam.com",)),
    ("*.contoso.com", ()),
    ("mail.contoso.com.", ()),
)


Sign = Callable[..., CertificateFiles]
"""Makes a client's certificate: common name, names in subjectAltName."""


def signing(folder: Path, authority: CertificateFiles) -> Sign:
    """Signs whatever it is asked."""
    numbers = itertools.count(1)

    def sign(common_name: str, dns_names: tuple[str, ...] = ()) -> CertificateFiles:
        made = make(common_name, dns_names=dns_names, issuer=authority, usages=(CLIENT,))
        return made.write(folder, f"leaf-{next(numbers)}")

    return sign


@pytest.fixture
def sign(hub: Hub, tmp_path: Path) -> Sign:
    """By the CA that Postfix trusts."""
    return signing(tmp_path, hub.certificates["ca"])


@pytest.fixture
def sign_constrained(hub: Hub, tmp_path: Path) -> Sign:
    """By a tenant's own CA below it, for names of fabrikam.com."""
    tenant = make("Tenant CA", issuer=hub.certificates["ca"], authority=True, permitted="fabrikam.com")
    return signing(tmp_path, tenant.write(tmp_path, "fabrikam.com"))


def reply(hub: Hub, certificate: CertificateFiles, policyd: PolicydServer) -> tuple[str, str]:
    """The reply to mail of contoso's for the outside, and policyd's reason."""
    shown = Hub(hub.postfix, hub.sink, {"shown": certificate})
    delivery = shown.deliver("inet", Mail(KATE, (OUTSIDE,), "shown"), policyd)
    (decision,) = delivery.decisions
    assert bool(delivery.relayed) == delivery.reply.startswith(OK), delivery.transcript
    return delivery.reply, f"{decision['reason']} {decision['organization']}"


def test_names_that_only_look_like_a_connectors(hub: Hub, policyd: PolicydServer, sign: Sign) -> None:
    for common_name in NO_NAMES:
        text, reason = reply(hub, sign(common_name), policyd)
        assert text.startswith(NO), (common_name, text)
        assert reason == "certificate-unknown ", (common_name, reason)
    for common_name in NAMES:
        text, reason = reply(hub, sign(common_name), policyd)
        assert text.startswith(OK), (common_name, text)
        assert reason == "certificate-domain contoso", (common_name, reason)


def test_constrained_ca_is_held_to_subject_alt_names(hub: Hub, policyd: PolicydServer, sign_constrained: Sign) -> None:
    """What OpenSSL does look at: DNS names in subjectAltName, and without any a CN that is a host name."""
    own = sign_constrained("mail.fabrikam.com", ("mail.fabrikam.com",))
    assert reply(hub, own, policyd)[1] == "certificate-domain fabrikam"
    for common_name, dns_names in CONSTRAINED_REFUSED:
        text, reason = reply(hub, sign_constrained(common_name, dns_names), policyd)
        assert text.startswith(NO), (common_name, dns_names)
        assert reason == "certificate-untrusted ", (common_name, dns_names)


def test_constrained_ca_signs_any_common_name(hub: Hub, policyd: PolicydServer, sign_constrained: Sign) -> None:
    """Kept as a warning: the CN beside a DNS name, and one that is no host name, is not held to the constraint.

    So such a CA does not belong into smtpd_tls_CAfile; keys of its certificates can be pinned. When this begins to
    fail, the documentation may stop warning.
    """
    for common_name, dns_names in CONSTRAINED_TRUSTED:
        text, reason = reply(hub, sign_constrained(common_name, dns_names), policyd)
        assert text.startswith(OK), (common_name, dns_names)
        assert reason == "certificate-domain contoso", (common_name, dns_names)
