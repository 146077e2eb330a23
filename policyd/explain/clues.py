"""How a client could be registered: the narrowest evidence that it shows, as a change to a connector or partner.

A verified name where the organization may have it, else a pin, else the single address: never a network, a wildcard, or
the name of a certificate that nobody verified. Decides nothing; `near_misses` tries what is made here before it
shows it (SPEC 7, explain).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from policyd.explain.change import Change, Table, Value
from policyd.explain.failures import without_names
from policyd.explain.permitted import connector_may_have_address, connector_may_have_name, is_some_servers_own, single
from policyd.policy.fingerprints import is_fingerprint, shortened
from policyd.policy.identity import Client, comes_from, shows_certificate
from policyd.policy.model import Connector, Evidence, Partner, Provider
from policyd.policy.names import Pattern, is_host_name
from policyd.policy.networks import format_address
from policyd.policy.ruleset import NOBODY, RuleSet

_LONGEST_NAME = 64

Clue = tuple[str, Value, str]  # key of the configuration, value to add, how to say it


def is_shared(provider: Provider, shown: Client) -> bool:
    """Whether many parties present this certificate: then neither its key nor the address says whose the mail is."""
    return shown.name is not None and any(pattern.covers(shown.name) for pattern in provider.certificate_names)


def names(rules: RuleSet, provider: Provider, organization: int, shown: Client, table: Table) -> Iterator[Clue]:
    """The certificate's verified name, where it may be listed as it stands: no wildcard."""
    if shown.name is None or shown.wildcard:
        return
    if table == "partner":
        allowed = is_host_name(shown.name)
    else:
        allowed = connector_may_have_name(rules, provider, organization, shown.name)
    if allowed:
        yield "certificate_names", (Pattern(shown.name),), f'the certificate name "{shown.name}"'


def pins(shown: Client, like: Evidence | None = None) -> Iterator[Clue]:
    """The key, which a renewal can keep, or the certificate; the kind first that `like` already pins."""
    key: Clue = ("public_key_fingerprints", (shown.key,), f"the public key {shortened(shown.key)}")
    certificate: Clue = (
        "certificate_fingerprints",
        (shown.fingerprint,),
        f"the certificate {shortened(shown.fingerprint)}",
    )
    both = [clue for clue, text in ((key, shown.key), (certificate, shown.fingerprint)) if is_fingerprint(text)]
    pins_keys = like is None or like.public_key_fingerprints or like.stored_certificates
    if like is not None and like.certificate_fingerprints and not pins_keys:
        both.reverse()
    yield from both


def addresses(rules: RuleSet, provider: Provider, organization: int, shown: Client, table: Table) -> Iterator[Clue]:
    """The client's single address, where it may be listed."""
    if shown.address is None or (table == "connector" and is_shared(provider, shown)):
        return
    if table == "partner":
        allowed = is_some_servers_own(shown.address)
    else:
        allowed = connector_may_have_address(rules, provider, organization, shown.address)
    if allowed:
        yield "addresses", (single(shown.address),), f"the address {format_address(shown.address)}"


def clues(
    rules: RuleSet, provider: Provider, organization: int, shown: Client, table: Table = "connector"
) -> Iterator[Clue]:
    """All ways to register the client at an organization, the best first."""
    yield from names(rules, provider, organization, shown, table)
    if table == "partner" or not is_shared(provider, shown):
        yield from pins(shown)
    yield from addresses(rules, provider, organization, shown, table)


def new_clues(rules: RuleSet, provider: Provider, organization: int, shown: Client, foreign: bool) -> Iterator[Clue]:
    """As `clues`, without what a connector of the organization lists already.

    That one is disabled or asks for more, on purpose; a new one beside it would undo that.
    """
    connectors = rules.organizations[organization].connectors
    if any(shows_certificate(without_names(c) if foreign else c, shown) for c in connectors):
        return
    listed = any(comes_from(connector, shown) for connector in connectors)
    for clue in clues(rules, provider, organization, shown):
        if clue[0] != "addresses" or not listed:
            yield clue


def added(organization: str, item: Connector | Partner, clue: Clue) -> Change:
    """The clue put beside what the connector or partner has under the same key."""
    key, value, _ = clue
    table: Table = "partner" if isinstance(item, Partner) else "connector"
    before: tuple[object, ...] = getattr(item, key)
    assert isinstance(value, tuple)
    return Change(organization, table, item.name, ((key, (*before, *value)),))


def new_connector(organization: str, taken: Collection[str], shown: Client, clue: Clue) -> Change:
    """A new connector that knows the client by the clue alone."""
    key, value, _ = clue
    return Change(organization, "connector", free_name(_name_for(shown, key), taken), ((key, value),), new=True)


def new_partner(organization: str, taken: Collection[str], sender_domain: str, clue: Clue) -> Change:
    """A new partner for one exact sender domain."""
    key, value, _ = clue
    values: tuple[tuple[str, Value], ...] = (("sender_domains", (Pattern(sender_domain),)), (key, value))
    return Change(organization, "partner", free_name(sender_domain, taken), values, new=True)


def _name_for(shown: Client, key: str) -> str:
    if key == "certificate_names" and shown.name is not None:
        return shown.name
    if key == "addresses" and shown.address is not None:
        return f"server-{format_address(shown.address)}"
    return f"pin-{(shown.key if key == 'public_key_fingerprints' else shown.fingerprint)[:8].lower()}"


def free_name(wish: str, taken: Collection[str]) -> str:
    """A name for a connector or partner, near the wish and not taken yet (SPEC 4: 1-64 of a-z 0-9 . _ -)."""
    base = re.sub(r"[^a-z0-9_]+", "-", wish.lower()).strip("-")[: _LONGEST_NAME - 4] or "server"
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def belongs(rules: RuleSet, organization: int, name: str | None) -> bool:
    """Whether a certificate's name speaks for the organization (SPEC 3.3, D)."""
    return name is not None and organization != NOBODY and rules.belongs(name, organization)
