"""Whatever an export or a table holds: no traceback, a result that passes the check, nothing silent, nothing wider."""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.imports.exchange import import_exchange
from policyd.imports.found import Found, Imported, ImportFailedError
from policyd.imports.postfix import import_postfix
from policyd.imports.postfix_grants import Sources
from policyd.loading.load import load
from policyd.policy.networks import Network, parse_network
from tests.places import TESTS

SAMPLES = sorted(path for folder in ("exchange", "exports") for path in (TESTS / "samples" / folder).iterdir())
EXAMPLES = settings(max_examples=60, deadline=None)

JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), st.text()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(), inner, max_size=3),
        st.fixed_dictionaries({"value": inner}, optional={"Count": st.just(1)}),
    ),
    max_leaves=8,
)
NAMES = st.one_of(
    st.text(), st.sampled_from(["Gateway", "gateway", "Gate way", "x" * 70, "\x1b[2J", "\ud800", "-", "ü"])
)
DOMAINS = st.sampled_from(
    [
        "contoso.com",
        "*.contoso.com",
        "Contoso.COM.",
        "b\u00fccher.example",
        "com",
        "*",
        "*.com",
        "a b",
        "",
        "mail.*.x.com",
    ]
)
ADDRESSES = st.sampled_from(
    ["203.0.113.7", "203.0.113.9/28", "10.0.0.0/8", "::/0", "2001:db8::/48", "127.0.0.1", "::ffff:192.0.2.1", "x",
     "1-2", "203.0.113.9-203.0.113.1", "2002:c000::/32", "0.0.0.0/0", "198.51.100.1-198.51.100.200"]
)  # fmt: skip
CERTIFICATES = st.sampled_from(
    [
        None,
        "",
        "mail.contoso.com",
        "*.contoso.com",
        "*",
        "*.com",
        "<I>CN=CA<S>CN=relay.contoso.com, O=x",
        "<S>",
        "<S>CN=",
    ]
)
SENDERS = st.sampled_from(
    ["smtp:*;1", "*", "smtp:fabrikam.com;1", "*.fabrikam.com", "smtp:;1", "x400:x", "com", "*.com"]
)
FLAGS = st.sampled_from([True, False, None, "true", "no", 1, 7])


