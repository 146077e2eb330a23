"""What `explain` proposes first, as data (tests/near_misses), and that it stays small however large the rules are."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from policyd.config.toml.writing import dumps
from policyd.explain.candidates import MOST_ORGANIZATIONS, Case
from policyd.explain.failures import TEXTS, Failure
from policyd.explain.near_misses import MOST_SHOWN, NearMiss, hints, near_misses
from policyd.explain.walk import MOST_CONNECTORS, explain
from policyd.loading.load import load
from policyd.policy.attribution import decide
from policyd.policy.decision import Decision
from policyd.policy.model import Provider
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request
from policyd.store.file import rule_set
from tests.places import TESTS
from tests.strategies import CERTIFICATE_FOLDER, to_toml

FOLDER = TESTS / "near_misses"
COMMON = tomllib.loads((FOLDER / "defaults.toml").read_text("utf-8"))
FILES = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.toml"))}
CASES = [(name, case) for name, file in FILES.items() for case in file.get("case", ())]
KNOWN = {"why", "profile", "request", "organization", "connector", "partner", "failed_at", "kind", "toml", "says"} | {
    "none",
    "never",
    "hint",
}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with the keys of another one put over its own."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


@cache
def _compiled(text: str, folder: Path) -> tuple[RuleSet, Provider]:
    path = folder / "policyd.toml"
    path.write_text(text, "utf-8")
    loaded = load(str(path))
    assert loaded.configuration is not None, "\n".join(map(str, loaded.problems))
    return rule_set(loaded.configuration.rules), loaded.configuration.provider


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("near-misses")


def request_of(case: Mapping[str, Any]) -> Request:
    return Request(**COMMON["defaults"] | COMMON["profiles"][case.get("profile", "plain")] | case["request"])


def toml_of(near_miss: NearMiss) -> str:
    return "" if near_miss.proposal.change is None else dumps(near_miss.proposal.change.data())


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
    assert {key for _, case in CASES for key in case} <= KNOWN


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}: {case['why']}" for name, case in CASES])
def test_the_first_proposal(name: str, case: dict[str, Any], folder: Path) -> None:
    rules, provider = _compiled(FILES[name]["configuration"], folder)
    request = request_of(case)
    assert decide(rules, request).action == "REJECT", decide(rules, request)
    nearest = near_misses(Case(rules, provider, request))
    for near_miss in nearest:
        assert case.get("never", "\0") not in f"{near_miss.proposal.text}\n{toml_of(near_miss)}"
    told = hints(Case(rules, provider, request))
    assert any(case.get("hint", "") in hint.text for hint in told) or "hint" not in case
    if case.get("none"):
        assert nearest == ()
        return
    first = nearest[0]
    found = {
        "organization": first.organization,
        "connector": first.connector,
        "partner": first.partner,
        "failed_at": first.failed_at.value,
        "kind": first.proposal.kind,
    }
    assert {key: found[key] for key in found if key in case} == {key: case[key] for key in found if key in case}
    if "toml" in case:
        assert tomllib.loads(toml_of(first)) == tomllib.loads(case["toml"])
    assert case.get("says", "") in first.proposal.text


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}: {case['why']}" for name, case in CASES])
def test_every_proposal_of_the_cases_is_true(name: str, case: dict[str, Any], folder: Path) -> None:
    text = FILES[name]["configuration"]
    rules, provider = _compiled(text, folder)
    request = request_of(case)
    for near_miss in near_misses(Case(rules, provider, request)):
        if near_miss.proposal.change is not None:
            changed = merged(tomllib.loads(text), tomllib.loads(toml_of(near_miss)))
            after, _ = _compiled(to_toml(changed), folder)
            assert decide(after, request).action == "OK", near_miss
        elif near_miss.proposal.instead:
            assert decide(rules, request._replace(**dict(near_miss.proposal.instead))).action == "OK", near_miss
        else:
            assert near_miss.failed_at in WORDING


WORDING = {
    Failure.AMBIGUOUS_RECIPIENT,
    Failure.RECIPIENT_WITHOUT_DOMAIN,
    Failure.ROUTED_RECIPIENT,
    Failure.SENDER_WITHOUT_DOMAIN,
}


def test_every_failure_has_a_text() -> None:
    assert set(TEXTS) == set(Failure)


def test_the_cases_know_the_certificate_cases_apart() -> None:
    told = {case.get("failed_at") for _, case in CASES}
    assert told >= {failure.value for failure in Failure if failure is not Failure.LEFT_OUT}  # a step tells it


# ------------------------------------------------------------------------------------------- bounded

STRANGER = Request(protocol_state="RCPT", client_address="198.51.100.9", recipient="x@other.example")


def _many(connectors: int, organizations: int = 1) -> dict[str, Any]:
    """Organizations that all have the same shared name, each with many addresses."""
    return {
        "organizations": {
            f"o{number}": {
                "accepted_domains": [f"d{number}.example"],
                "pending_domains": ["wanted.example"],
                "connectors": {
                    "shared": {"certificate_names": ["mx.hosting.example"]},
                    **{
                        f"c{index}": {"addresses": [f"10.{number % 256}.{index // 256}.{index % 256}"]}
                        for index in range(connectors)
                    },
                },
            }
            for number in range(organizations)
        }
    }


def test_one_organization_with_many_connectors(folder: Path) -> None:
    rules, provider = _compiled(to_toml(_many(2000)), folder)
    told = explain(rules, STRANGER._replace(sender="a@d0.example"), provider)
    assert 0 < len(told.near_misses) <= MOST_SHOWN
    assert sum(step.about == "connector" for step in told.steps) == MOST_CONNECTORS + 1
    assert "more connectors" in [step.text for step in told.steps if step.about == "connector"][-1]
    addresses = [near_miss.connector for near_miss in told.near_misses if near_miss.failed_at is Failure.ADDRESS]
    assert addresses == ["c1999", "c1998", "c1997"]  # the nearest three


def test_many_organizations_that_the_client_could_be_of(folder: Path) -> None:
    rules, provider = _compiled(to_toml(_many(1, 120)), folder)
    shown = {"ccert_subject": "mx.hosting.example", "ccert_issuer": "CA", "encryption_protocol": "TLSv1.3"}
    told = explain(rules, STRANGER._replace(sender="a@wanted.example", **shown), provider)
    assert told.decision.reason == "pending-domain"
    assert len(told.near_misses) == MOST_SHOWN
    assert sum(step.about == "connector" for step in told.steps) == MOST_CONNECTORS + 1


def test_of_many_that_match_those_come_first_that_the_mail_is_about(folder: Path) -> None:
    rules, provider = _compiled(to_toml(_many(1, 120) | {"policy": {"incoming": "REJECT"}}), folder)
    shown = {"ccert_subject": "mx.hosting.example", "ccert_issuer": "CA", "encryption_protocol": "TLSv1.3"}
    for asked in (STRANGER._replace(sender="a@d117.example"), STRANGER._replace(sender="a@sub.d117.example")):
        told = [step for step in explain(rules, asked._replace(**shown), provider).steps if step.about == "connector"]
        assert (told[0].organization, told[0].connector) == ("o117", "shared")
        assert [step.organization for step in told if "identifies" in step.text][1:] == [
            "o0",
            "o1",
            "o10",
            "o100",
            "o101",
        ]
        assert told[-1].text.startswith("and 1")


def test_few_of_many_organizations_are_looked_at(folder: Path) -> None:
    rules, provider = _compiled(to_toml(_many(1, 120)), folder)
    shown = {"ccert_subject": "mx.hosting.example", "ccert_issuer": "CA", "encryption_protocol": "TLSv1.3"}
    case = Case(rules, provider, STRANGER._replace(sender="a@d117.example", **shown))
    concerned = case.concerned()
    assert len(concerned) == MOST_ORGANIZATIONS
    assert concerned[0] == "o117"


FINGERPRINTS = {"ccert_fingerprint": ":".join(["BB"] * 32), "ccert_pubkey_fingerprint": ":".join(["CC"] * 32)}


@pytest.mark.parametrize(
    ("shown", "failure", "says"),
    [
        ({}, Failure.NO_CERTIFICATE, "smtpd_tls_ask_ccert = yes"),
        (FINGERPRINTS, Failure.NOT_VERIFIED, "named mx0.contoso.com, from a public CA"),
    ],
)
def test_what_postfix_lacks_is_said_once(shown: dict[str, str], failure: Failure, says: str, folder: Path) -> None:
    config = {"accepted_domains": ["contoso.com"], "connectors": {}}
    config["connectors"] = {f"c{n}": {"certificate_names": [f"mx{n}.contoso.com"]} for n in range(5)}
    rules, provider = _compiled(to_toml({"organizations": {"contoso": config}}), folder)
    request = STRANGER._replace(sender="a@contoso.com", encryption_protocol="TLSv1.3", **shown)
    nearest = [near_miss for near_miss in near_misses(Case(rules, provider, request)) if near_miss.failed_at is failure]
    (postfix,) = [near_miss.proposal for near_miss in nearest if near_miss.proposal.kind == "postfix"]
    assert says in postfix.text
    assert len(nearest) > 1


def test_no_ca_is_proposed_for_what_postfix_can_never_verify(folder: Path) -> None:
    config = {"accepted_domains": ["contoso.com"], "connectors": {"c": {"certificate_names": ["mx.contoso.com"]}}}
    rules, provider = _compiled(to_toml({"organizations": {"contoso": config}}), folder)
    request = STRANGER._replace(sender="a@contoso.com", encryption_protocol="TLSv1.3", **FINGERPRINTS)
    kinds = [
        {near_miss.proposal.kind for near_miss in explain(rules, request, provider, verifiable=verifiable).near_misses}
        for verifiable in (True, False)
    ]
    assert kinds == [{"postfix", "configuration"}, {"configuration"}]


@pytest.mark.parametrize("name", ["computers", "localhost", "npi8f4c2a"])
def test_a_single_label_is_never_proposed(name: str, folder: Path) -> None:
    """Certificates of Active Directory have a container's name first; many servers have it, of any organization."""
    connectors = {"c": {"certificate_names": ["mx.contoso.com"]}}
    config = {"accepted_domains": ["contoso.com"], "connectors": connectors}
    rules, provider = _compiled(to_toml({"organizations": {"contoso": config}}), folder)
    shown = {"encryption_protocol": "TLSv1.3", "ccert_subject": name, "ccert_issuer": "CA", **FINGERPRINTS}
    nearest = near_misses(Case(rules, provider, STRANGER._replace(sender="a@contoso.com", **shown)))
    assert any(near_miss.proposal.change for near_miss in nearest)
    assert not any(name in str(near_miss.proposal.change) for near_miss in nearest)


