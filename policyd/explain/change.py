"""One change to the rules: new values for keys of one organization, connector or partner.

`applied` carries it out on the model, `data` is what a configuration file would say, key by key, with the whole new
value of each key. Knows no TOML: who prints it writes `data` out. A change is never wider than one address, one name,
one fingerprint or one domain: `clues` and `near_mail` make only such (SPEC 7, explain).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from policyd.policy.fingerprints import colons
from policyd.policy.model import Connector, Organization, Partner
from policyd.policy.names import Pattern, canonical, unicode_form
from policyd.policy.networks import Network

Entries = tuple[Pattern, ...] | tuple[Network, ...] | tuple[str, ...]
Value = Entries | bool
Table = Literal["organization", "connector", "partner"]
E = TypeVar("E", Connector, Partner)


@dataclass(frozen=True, slots=True)
class Change:
    """New values of some keys; the keys are those of the configuration and of the model alike."""

    organization: str
    table: Table
    name: str  # of the connector or partner; empty for an organization's own keys
    values: tuple[tuple[str, Value], ...]
    new: bool = False  # the connector or partner does not exist yet

    def applied(self, organization: Organization) -> Organization:
        """The organization with this change."""
        values: dict[str, object] = dict(self.values)
        if self.table == "organization":
            return replace(organization, **values)  # type: ignore[arg-type]
        if self.table == "connector":
            return replace(organization, connectors=self._among(organization.connectors, Connector))
        return replace(organization, partners=self._among(organization.partners, Partner))

    def _among(self, items: tuple[E, ...], kind: type[E]) -> tuple[E, ...]:
        values: dict[str, object] = dict(self.values)
        if self.new:
            return (*items, kind(name=self.name, **values))  # type: ignore[arg-type]
        return tuple(replace(item, **values) if item.name == self.name else item for item in items)  # type: ignore[arg-type]

    def data(self) -> dict[str, object]:
        """The change as a mapping: put over the file's own, it makes the new configuration."""
        found: dict[str, object] = {
            key: value if isinstance(value, bool) else [_text(item, key) for item in value]
            for key, value in self.values
        }
        if self.table != "organization":
            found = {f"{self.table}s": {self.name: found}}
        return {"organizations": {self.organization: found}}


def _text(item: Pattern | Network | str, key: str) -> str:
    """An entry of the model as the configuration writes it."""
    if isinstance(item, Pattern):
        text = unicode_form(item.name)
        name = text if canonical(text) == item.name else item.name
        return f"*.{name}" if item.wildcard else name
    if isinstance(item, Network):
        return str(item)
    return colons(item) if key.endswith("_fingerprints") else item