def listed(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A list in one of the shapes that ConvertTo-Json gives it."""
    lists = st.lists(values, max_size=4)
    return st.one_of(lists, values, lists.map(lambda found: {"value": found, "Count": len(found)}), st.none())


CONNECTORS = st.fixed_dictionaries(
    {
        "Name": NAMES,
        "ConnectorType": st.sampled_from(["OnPremises", "Partner", "PARTNER", 1, 2, 3, None]),
        "Enabled": FLAGS,
        "SenderIPAddresses": listed(ADDRESSES),
        "SenderDomains": listed(SENDERS),
        "TlsSenderCertificateName": CERTIFICATES,
    },
    optional={
        "Identity": st.text(),
        "Comment": st.one_of(st.text(), JSON),
        "RequireTls": FLAGS,
        "RestrictDomainsToIPAddresses": FLAGS,
        "RestrictDomainsToCertificate": FLAGS,
        "AssociatedAcceptedDomains": listed(DOMAINS),
        "CloudServicesMailEnabled": FLAGS,
        "EFSkipIPs": JSON,
        "Novelty": JSON,
    },
)
ACCEPTED = st.fixed_dictionaries(
    {"DomainName": DOMAINS, "DomainType": st.sampled_from(["Authoritative", 0, 1, "2", None, "x"])},
    optional={
        "Name": NAMES,
        "MatchSubDomains": FLAGS,
        "InitialDomain": FLAGS,
        "PendingCompletion": FLAGS,
        "SendingFromDomainDisabled": FLAGS,
    },
)


@st.composite
def mutated(draw: st.DrawFn, objects: st.SearchStrategy[dict[str, Any]]) -> Any:
    """Objects of an export of which some fields hold anything or are gone, in any wrapper."""
    export = draw(st.lists(objects, max_size=4))
    for fields in export:
        for field in draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
            if draw(st.booleans()):
                fields[field] = draw(JSON)
            else:
                fields.pop(field, None)
    return draw(st.sampled_from([export, {"value": export, "Count": 1}, export[0] if len(export) == 1 else [export]]))


def run(connectors: bytes | None, domains: bytes | None, *, trust_verified: bool = False) -> Imported | None:
    """The import through files; None for what is no export. What comes out must pass the check."""
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, Path | None] = {"connectors": None, "domains": None}
        for name, octets in (("connectors", connectors), ("domains", domains)):
            if octets is not None:
                paths[name] = Path(folder, f"{name}.json")
                Path(folder, f"{name}.json").write_bytes(octets)
        try:
            result = import_exchange("contoso", **paths, trust_verified=trust_verified)
        except ImportFailedError:
            return None
    assert_passes(result)
    return result


def assert_passes(result: Imported) -> None:
    assert tomllib.loads(result.text) == result.found.data()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policyd.toml")
        path.write_text(result.text, encoding="utf-8")
        loaded = load(str(path))
    assert [str(problem) for problem in loaded.problems if problem.severity == "error"] == []
    assert loaded.configuration is not None
    assert all("\n" not in str(note) and str(note).isprintable() for note in result.notes)
    assert not any("policyd-import" in note.message for note in result.notes)


def encoded(export: object) -> bytes:
    return json.dumps(export).encode("ascii")


@EXAMPLES
@given(mutated(CONNECTORS), mutated(ACCEPTED), st.booleans())
def test_any_export(connectors: Any, domains: Any, trust_verified: bool) -> None:
    result = run(encoded(connectors), encoded(domains), trust_verified=trust_verified)
    assert result is None or trust_verified or result.found.accepted_domains == ()


@EXAMPLES
@given(JSON)
def test_any_json(export: Any) -> None:
    run(encoded(export), None)
    run(None, encoded(export))


@EXAMPLES
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=3)), min_size=1, max_size=4),
)
def test_damaged_samples(sample: Path, damage: list[tuple[int, bytes]]) -> None:
    octets = bytearray(sample.read_bytes())
    for position, replacement in damage:
        at = position % len(octets)
        octets[at : at + 1] = replacement
    run(bytes(octets), None, trust_verified=True)


@EXAMPLES
@given(st.binary(max_size=200))
def test_any_octets(octets: bytes) -> None:
    run(octets, octets)


@EXAMPLES
@given(st.lists(CONNECTORS, min_size=1, max_size=4))
def test_no_connector_is_dropped_silently(connectors: list[dict[str, Any]]) -> None:
    for number, fields in enumerate(connectors):
        fields["Name"] = f"c{number}"
    result = run(encoded(connectors), None)
    assert result is not None
    carried = {section.origin for section in result.found.sections}
    left_out = {
        note.name
        for note in result.notes
        if note.level == "left out" and note.field in ("", "Enabled", "ConnectorType")
    }
    for fields in connectors:
        assert fields["Name"] in carried | left_out, fields
        if fields.get("CloudServicesMailEnabled") is True:
            assert any((n.name, n.field) == (fields["Name"], "CloudServicesMailEnabled") for n in result.notes)


@EXAMPLES
@given(CONNECTORS)
def test_no_connector_becomes_wider(fields: dict[str, Any]) -> None:
    result = run(encoded([fields]), None)
    assert result is not None
    given_addresses = [network for text in flattened(fields["SenderIPAddresses"]) if (network := network_of(text))]
    for section in result.found.sections:
        for text in section.values.get("addresses", []):
            network = parse_network(text)[0]
            assert any(covers(whole, network) for whole in given_addresses)
        if section.table == "connectors":
            assert ("certificate_names" in section.values) != ("addresses" in section.values)
            off = fields["Enabled"] not in (True, "true", 1, None) or flattened(fields.get("AssociatedAcceptedDomains"))
            assert (section.values.get("enabled") is False) == bool(off)
        if fields.get("RequireTls") in (True, "true", 1):
            assert section.values["require_tls"] is True


@EXAMPLES
@given(st.lists(ACCEPTED, max_size=4))
def test_no_domain_is_accepted_that_is_not_sound(domains: list[dict[str, Any]]) -> None:
    for fields in domains:
        fields["Name"] = ""
    result = run(None, encoded(domains), trust_verified=True)
    assert result is not None
    sound = {
        name.rstrip(".").lower()
        for fields in domains
        for name in (fields["DomainName"], f"*.{fields['DomainName']}")
        if not any(fields.get(field) for field in ("InitialDomain", "PendingCompletion", "SendingFromDomainDisabled"))
    }
    assert {domain.rstrip(".").lower() for domain in result.found.accepted_domains} <= sound


def flattened(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return flattened(value["value"])
    return [item for item in (value if isinstance(value, list) else [value]) if item not in (None, "")]


def network_of(text: str) -> Network | None:
    try:
        return parse_network(text)[0]
    except ValueError:
        return None


def covers(whole: Network, part: Network) -> bool:
    return whole.family == part.family and whole.first <= part.first and part.last <= whole.last


# --- Postfix

OCTETS = ":".join(["A0"] * 32)
TABLE_TEXTS = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [OCTETS, OCTETS.lower(), OCTETS[:47], OCTETS[:59], OCTETS.replace("A0", "0A"), " ", "\t", "\n", "\r\n", "#",
             "OK", "REJECT", "550", "mail.contoso.com", "ü", "\n ", " OK\n"]
        ),
        max_size=12,
    ).map("".join),
)  # fmt: skip
PATTERNS = st.lists(
    st.one_of(
        ADDRESSES,
        st.sampled_from(
            ["[2001:db8::]/64", "[::1]", "hash:/x", "!203.0.113.5", "!hash:/x", "!", "!!", "host.example", "["]
        ),
        st.text(st.characters(exclude_characters="/")),
    ),
    max_size=5,
).map(" ".join)


def both(make: Callable[[Path], Sources]) -> Imported | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = import_postfix("contoso", make(Path(folder)))
        except ImportFailedError:
            return None
    assert_passes(result)
    return result


@EXAMPLES
@given(TABLE_TEXTS, TABLE_TEXTS, st.sampled_from(["", "md5", "sha256", "odd"]))
def test_any_tables(clients: str, access: str, digest: str) -> None:
    def make(folder: Path) -> Sources:
        (folder / "clients").write_text(clients, encoding="utf-8", newline="")
        (folder / "access").write_text(access, encoding="utf-8", newline="")
        return Sources(relay_clientcerts=(f"{folder}/clients",), ccert_access=(f"hash:{folder}/access",), digest=digest)

    result = both(make)
    assert result is not None or "\0" in clients + access


@EXAMPLES
@given(PATTERNS)
def test_any_networks(patterns: str) -> None:
    result = both(lambda folder: Sources(mynetworks=(patterns,)))
    assert result is not None
    addresses = addresses_of(result.found)
    assert not any(network.holds((4, 127 << 24 | 1)) for network in addresses if network.size < 1 << 8)
    if "!203.0.113.5 " in patterns and not any(
        pattern.startswith("203") for pattern in patterns.split("!203.0.113.5")[0].split()
    ):
        assert not any(network.holds((4, parse_network("203.0.113.5")[0].first)) for network in addresses)


def addresses_of(found: Found) -> list[Network]:
    texts = [text for section in found.sections for text in section.values.get("addresses", [])]
    return [parse_network(text)[0] for text in texts]
