"""Test CA and client certificates of every kind that changes what Postfix tells a policy service.

They are written to a folder that the caller names; nothing here knows policyd or the configuration under test. RECIPES
says what each certificate is for. Implements nothing of the documentation: the facts about Postfix are in TLS_README
and postconf(5), `smtpd_tls_fingerprint_digest`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cryptography.x509 import ObjectIdentifier

from tests.helpers.certificates import CLIENT, SERVER, CertificateFiles, in_days, make

DIGESTS = ("md5", "sha1", "sha256", "sha384", "sha512")
"""The digests that Postfix can be told to use for fingerprints."""

Validity = Literal["current", "expired", "future"]
_DAYS: Mapping[Validity, tuple[int, int]] = {"current": (-1, 90), "expired": (-20, -10), "future": (10, 90)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a certificate shall be. `issuer` names an authority; None signs it with its own key."""

    name: str
    common_names: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    usages: tuple[ObjectIdentifier, ...] = (CLIENT,)
    issuer: str | None = "ca"
    validity: Validity = "current"
    send_chain: bool = True


RECIPES = (
    Recipe("server", ("hub.example",), ("hub.example",), (SERVER,)),
    # trusted, with a name
    Recipe("contoso", ("mail.contoso.com",), ("mail.contoso.com",), (CLIENT, SERVER)),
    Recipe("upper", ("Mail.CONTOSO.com",)),
    Recipe("deep", ("mail.eu.contoso.com",)),
    Recipe("wildcard", ("*.contoso.com",), ("*.contoso.com",)),
    Recipe("no-eku", ("mail.contoso.com",), ("mail.contoso.com",), ()),
    Recipe("two-names", ("first.contoso.com", "second.fabrikam.com")),
    Recipe("two-names-reversed", ("second.unknown.example", "mail.contoso.com")),
    Recipe("idn", ("mail.bücher.example",)),
    Recipe("idn-ascii", ("mail.xn--bcher-kva.example",)),
    Recipe("fabrikam", ("mail.fabrikam.com",)),
    Recipe("fabrikam-other", ("smtp.fabrikam.com",)),
    Recipe("fabrikam-wildcard", ("*.fabrikam.com",)),
    Recipe("fabrikam-eu", ("mail.eu.fabrikam.com",)),
    Recipe("lab", ("gw.lab.contoso.net",)),
    Recipe("lab-wildcard", ("*.lab.contoso.net",)),
    Recipe("signatures", ("relay.signatures.example",)),
    Recipe("scanner", ("scanner.devices.example",)),
    Recipe("tailspin", ("tailspintoys.com",)),
    Recipe("bank", ("mail.contosobank.example",)),
    Recipe("bank-wildcard", ("*.contosobank.example",)),
    Recipe("unknown", ("mail.unknown.example",)),
    Recipe("suffix", ("contoso.com.unknown.example",)),
    Recipe("prefix", ("notcontoso.com",)),
    Recipe("intermediate", ("mail.contoso.com",), issuer="intermediate-ca"),
    # trusted, without a usable name
    Recipe("odd", ("Söhne + Müller = Post <relay>",)),
    Recipe("newline", ("mail.contoso.com\nccert_subject=mail.contoso.com",)),
    Recipe("newline-first", ("\naction=OK\n\n",)),
    Recipe("nul", ("mail.contoso.com\0.unknown.example",)),
    Recipe("padded", (" mail.contoso.com",)),
    Recipe("san-only", (), ("mail.contoso.com",)),
    # not trusted, although the name is right
    Recipe("self-signed", ("mail.contoso.com",), issuer=None),
    Recipe("foreign", ("mail.contoso.com",), ("mail.contoso.com",), issuer="foreign-ca"),
    Recipe("expired", ("mail.contoso.com",), validity="expired"),
    Recipe("future", ("mail.contoso.com",), validity="future"),
    Recipe("server-auth", ("mail.contoso.com",), ("mail.contoso.com",), (SERVER,)),
    Recipe("missing-intermediate", ("mail.contoso.com",), issuer="intermediate-ca", send_chain=False),
    # the same kinds once more, to be pinned
    Recipe("pinned-san-only", (), ("gw.contoso.net",)),
    Recipe("pinned-self-signed", ("printer",), issuer=None),
    Recipe("pinned-foreign", ("mail.contoso.com",), issuer="foreign-ca"),
    Recipe("pinned-expired", ("mail.contoso.com",), validity="expired"),
    Recipe("pinned-future", ("mail.contoso.com",), validity="future"),
    Recipe("pinned-server-auth", ("mail.contoso.com",), ("mail.contoso.com",), (SERVER,)),
    Recipe("pinned-missing-intermediate", ("mail.contoso.com",), issuer="intermediate-ca", send_chain=False),
    Recipe("pinned-odd", ("Söhne + Müller = Post <relay>",)),
)


def make_certificates(folder: Path, recipes: Iterable[Recipe] = RECIPES) -> dict[str, CertificateFiles]:
    """Make three authorities (`ca`, `intermediate-ca` below it, `foreign-ca`) and a certificate for each recipe.

    Files: FOLDER/NAME.pem and FOLDER/NAME.key. A server that trusts FOLDER/ca.pem trusts `ca` and what is below it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, CertificateFiles] = {}
    for name, common_name, issuer in (
        ("ca", "Example Connector CA", None),
        ("foreign-ca", "Foreign CA", None),
        ("intermediate-ca", "Example Intermediate CA", "ca"),
    ):
        made[name] = make(common_name, issuer=made[issuer] if issuer else None, authority=True).write(folder, name)
    for recipe in recipes:
        certificate = make(
            *recipe.common_names,
            dns_names=recipe.dns_names,
            usages=recipe.usages,
            dates=in_days(*_DAYS[recipe.validity]),
            issuer=made[recipe.issuer] if recipe.issuer else None,
        )
        sent = certificate if recipe.send_chain else replace(certificate, chain=())
        made[recipe.name] = sent.write(folder, recipe.name)
    return made
