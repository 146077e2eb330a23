"""A request's way to its answer, without a socket: decide, put into words, encode (SPEC 3.4, 3.6).

One `Answers` serves all connections. Each request sees exactly one rule set. A bug in here answers
DEFER, is logged once with its traceback and counted; it never says OK.
"""

from __future__ import annotations

import time

from policyd.policy.attribution import decide
from policyd.policy.decision import INTERNAL_ERROR, Decision, refusal
from policyd.policy.names import without_local_part
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request
from policyd.protocol.wire import RequestReader, encode_reply, encode_request
from policyd.service.counters import Counters
from policyd.service.decision_log import DecisionLog
from policyd.service.stamping import Attributions, header

_DUNNO = encode_reply("DUNNO")
_FIXED = {"OK": encode_reply("OK"), "DUNNO": _DUNNO}
_DEFER = encode_reply(INTERNAL_ERROR)

_SELF_QUERY = encode_request(
    [
        ("protocol_state", "RCPT"),
        ("client_address", "192.0.2.1"),
        ("sender", "self-query@policyd.invalid"),
        ("recipient", "self-query@policyd.invalid"),
    ]
)

Answered = tuple[Request, Decision | None, int]  # the decision (None: it failed) and the rules' generation


class Answers:
    """Answers requests by the live rules; `rules` is swapped as a whole by a reload."""

    def __init__(self, rules: RuleSet, log: DecisionLog, counters: Counters) -> None:
        self.rules = rules
        self.monitor = False
        self.header_name = ""  # of the attribution header; empty: none is given
        self.attributions = Attributions()
        self._log = log
        self._counters = counters
        self._seen_errors: set[str] = set()

    def answer(self, request: Request) -> tuple[bytes, Answered]:
        """The bytes of the reply, and what `record` needs to know of it."""
        rules = self.rules
        try:
            decision = decide(rules, request)
            if self.header_name and not self.monitor:
                decision = self._stamp(request, decision)
            reply = _DUNNO if self.monitor else _FIXED.get(decision.action) or self._text(request, decision)
            return reply, (request, decision, rules.generation)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is a temporary refusal
            self._failed(request, error)
            return _DEFER, (request, None, rules.generation)

    def _text(self, request: Request, decision: Decision) -> bytes:
        if decision.action == "PREPEND":
            return encode_reply(header(self.header_name, decision))
        return encode_reply(refusal(decision.reason, request.sender, request.instance))

    def check(self) -> bool:
        """Whether a request still gets an answer, through all of the path: for the watchdog and /healthz."""
        reader = RequestReader()
        replies = [self.answer(request)[0] for request in reader.receive(_SELF_QUERY)]
        return len(replies) == 1 and replies[0] != _DEFER

    def _stamp(self, request: Request, decision: Decision) -> Decision:
        """Remembers what is decided for recipients, and gives the header at DATA (SPEC 3.5)."""
        if request.protocol_state == "RCPT":
            self.attributions.remember(request, decision, time.monotonic())
        elif request.protocol_state == "DATA":
            shared = self.attributions.of(request, time.monotonic())
            if shared is not None:
                return shared._replace(action="PREPEND")
        return decision

    def record(self, answered: Answered) -> None:
        """Logs and counts what was answered; called after the reply is on its way."""
        request, decision, generation = answered
        if decision is None:
            self._counters.answers["DEFER", "internal-error"] += 1
            return
        action, reason, _, _ = decision
        self._counters.answers[action, reason] += 1
        if reason:
            self._log.decided(request, decision, generation)

    def _failed(self, request: Request, error: Exception) -> None:
        """A bug of ours: its traceback once for each place, then only the count."""
        self._counters.internal_errors += 1
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{type(error).__name__} at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
        if place not in self._seen_errors:
            self._seen_errors.add(place)
            shown = request._replace(
                sender=without_local_part(request.sender), recipient=without_local_part(request.recipient)
            )
            self._log.internal_error(f"internal error, answered with {INTERNAL_ERROR.split()[0]}: {shown!r}", error)
