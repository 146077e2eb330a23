"""The last good rows less what the latest no longer have (SPEC 9): cases, and laws over generated pairs of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policyd.config.effective import organization_table
from policyd.config.parsed import Parsed
from policyd.database.documents import parse_document
from policyd.database.last_good import remaining
from policyd.policy.attribution import decide
from policyd.policy.decision import Decision, Reason
from policyd.policy.model import Organization, Rules
from policyd.policy.ruleset import NOBODY, RuleSet
from policyd.protocol.request import Request
from policyd.store.file import rule_set
from tests.places import TESTS

Table = Mapping[str, Any]

PEM = {name: (TESTS / "certs" / f"{name}.pem").read_text("ascii") for name in ("cn-only", "cn-and-san")}
NO_PEM = "-----BEGIN CERTIFICATE-----"
PIN = [":".join([octet] * 32) for octet in ("A1", "B2")]
BROKEN = {"certificates": [NO_PEM]}
SOONER, LATER = "2026-01-31T00:00:00+00:00", "2027-01-31T00:00:00+00:00"
GOOD = {
    "accepted_domains": ["*.a.example", "b.co.example"],
    "connectors": {
        "c": {"certificate_names": ["*.a.example", "mx.host.example"], "public_key_fingerprints": PIN},
        "d": {"addresses": ["192.0.2.0/28", "2001:db8::/64"]},
    },
}


def read(table: Table) -> Parsed:
    """The organization as a row of the database would give it."""
    return parse_document("o", json.dumps(table), 0.0, 0)


def left(good: Table, latest: Table) -> dict[str, Any]:
    """What is in force, as a table."""
    found = read(good)
    assert found.sound, found.report.problems
    return organization_table(remaining(found.organization, read(latest)))


def merged(table: Table, changes: Table) -> dict[str, Any]:
    """The table with some keys exchanged, at any depth; None takes one out."""
    found = dict(table)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(found.get(key), Mapping):
            found[key] = merged(found[key], value)
        elif value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found


def test_with_a_slip_and_nothing_else_all_stays() -> None:
    assert (
        left(GOOD, merged(GOOD, {"connectors": {"new": BROKEN}}))
        == left(GOOD, GOOD)
        == organization_table(read(GOOD).organization)
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # connectors
        ({"connectors": {"c": None}}, {"connectors": {"c": None}}),
        ({"connectors": None}, {"connectors": None}),
        ({"connectors": {"d": {"enabled": False}}}, {"connectors": {"d": {"enabled": False}}}),
        ({"connectors": {"d": {"enabled": "nein"}}}, {"connectors": {"d": {"enabled": False}}}),
        ({"connectors": {"d": {"suspended": "t 1"}}}, {"connectors": {"d": {"suspended": "t 1"}}}),
        ({"connectors": {"d": {"suspended": 7}}}, {"connectors": {"d": {"suspended": "it cannot be read why"}}}),
        ({"connectors": {"d": {"require_tls": True}}}, {"connectors": {"d": {"require_tls": True}}}),
        ({"connectors": {"d": {"require_tls": "ja"}}}, {"connectors": {"d": {"require_tls": True}}}),
        ({"connectors": {"c": {"foreign_senders": "bounces"}}}, {"connectors": {"c": {"foreign_senders": "bounces"}}}),
        ({"connectors": {"c": {"foreign_senders": "nobody"}}}, {"connectors": {"c": {"foreign_senders": "refuse"}}}),
        ({"connectors": {"c": {"relay_limits": ["9/hour"]}}}, {"connectors": {"c": {"relay_limits": ["9/hour"]}}}),
        # evidence
        (
            {"connectors": {"c": {"certificate_names": ["*.a.example"]}}},
            {"connectors": {"c": {"certificate_names": ["*.a.example"]}}},
        ),
        (
            {"connectors": {"c": {"certificate_names": ["mail.a.example", "new.example"]}}},
            {"connectors": {"c": {"certificate_names": ["mail.a.example"]}}},
        ),
        (
            {"connectors": {"c": {"certificate_names": None}}},
            {"connectors": {"c": {"certificate_names": None}}},
        ),
        (
            {"connectors": {"c": {"public_key_fingerprints": PIN[1:]}}},
            {"connectors": {"c": {"public_key_fingerprints": PIN[1:]}}},
        ),
        (
            {"connectors": {"c": {"public_key_fingerprints": None, "certificate_names": ["x.y"]}}},
            {"connectors": {"c": None}},
        ),
        (
            {"connectors": {"d": {"addresses": ["192.0.2.4-192.0.2.90"]}}},
            {"connectors": {"d": {"addresses": ["192.0.2.4-192.0.2.15"]}}},
        ),
        ({"connectors": {"d": {"addresses": ["192.0.2.99"]}}}, {"connectors": {"d": None}}),
        # it asks for more than can be said of the good ones
        ({"connectors": {"d": {"certificate_names": ["mail.a.example"]}}}, {"connectors": {"d": None}}),
        ({"connectors": {"d": BROKEN}}, {"connectors": {"d": None}}),
        ({"connectors": {"c": {"addresses": ["192.0.2.77"]}}}, {"connectors": {"c": None}}),
        ({"connectors": {"d": {"addresses": None, "certificate_names": ["x.y"]}}}, {"connectors": {"d": None}}),
        ({"connectors": {"d": {"addresses": None}}}, {"connectors": {"d": None}}),
        ({"connectors": {"d": "nonsense"}}, {"connectors": {"d": None}}),
        # and one that is suspended besides is still known, to be told so
        (
            {"connectors": {"d": {**BROKEN, "suspended": "t 1"}}},
            {"connectors": {"d": {"suspended": "t 1"}}},
        ),
        # what it speaks for
        (
            {"connectors": {"d": {"for_domains": ["b.co.example"]}}},
            {"connectors": {"d": {"for_domains": ["b.co.example"]}}},
        ),
        ({"connectors": {"d": {"for_domains": ["not a name"]}}}, {"connectors": {"d": None}}),
        # domains
        ({"accepted_domains": ["b.co.example"]}, {"accepted_domains": ["b.co.example"]}),
        ({"accepted_domains": ["a.example", "c.example"]}, {"accepted_domains": ["a.example"]}),
        (
            {"accepted_domains": ["x.a.example", "*.co.example"]},
            {"accepted_domains": ["b.co.example", "x.a.example"]},
        ),
        (
            {"accepted_domains": ["b.co.example"], "pending_domains": ["*.a.example"]},
            {"accepted_domains": ["b.co.example"], "pending_domains": ["*.a.example"]},
        ),
        ({"accepted_domains": None}, {"accepted_domains": None}),
        ({"delegated_domains": ["x.a.example"]}, {"delegated_domains": ["x.a.example"]}),
        ({"outside_domains": ["x.a.example"]}, {"delegated_domains": ["x.a.example"]}),
        # a name of its own that the latest rows cut out of a wider one
        (
            {"accepted_domains": ["*.co.example"], "outside_domains": ["b.co.example"]},
            {"accepted_domains": None, "delegated_domains": ["b.co.example"]},
        ),
        # the organization
        ({"suspended": "t 2"}, {"suspended": "t 2"}),
        ({"connectors_only": True}, {"connectors_only": True}),
        ({"protect_sender_domains": "perhaps"}, {"protect_sender_domains": True}),
        ({"relay_limits": ["5/day"]}, {"relay_limits": ["5/day"]}),
        ({"relay_limits": []}, {}),
    ],
)  # fmt: skip
def test_what_is_taken_away(changes: Table, expected: Table) -> None:
    """The rows with the change and a slip beside it; what is in force is the good rows with what is expected."""
    latest = merged(merged(GOOD, changes), {"connectors": {"slip": BROKEN}})
    assert not read(latest).sound
    assert left(GOOD, latest) == organization_table(read(merged(GOOD, expected)).organization)


@pytest.mark.parametrize(
    ("good", "latest", "expected"),
    [
        # what the good rows had and the latest take back: the narrower one of both
        ({"suspended": "t 1"}, {}, {"suspended": "t 1"}),
        ({"connectors_only": True}, {}, {"connectors_only": True}),
        ({"relay_limits": ["5/day", "3/hour"]}, {"relay_limits": ["4/day"]}, {"relay_limits": ["4/day", "3/hour"]}),
        ({"relay_limits": []}, {"relay_limits": []}, {"relay_limits": []}),
        ({"relay_limits": []}, {}, {}),
        ({"delegated_domains": ["x.a.example"]}, {}, {"delegated_domains": ["x.a.example"]}),
        (
            {"outside_domains": ["x.a.example", "y.a.example"]},
            {"outside_domains": ["x.a.example"]},
            {"outside_domains": ["x.a.example"], "delegated_domains": ["y.a.example"]},
        ),
        (
            {"connectors": {"d": {"enabled": False, "suspended": "t 3", "for_domains": ["b.co.example"]}}},
            {"connectors": {"d": {"for_domains": ["*.a.example"]}}},
            {"connectors": {"d": {"enabled": False, "suspended": "t 3"}}},
        ),
        (
            {"connectors": {"d": {"for_domains": ["b.co.example"]}}},
            {"connectors": {"d": {"for_domains": ["*.a.example"]}}},
            {"connectors": {"d": None}},
        ),
        (
            {"connectors": {"e": {"certificates": [PEM["cn-only"], PEM["cn-and-san"]], "until": LATER}}},
            {"connectors": {"e": {"certificates": [PEM["cn-only"], NO_PEM], "until": SOONER}}},
            {"connectors": {"e": {"certificates": [PEM["cn-only"]], "until": SOONER}}},
        ),
        (
            {"connectors": {"e": {"certificates": [PEM["cn-only"]]}}},
            {"connectors": {"e": {"certificates": [NO_PEM]}}},
            {},
        ),
        (
            {"connectors": {"e": {"tlsa": ["mx.a.example"]}}},
            {"connectors": {"e": {"tlsa": ["mx.a.example", "mx.b.co.example"], "until": "tomorrow"}}},
            {"connectors": {"e": {"tlsa": ["mx.a.example"], "until": "1970-01-01T00:00:00+00:00"}}},
        ),
    ],
)  # fmt: skip
def test_the_narrower_of_both(good: Table, latest: Table, expected: Table) -> None:
    slip = {"connectors": {"slip": BROKEN}}
    found = left(merged(GOOD, good), merged(merged(GOOD, slip), latest))
    assert found == organization_table(read(merged(GOOD, expected)).organization)


BANK = {"sender_domains": ["*.bank.example"], "certificate_names": ["mail.bank.example"]}


@pytest.mark.parametrize(
    ("good", "latest", "open_to_all", "locked"),
    [
        ({"bank": BANK}, {"bank": {**BANK, "description": "x"}}, ["bank"], [("bank", "mail.bank.example")]),
        # who demanded demands; past the lock comes only whom both let past
        ({"bank": BANK}, {}, ["bank"], [("bank", "")]),
        ({}, {"bank": BANK}, ["bank"], [("bank", "")]),
        ({"bank": BANK}, {"bank": {**BANK, "enabled": False}}, ["bank"], [("bank", "")]),
        (
            {"bank": BANK},
            {"bank": {**BANK, "certificate_names": ["*.bank.example"]}},
            ["bank", "bank.last-good"],
            [("bank", "mail.bank.example")],
        ),
        (
            {"bank": BANK},
            {"bank": {**BANK, "certificate_names": ["mx.bank.example"]}},
            ["bank", "bank.last-good"],
            [("bank", "")],
        ),
        (
            {"bank": BANK},
            {"bank": {**BANK, "sender_domains": ["*"]}},
            ["bank", "bank.last-good"],
            [("bank", "")],
        ),
        (
            {"bank": BANK},
            {"bank": {**BANK, "certificate_names": ["not a name"]}},
            ["bank", "bank.last-good"],
            [("bank", "")],
        ),
    ],
)  # fmt: skip
def test_partners(good: Table, latest: Table, open_to_all: list[str], locked: list[tuple[str, str]]) -> None:
    """Their demands add up; with connectors_only each also opens it, so there it is both in one or nobody."""
    slip = {"connectors": {"slip": BROKEN}}
    tables = [{**GOOD, "partners": partners} for partners in (good, latest)]
    found = remaining(read(tables[0]).organization, read(merged(tables[1], slip)))
    assert [partner.name for partner in found.partners] == open_to_all
    only = {"connectors_only": True}
    found = remaining(read(tables[0]).organization, read({**merged(tables[1], slip), **only}))
    names = [(one.name, ",".join(map(str, one.certificate_names))) for one in found.partners]
    assert names == locked
    for one, (_, name) in zip(found.partners, locked, strict=True):
        assert name or one.certificate_fingerprints == ("00",)


# ------------------------------------------------------------------------------------------- laws

NAMES = ("a.example", "x.a.example", "y.x.a.example", "b.example", "mx.b.example", "host.test")
patterns = st.builds(lambda name, wild: f"*.{name}" if wild else name, st.sampled_from(NAMES), st.booleans())
lists = st.lists(patterns, max_size=3, unique=True)
ADDRESSES = ("192.0.2.1", "192.0.2.0/30", "192.0.2.2-192.0.2.5", "192.0.2.4/31")
evidence = {
    "enabled": st.booleans(),
    "require_tls": st.booleans(),
    "certificate_names": st.lists(patterns, min_size=1, max_size=2),
    "public_key_fingerprints": st.lists(st.sampled_from(PIN), min_size=1, max_size=2, unique=True),
    "addresses": st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2),
}
connectors = st.fixed_dictionaries(
    {},
    optional={
        **evidence,
        "for_domains": st.lists(patterns, min_size=1, max_size=2),
        "foreign_senders": st.sampled_from(("bounces", "refuse")),
        "suspended": st.just("t 1"),
    },
)
partners = st.builds(
    dict.__or__, st.fixed_dictionaries({}, optional=evidence), st.fixed_dictionaries({"sender_domains": lists})
)
organizations = st.fixed_dictionaries(
    {"accepted_domains": st.lists(patterns, min_size=1, max_size=3, unique=True)},
    optional={
        "delegated_domains": lists,
        "outside_domains": lists,
        "protect_sender_domains": st.booleans(),
        "connectors_only": st.booleans(),
        "suspended": st.just("t 2"),
        "connectors": st.dictionaries(st.sampled_from("cd"), connectors, max_size=2),
        "partners": st.dictionaries(st.sampled_from("pq"), partners, max_size=2),
    },
)
ADDRESS = st.sampled_from([f"local@{name}" for name in (*NAMES, "z.y.x.a.example", "bank.test")])
requests = st.fixed_dictionaries(
    {
        "protocol_state": st.just("RCPT"),
        "client_address": st.sampled_from(["192.0.2.1", "192.0.2.4", "198.51.100.1"]),
        "sender": ADDRESS | st.just(""),
        "recipient": ADDRESS,
        "ccert_subject": st.sampled_from(["", *NAMES]),
        "ccert_pubkey_fingerprint": st.sampled_from(["", *PIN]),
        "encryption_protocol": st.sampled_from(["", "TLSv1.3"]),
    }
)
LOCKS = (
    Reason.PARTNER_TLS,
    Reason.PARTNER_CERTIFICATE,
    Reason.PARTNER_ADDRESS,
    Reason.CONNECTORS_ONLY,
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Table, Table]:
    """Good rows, and latest ones that are much the same."""
    good = draw(organizations)
    if draw(st.booleans()):
        return good, draw(organizations)
    return good, {**good, **draw(organizations)} if draw(st.booleans()) else merged(good, draw(organizations))


def rules_of(organization: Organization) -> RuleSet:
    """Where there is nobody else."""
    return rule_set(Rules(organizations=(organization,)))


def answer(organization: Organization, attributes: Mapping[str, str]) -> Decision:
    """The decision where there is nobody else."""
    subject = attributes["ccert_subject"] or None
    request = Request(**{**attributes, "ccert_issuer": "ca" if subject else ""})
    return decide(rules_of(organization), request)


@settings(max_examples=1500)
@example(({**GOOD, "connectors": {"d": {"addresses": ["192.0.2.1"]}}}, GOOD), [])
@given(pairs(), st.lists(requests, min_size=8, max_size=8))
def test_it_grants_what_both_grant_and_locks_what_either_locks(
    rows: tuple[Table, Table], asked: list[dict[str, str]]
) -> None:
    good, latest = map(read, rows)
    found = remaining(good.organization, latest)
    both = (good.organization, latest.organization)
    assert {pattern.name for pattern in found.accepted_domains} <= {
        pattern.name for one in both for pattern in one.accepted_domains
    }
    for attributes in asked:
        decision = answer(found, attributes)
        others = [answer(one, attributes) for one in both]
        if decision.action == "OK" and decision.connector:
            for other in others:  # a suspended connector that only one of them has goes first there
                assert other.connector, (decision, other)
                assert other.action in ("OK", "DEFER"), (decision, other)
        rules = rules_of(found)
        of_recipient, of_sender = (
            rules.zone(attributes[side].partition("@")[2]) != NOBODY for side in ("recipient", "sender")
        )
        if decision.action == "OK":  # a domain that is new in the latest rows is not in force, with its locks
            for other in others:
                assert other.reason not in LOCKS or not of_recipient, (decision, other)
                assert other.reason is not Reason.SENDER_PROTECTED or not of_sender, (decision, other)
