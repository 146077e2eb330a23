"""Log lines by table, and what is logged when (SPEC 6)."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from policyd.policy.decision import Decision, Reason
from policyd.protocol.request import Request
from policyd.records.decision_line import decision_line, log_value
from policyd.service import decision_log as module
from policyd.service.decision_log import DecisionLog
from tests.helpers.in_memory import ListOutput

# The example of the specification.
EXAMPLE = Request(
    protocol_state="RCPT",
    client_address="203.0.113.9",
    sender="a@contoso.com",
    recipient="x@other.example",
    instance="1f3.65",
    ccert_subject="mail.contoso.com",
    encryption_protocol="TLSv1.3",
)
REFUSED = Decision("REJECT", Reason.NO_CONNECTOR)
LINE = (
    "NOQUEUE: action=REJECT reason=no-connector organization= connector= client=203.0.113.9 "
    "certificate=mail.contoso.com issuer= key= sender=<a@contoso.com> recipient=<x@other.example> "
    "tls=TLSv1.3 instance=1f3.65 generation=7"
)


def test_the_example_of_the_specification() -> None:
    assert decision_line(EXAMPLE, REFUSED, 7) == LINE
    assert decision_line(EXAMPLE, REFUSED, 7, monitor=True) == LINE + " mode=monitor"


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ({"queue_id": "4XyZ"}, "NOQUEUE: ", "4XyZ: "),
        ({"sender": ""}, "sender=<a@contoso.com>", "sender=<>"),
        ({"sender": "a b@x"}, "sender=<a@contoso.com>", 'sender="<a b@x>"'),
        ({"sender": 'a"b\\c@x'}, "sender=<a@contoso.com>", r'sender="<a\"b\\c@x>"'),
        ({"sender": "a<b@x"}, "sender=<a@contoso.com>", 'sender="<a<b@x>"'),
        ({"sender": "a@x> recipient=<b"}, "sender=<a@contoso.com>", 'sender="<a@x> recipient=<b>"'),
        ({"sender": "käte@x"}, "sender=<a@contoso.com>", r'sender="<k\xc3\xa4te@x>"'),
        ({"sender": "\udcff@x"}, "sender=<a@contoso.com>", r'sender="<\xff@x>"'),
        ({"sender": "a\r\x1b@x"}, "sender=<a@contoso.com>", r'sender="<a\x0d\x1b@x>"'),
        ({"sender": "SRS0=h=t=x=j@x"}, "sender=<a@contoso.com>", "sender=<SRS0=h=t=x=j@x>"),
        ({"ccert_issuer": "Lab+20Test+20CA"}, "issuer=", 'issuer="Lab Test CA"'),
        ({"ccert_issuer": "a+2Bb"}, "issuer=", "issuer=a+b"),
        ({"ccert_issuer": "bad+2"}, "issuer=", "issuer=bad+2"),
        ({"ccert_issuer": "+FF"}, "issuer=", "issuer=+FF"),
        ({"ccert_subject": "x+0Aaction=OK"}, "certificate=mail.contoso.com", r'certificate="x\x0aaction=OK"'),
        ({"ccert_subject": "<relay>"}, "certificate=mail.contoso.com", "certificate=<relay>"),
        ({"ccert_subject": "Post+20<relay>"}, "certificate=mail.contoso.com", 'certificate="Post <relay>"'),
        ({"ccert_pubkey_fingerprint": "AA:BB"}, "key=", "key=AA:BB"),
        ({"client_address": "unknown"}, "client=203.0.113.9", "client=unknown"),
        ({"instance": "a action=OK"}, "instance=1f3.65", 'instance="a action=OK"'),
        ({"encryption_protocol": '"'}, "tls=TLSv1.3", r'tls="\""'),
    ],
)
def test_values(change: dict[str, str], before: str, after: str) -> None:
    assert decision_line(EXAMPLE._replace(**change), REFUSED, 7) == LINE.replace(before, after, 1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", ""),
        ("<>", "<>"),
        ("<", '"<"'),
        (">", '">"'),
        ("><", '"><"'),
        ("a>", '"a>"'),
        ("<a>", "<a>"),
        ("<<>", '"<<>"'),
        ("<a b>", '"<a b>"'),
        (" ", '" "'),
        ("\x7f", r'"\x7f"'),
        ("x" * 255, "x" * 255),
        ("x" * 256, "x" * 255),
        ("<" + "x" * 300 + ">", "<" + "x" * 253 + ">"),
        ("x" * 254 + "ü", '"' + "x" * 254 + r"\xc3" + '"'),  # octets are counted, not letters
        ('"' * 256, '"' + r"\"" * 255 + '"'),
    ],
)
def test_quoting(value: str, shown: str) -> None:
    assert log_value(value) == shown


def test_without_local_parts() -> None:
    request = EXAMPLE._replace(sender="kate@contoso.com", recipient="bob%x@other.example")
    line = decision_line(request, REFUSED, 7, domain_only=True)
    assert " sender=<*@contoso.com> recipient=<*%@other.example> " in line


# --- when ------------------------------------------------------------------------------------------------------------


class Log:
    def __init__(self, path: str = "", events: ListOutput | None = None) -> None:
        self.output, self.clock, self.events = ListOutput(path), Clock(), events
        self.log = DecisionLog(self.output, self.clock, events)  # type: ignore[arg-type]

    def decide(self, action: str) -> None:
        self.log.decided(EXAMPLE, Decision(action, Reason.INCOMING), 7)  # type: ignore[arg-type]

    def lines(self) -> list[str]:
        return self.output.text().splitlines()


def test_lines_are_written_in_batches() -> None:
    log = Log()
    for _ in range(10):
        log.decide("OK")
    assert log.output.written == []
    assert len(log.clock.getDelayedCalls()) == 1, "one timer for all of them"
    log.clock.advance(module.BATCH_SECONDS)
    assert len(log.output.written) == 1
    assert len(log.lines()) == 10
    log.decide("OK")
    log.clock.advance(module.BATCH_SECONDS)
    assert len(log.lines()) == 11
    log.clock.advance(10)
    assert len(log.output.written) == 2, "nothing is written where nothing happened"


def test_a_large_batch_is_written_at_once() -> None:
    log = Log()
    for _ in range(module.BATCH_LINES):
        log.decide("OK")
    assert len(log.lines()) == module.BATCH_LINES


@pytest.mark.parametrize(
    ("setting", "logged"),
    [("all", ["OK", "REJECT", "DUNNO"]), ("rejects", ["REJECT"]), ("none", [])],
)
def test_which_decisions(setting: str, logged: list[str]) -> None:
    log = Log()
    log.log.decisions = setting
    for action in ("OK", "REJECT", "DUNNO"):
        log.decide(action)
    log.log.flush()
    assert [line.split(" ")[1] for line in log.lines()] == [f"action={action}" for action in logged]


@pytest.mark.parametrize(("path", "priorities"), [("", ["<6>", "<4>", "<6>"]), ("/x", ["NOQ", "NOQ", "NOQ"])])
def test_priorities_are_for_standard_error_only(path: str, priorities: list[str]) -> None:
    log = Log(path)
    for action in ("OK", "REJECT", "DUNNO"):
        log.decide(action)
    log.log.flush()
    assert [line[:3] for line in log.lines()] == priorities


def test_events_are_written_at_once_behind_the_decisions_before_them() -> None:
    log = Log()
    log.decide("OK")
    log.log.event("something\nof two lines", "<4>")
    assert [line[:20] for line in log.lines()] == [
        "<6>NOQUEUE: action=O",
        "<4>policyd: somethin",
        "<4>policyd: of two l",
    ]


def test_events_go_to_standard_error_too_when_there_is_a_file() -> None:
    log = Log("/x", ListOutput())
    log.decide("OK")
    log.log.event("something")
    assert log.lines()[1] == "policyd: something"
    assert log.events is not None
    assert log.events.text() == "<6>policyd: something\n"


@pytest.mark.parametrize("text", ["a\rb", "a\x1b[2J", "ä", "\udcff", "a\u2028NOQUEUE: b", "a\x0bNOQUEUE: b", "a\0b"])
def test_events_are_safe_lines(text: str) -> None:
    log = Log()
    log.log.event(text)
    assert log.output.text().isascii()
    assert all(line.startswith("<6>policyd: ") and line.isprintable() for line in log.output.text().split("\n")[:-1])


def test_an_internal_error_is_logged_with_its_traceback() -> None:
    log = Log()
    try:
        raise ValueError("of\nours")
    except ValueError as error:
        log.log.internal_error("it broke", error)
    assert all(line.startswith("<4>policyd: ") for line in log.lines())
    assert log.lines()[0] == "<4>policyd: it broke"
    assert "ValueError: of" in log.output.text()


def test_reopening_writes_out_first() -> None:
    log = Log("/x")
    log.decide("OK")
    log.log.reopen()
    assert len(log.lines()) == 1
    assert log.output.reopened == 1
