"""The schema refuses what the checker refuses, and nothing else: generated organizations, judged by both (SPEC 9)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policyd.policy.networks import Network, format_address, parse_network
from tests.database import rows
from tests.places import PROJECT


@contextmanager
def rolled_back(connection: Any) -> Iterator[None]:
    try:
        yield
    finally:
        connection.rollback()


DOMAINS = (
    "contoso.com",
    "eu.contoso.com",
    "a.eu.contoso.com",
    "example",
    "contoso.net",
    "lan",
    "xn--bcher-kva.example",
)
DOMAINS += ("fabrikam.net", "tailspin.example", "litware.example", "proseware.example")
NAMES = (*DOMAINS, "mail.contoso.com", "mail.eu.contoso.com", *("a.example", "b.example", "c.example", "d.example") * 2)
GOOD_ADDRESSES = ("203.0.113.0/28", "203.0.113.7", "203.0.113.16/28", "203.0.113.10-203.0.113.20", "10.1.0.0/16")
GOOD_ADDRESSES += ("2001:db8::/32", "2001:db8:1::7", "::1", "fe80::/64")
BAD_ADDRESSES = ("10.0.0.0/15", "2001:db8::/31", "2002:cb00:7107::/48", "64:ff9b::1", "::7")
ADDRESSES = (*GOOD_ADDRESSES * 6, *BAD_ADDRESSES)
CERTIFICATES = (*[(PROJECT / "tests/certs/cn-only.pem").read_text("ascii")] * 5, "certs/cn-only.pem")
FINGERPRINTS = (*(":".join(["A9"] * octets) for octets in (16, 20, 32, 48, 64)), ":".join(["A9"] * 31))

patterns = st.builds(lambda name, wild: f"*.{name}" if wild else name, st.sampled_from(NAMES), st.booleans())
domain_lists = st.lists(
    st.builds(lambda name, wild: f"*.{name}" if wild else name, st.sampled_from(DOMAINS), st.booleans()),
    max_size=3,
    unique_by=lambda text: text.removeprefix("*."),
)
evidence = {
    "enabled": st.booleans(),
    "require_tls": st.booleans(),
    "certificate_names": st.lists(patterns, min_size=1, max_size=2),
    "addresses": st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2),
    "certificates": st.lists(st.sampled_from(CERTIFICATES), min_size=1, max_size=2),
    "certificate_fingerprints": st.lists(st.sampled_from(FINGERPRINTS), min_size=1, max_size=2),
    "public_key_fingerprints": st.lists(st.sampled_from(FINGERPRINTS), min_size=1, max_size=2),
}
evidence["tlsa"] = st.lists(st.sampled_from(("mx.a.example", "_25.a.example", "*.a.example")), min_size=1, max_size=2)
evidence["until"] = st.integers(-(10**9), 10**11).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
limits = st.lists(st.sampled_from((*("5/minute", "2000/hour", "20000/day") * 4, "0/hour", "5/week")), max_size=2)
sending = {
    "for_domains": st.lists(st.sampled_from(("contoso.com", "*.contoso.com", "lan")), min_size=1, max_size=2),
    "foreign_senders": st.sampled_from(("bounces", "refuse", "no")),
    "relay_limits": limits,
}
nothing_sure = st.fixed_dictionaries({}, optional=evidence)
recognised = nothing_sure | st.sampled_from(sorted(rows.LISTS)).flatmap(
    lambda key: st.fixed_dictionaries({key: evidence[key]}, optional={k: v for k, v in evidence.items() if k != key})
)
connectors = recognised | st.builds(dict.__or__, recognised, st.fixed_dictionaries({}, optional=sending))
senders = {"sender_domains": st.lists(patterns | st.just("*"), min_size=1, max_size=2)}
partners = st.builds(dict.__or__, recognised, st.fixed_dictionaries(senders)) | st.fixed_dictionaries(
    {}, optional={**evidence, **senders}
)
organization_tables = st.fixed_dictionaries(
    {"accepted_domains": domain_lists},
    optional={
        "delegated_domains": domain_lists,
        "outside_domains": st.lists(st.sampled_from(("news.contoso.com", "eu.contoso.com", "x.lan")), max_size=1),
        "relay_limits": limits,
        "pending_domains": domain_lists,
        "connectors": st.dictionaries(st.sampled_from("ab"), connectors, max_size=2),
        "partners": st.dictionaries(st.just("p"), partners, max_size=1),
    },
)
worlds = st.dictionaries(st.sampled_from(["contoso", "fabrikam", "tailspin"]), organization_tables, max_size=3)


def _refusal(connection: Any, organizations: rows.Organizations) -> str | None:
    """What the schema says of them; they are there until the transaction is rolled back."""
    import psycopg

    try:
        rows.write(connection, organizations)
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as error:
        return str(error)
    return None


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(worlds)
def test_schema_and_checker_agree(panel: Any, organizations: dict[str, Any]) -> None:
    """Either both refuse or neither does; and what was accepted is there, as it was written."""
    with rolled_back(panel):
        refusal = _refusal(panel, organizations)
        errors = rows.errors(organizations)
        assert (refusal is None) == (errors == []), (refusal, errors)
        if refusal is None:
            assert rows.errors(rows.read(panel)) == []


def test_both_verdicts_are_tried(panel: Any) -> None:
    """The strategy above would prove nothing if nearly all worlds were refused."""
    accepted = refused = 0

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(worlds)
    def count(organizations: dict[str, Any]) -> None:
        nonlocal accepted, refused
        connectors = any(table.get("connectors") for table in organizations.values())
        if rows.errors(organizations):
            refused += 1
        elif connectors or len(organizations) > 1:
            accepted += 1

    count()
    assert accepted > 8, accepted
    assert refused > 30, refused


def test_what_sql_cannot_judge(panel: Any) -> None:
    """It gets in, and the checker refuses it: docs/database.md says so."""
    pem = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
    worlds: tuple[rows.Organizations, ...] = (
        {"contoso": {"accepted_domains": ["co.uk"]}},
        {"contoso": {"accepted_domains": ["xn--strae-oqa.example"]}, "b": {"accepted_domains": ["strasse.example"]}},
        {"contoso": {"accepted_domains": ["contoso.com"], "connectors": {"a": {"certificates": [pem]}}}},
    )
    for organizations in worlds:
        with rolled_back(panel):
            assert _refusal(panel, organizations) is None
        assert rows.errors(organizations) != []


addresses_of_a_family = st.sampled_from([4, 6]).flatmap(
    lambda family: st.tuples(
        st.just(family), st.integers(0, (1 << (32 if family == 4 else 64)) - 1), st.integers(0, 70_000)
    )
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(addresses_of_a_family)
def test_networks(panel: Any, drawn: tuple[int, int, int]) -> None:
    """policyd.networks gives the fewest blocks, as Network.prefixes does."""
    family, first, size = drawn
    last = min(first + size, (1 << 32) - 1) if family == 4 else first + size
    ends = [format_address((family, value)) for value in (first, last)]
    with rolled_back(panel):
        found = [
            text for (text,) in panel.execute("SELECT network::text FROM policyd.networks(%s, %s) AS network", ends)
        ]
    bits = 32 if family == 4 else 128
    expected = [(prefix << (bits - length), length) for prefix, length in Network(family, first, last).prefixes()]
    assert [(parse_network(text)[0].first, int(text.partition("/")[2])) for text in found] == expected