PINS = {"certificate_files": [str(CERTIFICATE_FOLDER / "cn-and-san.pem")], "certificate_fingerprints": ["AA" * 16]}
SHOWN = {"encryption_protocol": "TLSv1.3", **FINGERPRINTS}


@pytest.mark.parametrize(
    ("keys", "shown", "failure", "says"),
    [
        (("certificate_files", "certificate_fingerprints"), SHOWN, Failure.OTHER_FINGERPRINT, "the public key CC:CC"),
        (("certificate_files",), SHOWN, Failure.OTHER_FINGERPRINT, "the public key CC:CC"),
        (("certificate_fingerprints",), SHOWN, Failure.OTHER_DIGEST, "the certificate BB:BB"),
        (("certificate_files",), {}, Failure.NO_TLS, "the certificate of /"),
    ],
    ids=["a file is compared in every digest", "a file", "a pin", "none shown"],
)
def test_certificate_files(
    keys: tuple[str, ...], shown: dict[str, str], failure: Failure, says: str, folder: Path
) -> None:
    connector = {key: PINS[key] for key in keys}
    config = {"organizations": {"contoso": {"accepted_domains": ["contoso.com"], "connectors": {"c": connector}}}}
    rules, provider = _compiled(to_toml(config), folder)
    first = near_misses(Case(rules, provider, STRANGER._replace(sender="a@contoso.com", **shown)))[0]
    assert (first.connector, first.failed_at) == ("c", failure)
    assert says in first.proposal.text


