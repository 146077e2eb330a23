"""An Organization as JSON and back: all of it, so that nothing has to be read from its source again.

Only what differs from the defaults is written. A field that is no plain value has a pair of functions here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar, cast

from policyd.policy.model import Connector, Organization, Partner, RelayLimit, StoredCertificate
from policyd.policy.names import Pattern
from policyd.policy.networks import Network

T = TypeVar("T", Organization, Connector, Partner)


def written(organization: Organization) -> str:
    """On one line."""
    return json.dumps(_plain(organization), separators=(",", ":"))


def read(text: str) -> Organization:
    """The organization again."""
    return _made(Organization, json.loads(text))


def _plain(one: Any) -> dict[str, Any]:
    stated: dict[str, Any] = {}
    names, values_of, defaults = _fields(cast(Hashable, type(one)))
    for name, value, default in zip(names, values_of(one), defaults, strict=True):
        if value is not default and value != default:
            stated[name] = _FORMS[name][0](value) if name in _FORMS and value is not None else value
    return stated


def _made(kind: type[T], stated: dict[str, Any]) -> T:
    return kind(
        **{
            name: _FORMS[name][1](value) if name in _FORMS and value is not None else value
            for name, value in stated.items()
        }
    )


@cache
def _fields(kind: Hashable) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]], tuple[Any, ...]]:
    """The names of a model's fields, what gets their values, and their defaults."""
    every = fields(cast(Any, kind))
    names = tuple(field.name for field in every)
    return names, attrgetter(*names), tuple(field.default for field in every)


def _patterns(texts: list[str]) -> tuple[Pattern, ...]:
    return tuple(Pattern(text.removeprefix("*."), text.startswith("*.")) for text in texts)


def _texts(values: tuple[object, ...]) -> list[str]:
    return list(map(str, values))


def _stored(certificate: StoredCertificate) -> list[Any]:
    return [
        certificate.source,
        certificate.names,
        sorted(certificate.certificate_fingerprints),
        sorted(certificate.public_key_fingerprints),
        certificate.not_after,
        certificate.path,
        certificate.pem,
    ]


def _certificate(values: list[Any]) -> StoredCertificate:
    source, names, certificates, keys, not_after, path, pem = values
    return StoredCertificate(source, tuple(names), frozenset(certificates), frozenset(keys), not_after, path, pem)


_Form = tuple[Callable[[Any], Any], Callable[[Any], Any]]
_PATTERNS: _Form = (_texts, _patterns)
_STRINGS: _Form = (list, tuple)
_FORMS: dict[str, _Form] = {
    "accepted_domains": _PATTERNS,
    "delegated_domains": _PATTERNS,
    "outside_domains": _PATTERNS,
    "pending_domains": _PATTERNS,
    "certificate_names": _PATTERNS,
    "for_domains": _PATTERNS,
    "sender_domains": _PATTERNS,
    "certificate_fingerprints": _STRINGS,
    "public_key_fingerprints": _STRINGS,
    "tlsa": _STRINGS,
    "relay_limits": (list, lambda limits: tuple(RelayLimit(*limit) for limit in limits)),
    "addresses": (
        lambda networks: [[network.family, network.first, network.last] for network in networks],
        lambda ranges: tuple(Network(*ends) for ends in ranges),
    ),
    "stored_certificates": (
        lambda certificates: list(map(_stored, certificates)),
        lambda lists: tuple(map(_certificate, lists)),
    ),
    "connectors": (lambda ones: list(map(_plain, ones)), lambda ones: tuple(_made(Connector, one) for one in ones)),
    "partners": (lambda ones: list(map(_plain, ones)), lambda ones: tuple(_made(Partner, one) for one in ones)),
}
