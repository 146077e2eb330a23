"""Identifiers of findings: programs and the reference name them, so each is one finding's (SPEC 4)."""

from __future__ import annotations

import re

from policyd.config.messages import Message as OfConfiguration
from policyd.postfix.messages import Message as OfWiring


def test_each_finding_has_an_identifier_of_its_own() -> None:
    identifiers = [message.id for message in (*OfConfiguration, *OfWiring)]
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", identifier) for identifier in identifiers)
    assert OfConfiguration.ADDRESSES_OF_TWO.id == "addresses-of-two"
