"""What is kept of requests decides as they did: redacted recordings, requests rebuilt from log lines (SPEC 6, 7)."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings

from policyd.policy.attribution import decide
from policyd.protocol.request import parse_request
from policyd.records.decision_line import decision_line, parse_log_line
from policyd.records.redacted import redacted
from tests.helpers.compiled import compiled
from tests.strategies import conversations, patient, wire

worlds = conversations()
many = settings(patient, max_examples=80)
AS_POSTFIX_SENDS = re.compile(r"[!-~]*")


@many
@given(worlds)
def test_a_redacted_request_is_decided_alike(world: tuple[dict[str, Any], list[dict[str, str]]]) -> None:
    config, asked = world
    rules = compiled(config)
    for attributes in asked:
        data = wire(attributes)
        kept = redacted(data)
        assert decide(rules, parse_request(kept)) == decide(rules, parse_request(data))
        for name in (b"sender=", b"recipient="):
            for line in kept.split(b"\n"):
                local_part = line.removeprefix(name).rpartition(b"@")[0]
                assert not line.startswith(name) or set(local_part) <= set(b"*@%!")


@many
@given(worlds)
def test_a_logged_request_is_decided_alike(world: tuple[dict[str, Any], list[dict[str, str]]]) -> None:
    """But for the certificate's fingerprint, which no log line holds."""
    config, asked = world
    rules = compiled(config)
    for attributes in asked:
        request = parse_request(wire(attributes))._replace(ccert_fingerprint="")
        if request.protocol_state != "RCPT":
            continue
        if not (AS_POSTFIX_SENDS.fullmatch(request.ccert_subject) and AS_POSTFIX_SENDS.fullmatch(request.ccert_issuer)):
            continue  # raw bytes, that xtext would never leave as they are
        decision = decide(rules, request)
        logged = parse_log_line(decision_line(request, decision, 1))
        assert logged is not None
        if not logged.cut:
            assert decide(rules, logged.request()) == decision
