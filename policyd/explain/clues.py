"""How a client could be registered: the narrowest evidence that it shows, as a change to a connector or partner.

A verified name where the organization may have it, else a pin, else the single address: never a network, a wildcard, a
single label, a private address, or the name of a certificate that nobody verified. Decides nothing: whom else it would
let in, `third_parties` says, and `what_if` tries it before it is told. SPEC 7, explain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from policyd.config.unusable_addresses import why_unusable
from policyd.explain.change import Change, Entries, Table, Value
from policyd.explain.failures import without_names
from policyd.explain.permitted import connector_may_have_address, connector_may_have_name, is_some_servers_own, single
from policyd.policy.fingerprints import is_fingerprint, shortened
from policyd.policy.identity import Client, comes_from, shows_certificate
from policyd.policy.model import Connector, Evidence, Organization, Partner, Provider
from policyd.policy.names import Pattern, is_host_name
from policyd.policy.networks import format_address
from policyd.policy.ruleset import RuleSet

_LONGEST_NAME = 64


class Clue(NamedTuple):
    """One thing to register a client by."""

    key: str  # of the configuration
    entries: Entries  # to add to it
    text: str  # how to say it


def is_shared(provider: Provider, client: Client) -> bool:
    """Whether many parties present this certificate: then neither its key nor the address says whose the mail is."""
    return client.name is not None and provider.shares(client.name)


def names(rules: RuleSet, provider: Provider, organization: str, client: Client, table: Table) -> Iterator[Clue]:
    """The certificate's verified name, where it may be listed as it stands: no wildcard, and no single label.

    One label is many servers': a container of a directory (`computers`), a printer's own, `localhost`.
    """
    if client.name is None or client.wildcard or "." not in client.name:
        return
    if table == "partner":
        allowed = is_host_name(client.name)
    else:
        allowed = connector_may_have_name(rules, provider, organization, client.name)
    if allowed:
        yield Clue("certificate_names", (Pattern(client.name),), f'the certificate name "{client.name}"')


def pins(client: Client, like: Evidence | None = None) -> Iterator[Clue]:
    """The key, which a renewal can keep, or the certificate; the kind first that `like` already pins."""
    both = []
    if is_fingerprint(client.key):
        both.append(Clue("public_key_fingerprints", (client.key,), f"the public key {shortened(client.key)}"))
    if is_fingerprint(client.fingerprint):
        text = f"the certificate {shortened(client.fingerprint)}"
        both.append(Clue("certificate_fingerprints", (client.fingerprint,), text))
    pins_keys = like is None or like.public_key_fingerprints or like.stored_certificates
    if like is not None and like.certificate_fingerprints and not pins_keys:
        both.reverse()
    yield from both


def addresses(rules: RuleSet, provider: Provider, organization: str, client: Client, table: Table) -> Iterator[Clue]:
    """The client's single address, where it may be listed."""
    if client.address is None or why_unusable(single(client.address)):
        return
    if table == "partner":
        allowed = is_some_servers_own(client.address)
    else:
        allowed = connector_may_have_address(rules, provider, organization, client.address)
    if allowed:
        yield Clue("addresses", (single(client.address),), f"the address {format_address(client.address)}")


def clues(
    rules: RuleSet, provider: Provider, organization: str, client: Client, table: Table = "connector"
) -> Iterator[Clue]:
    """All ways to register the client at an organization, the best first."""
    yield from names(rules, provider, organization, client, table)
    yield from pins(client)
    yield from addresses(rules, provider, organization, client, table)


def new_clues(rules: RuleSet, provider: Provider, organization: str, client: Client, foreign: bool) -> Iterator[Clue]:
    """As `clues`, without what a connector of the organization lists already.

    That one is disabled or asks for more, on purpose; a new one beside it would undo that.
    """
    connectors = rules.organization(organization).connectors
    if any(shows_certificate(without_names(c) if foreign else c, client) for c in connectors):
        return
    listed = any(comes_from(connector, client) for connector in connectors)
    for clue in clues(rules, provider, organization, client):
        if clue.key != "addresses" or not listed:
            yield clue


def added(organization: str, item: Connector | Partner, clue: Clue) -> Change:
    """The clue put beside what the connector or partner has under the same key."""
    table: Table = "partner" if isinstance(item, Partner) else "connector"
    before: tuple[object, ...] = getattr(item, clue.key)
    return Change(organization, table, item.name, ((clue.key, (*before, *clue.entries)),))


def new_connector(organization: Organization, client: Client, clue: Clue) -> Change:
    """A new connector that knows the client by the clue alone."""
    name = _free_name(_name_for(client, clue.key), organization.connectors)
    return Change(organization.name, "connector", name, ((clue.key, clue.entries),), new=True)


def new_partner(organization: Organization, sender_domain: str, clue: Clue) -> Change:
    """A new partner for one exact sender domain."""
    name = _free_name(sender_domain, organization.partners)
    values: tuple[tuple[str, Value], ...] = (("sender_domains", (Pattern(sender_domain),)), (clue.key, clue.entries))
    return Change(organization.name, "partner", name, values, new=True)


def _name_for(client: Client, key: str) -> str:
    if key == "certificate_names" and client.name is not None:
        return client.name
    if key == "addresses" and client.address is not None:
        return f"server-{format_address(client.address)}"
    return f"pin-{(client.key if key == 'public_key_fingerprints' else client.fingerprint)[:8].lower()}"


def _free_name(wish: str, others: Sequence[Evidence]) -> str:
    """A name for a connector or partner, near the wish and not taken yet (SPEC 4: 1-64 of a-z 0-9 . _ -)."""
    base = re.sub(r"[^a-z0-9_]+", "-", wish.lower()).strip("-")[: _LONGEST_NAME - 4] or "server"
    taken = {other.name for other in others}
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name
