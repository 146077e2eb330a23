"""What a reload changes, told in lines for the log (SPEC 6)."""

from __future__ import annotations

from policyd.config.settings import Configuration
from policyd.config.text import quoted
from policyd.policy.model import Organization, RelayLimit, Rules

# The key that an administrator wrote, where the model calls it otherwise.
_KEY_OF = {"stored_certificates": "certificates", "every_sender": "sender_domains"}


def differences(old: Rules, new: Rules) -> list[str]:
    """What a reload changes, one readable line for each organization, connector and partner."""
    lines = []
    if old.incoming != new.incoming:
        lines.append(f"policy.incoming: {old.incoming} -> {new.incoming}")
    if old.relay_limits != new.relay_limits:
        lines.append(f"policy.relay_limits: {_limits(old.relay_limits)} -> {_limits(new.relay_limits)}")
    before = {organization.name: organization for organization in old.organizations}
    after = {organization.name: organization for organization in new.organizations}
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            lines.append(f'organization "{name}" removed')
        elif name not in before:
            lines.append(f'organization "{name}" added')
        elif before[name] != after[name]:
            lines += [f'organization "{name}": {change}' for change in _changes(before[name], after[name])]
    return lines


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
