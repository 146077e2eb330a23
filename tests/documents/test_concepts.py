"""docs/concepts.md: every example is decided as the page says, and every reason has one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from policyd.loading.load import load
from policyd.policy.attribution import decide, row_of
from policyd.policy.decision import Reason
from policyd.policy.identity import identity_of
from policyd.policy.model import Rules
from policyd.store.file import rule_set
from tests.places import PROJECT

PAGE = (PROJECT / "docs" / "concepts.md").read_text("utf-8")
SPECIFICATION = (PROJECT / "docs" / "specification.md").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a decision needs of a request, and what the page says of the answer."""

    row: str
    name: str
    client_address: str
    encryption_protocol: str
    ccert_subject: str
    ccert_issuer: str
    ccert_fingerprint: str
    sender: str
    recipient: str
    action: str
    reason: str
    attribution: str
    protocol_state: str = "RCPT"
    ccert_pubkey_fingerprint: str = ""

    @property
    def certificate_subject(self) -> str:
        return self.ccert_subject


def _examples() -> list[Asked]:
    section = PAGE.split("## Examples")[1]
    found = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 9 or cells[0] in ("row", "---"):
            continue
        row, name, address, certificate, sender, recipient, action, reason, attribution = cells
        address, _, no_tls = address.partition(", no TLS") if "no TLS" in address else (address, "", None)
        verified = certificate not in ("", "unverified")
        found.append(
            Asked(
                row=row,
                name=name,
                client_address=address,
                encryption_protocol="TLSv1.3" if no_tls is None else "",
                ccert_subject=certificate if verified else "",
                ccert_issuer="Example CA" if verified else "",
                ccert_fingerprint="AA:BB" if certificate else "",
                sender=sender.strip("`").strip("<>"),
                recipient=recipient,
                action=action,
                reason=reason.strip("`"),
                attribution=attribution,
            )
        )
    return found


EXAMPLES = _examples()


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    """The page's own rules."""
    block = re.search(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert block is not None
    file: Path = tmp_path_factory.mktemp("concepts") / "policyd.toml"
    file.write_text(block[1], "utf-8")
    loaded = load(str(file))
    assert loaded.configuration is not None, loaded.problems
    return loaded.configuration.rules


@pytest.mark.parametrize("asked", EXAMPLES, ids=lambda asked: asked.name)
def test_example(asked: Asked, rules: Rules) -> None:
    """Answer, reason, attribution, and for rows 1 to 5 that it is this row."""
    compiled = rule_set(rules)
    decision = decide(compiled, asked)
    attribution = ", ".join(filter(None, (decision.organization, decision.connector)))
    assert (decision.action, decision.reason, attribution) == (asked.action, asked.reason, asked.attribution)
    if asked.row in "12345":
        sender, recipient = compiled.domain_of(asked.sender), compiled.domain_of(asked.recipient)
        rows = [row_of(match, sender, recipient) for match in identity_of(compiled, asked).matches]
        assert min(row for row in rows if row is not None) == int(asked.row)


def test_terms() -> None:
    """They mean what the specification says."""
    table = re.search(r"^\| term \| meaning \|\n(?:\|.*\n)+", PAGE, re.MULTILINE)
    assert table is not None
    assert table[0] in SPECIFICATION


@pytest.mark.parametrize("section", ["Identity", "Belonging", "The decision"])
def test_rules_lead_to_the_specification(section: str) -> None:
    """What is told here in other words has a link to where it counts; that the link leads there, test_pages says."""
    assert "](specification.md#3" in PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]


def test_every_reason_has_an_example() -> None:
    """But those that need another `policy.incoming`."""
    reasons = {asked.reason for asked in EXAMPLES}
    assert reasons == {str(reason) for reason in Reason} - {"", "incoming-refused"}


def test_incoming_refused(rules: Rules) -> None:
    """What the page says of it in words."""
    assert 'With `incoming = "REJECT"` he gets `incoming-refused`' in PAGE
    asked = next(asked for asked in EXAMPLES if asked.name == "a stranger writes to contoso")
    decision = decide(rule_set(replace(rules, incoming="REJECT")), asked)
    assert (decision.action, decision.reason) == ("REJECT", "incoming-refused")
