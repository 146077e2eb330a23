"""A Configuration as the mapping that would make it again: what `policyd show` prints (SPEC 7).

Canonical: names as A-labels, lists and tables in order, file names absolute, fingerprints as Postfix writes them. The
settings of the service are complete; of organizations, connectors and partners only what differs from the defaults.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from policyd.config.settings import Configuration
from policyd.config.toml.writing import dumps
from policyd.policy.fingerprints import colons
from policyd.policy.model import Connector, Evidence, Organization, Partner

_NAME = attrgetter("name")


def settings_table(configuration: Configuration) -> dict[str, Any]:
    """[service], [log], [metrics] and [policy]."""
    service, log = configuration.service, configuration.log
    tables: dict[str, Any] = {
        "service": {
            "listen": [str(endpoint) for endpoint in service.listen],
            "unix_mode": f"{service.unix_mode:04o}",
            "mode": service.mode,
            "workers": service.workers,
            "max_connections": service.max_connections,
            **({} if service.control is None else {"control": f"unix:{service.control}" if service.control else ""}),
        },
        "log": {"decisions": log.decisions, "addresses": log.addresses, **({"file": log.file} if log.file else {})},
    }
    if configuration.metrics_listen is not None:
        tables["metrics"] = {"listen": str(configuration.metrics_listen)}
    tables["policy"] = {
        "incoming": configuration.rules.incoming,
        "relay_limits": list(map(str, configuration.rules.relay_limits)),
        "attribution_header": configuration.attribution_header,
        "provider_networks": [str(network) for network in sorted(configuration.provider.networks)],
        "provider_certificate_names": sorted(map(str, configuration.provider.certificate_names)),
    }
    return tables


def organization_table(organization: Organization) -> dict[str, Any]:
    """[organizations.NAME]"""
    table: dict[str, Any] = {
        "accepted_domains": [str(pattern) for pattern in sorted(organization.accepted_domains)],
        "delegated_domains": [str(pattern) for pattern in sorted(organization.delegated_domains)],
        "outside_domains": [str(pattern) for pattern in sorted(organization.outside_domains)],
        "pending_domains": [str(pattern) for pattern in sorted(organization.pending_domains)],
        "protect_sender_domains": organization.protect_sender_domains,
        "connectors_only": organization.connectors_only,
        "suspended": organization.suspended,
        "connectors": {one.name: _connector(one) for one in sorted(organization.connectors, key=_NAME)},
        "partners": {one.name: _partner(one) for one in sorted(organization.partners, key=_NAME)},
    }
    limits = organization.relay_limits
    return {
        **{key: value for key, value in table.items() if value},
        **({} if limits is None else {"relay_limits": list(map(str, limits))}),
    }


def as_toml(settings: Mapping[str, Any], organizations: Iterable[Organization]) -> Iterator[str]:
    """TOML, piece by piece; each is read back and compared before it is given.

    `settings` is settings_table() or nothing. Raises CannotWriteTomlError, which would be a bug.
    """
    between = ""
    if settings:
        yield dumps(settings)
        between = "\n"
    for organization in organizations:
        yield between + dumps({"organizations": {organization.name: organization_table(organization)}})
        between = "\n"


def as_json(settings: Mapping[str, Any], organizations: Iterable[Organization]) -> Iterator[str]:
    """The same as one JSON object, piece by piece."""
    yield json.dumps({**settings, "organizations": {}}, indent=2).removesuffix("}\n}")
    between = ""
    for organization in organizations:
        alone = json.dumps({organization.name: organization_table(organization)}, indent=2, default=str)
        yield between + alone[1:-2].replace("\n", "\n  ")  # no text in JSON holds a line's end
        between = ","
    yield "\n  }\n}\n" if between else "}\n}\n"


def _evidence(evidence: Evidence) -> dict[str, Any]:
    table: dict[str, Any] = {
        "description": evidence.description,
        "certificate_names": [str(pattern) for pattern in sorted(evidence.certificate_names)],
        "certificate_files": sorted(
            stored.path or stored.source for stored in evidence.stored_certificates if not stored.pem
        ),
        "certificates": sorted(stored.pem for stored in evidence.stored_certificates if stored.pem),
        "certificate_fingerprints": [colons(text) for text in sorted(evidence.certificate_fingerprints)],
        "public_key_fingerprints": [colons(text) for text in sorted(evidence.public_key_fingerprints)],
        "tlsa": sorted(evidence.tlsa),
        "addresses": [str(network) for network in sorted(evidence.addresses)],
        "require_tls": evidence.require_tls,
        "until": None if evidence.until is None else datetime.fromtimestamp(evidence.until, UTC),
    }
    stated = {key: value for key, value in table.items() if value}
    return stated if evidence.enabled else {"enabled": False, **stated}


def _connector(connector: Connector) -> dict[str, Any]:
    table: dict[str, Any] = {
        **_evidence(connector),
        "for_domains": [str(pattern) for pattern in sorted(connector.for_domains)],
        "foreign_senders": "" if connector.foreign_senders == "allow" else connector.foreign_senders,
        "relay_limits": list(map(str, connector.relay_limits)),
        "suspended": connector.suspended,
    }
    return {key: value for key, value in table.items() if value or key == "enabled"}


def _partner(partner: Partner) -> dict[str, Any]:
    senders = [str(pattern) for pattern in sorted(partner.sender_domains)]
    return {"sender_domains": ["*", *senders] if partner.every_sender else senders, **_evidence(partner)}
