"""The memory behind the attribution header: which DATA request gets it, and how little is kept (SPEC 3.5)."""

from __future__ import annotations

import pytest

from policyd.policy.decision import Decision, Reason
from policyd.protocol.request import Request
from policyd.service import attribution_header as module
from policyd.service.attribution_header import AGE, Messages, header, key_of

BRANCH = Decision("OK", Reason.SENDER_DOMAIN, "contoso", "branch")
INCOMING = Decision("OK", Reason.INCOMING, "contoso")
RCPT = Request("RCPT", "203.0.113.5", "40001", "kate@contoso.com", "x@other.example", "0", "", "1f3.65.0")
DATA = RCPT._replace(protocol_state="DATA", recipient="", recipient_count="1")


def remembering(*decisions: Decision, request: Request = RCPT) -> Messages:
    messages = Messages()
    for decision in decisions:
        messages.remember(key_of(request), decision, 0.0)
    return messages


def test_what_all_recipients_share() -> None:
    messages = remembering(BRANCH, BRANCH._replace(reason=Reason.RECIPIENT_DOMAIN))
    assert messages.decision_for(DATA, 1.0) == BRANCH
    assert messages.decision_for(DATA._replace(recipient_count="2"), 1.0) == BRANCH
    assert messages.decision_for(DATA._replace(recipient_count="000000001"), 1.0) == BRANCH
    for count in ("3", "0", "", "-1", "+1", " 1", "1_", "x", "\u0661", "\u00b2", "0000000001", "1" * 5000):
        assert messages.decision_for(DATA._replace(recipient_count=count), 1.0) is None
    assert messages.unknown == 0


@pytest.mark.parametrize(
    "decisions",
    [
        [INCOMING],
        [BRANCH, INCOMING],
        [INCOMING, BRANCH],
        [BRANCH, BRANCH._replace(connector="head-office"), BRANCH],
        [BRANCH, BRANCH._replace(organization="fabrikam")],
    ],
)
def test_mixed_and_incoming_messages_get_none(decisions: list[Decision]) -> None:
    messages = remembering(*decisions)
    assert messages.decision_for(DATA, 1.0) is None
    assert messages.unknown == 0, "it is known, and has no header"


@pytest.mark.parametrize("action", ["REJECT", "DEFER", "DUNNO"])
def test_what_was_not_answered_ok_does_not_count(action: str) -> None:
    refused = BRANCH._replace(action=action)  # type: ignore[arg-type]
    assert len(remembering(refused)) == 0
    assert remembering(BRANCH, refused).decision_for(DATA._replace(recipient_count="2"), 1.0) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"instance": "1f3.65.1"},
        {"client_address": "127.0.0.1"},
        {"client_port": "40002"},
        {"client_port": ""},
        {"sender": "mallory@contoso.com"},
        {"sender": ""},
    ],
)
def test_a_guessed_instance_is_not_enough(changed: dict[str, str]) -> None:
    """DATA has to repeat the client's address and port and the sender; each other one is counted."""
    messages = remembering(BRANCH)
    assert messages.decision_for(DATA._replace(**changed), 1.0) is None
    assert messages.unknown == 1
    assert messages.decision_for(DATA, 1.0) == BRANCH


@pytest.mark.parametrize("name", ["instance", "client_address", "client_port"])
@pytest.mark.parametrize("value", ["", "unknown"])
def test_what_cannot_be_told_from_others_is_not_remembered(name: str, value: str) -> None:
    request = RCPT._replace(**{name: value})
    messages = remembering(BRANCH, request=request)
    assert len(messages) == 0
    assert messages.decision_for(request._replace(protocol_state="DATA", recipient_count="1"), 1.0) is None


def test_a_bounce_is_remembered() -> None:
    request = RCPT._replace(sender="")
    assert remembering(BRANCH, request=request).decision_for(DATA._replace(sender=""), 1.0) == BRANCH


def test_long_keys_are_not_remembered() -> None:
    """No peer of policyd can fill the memory by what it calls a sender or an instance."""
    longest = RCPT._replace(sender="s" * (600 - sum(map(len, key_of(RCPT)[:3]))))
    assert len(remembering(BRANCH, request=longest)) == 1
    for name in ("instance", "client_address", "client_port", "sender"):
        longer = longest._replace(**{name: f"{getattr(longest, name)}1"})
        assert len(remembering(BRANCH, request=longer)) == 0, name


def test_old_messages_are_forgotten() -> None:
    messages = remembering(BRANCH)
    assert messages.decision_for(DATA, AGE) == BRANCH
    assert messages.decision_for(DATA, AGE + 1) is None
    messages.remember(key_of(RCPT._replace(instance="2")), BRANCH, AGE + 1)
    assert len(messages) == 1


def test_all_that_are_old_are_forgotten_and_no_other() -> None:
    messages = Messages()
    for number in range(5):
        messages.remember(key_of(RCPT._replace(instance=f"1.{number}")), BRANCH, float(number))
    messages.remember(key_of(RCPT), BRANCH, AGE + 2)
    assert len(messages) == 4
    found = [messages.decision_for(DATA._replace(instance=f"1.{number}"), 4.0) for number in range(5)]
    assert found == [None, None, BRANCH, BRANCH, BRANCH]
    assert messages.unknown == 2


def test_the_memory_is_bounded_whatever_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of messages that get no header the oldest are forgotten first: then they count as unknown."""
    monkeypatch.setattr(module, "MESSAGES", 3)
    messages = Messages()
    for number in range(5):
        messages.remember(key_of(RCPT._replace(instance=f"1.{number}")), INCOMING, 0.0)
        assert len(messages) == min(number + 1, 3)
    unknown = []
    for number in range(5):
        before = messages.unknown
        assert messages.decision_for(DATA._replace(instance=f"1.{number}"), 0.0) is None
        unknown.append(messages.unknown > before)
    assert unknown == [True, True, False, False, False]


def test_messages_of_others_take_nothing_away() -> None:
    messages = Messages()
    messages.remember(key_of(RCPT._replace(instance="other")), INCOMING, 0.0)
    messages.remember(key_of(RCPT), BRANCH, 0.0)
    messages.remember(key_of(RCPT._replace(instance="third")), BRANCH._replace(connector="head-office"), 0.0)
    assert messages.decision_for(DATA, 0.0) == BRANCH
    assert messages.unknown == 0


def test_without_an_instance_there_is_nothing_to_know() -> None:
    """A client of ours that is no Postfix: none is counted as unknown."""
    messages = remembering(BRANCH)
    assert messages.decision_for(DATA._replace(instance=""), 1.0) is None
    assert messages.unknown == 0


def test_messages_without_a_connector_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MESSAGES", 3)
    messages = Messages()
    for number, decision in enumerate((BRANCH, INCOMING, INCOMING, BRANCH, BRANCH, BRANCH)):
        messages.remember(key_of(RCPT._replace(instance=f"1.{number}")), decision, 0.0)
        assert len(messages) == min(number + 1, 3)
    found = [messages.decision_for(DATA._replace(instance=f"1.{number}"), 0.0) for number in range(6)]
    assert found == [None, None, None, BRANCH, BRANCH, BRANCH]


def test_the_text() -> None:
    assert header("X-Hub", BRANCH) == "PREPEND X-Hub: organization=contoso; connector=branch; by=sender-domain"
