"""A configuration for commands that tell people about it: its rules, and what no proposal may claim."""

from __future__ import annotations

from dataclasses import dataclass

from policyd.cli.common import read_or_complain
from policyd.config.settings import Configuration
from policyd.policy.names import parse_pattern
from policyd.policy.permitted import Provider
from policyd.policy.ruleset import RuleSet


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `explain`, `replay` and `report` go by."""

    rules: RuleSet
    provider: Provider
    configuration: Configuration


def loaded_or_complain(path: str) -> Loaded | None:
    """The configuration at `path`; None after its errors were printed."""
    found = read_or_complain(path)
    if found is None or found.configuration is None:
        return None
    configuration = found.configuration
    return Loaded(RuleSet(configuration.rules), provider_of(configuration), configuration)


def provider_of(configuration: Configuration) -> Provider:
    """What no connector may claim."""
    names = (parse_pattern(text) for text in configuration.provider_certificate_names)
    return Provider(configuration.provider_networks, tuple(name for name in names if name is not None))
