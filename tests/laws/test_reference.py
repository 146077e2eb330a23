"""The slow reference is right about the worked cases, and the strategies reach every corner.

Nothing here looks at policyd: it makes `tests/laws/reference.py` and `tests/strategies.py` fit to compare policyd with.
The laws of SPEC 3.4 hold for the reference since they do for policyd (`test_laws.py`) and both agree.
"""

from __future__ import annotations

import ipaddress
import itertools
import tomllib
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.laws.reference import Block, Pattern, Reference, StoredCertificate, Verdict, canonical, is_plain
from tests.make_certs import CERTIFICATES
from tests.places import TESTS
from tests.strategies import ATTRIBUTES, configurations, requests, to_toml, wire

CASES = TESTS / "cases"
DECISIONS = tomllib.loads((CASES / "decisions.toml").read_text("utf-8"))

ROW_0 = {"recipient-without-domain", "routed-recipient", "sender-without-domain"}
ROW_7 = {
    "pending-domain",
    "not-your-domain",
    "tls-required",
    "certificate-untrusted",
    "certificate-unknown",
    "incoming-refused",
    "no-connector",
}
TAKEN_BACK = {"partner-tls", "partner-certificate", "partner-address", "connectors-only", "sender-protected"}
REASONS = ROW_0 | ROW_7 | TAKEN_BACK | {"certificate-domain", "sender-domain", "recipient-domain", "incoming"}

laws = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def reference(config: dict[str, Any]) -> Reference:
    return Reference(config, TESTS)


# --- the worked cases -----------------------------------------------------------------------------------------------


def request_of(case: dict[str, Any]) -> dict[str, str]:
    request: dict[str, str] = (
        DECISIONS["defaults"] | DECISIONS["profiles"].get(case.get("profile"), {}) | case.get("request", {})
    )
    odd = case.get("request_hex", {})
    return request | {name: bytes.fromhex(text).decode("utf-8", "surrogateescape") for name, text in odd.items()}


@pytest.mark.parametrize("case", DECISIONS["case"], ids=lambda case: f"{case['id']}: {case['why']}")
def test_worked_case(case: dict[str, Any]) -> None:
    config = tomllib.loads((CASES / case.get("config", "config.toml")).read_text("utf-8"))
    verdict = Reference(config, CASES).decide(request_of(case))
    expected = {key: case[key] for key in ("action", "reason", "organization", "connector") if key in case}
    assert {key: getattr(verdict, key) for key in expected} == expected


# --- fine points that the worked cases leave open -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Contoso.COM.", "contoso.com"),
        ("contoso.com..", None),
        ("", None),
        (".", None),
        ("contoso.com。", None),  # one ASCII dot goes before the mapping; this one becomes an empty label
        ("contoso。com", "contoso.com"),
        ("ｃontoso.com", "contoso.com"),
        ("con\u00adtoso.com", "contoso.com"),
        ("\u00ad.com", None),
        ("faß.example", "xn--fa-hia.example"),  # non-transitional
        ("BÜCHER.XN--BCHER-KVA", "xn--bcher-kva.xn--bcher-kva"),
        ("xn--.example", None),
        ("xn--80ak6aa92e.example", "xn--80ak6aa92e.example"),
        ("xn--ls8h.example", None),  # an emoji: IDNA 2008 refuses it
        ("💩.example", None),
        ("xn--abc-.example", None),
        ("bü_cher.example", None),  # IDNA 2008 refuses the underscore
        ("_x-.-y.example", "_x-.-y.example"),
        ("[192.0.2.1]", None),
        ("a b.example", None),
        ("a\udcff.example", None),
        ("l" * 63 + ".example", "l" * 63 + ".example"),
        ("l" * 64 + ".example", None),
        ("l." * 126 + "l", "l." * 126 + "l"),
        ("l." * 126 + "ll", None),
        ("\u00ad" * 998 + "ab", "ab"),
        ("\u00ad" * 998 + "ab.", "ab"),
        ("\u00ad" * 999 + "ab", None),
    ],
)
def test_canonical(text: str, name: str | None) -> None:
    assert canonical(text) == name


