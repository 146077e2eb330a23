"""Makes the certificates of tests/certs/ (self-signed, EC P-256, valid until 2099). Their keys are thrown away.

The files are committed; run `python -m tests.make_certs` only to replace them all (fingerprints change then, and
nothing in the tests may depend on their values). `CERTIFICATES` says what each file holds, for `tests/strategies.py`.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.certificates import Key, make

FOLDER = Path(__file__).resolve().parent / "certs"
NOT_BEFORE = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(2099, 12, 31, tzinfo=datetime.UTC)
DATES = NOT_BEFORE, NOT_AFTER


@dataclass(frozen=True, slots=True)
class Names:
    """common_name: the subject's CN or None for an empty subject; dns: the DNS names of subjectAltName.

    key: files with the same letter have the same key; followed_by: CN of a second certificate, which must not count.
    """

    common_name: str | None
    dns: tuple[str, ...]
    key: str
    followed_by: str | None = None


CERTIFICATES: dict[str, Names] = {
    "cn-and-san.pem": Names("gw.contoso.net", ("gw.contoso.net", "relay.signatures.example"), "a"),
    "cn-and-san-renewed.pem": Names("gw.contoso.net", ("gw.contoso.net", "relay.signatures.example"), "a"),
    "cn-only.pem": Names("mail.contoso.com", (), "b"),
    "san-only.pem": Names(None, ("mail.fabrikam.com", "fabrikam.com"), "c"),
    "wildcard.pem": Names("*.eu.fabrikam.com", ("*.xn--bcher-kva.example",), "d"),
    "u-label.pem": Names("Mail.bücher.example", (), "e"),
    "no-host-name.pem": Names("Acme Appliance 7", (), "f"),
    "two-deep.pem": Names("a.b.fabrikam.com", (), "g", followed_by="fabrikam.com"),
}


def make_all(folder: Path = FOLDER) -> None:
    """Write every file of `CERTIFICATES` anew."""
    folder.mkdir(exist_ok=True)
    keys: dict[str, Key] = {}
    for file, names in CERTIFICATES.items():
        made = make(*filter(None, [names.common_name]), dns_names=names.dns, dates=DATES, key=keys.get(names.key))
        keys[names.key] = made.private_key
        second = make(names.followed_by, dates=DATES).as_pem() if names.followed_by else b""
        (folder / file).write_bytes(made.as_pem() + second)


if __name__ == "__main__":
    make_all()
