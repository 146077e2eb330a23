"""The digest of a log: what a line costs does not hang on how many connectors there are, which strangers could use."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from types import FrameType

import pytest

from policyd.explain.digest import Digest
from policyd.policy.decision import Decision, Reason
from policyd.policy.model import Connector, Organization, Provider, Rules
from policyd.policy.names import Pattern
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request
from policyd.records.decision_line import LoggedDecision, decision_line, parse_log_line
from policyd.store.file import rule_set


def rules(organizations: int, connectors: int) -> RuleSet:
    """Enabled, disabled and narrowed connectors, each with a name of its own."""
    made = []
    for number in range(organizations):
        domain = f"d{number}.example"
        made.append(
            Organization(
                name=f"o{number}",
                accepted_domains=(Pattern(domain),),
                connectors=tuple(
                    Connector(
                        name=f"c{each}",
                        certificate_names=(Pattern(f"m{each}.{domain}"),),
                        for_domains=(Pattern(domain),) if each % 2 else (),
                        enabled=each % 3 != 0,
                    )
                    for each in range(connectors)
                ),
            )
        )
    return rule_set(Rules(organizations=tuple(made)))


def strangers(first: int, count: int) -> list[LoggedDecision]:
    """Refused mail with so many different keys that nobody knows, as of the first organization."""
    found = []
    for number in range(first, first + count):
        request = Request(
            client_address="203.0.113.9",
            sender="kate@d0.example",
            recipient="x@other.example",
            instance="1f3.65.0",
            ccert_pubkey_fingerprint=":".join(f"{octet:02X}" for octet in number.to_bytes(32, "big")),
            encryption_protocol="TLSv1.3",
        )
        line = decision_line(request, Decision("REJECT", Reason.CERTIFICATE_UNKNOWN), 7)
        logged = parse_log_line(line)
        assert logged is not None
        found.append(logged)
    return found


def steps(digest: Digest, decisions: list[LoggedDecision]) -> int:
    """How many functions are called, and generators go on, to take them in."""
    seen: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        seen[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for decision in decisions:
            digest.add(decision)
    finally:
        sys.setprofile(before)
    return seen["call"] + seen["c_call"]


@pytest.mark.parametrize(("organizations", "connectors"), [(1, 2000), (500, 4)])
def test_a_certificate_costs_the_same_however_many_connectors_there_are(organizations: int, connectors: int) -> None:
    costs = []
    for size in ((1, 4), (organizations, connectors)):
        digest = Digest(rules(*size), Provider(), 30, datetime.now(UTC))
        for decision in strangers(0, 5):
            digest.add(decision)
        costs.append(steps(digest, strangers(5, 20)))
        assert len(digest.organizations["o0"].certificates) == 25
        assert all(seen.change is not None for seen in digest.organizations["o0"].certificates.values())
    assert costs[1] < 1.5 * costs[0]
