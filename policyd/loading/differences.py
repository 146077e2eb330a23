"""What a reload changes, told in lines for the log (SPEC 6)."""

from __future__ import annotations

from policyd.config.settings import Configuration
from policyd.policy.model import Organization, Rules

# The key that an administrator wrote, where the model calls it otherwise.
_KEY_OF = {"stored_certificates": "certificates", "every_sender": "sender_domains"}


def differences(old: Rules, new: Rules) -> list[str]:
    """What a reload changes, one readable line for each organization, connector and partner."""
    lines = []
    if old.incoming != new.incoming:
        lines.append(f"policy.incoming: {old.incoming} -> {new.incoming}")
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
    for key in ("accepted_domains", "delegated_domains", "pending_domains"):
        gone, come = set(getattr(old, key)) - set(getattr(new, key)), set(getattr(new, key)) - set(getattr(old, key))
        signed = [f"-{pattern}" for pattern in sorted(gone)] + [f"+{pattern}" for pattern in sorted(come)]
        if signed:
            changes.append(f"{key} {' '.join(signed)}")
    for key in ("protect_sender_domains", "connectors_only"):
        if getattr(old, key) != getattr(new, key):
            changes.append(f"{key} = {str(getattr(new, key)).lower()}")
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
