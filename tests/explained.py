"""What `explain` says, word for word, of all cases of tests/near_misses and of the requests below: tests/explained.txt.

A change of words or of an order shows as a difference to be looked at; `python -m tests.explained` writes the file
anew. Whether what is said is true is for others to show (tests/unit/explain/test_near_misses.py, test_proposals.py).
"""

from __future__ import annotations

import sys
import tempfile
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from policyd.config.toml.writing import dumps
from policyd.explain.walk import Explanation, explain
from policyd.loading.load import load
from policyd.policy.model import Provider
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request
from policyd.store.file import rule_set

TESTS = Path(__file__).resolve().parent
FILE = TESTS / "explained.txt"
CASES = TESTS / "near_misses"

KEY = ":".join(["6E"] * 32)
CONFIGURATION = f"""
[policy]
provider_certificate_names = ["shared.example"]

[organizations.adatum]
accepted_domains = ["adatum.example", "*.adatum.test"]
pending_domains = ["adatum-new.example"]
protect_sender_domains = true
connectors_only = true

[organizations.adatum.connectors.office]
addresses = ["203.0.113.0/28"]
require_tls = true

[organizations.adatum.connectors.pin]
public_key_fingerprints = ["{KEY}"]

[organizations.adatum.connectors.mail]
certificate_names = ["*.adatum.example"]

[organizations.adatum.partners.bank]
sender_domains = ["bank.example"]
require_tls = true

[organizations.adatum.partners.courier]
sender_domains = ["courier.example"]
certificate_names = ["mx.courier.example"]
addresses = ["198.51.100.200"]

[organizations.fabrikam]
accepted_domains = ["fabrikam.example"]

[organizations.fabrikam.connectors.out]
addresses = ["192.0.2.7"]
"""
TLS = {"encryption_protocol": "TLSv1.3"}
UNVERIFIED = TLS | {"ccert_fingerprint": "AA:" * 31 + "AA", "ccert_pubkey_fingerprint": "BB:" * 31 + "BB"}
VERIFIED = UNVERIFIED | {"ccert_issuer": "CA"}
STRANGER, OFFICE, OUT = ({"client_address": text} for text in ("198.51.100.9", "203.0.113.5", "192.0.2.7"))
REQUESTS: tuple[dict[str, str], ...] = (
    STRANGER | {"sender": "a@x.example", "recipient": "b@other.example"},
    {"client_address": "", "sender": "", "recipient": "b"},
    {"client_address": "fe80::1%lo", "sender": "kate", "recipient": "b@a..b"},
    OFFICE | {"sender": "a@deep.adatum.example", "recipient": "b%c@adatum.example"},
    OFFICE | {"sender": "a@bank.example", "recipient": "b@adatum.example"},
    STRANGER | TLS | {"sender": "a@bank.example", "recipient": "b@adatum.example"},
    STRANGER | {"sender": "", "recipient": "b@adatum.example"},
    STRANGER | {"sender": "a@courier.example", "recipient": "b@adatum.example"},
    STRANGER
    | VERIFIED
    | {"sender": "a@courier.example", "recipient": "b@adatum.example", "ccert_subject": "mx.x.example"},
    STRANGER | UNVERIFIED | {"sender": "a@adatum-new.example", "recipient": "b@fabrikam.example"},
    STRANGER | UNVERIFIED | {"sender": "a@other.example", "recipient": "b@x.example", "ccert_pubkey_fingerprint": KEY},
    OUT
    | VERIFIED
    | {"sender": "a@adatum.example", "recipient": "b@other.example", "ccert_subject": "*.mail.adatum.example"},
    OUT | VERIFIED | {"sender": "a@fabrikam.example", "recipient": "b@adatum.example", "ccert_subject": "no+20name"},
    OUT | VERIFIED | {"sender": "a@fabrikam.example", "recipient": "b@other.example"},
    OUT | VERIFIED | {"sender": "a@x.example", "recipient": "b@other.example", "ccert_subject": "shared.example"},
    OUT | {"sender": "a@x.example", "recipient": "b@ｆabrikam.example"},
    OUT | {"sender": "a@host.adatum.test", "recipient": "b@fabrikam.example"},
    {"protocol_state": "DATA"},
)


@cache
def _compiled(text: str) -> tuple[RuleSet, Provider]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policyd.toml"
        path.write_text(text, "utf-8")
        configuration = load(str(path)).configuration
    assert configuration is not None
    return rule_set(configuration.rules), configuration.provider


def walk(explanation: Explanation) -> Iterator[str]:
    """The lines of one explanation."""
    for step in explanation.steps:
        holds = "" if step.holds is None else " (holds)" if step.holds else " (does not hold)"
        yield f"  {step.about} {step.organization}/{step.connector}: {step.text}{holds}"
    yield from near_misses(explanation)


def near_misses(explanation: Explanation) -> Iterator[str]:
    """The lines of what would have been enough."""
    for near_miss in explanation.near_misses:
        proposal = near_miss.proposal
        whose = f"{near_miss.organization}/{near_miss.connector}{near_miss.partner}"
        yield f"  ~ {near_miss.failed_at.value} {whose} {proposal.kind}: {proposal.text}"
        for name, value in proposal.instead:
            yield f"      {name}={value}"
        if proposal.change is not None:
            yield from (f"      {line}" for line in dumps(proposal.change.data()).splitlines() if line)
    for hint in explanation.hints:
        yield f"  ! {hint.organization}: {hint.text}"


def everything() -> Iterator[str]:
    """All lines of the file."""
    rules, provider = _compiled(CONFIGURATION)
    for attributes in REQUESTS:
        yield f"== {' '.join(f'{name}={value}' for name, value in attributes.items())}"
        yield from walk(explain(rules, Request(**{"protocol_state": "RCPT"} | attributes), provider))
    common = tomllib.loads((CASES / "defaults.toml").read_text("utf-8"))
    for path in sorted(CASES.glob("*.toml")):
        file = tomllib.loads(path.read_text("utf-8"))
        for case in file.get("case", ()):
            rules, provider = _compiled(file["configuration"])
            profile = common["profiles"][case.get("profile", "plain")]
            yield f"== {path.stem}: {case['why']}"
            yield from near_misses(explain(rules, Request(**common["defaults"] | profile | case["request"]), provider))


def main() -> int:
    """Writes the file."""
    FILE.write_text("".join(f"{line}\n" for line in everything()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