@pytest.mark.parametrize(
    ("domain", "plain"),
    [
        ("contoso.com", True),
        ("CONTOSO.com.", True),
        ("ｃontoso.com", False),
        ("bücher.example", True),
        ("bücher.EXAMPLE.", True),
        ("XN--bcher-kva.example", True),
        ("BÜCHER.example", False),  # only ASCII is lowered
        ("bücher.xn--bcher-kva", False),  # neither form
        ("bu\u0308cher.example", False),
    ],
)
def test_plain(domain: str, plain: bool) -> None:
    assert is_plain(f"kate@{domain}") is plain


TREE = {
    "organizations": {
        "a": {"accepted_domains": ["*.x.example"], "delegated_domains": ["lab.x.example"]},
        "b": {"accepted_domains": ["lab.x.example", "*.y.example", "deep.y.example"]},
    }
}


@pytest.mark.parametrize(
    ("name", "zone", "owner"),
    [
        ("x.example", "a", "a"),
        ("a.b.x.example", "a", "a"),
        ("lab.x.example", "b", "b"),
        ("deep.lab.x.example", "b", None),
        ("a.deep.y.example", "b", "b"),
        ("z.example", None, None),
        ("example", None, None),
    ],
)
def test_zone_and_owner(name: str, zone: str | None, owner: str | None) -> None:
    assert (reference(TREE).zone(name), reference(TREE).owner(name)) == (zone, owner)


@pytest.mark.parametrize(
    ("organization", "name", "belongs"),
    [
        ("a", "x.example", True),
        ("b", "mail.lab.x.example", True),
        ("a", "mail.lab.x.example", False),
        ("a", "lab.x.example", False),  # one label below a's x.example, but b's
        ("b", "a.mail.lab.x.example", False),
        ("b", "mail.a.deep.y.example", True),
    ],
)
def test_belongs(organization: str, name: str, belongs: bool) -> None:
    assert reference(TREE).belongs(organization, name) is belongs


@pytest.mark.parametrize(
    ("entry", "client", "prefix"),
    [
        ("192.0.2.32-192.0.2.47", "192.0.2.40", 28),
        ("192.0.2.1-192.0.2.6", "192.0.2.1", 32),
        ("192.0.2.1-192.0.2.6", "192.0.2.3", 31),
        ("192.0.2.1-192.0.2.6", "192.0.2.7", None),
        ("::ffff:192.0.2.0/120", "192.0.2.9", 24),
        ("192.0.2.9/24", "192.0.2.255", 24),
        ("2001:db8::/64", "2001:db8::1", 64),
        ("2001:db8::/64", "32.1.13.184", None),
    ],
)
def test_prefix_length(entry: str, client: str, prefix: int | None) -> None:
    assert Block.parse(entry).prefix(ipaddress.ip_address(client)) == prefix


PIN = "AA:" * 31 + "AA"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"public_key_fingerprints": [PIN]}, {"certificate_names": ["smtp.shared.example"]}),
        ({"certificate_names": ["smtp.shared.example"]}, {"certificate_names": ["*.smtp.shared.example"]}),
        ({"certificate_names": ["*.shared.example"]}, {"certificate_names": ["*.example.shared", "*.d.example"]}),
        ({"certificate_names": ["*.smtp.shared.example"]}, {"certificate_names": ["*.shared.example"]}),
        ({"addresses": ["192.0.2.8/30"]}, {"addresses": ["192.0.2.0/24"]}),
        ({"addresses": ["192.0.2.9-192.0.2.10"]}, {"addresses": ["192.0.2.8/30"]}),
        (
            {"certificate_names": ["smtp.shared.example"], "addresses": ["192.0.2.9"]},
            {"certificate_names": ["smtp.shared.example"], "addresses": ["192.0.2.0/28"]},
        ),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_first_within_a_row(first: dict[str, Any], second: dict[str, Any], swapped: bool) -> None:
    """The better evidence names the connector, whatever the connectors are called."""
    better, worse = ("z", "a") if swapped else ("a", "z")
    connectors = {better: first, worse: second}
    config = {"organizations": {"o": {"accepted_domains": ["own.example"], "connectors": connectors}}}
    request = {
        "protocol_state": "RCPT",
        "client_address": "192.0.2.9",
        "ccert_subject": "smtp.shared.example",
        "ccert_pubkey_fingerprint": PIN,
        "sender": "a@own.example",
        "recipient": "b@elsewhere.example",
    }
    assert reference(config).decide(request) == Verdict("OK", "sender-domain", "o", better)


