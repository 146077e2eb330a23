"""Lines of the decision log are read back, whatever journald or syslog puts before them (SPEC 6)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.policy.decision import Decision, Reason
from policyd.protocol.request import Request, decode_xtext, encode_xtext
from policyd.records.decision_line import LoggedDecision, decision_line, parse_log_line, time_of
from tests.laws.test_decision_log import decisions, requests

LINE = (
    "NOQUEUE: action=REJECT reason=no-connector organization= connector= client=203.0.113.9 "
    "certificate=mail.contoso.com issuer= key= sender=<a@contoso.com> recipient=<x@other.example> tls=TLSv1.3 "
    "instance=1f3.65 generation=7"
)
PREFIXES = {
    "nothing": "",
    "a priority": "<6>",
    "journald, short": "Nov 23 09:16:01 hub policyd[71]: ",
    "journald, short-precise": "Nov 23 09:16:01.123456 hub policyd[71]: ",
    "journald, short-iso": "2026-11-23T09:16:01+0100 hub policyd[71]: ",
    "journald, short-iso, newer": "2026-11-23T09:16:01+01:00 hub policyd[71]: ",
    "journald, short-full": "Mon 2026-11-23 09:16:01 UTC hub policyd[71]: ",
    "journald, short-unix": "1795425361.123456 hub policyd[71]: ",
    "journald, short-monotonic": "[12345.678901] hub policyd[71]: ",
    "RFC 3339": "2026-11-23T09:16:01.123456+01:00 hub policyd: ",
    "RFC 3164 with its priority": "<22>Nov 23 09:16:01 hub policyd[71]: ",
    "RFC 5424": "<22>1 2026-11-23T09:16:01.123Z hub policyd 71 - - ",
    "syslog that kept ours": "Nov 23 09:16:01 hub policyd[71]: <6>",
    "a file of ours": "2026-11-23T09:16:01.123Z ",
    "an instance of a unit": "Nov 23 09:16:01 hub.example policyd@north-1[71]: ",
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_any_prefix(prefix: str, end: str) -> None:
    logged = parse_log_line(f"{prefix}{LINE}{end}")
    assert logged == LoggedDecision(
        prefix, "NOQUEUE", "REJECT", "no-connector", "", "", "203.0.113.9", "mail.contoso.com", "", "", "a@contoso.com",
        "x@other.example", "TLSv1.3", "", "1f3.65", "7", False, False,
    )  # fmt: skip


def test_monitor_mode() -> None:
    logged = parse_log_line(f"{LINE} mode=monitor")
    assert logged is not None
    assert logged.monitor


OTHER_LINES = [
    "",
    "policyd: listening on inet:127.0.0.1:10045; 3 organizations",
    "Nov 23 09:16:01 hub policyd[71]: policyd: stopped",
    "postfix/smtpd[342]: NOQUEUE: reject: RCPT from mail.contoso.com[203.0.113.7]: 554 5.7.1 <bob@example.org>: no",
    LINE.replace(" issuer=", " Issuer="),
    LINE.replace(" key=", ""),
    LINE + " more=1",
    LINE.replace("sender=<a@contoso.com>", "sender=a@contoso.com"),
    LINE.replace("NOQUEUE", ""),
    LINE[:100],
    # somebody else's line, that quotes one of ours
    f"Nov 23 09:16:01 hub postfix/cleanup[9]: 4AB12: warning: header Subject: {LINE}",
    f"Nov 23 09:16:01 hub postfix/smtpd[9]: NOQUEUE: reject: {LINE}",
]


@pytest.mark.parametrize("line", OTHER_LINES, ids=range(len(OTHER_LINES)))
def test_other_lines(line: str) -> None:
    assert parse_log_line(line) is None


@settings(max_examples=400, deadline=None)
@given(requests, decisions, st.integers(1, 99), st.booleans(), st.sampled_from(list(PREFIXES.values())))
def test_what_was_logged_is_read_back(
    request: Request, decision: Decision, generation: int, monitor: bool, prefix: str
) -> None:
    logged = parse_log_line(prefix + decision_line(request, decision, generation, monitor=monitor))
    assert logged is not None
    assert logged.prefix == prefix
    assert (logged.action, logged.reason, logged.organization, logged.connector) == decision
    assert (logged.generation, logged.monitor) == (str(generation), monitor)
    long = [value for value in request[1:] if len(value.encode("utf-8", "surrogateescape")) > 200]
    if not long:
        assert not logged.cut
        assert logged.queue_id == (request.queue_id or "NOQUEUE")
        assert (logged.client, logged.sender, logged.recipient) == (
            request.client_address,
            request.sender,
            request.recipient,
        )
        assert (logged.key, logged.tls, logged.login, logged.instance) == (
            request.ccert_pubkey_fingerprint,
            request.encryption_protocol,
            request.sasl_username,
            request.instance,
        )


@pytest.mark.parametrize("field", ["sender", "recipient", "ccert_subject", "instance"])
@pytest.mark.parametrize("character", ["x", "ü", "\udcff", '"'])
def test_a_value_that_may_have_been_cut_is_told(field: str, character: str) -> None:
    def is_cut(length: int) -> bool:
        values: dict[str, Any] = {field: character * length}
        logged = parse_log_line(decision_line(Request("RCPT", **values), Decision("REJECT", Reason.NO_CONNECTOR), 1))
        assert logged is not None
        return logged.cut

    assert is_cut(300)
    assert not is_cut(100)


def test_the_request_says_the_same() -> None:
    request = Request(
        protocol_state="RCPT",
        client_address="2001:db8::25",
        sender="a b@contoso.com",
        recipient="böb@bücher.example",
        queue_id="4AB12",
        instance="1f3.65",
        sasl_username="kate login=x",
        ccert_subject="S+C3+B6hne+20+2B+20M+C3+BCller+20=+20Post+20<relay>",
        ccert_issuer="Example+20CA",
        ccert_pubkey_fingerprint="AA:BB",
        encryption_protocol="TLSv1.3",
    )
    logged = parse_log_line(decision_line(request, Decision("OK", Reason.SENDER_DOMAIN, "contoso", "cert"), 3))
    assert logged is not None
    assert logged.request() == request


def test_a_stamped_message_is_no_recipient() -> None:
    logged = parse_log_line(LINE.replace("REJECT", "PREPEND"))
    assert logged is not None
    assert logged.request().protocol_state == "DATA"


@given(st.text())
def test_xtext_is_read_back(text: str) -> None:
    if text.isprintable() or not any("\ud800" <= c <= "\udfff" for c in text):
        assert decode_xtext(encode_xtext(text)) == text


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TIMES = [
    ("", None),
    ("<6>", None),
    ("[12345.678901] hub policyd[71]: ", None),
    ("Feb 23 09:16:01 hub policyd[71]: ", datetime(2026, 2, 23, 9, 16, 1, tzinfo=UTC)),
    ("Mar  2 09:16:01 hub policyd[71]: ", datetime(2026, 3, 2, 9, 16, 1, tzinfo=UTC)),  # its clock is ahead of ours
    ("Nov 23 09:16:01.5 hub policyd[71]: ", datetime(2025, 11, 23, 9, 16, 1, tzinfo=UTC)),
    ("Feb 29 09:16:01 hub policyd[71]: ", datetime(2024, 2, 29, 9, 16, 1, tzinfo=UTC)),
    ("Feb 30 09:16:01 hub policyd[71]: ", None),
    ("2026-02-23T09:16:01.123Z ", datetime(2026, 2, 23, 9, 16, 1, tzinfo=UTC)),
    ("2026-02-23T09:16:01+0100 hub policyd[71]: ", datetime(2026, 2, 23, 8, 16, 1, tzinfo=UTC)),
    ("2026-02-23T09:16:01.123456-05:30 hub policyd: ", datetime(2026, 2, 23, 14, 46, 1, tzinfo=UTC)),
    ("<22>1 2026-02-23T09:16:01.123Z hub policyd 71 - - ", datetime(2026, 2, 23, 9, 16, 1, tzinfo=UTC)),
    ("Mon 2026-02-23 09:16:01 UTC hub policyd[71]: ", datetime(2026, 2, 23, 9, 16, 1, tzinfo=UTC)),
    ("2026-02-30T09:16:01Z hub policyd[71]: ", None),
    ("1771838161.123456 hub policyd[71]: ", datetime(2026, 2, 23, 9, 16, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize(("prefix", "moment"), TIMES, ids=[prefix or "nothing" for prefix, _ in TIMES])
def test_the_time_of_a_line(prefix: str, moment: datetime | None) -> None:
    assert time_of(prefix, NOW) == moment
