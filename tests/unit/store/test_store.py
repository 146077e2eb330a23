"""The rules in their mapped file: a change costs what changed, and what is read is what was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.policy.model import (
    Connector,
    Delta,
    Organization,
    Partner,
    RelayLimit,
    StoredCertificate,
)
from policyd.policy.names import Pattern
from policyd.policy.networks import Network, parse_network
from policyd.store import lines, organization_json
from policyd.store.file import Damaged, FileRecords, Store

EVERYTHING = Organization(
    name="contoso",
    accepted_domains=(Pattern("contoso.com"), Pattern("contoso.net", True), Pattern("xn--wei-7ka.example")),
    delegated_domains=(Pattern("lab.contoso.net"),),
    outside_domains=(Pattern("news.contoso.net"),),
    pending_domains=(Pattern("new.example"),),
    protect_sender_domains=True,
    connectors_only=True,
    relay_limits=(RelayLimit(5000, "hour"),),
    suspended="ticket 4711",
    connectors=(
        Connector(
            name="all",
            description="Exchange in Utrecht, \u00fcber 9000",
            certificate_names=(Pattern("mail.contoso.com"), Pattern("contoso.net", True)),
            stored_certificates=(
                StoredCertificate(
                    "a.pem", ("mail.contoso.com",), frozenset("AB"), frozenset("CD"), 2**31, "/a.pem", ""
                ),
            ),
            certificate_fingerprints=("AA" * 32,),
            public_key_fingerprints=("BB" * 32, "CC" * 32),
            tlsa=("_smtp-client.mx.contoso.com",),
            addresses=(parse_network("192.0.2.0-192.0.2.9")[0], parse_network("2001:db8::/64")[0]),
            require_tls=True,
            until=1800000000,
            for_domains=(Pattern("contoso.com"),),
            foreign_senders="bounces",
            relay_limits=(RelayLimit(9, "minute"), RelayLimit(200, "day")),
            suspended="ticket 4712",
        ),
        Connector(name="off", enabled=False, addresses=(parse_network("198.51.100.0/24")[0],)),
    ),
    partners=(
        Partner(name="bank", sender_domains=(Pattern("bank.example", True),), every_sender=True, require_tls=True),
    ),
)
PLAIN = Organization(name="a", accepted_domains=(Pattern("a.example"),))


def records(store: Store) -> dict[bytes, bytes]:
    """Everything in the file but what is kept beside the organizations."""
    with store._environment.begin() as transaction:
        return {key: value for key, value in transaction.cursor() if key != b"m"}


def filled(*organizations: Organization) -> Store:
    store = Store()
    store.replace_all(organizations, 1, {})
    return store


def test_an_organization_is_read_as_it_was_written() -> None:
    assert organization_json.read(organization_json.written(EVERYTHING)) == EVERYTHING
    assert organization_json.read(organization_json.written(PLAIN)) == PLAIN
    assert list(filled(EVERYTHING, PLAIN).snapshot().organizations()) == [PLAIN, EVERYTHING]


def test_no_field_of_the_model_is_forgotten() -> None:
    """Every field of the example differs from its default; so one that were not written would be missed above."""
    for one in (EVERYTHING, EVERYTHING.connectors[0]):
        for field, default in zip(*organization_json._fields(type(one))[::2], strict=True):
            if field != "enabled":
                assert getattr(one, field) != default, field


NETWORKS = st.sampled_from(("192.0.2.1", "192.0.2.0/24", "192.0.2.7-192.0.2.40", "2001:db8::/64", "2001:db8::7"))
NAMES = st.sampled_from(("x.example", "mail.x.example", "xn--wei-7ka.example", "weiss.example", "y.example"))
PATTERNS = st.builds(Pattern, NAMES, st.booleans())
CONNECTORS = st.builds(
    Connector,
    name=st.sampled_from("cd"),
    enabled=st.booleans(),
    certificate_names=st.lists(PATTERNS, max_size=2).map(tuple),
    certificate_fingerprints=st.lists(st.sampled_from(("AA", "BB")), max_size=2).map(tuple),
    addresses=st.lists(NETWORKS.map(lambda text: parse_network(text)[0]), max_size=2).map(tuple),
    tlsa=st.lists(NAMES, max_size=1).map(tuple),
)
ORGANIZATIONS = st.builds(
    Organization,
    name=st.sampled_from(("a", "b", "c")),
    accepted_domains=st.lists(PATTERNS, max_size=2).map(tuple),
    delegated_domains=st.lists(PATTERNS, max_size=1).map(tuple),
    pending_domains=st.lists(PATTERNS, max_size=1).map(tuple),
    connectors_only=st.booleans(),
    connectors=st.lists(CONNECTORS, max_size=2, unique_by=lambda one: one.name).map(tuple),
)
STEPS = st.lists(st.lists(ORGANIZATIONS, max_size=3, unique_by=lambda one: one.name), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_however_it_came_about_the_file_holds_the_same(steps: list[list[Organization]]) -> None:
    """By changes, by replacing all, and written anew: no record is left behind and none is missing."""
    changed, replaced = Store(), Store()
    before: dict[str, Organization] = {}
    for generation, step in enumerate(steps, 1):
        after = {one.name: one for one in step}
        gone = frozenset(before.keys() - after.keys())
        changed.change(Delta(gone, tuple(one for one in step if before.get(one.name) != one)), generation)
        replaced.replace_all(step, generation, {})
        anew = filled(*reversed(step))
        assert records(changed) == records(replaced) == records(anew)
        for store in (changed, replaced, anew):
            snapshot = store.snapshot()
            assert snapshot.organization_count == len(step)
            assert snapshot.connector_count == sum(c.enabled for one in step for c in one.connectors)
        assert (changed.snapshot().generation, replaced.snapshot().generation) == (generation, generation)
        before = after


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_laid_over_is_as_written(steps: list[list[Organization]]) -> None:
    """What would be after a change, told without writing it, is what is there after writing it."""
    base, *later = steps
    store = filled(*base)
    snapshot = store.snapshot()
    for step in later:
        before = {one.name: one for one in base}
        exchanges = [(before.get(one.name), one) for one in step]
        laid_over = snapshot.after(*exchanges)
        written = filled(*{**before, **{one.name: one for one in step}}.values()).snapshot()
        assert list(laid_over.organizations()) == list(written.organizations())
        for name in ("x.example", "mail.x.example", "xn--wei-7ka.example", "weiss.example", "y.example"):
            assert laid_over.claims(name) == written.claims(name)
            assert set(laid_over.concerned_below(name)) == set(written.concerned_below(name))
            for one, other in ((laid_over, written), (laid_over.disabled, written.disabled)):
                assert one.certificate_names(name) == other.certificate_names(name)
                assert list(one.names_below(name)) == list(other.names_below(name))
                assert one.tlsa_hosts(name) == other.tlsa_hosts(name)
                assert one.certificates("AA") == other.certificates("AA")
                for value in (0xC0000201, 0xC0000208, 0xC00002F0):
                    assert one.at_address((4, value)) == other.at_address((4, value))
        assert list(snapshot.organizations()) == sorted(base, key=lambda one: one.name), "nothing was written"


@settings(max_examples=200, deadline=None)
@given(ORGANIZATIONS, NETWORKS)
def test_networks_that_share_an_address(organization: Organization, text: str) -> None:
    network, _ = parse_network(text)
    snapshot = filled(organization).snapshot()
    for listed, enabled in ((snapshot, True), (snapshot.disabled, False)):
        expected = {
            (organization.name, connector.name)
            for connector in organization.connectors
            if connector.enabled is enabled and any(network.overlaps(other) for other in connector.addresses)
        }
        assert set(listed.overlapping(network)) == expected


def test_the_next_expiry() -> None:
    def with_end(name: str, not_after: int, enabled: bool = True) -> Organization:
        stored = StoredCertificate("a.pem", (), frozenset(), frozenset(), not_after)
        connector = Connector(name="c", enabled=enabled, stored_certificates=(stored,))
        return Organization(name=name, connectors=(connector,))

    store = filled(with_end("late", 3000), with_end("soon", 2000), with_end("off", 1000, enabled=False))
    assert store.snapshot().next_expiry() == 2000
    store.change(Delta(frozenset({"soon"}), ()), 2)
    assert store.snapshot().next_expiry() == 3000
    store.change(Delta(frozenset({"late"}), ()), 3)
    assert store.snapshot().next_expiry() is None


def test_a_snapshot_stays_as_it_is() -> None:
    store = filled(EVERYTHING)
    snapshot = store.snapshot()
    store.replace_all([PLAIN], 2, {"mode": "monitor"})
    assert (snapshot.generation, [one.name for one in snapshot.organizations()]) == (1, ["contoso"])
    after = store.snapshot()
    assert (after.generation, [one.name for one in after.organizations()]) == (2, ["a"])
    assert after.settings == {"mode": "monitor"}


def test_only_what_changed_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    organizations = [Organization(name=f"o{n}", accepted_domains=(Pattern(f"o{n}.example"),)) for n in range(50)]
    store = filled(*organizations)
    told: list[tuple[Organization | None, Organization | None]] = []
    other = replace(organizations[7], connectors_only=True)
    before = records(store)
    store.replace_all([*organizations[:7], other, *organizations[8:]], 2, {}, lambda *both: told.append(both))
    assert told == [(organizations[7], other)]
    after = records(store)
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == {b"go7", b"oo7"}


@pytest.mark.parametrize("key", [lines.domain_key("contoso.com"), lines.organization_key("contoso"), b"m"])
def test_what_is_damaged_is_not_believed(key: bytes) -> None:
    store = filled(EVERYTHING)
    with store._environment.begin(write=True) as transaction:
        value = bytearray(transaction.get(key) or b"")
        value[-1] ^= 1
        transaction.put(key, bytes(value))
    with pytest.raises(Damaged):
        FileRecords(store._environment.begin()).lines(key)
    if key == b"m":
        with pytest.raises(Damaged):
            store.snapshot()


def test_a_value_under_another_key_is_damaged() -> None:
    store = filled(EVERYTHING, PLAIN)
    with store._environment.begin(write=True) as transaction:
        transaction.put(lines.domain_key("a.example"), transaction.get(lines.domain_key("contoso.com")) or b"")
    with pytest.raises(Damaged):
        store.snapshot().claims("a.example")


def test_another_process_reads_the_same_file(tmp_path: Path) -> None:
    """As far as one process can show: LMDB allows a file to be opened once in each."""
    path = str(tmp_path / "rules.lmdb")
    store = Store(path)
    store.replace_all([EVERYTHING], 1, {})
    del store
    reading = Store(path, readonly=True)
    assert [one.name for one in reading.snapshot().organizations()] == ["contoso"]
    with pytest.raises(lmdb.ReadonlyError):
        reading.replace_all([], 2, {})
    assert (tmp_path / "rules.lmdb").stat().st_mode & 0o777 == 0o600
    assert isinstance(parse_network("192.0.2.1")[0], Network)