FURTHER = tomllib.loads("""
[organizations.t]
accepted_domains = ["*.t.example", "t.test"]
protect_sender_domains = true
delegated_domains = ["lab.t.example"]
pending_domains = ["*.new.example"]
[organizations.t.connectors.exact]
certificate_names = ["smtp.shared.example"]
[organizations.t.connectors.ip]
addresses = ["192.0.2.1"]
[organizations.t.connectors.ip2]
addresses = ["192.0.2.1", "192.0.2.2"]

[organizations.u]
accepted_domains = ["u.example", "lab.t.example"]
connectors_only = true
[organizations.u.connectors.ip]
addresses = ["192.0.2.3"]
[organizations.u.partners.z]
sender_domains = ["bank.example"]
addresses = ["192.0.2.9"]
[organizations.u.partners.b]
sender_domains = ["bank.example"]
require_tls = true
[organizations.u.partners.c]
sender_domains = ["bank.example"]
certificate_names = ["mail.bank.example"]
[organizations.u.partners.null]
sender_domains = ["courier.example"]
addresses = ["192.0.2.8"]
""")


@pytest.mark.parametrize(
    ("request_", "verdict"),
    [
        (  # the wildcard certificate of the very name does not match the exact entry
            {"ccert_subject": "*.smtp.shared.example", "sender": "a@t.example"},
            Verdict("REJECT", "certificate-unknown", "", ""),
        ),
        (  # R: an odd spelling of our own recipient domain is no reason to say OK
            {"client_address": "192.0.2.2", "recipient": "a@ｔ.example"},
            Verdict("REJECT", "not-your-domain", "t", "ip2"),
        ),
        (  # two connectors identified the client: neither is named
            {"client_address": "192.0.2.1"},
            Verdict("REJECT", "not-your-domain", "", ""),
        ),
        (  # row 0 names the connector as well
            {"client_address": "192.0.2.2", "recipient": "a%b@t.example"},
            Verdict("REJECT", "routed-recipient", "t", "ip2"),
        ),
        (  # a pending `*.x` covers what is below it
            {"client_address": "192.0.2.2", "sender": "a@deep.new.example"},
            Verdict("REJECT", "pending-domain", "t", "ip2"),
        ),
        (  # protected is the zone, not what is owned: x.t.test is nobody's
            {"client_address": "192.0.2.3", "recipient": "a@u.example", "sender": "a@x.t.test"},
            Verdict("REJECT", "sender-protected", "t", ""),
        ),
        (  # partners b, c and z are all unmet: the first by name speaks
            {"sender": "a@bank.example", "recipient": "a@u.example"},
            Verdict("REJECT", "partner-tls", "u", ""),
        ),
        (
            {"sender": "a@bank.example", "recipient": "a@u.example", "encryption_protocol": "TLSv1.3"},
            Verdict("REJECT", "partner-certificate", "u", ""),
        ),
        (  # a null sender may use the way of any partner that shows evidence
            {"client_address": "192.0.2.8", "sender": "", "recipient": "a@u.example"},
            Verdict("OK", "incoming", "u", ""),
        ),
        (
            {"client_address": "192.0.2.7", "sender": "", "recipient": "a@u.example"},
            Verdict("REJECT", "connectors-only", "u", ""),
        ),
        (  # `a@` is not null, and has no domain
            {"client_address": "192.0.2.8", "sender": "a@", "recipient": "a@u.example"},
            Verdict("REJECT", "connectors-only", "u", ""),
        ),
    ],
)
def test_further_decision(request_: dict[str, str], verdict: Verdict) -> None:
    defaults = {"protocol_state": "RCPT", "sender": "a@elsewhere.example", "recipient": "b@elsewhere.example"}
    assert reference(FURTHER).decide(defaults | request_) == verdict


@pytest.mark.parametrize("file", CERTIFICATES)
def test_stored_certificate_names(file: str) -> None:
    """Of each fixture the first certificate's CN and DNS names count, as far as they are host names."""
    names = CERTIFICATES[file]
    texts = [names.common_name or "", *names.dns]
    expected = [canonical(text.removeprefix("*.")) for text in texts]
    stored = StoredCertificate.load(strategies.CERTIFICATE_FOLDER / file)
    assert list(stored.names) == [name for name in expected if name is not None]


# --- the strategies ---------------------------------------------------------------------------------------------------


