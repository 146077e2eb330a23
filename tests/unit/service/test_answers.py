"""From a request to the bytes of its answer: actions, monitor mode, and what happens when our own code fails."""

from __future__ import annotations

from typing import Any

import pytest

from policyd.policy.decision import Decision, Reason
from policyd.protocol.request import Request
from policyd.service import answers as module
from tests.helpers.compiled import compiled
from tests.helpers.conversation import question
from tests.helpers.in_memory import InMemory

OURS = Request("RCPT", "203.0.113.5", "40001", "kate@contoso.com", "x@other.example")
STRANGERS = OURS._replace(client_address="198.51.100.9", instance="1.2")
DATA = OURS._replace(protocol_state="DATA")


def test_actions() -> None:
    answers = InMemory().answers
    assert answers.answer(OURS)[0] == b"action=OK\n\n"
    assert answers.answer(DATA)[0] == b"action=DUNNO\n\n"
    assert answers.answer(STRANGERS)[0].startswith(b"action=REJECT 5.7.1 Relaying denied for this server: ")
    assert answers.answer(STRANGERS)[0].endswith(b" (ref 1.2)\n\n")


def test_monitor_mode_answers_dunno_and_keeps_the_decision() -> None:
    answers = InMemory().answers
    answers.put_in_force(answers.rules, monitor=True)
    for request, action in ((OURS, "OK"), (DATA, "DUNNO"), (STRANGERS, "REJECT")):
        reply, (_, decision, _) = answers.answer(request)
        assert reply == b"action=DUNNO\n\n"
        assert decision is not None
        assert decision.action == action


@pytest.mark.parametrize(
    ("monitor", "header", "prepended"), [(False, "X-Hub", True), (True, "X-Hub", False), (False, "", False)]
)
def test_the_header_is_given_when_it_is_configured_but_not_in_monitor_mode(
    monitor: bool, header: str, prepended: bool
) -> None:
    """SPEC 3.5. Both ways remember, and neither does in monitor mode, so that nothing is known afterwards."""
    for short in (False, True):
        memory = InMemory()
        answers = memory.answers
        answers.put_in_force(answers.rules, monitor, header)
        if short:
            assert answers.usual.answer(question(client_address="203.0.113.5", sender="kate@contoso.com")) is not None
        else:
            answers.answer(OURS._replace(instance="1f3.65.0"))
        reply = answers.answer(DATA._replace(instance="1f3.65.0", recipient_count="1"))[0]
        assert reply.startswith(b"action=PREPEND X-Hub: ") == prepended
        assert prepended or reply == b"action=DUNNO\n\n"
        assert len(answers.attributions) == prepended


HEAD_OFFICE = """
[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.head-office]
certificate_names = ["mail.contoso.com"]
"""


@pytest.mark.parametrize("short", [False, True], ids=["long-way", "short-way"])
def test_the_header_is_only_for_a_client_that_the_connector_recognises(short: bool) -> None:
    """SPEC 3.5: who asks policyd himself can have anything remembered for his own address, port and sender."""
    certificate = {"ccert_subject": "mail.contoso.com", "encryption_protocol": "TLSv1.3"}
    shown = {"client_address": "127.0.0.1", "client_port": "40007", "instance": "1f3.65.0", "sender": "a@contoso.com"}
    answers = InMemory(compiled(HEAD_OFFICE)).answers
    answers.put_in_force(answers.rules, header_name="X-Hub")
    if short:
        assert answers.usual.answer(question(**shown, **certificate)) is not None
    else:
        answers.answer(Request("RCPT", recipient="x@other.example", **shown, **certificate))
    data = Request("DATA", recipient_count="1", **shown)
    assert answers.answer(data)[0] == b"action=DUNNO\n\n"
    assert answers.answer(data._replace(**certificate))[0].startswith(b"action=PREPEND X-Hub: ")
    answers.put_in_force(compiled(HEAD_OFFICE.replace("mail.", "mx.")), header_name="X-Hub")
    assert answers.answer(data._replace(**certificate))[0] == b"action=DUNNO\n\n", "the rules have another one now"


