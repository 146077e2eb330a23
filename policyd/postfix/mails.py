"""Mail as connectors and strangers would send it: what `course` puts through the restriction lists (SPEC 7).

Of each connector a few: from its addresses, or where only certificates tell it from addresses of everywhere, with
senders of its organization's domains, to a recipient outside. Not all of them where there are thousands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from policyd.config.problems import subject
from policyd.config.settings import Configuration
from policyd.policy.fingerprints import colons
from policyd.policy.model import Connector, Organization
from policyd.policy.networks import format_address

MOST_MAILS = 20_000
MOST_OF_A_CONNECTOR = 25  # addresses, and as many domains

# Where nobody knows a connector's address: hosts of networks far apart, of which no list of bad networks holds all.
ANYWHERE = ("9.9.9.9", "62.141.5.7", "93.184.216.34", "141.30.2.9", "193.0.6.139")
STRANGER, OUTSIDE = "someone@example.com", "somebody@example.org"


@dataclass(frozen=True, slots=True)
class Mail:
    """One recipient of one message, as smtpd sees it at RCPT."""

    owner: str  # `organization "contoso", connector "hq"`; empty: a stranger's
    client: str  # its address
    sender: str
    recipient: str
    name: str = ""  # of the client, in DNS and at HELO, as it would be in order
    fingerprints: tuple[str, ...] = ()  # of its certificate, as Postfix writes them
    verified: bool = False  # by a CA that Postfix knows
    anywhere: bool = False  # nobody knows its address: `client` is a sample


def strangers() -> list[Mail]:
    """Mail of strangers to strangers."""
    return [Mail("", client, STRANGER, OUTSIDE, "mail.example.com") for client in (*ANYWHERE, "2600:3c00::9")]


def mails_of(configuration: Configuration | None) -> list[Mail]:
    """Mail of all connectors that count."""
    mails: list[Mail] = []
    for organization in configuration.rules.organizations if configuration is not None else ():
        for connector in organization.connectors:
            if connector.enabled and len(mails) < MOST_MAILS:
                mails += _of_connector(organization, connector)
    return mails


def _of_connector(organization: Organization, connector: Connector) -> Iterator[Mail]:
    owner = subject(("organizations", organization.name, "connectors", connector.name))
    patterns = connector.for_domains or organization.accepted_domains
    domains = [pattern.name for pattern in patterns[:MOST_OF_A_CONNECTOR]]
    if not domains:
        return
    pins = (*connector.certificate_fingerprints, *connector.public_key_fingerprints)
    names = [pattern.name for pattern in connector.certificate_names]
    name = names[0] if names else f"mail.{domains[0]}"
    addresses = [
        format_address((network.family, value))
        for network in connector.addresses[:MOST_OF_A_CONNECTOR]
        for value in dict.fromkeys((network.first, network.last))
    ]
    pairs = [(address, domains[0]) for address in addresses or ANYWHERE]
    pairs += [(address, domain) for domain in domains[1:] for address in addresses[:1] or ANYWHERE]
    for address, domain in pairs:
        yield Mail(
            owner,
            address,
            f"someone@{domain}",
            OUTSIDE,
            name,
            tuple(map(colons, pins)),
            bool(names),
            not addresses,
        )