@pytest.mark.parametrize(
    ("request_", "tries"),
    [
        (STRANGER._replace(sender="a@d0.example"), True),
        (STRANGER._replace(recipient="a@d0.example"), False),
        (STRANGER._replace(protocol_state="DATA"), False),
    ],
    ids=["refused", "not refused", "not asked"],
)
def test_the_request_is_decided_once(
    request_: Request, tries: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be, if one thing were different, is another request, or decided by rules made for it."""
    rules, provider = _compiled(to_toml(_many(5, 3)), folder)
    decided_by: list[tuple[RuleSet, Request]] = []

    def counted(by: RuleSet, request: Request) -> Decision:
        decided_by.append((by, request))
        return decide(by, request)

    for name, module in list(sys.modules.items()):
        if name.startswith("policyd.explain.") and hasattr(module, "decide"):
            monkeypatch.setattr(module, "decide", counted)
    explanation = explain(rules, request_, provider)
    assert bool(explanation.near_misses) is tries
    assert decided_by.count((rules, request_)) == 1
    assert (len(decided_by) > 1) is tries


def test_no_near_misses_of_what_is_not_refused(folder: Path) -> None:
    rules, provider = _compiled(to_toml(_many(1)), folder)
    for request in (STRANGER._replace(recipient="a@d0.example"), STRANGER._replace(protocol_state="DATA")):
        assert near_misses(Case(rules, provider, request)) == ()