def test_what_is_counted_and_logged() -> None:
    memory = InMemory()
    for request in (OURS, STRANGERS, STRANGERS, DATA):
        memory.answers.record(memory.answers.answer(request)[1])
    assert dict(memory.counters.answers) == {
        ("OK", "sender-domain"): 1,
        ("REJECT", "no-connector"): 2,
        ("DUNNO", ""): 1,
    }
    assert memory.logged().count("action=") == 3


def test_the_generation_is_that_of_the_rules_that_decided() -> None:
    memory = InMemory()
    answered = memory.answers.answer(OURS)[1]
    rules = InMemory().answers.rules
    rules.generation = 9
    memory.answers.put_in_force(rules)
    memory.answers.record(answered)
    memory.answers.record(memory.answers.answer(OURS)[1])
    assert [line.rpartition("=")[2] for line in memory.logged().splitlines()] == ["1", "9"]


def broken(*_: Any) -> Decision:
    raise KeyError("of ours")


def test_an_internal_error_defers_and_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemory()
    monkeypatch.setattr(module, "decide", broken)
    for request in (OURS, STRANGERS, DATA):
        reply, answered = memory.answers.answer(request)
        assert reply.startswith(b"action=DEFER 4.3.0 ")
        assert reply.endswith(b"\n\n")
        memory.answers.record(answered)
    log = memory.logged()
    assert log.count("Traceback") == 1
    assert log.count("KeyError: 'of ours'") == 1
    assert all(line.startswith("<4>policyd: ") for line in log.splitlines())
    assert memory.counters.internal_errors == 3
    assert dict(memory.counters.answers) == {("DEFER", "internal-error"): 3}


def test_another_internal_error_is_logged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemory()
    monkeypatch.setattr(module, "decide", broken)
    memory.answers.answer(OURS)
    monkeypatch.setattr(module, "decide", lambda rules, request: None)
    assert memory.answers.answer(OURS)[0].startswith(b"action=DEFER ")
    assert memory.logged().count("Traceback") == 2


def test_a_text_that_cannot_be_sent_is_an_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder refuses it; the client is deferred, not let in."""
    memory = InMemory()
    monkeypatch.setattr(module, "refusal", lambda *_: "REJECT a\naction=OK")
    assert memory.answers.answer(STRANGERS)[0].startswith(b"action=DEFER ")
    monkeypatch.setattr(module, "refusal", lambda *_: "550")
    assert memory.answers.answer(STRANGERS)[0].startswith(b"action=DEFER ")


def test_the_rules_work_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemory()
    with monkeypatch.context() as patch:
        patch.setattr(module, "decide", broken)
        memory.answers.answer(OURS)
    assert memory.answers.answer(OURS)[0] == b"action=OK\n\n"


def test_peer_bytes_in_an_internal_error_cannot_forge_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemory()
    monkeypatch.setattr(module, "decide", broken)
    memory.answers.answer(OURS._replace(sender="a\x0bb\u2028NOQUEUE: action=OK\udcff\x1b[2J\r"))
    log = memory.logged()
    assert log.isascii()
    assert all(c.isprintable() or c == "\n" for c in log)
    assert not any(line.startswith(("NOQUEUE", "<6>NOQUEUE")) for line in log.splitlines())


def test_the_check_of_the_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemory()
    assert memory.answers.check()
    assert "action=" not in memory.logged(), "a question of our own is no decision"
    assert not memory.counters.answers
    with monkeypatch.context() as patch:
        patch.setattr(memory.answers.usual, "answer", broken)
        assert memory.answers.check(), "requests get their answers the long way"
        assert "of ours" in memory.logged()
    assert memory.answers.check()
    monkeypatch.setattr(module, "decide", broken)
    assert not memory.answers.check()


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason])
def test_every_refusal_can_be_sent(reason: Reason, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemory()
    monkeypatch.setattr(module, "decide", lambda rules, request: Decision("REJECT", reason))
    if reason not in (Reason.CERTIFICATE_DOMAIN, Reason.SENDER_DOMAIN, Reason.RECIPIENT_DOMAIN, Reason.INCOMING):
        expected = b"action=DEFER 4.7.1 " if reason is Reason.SUSPENDED else b"action=REJECT 5.7.1"
        assert memory.answers.answer(STRANGERS)[0].startswith(expected)
    else:
        assert memory.answers.answer(STRANGERS)[0].startswith(b"action=DEFER "), "no text for a grant: a bug of ours"