def errors(config: dict[str, Any]) -> list[str]:
    """What SPEC 4 calls errors and the strategies could get wrong. A plain check of pairs, without good messages."""
    found = []
    organizations = config.get("organizations", {})
    accepted = [
        (name, Pattern.parse(text))
        for name, table in organizations.items()
        for text in table.get("accepted_domains", [])
    ]
    for (a, one), (b, two) in itertools.combinations(accepted, 2):
        if one == two or (a != b and one.base == two.base):
            found.append(f"{one} of {a} and {two} of {b}")
    for (a, upper), (b, lower) in itertools.permutations(accepted, 2):
        if a != b and lower.base.endswith("." + upper.base):
            delegated = [Pattern.parse(text).base for text in organizations[a].get("delegated_domains", [])]
            if not any(lower.base == name or lower.base.endswith("." + name) for name in delegated):
                found.append(f"{lower} of {b} is below {upper} of {a}")
    made = reference(config)
    for connector in made.connectors:
        found += [
            f"foreign {e}"
            for e in connector.certificate_names
            if made.zone(e.base) not in (None, connector.organization)
        ]
        if not connector.asks_certificate and not connector.addresses:
            found.append(f"no evidence: {connector}")
    networks = [
        (c.organization, n) for c in made.connectors if c.enabled for block in c.addresses for n in block.networks
    ]
    for (a, n), (b, m) in itertools.combinations(networks, 2):
        if a != b and n.version == m.version and n.overlaps(m):
            found.append(f"{n} of {a} overlaps {m} of {b}")
    found += [f"{n} is wide" for _, n in networks if n.prefixlen < (16 if n.version == 4 else 32)]
    for partner in made.partners:
        if not (partner.require_tls or partner.asks_certificate or partner.addresses):
            found.append(f"asks nothing: {partner}")
    names = [entry for c in (*made.connectors, *made.partners) for entry in (*c.certificate_names, *c.sender_domains)]
    names += [entry for _, entry in (*made.accepted, *made.pending)]
    found += [f"{entry} is a top-level wildcard" for entry in names if entry.wildcard and "." not in entry.base]
    return found


@laws
@given(configurations())
def test_configurations_are_valid_and_survive_toml(config: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(config)) == config
    assert errors(config) == []


@laws
@given(st.data())
def test_requests_are_what_postfix_sends(data: st.DataObject) -> None:
    """In Postfix's order, at most one attribute missing, and the wire form gives every value back."""
    request = data.draw(requests(data.draw(configurations(most_organizations=3))))
    assert list(request) == [name for name in ATTRIBUTES if name in request]
    assert len(request) >= len(ATTRIBUTES) - 1
    *lines, end, rest = wire(request).split(b"\n")
    assert (end, rest) == (b"", b"")
    pairs = [line.decode("utf-8", "surrogateescape").split("=", 1) for line in lines]
    assert dict(pairs) == request


def row_of(verdict: Verdict, config: dict[str, Any]) -> str:
    if verdict.reason in ROW_0:
        return "0"
    if verdict.reason in TAKEN_BACK:
        return "taken back"
    if verdict.reason in ("sender-domain", "recipient-domain"):
        table = config["organizations"][verdict.organization]["connectors"][verdict.connector]
        by_certificate = any(key.startswith(("certificate_", "public_key_")) for key in table)
        return {"sender-domain": "23", "recipient-domain": "45"}[verdict.reason][0 if by_certificate else 1]
    return {"certificate-domain": "1", "incoming": "6", "": "no state of ours"}.get(verdict.reason, "7")


def test_strategies_reach_every_row_and_reason() -> None:
    """Counted over a fixed seed: a strategy that no longer reaches a corner makes comparisons there worthless."""
    reasons: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    actions: Counter[str] = Counter()

    @settings(laws, max_examples=300, derandomize=True, database=None)
    @given(st.data())
    def count(data: st.DataObject) -> None:
        config = data.draw(configurations())
        for _ in range(8):
            verdict = reference(config).decide(data.draw(requests(config)))
            reasons[verdict.reason] += 1
            rows[row_of(verdict, config)] += 1
            actions[f"{verdict.action} {verdict.reason}"] += 1

    count()
    assert REASONS - set(reasons) == set(), reasons
    assert set("01234567") - set(rows) == set(), rows
    assert {"OK incoming", "DUNNO incoming", "DUNNO "} <= set(actions), actions
