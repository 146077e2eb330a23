"""Evidence that very many share: looking at a few of them answers as looking at all of them does.

With a limit of nothing every connector is in a crowd, so all of `crowd` is used for a handful of organizations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.policy import identity, shared_evidence
from policyd.policy.attribution import decide
from policyd.policy.identity import identity_for, identity_of
from policyd.policy.model import Connector, Organization, Rules, StoredCertificate
from policyd.policy.names import Pattern
from policyd.policy.networks import Network, parse_network
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request
from policyd.store.file import rule_set
from tests.helpers.compiled import compiled, request_of
from tests.strategies import conversations, patient

many = settings(patient, max_examples=300)
CERTIFICATE, KEY = "AA" * 32, "BB" * 32


@contextmanager
def crowds_of_more_than(limit: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_evidence, "CROWD", limit)
        patch.setattr(identity, "CROWD", limit)
        yield


def agree(rules: RuleSet, asked: list[Request]) -> None:
    expected = [decide(RuleSet(rules.lookups), request) for request in asked]
    for limit in (0, 1):
        with crowds_of_more_than(limit):
            again = RuleSet(rules.lookups)
            assert [decide(again, request) for request in asked] == expected, limit


@settings(many, max_examples=60)
@given(conversations(8))
def test_any_configuration(conversation: tuple[dict[str, Any], list[dict[str, str]]]) -> None:
    config, asked = conversation
    agree(compiled(config), [request_of(attributes) for attributes in asked])


def network(text: str) -> Network:
    return parse_network(text)[0]


@st.composite
def connectors(draw: st.DrawFn, organization: int) -> Connector:
    """One whose evidence others are likely to have as well."""
    names = draw(st.lists(st.sampled_from(["mail.shared.example", f"mail.o{organization}.example"]), max_size=2))
    stored = StoredCertificate("f.pem", tuple(names), frozenset({CERTIFICATE}), frozenset({KEY}), 0)
    entries = draw(st.lists(st.sampled_from([("mail.shared.example", False), ("shared.example", True)]), max_size=2))
    has_file, has_pin = draw(st.booleans()), draw(st.booleans())
    narrow = draw(st.integers(0, 3)) == 0 or not (entries or has_file or has_pin)
    return Connector(
        name=draw(st.sampled_from("abc")),
        enabled=draw(st.integers(0, 5)) > 0,
        certificate_names=tuple(Pattern(name, wildcard) for name, wildcard in entries),
        stored_certificates=(stored,) if has_file else (),
        public_key_fingerprints=(KEY,) if has_pin else (),
        addresses=(network(f"10.0.{organization}.0/24"), network("10.9.0.1")) if narrow else (),
        require_tls=draw(st.booleans()),
    )


@st.composite
def sharing(draw: st.DrawFn) -> Rules:
    """Organizations that share a certificate, each with a domain of its own, one perhaps with the certificate's."""
    holder = draw(st.integers(-1, 5))
    organizations = []
    for number in range(draw(st.integers(1, 6))):
        found = {c.name: c for c in draw(st.lists(connectors(number), max_size=3))}
        domains = [Pattern(f"o{number}.example")] + [Pattern("shared.example", True)] * (number == holder)
        organizations.append(
            Organization(
                name=f"o{number}",
                accepted_domains=tuple(domains),
                pending_domains=tuple(draw(st.lists(st.just(Pattern("new.example")), max_size=1))),
                protect_sender_domains=draw(st.integers(0, 4)) == 0,
                connectors_only=draw(st.integers(0, 4)) == 0,
                connectors=tuple(found.values()),
            )
        )
    return Rules(organizations=tuple(organizations))


addresses = st.sampled_from(["", "a@o0.example", "a@o3.example", "a@new.example", "a@shared.example", "a@else.example"])
asking = st.builds(
    Request,
    protocol_state=st.just("RCPT"),
    client_address=st.sampled_from(["10.0.0.1", "10.0.3.1", "10.9.0.1", "192.0.2.1"]),
    sender=addresses,
    recipient=addresses,
    ccert_subject=st.sampled_from(["", "mail.shared.example", "*.shared.example", "x.mail.shared.example"]),
    ccert_fingerprint=st.sampled_from(["", CERTIFICATE, "CC"]),
    ccert_pubkey_fingerprint=st.sampled_from(["", KEY]),
    encryption_protocol=st.sampled_from(["", "TLSv1.3"]),
)


@many
@given(sharing(), st.lists(asking, min_size=1, max_size=8))
def test_shared_evidence(rules: Rules, asked: list[Request]) -> None:
    agree(rule_set(rules), asked)


def test_a_crowd_costs_no_more_than_a_few() -> None:
    """Three thousand organizations list one name and one key: an answer looks at a handful of their connectors."""
    one = {"certificate_names": (Pattern("mail.shared.example"),), "public_key_fingerprints": (KEY,)}
    rules = rule_set(
        Rules(
            organizations=tuple(
                Organization(
                    name=f"o{number:04}",
                    accepted_domains=(Pattern(f"o{number}.example"),),
                    connectors=(Connector(name="a", **one),),  # type: ignore[arg-type]
                )
                for number in range(3000)
            )
        )
    )
    request = Request(
        protocol_state="RCPT",
        sender="a@o2500.example",
        recipient="a@else.example",
        ccert_subject="mail.shared.example",
        ccert_pubkey_fingerprint=KEY,
    )
    decision = decide(rules, request)
    assert (decision.action, decision.organization) == ("OK", "o2500")
    sender, recipient = rules.domain_of(request.sender), rules.domain_of(request.recipient)
    assert len(identity_for(rules, request, sender, recipient).matches) <= 5
    assert len(identity_of(rules, request).matches) == 3000, "explain still tells of all"
