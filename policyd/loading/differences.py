"""What a reload changes, told in lines for the log (SPEC 6)."""

from __future__ import annotations

from policyd.config.settings import Configuration
from policyd.config.text import quoted
from policyd.policy.model import Organization, RelayLimit

# The key that an administrator wrote, where the model calls it otherwise.
_KEY_OF = {"stored_certificates": "certificates", "every_sender": "sender_domains"}


MOST_TOLD = 100  # lines


class Differences:
    """What a change of the rules changes: one readable line for each organization, connector and partner."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.more = 0  # lines beyond those

    def add(self, before: Organization | None, after: Organization | None) -> None:
        """An organization that is another one now."""
        if before is None:
            assert after is not None
            self._tell(f'organization "{after.name}" added')
        elif after is None:
            self._tell(f'organization "{before.name}" removed')
        elif self.more == 0:
            for change in _changes(before, after):
                self._tell(f'organization "{before.name}": {change}')
        else:
            self.more += 1  # at least

    def _tell(self, line: str) -> None:
        if len(self.lines) < MOST_TOLD:
            self.lines.append(line)
        else:
            self.more += 1


def _changes(old: Organization, new: Organization) -> list[str]:
    changes = []
    for key in ("accepted_domains", "delegated_domains", "outside_domains", "pending_domains"):
        gone, come = set(getattr(old, key)) - set(getattr(new, key)), set(getattr(new, key)) - set(getattr(old, key))
        signed = [f"-{pattern}" for pattern in sorted(gone)] + [f"+{pattern}" for pattern in sorted(come)]
        if signed:
            changes.append(f"{key} {' '.join(signed)}")
    for key in ("protect_sender_domains", "connectors_only"):
        if getattr(old, key) != getattr(new, key):
            changes.append(f"{key} = {str(getattr(new, key)).lower()}")
    if old.relay_limits != new.relay_limits:
        changes.append(f"relay_limits: {_limits(old.relay_limits)} -> {_limits(new.relay_limits)}")
    if old.suspended != new.suspended:
        changes.append(f"suspended = {quoted(new.suspended)}")
    for kind, key in (("connector", "connectors"), ("partner", "partners")):
        before = {item.name: item for item in getattr(old, key)}
        after = {item.name: item for item in getattr(new, key)}
        for name in sorted(before.keys() | after.keys()):
            if name not in after:
                changes.append(f'{kind} "{name}" removed')
            elif name not in before:
                changes.append(f'{kind} "{name}" added')
            elif before[name] != after[name]:
                fields = [
                    f for f in before[name].__dataclass_fields__ if getattr(before[name], f) != getattr(after[name], f)
                ]
                keys = dict.fromkeys(_KEY_OF.get(field, field) for field in fields)
                changes.append(f'{kind} "{name}" changed ({", ".join(keys)})')
    return changes


def _limits(limits: tuple[RelayLimit, ...] | None) -> str:
    return "the policy's" if limits is None else ", ".join(map(str, limits)) or "none"


def settings_differences(old: Configuration, new: Configuration) -> list[str]:
    """What a reload changes of the settings that it can change. The header's name is a secret."""
    pairs = {
        "policy.incoming": (old.rules.incoming, new.rules.incoming),
        "policy.relay_limits": (_limits(old.rules.relay_limits), _limits(new.rules.relay_limits)),
        "service.mode": (old.service.mode, new.service.mode),
        "log.decisions": (old.log.decisions, new.log.decisions),
        "log.addresses": (old.log.addresses, new.log.addresses),
    }
    lines = [f"{key}: {before} -> {after}" for key, (before, after) in pairs.items() if before != after]
    unequal = {
        "attribution_header": old.attribution_header != new.attribution_header,
        "provider_networks": old.provider.networks != new.provider.networks,
        "provider_certificate_names": old.provider.certificate_names != new.provider.certificate_names,
    }
    return lines + [f"policy.{key} changed" for key, changed in unequal.items() if changed]
