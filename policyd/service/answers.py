"""A request's way to its answer, without a socket: decide, put into words, encode (SPEC 3.4, 3.5, 3.6).

One `Answers` serves all connections. Each request sees exactly one rule set. A bug in here answers
DEFER, is logged with its traceback and counted; it never says OK.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from policyd.policy.attribution import decide
from policyd.policy.decision import INTERNAL_ERROR, Decision, refusal
from policyd.policy.names import without_local_part
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request
from policyd.protocol.wire import RequestReader, encode_reply, encode_request
from policyd.service.attribution_header import MessageKey, Messages, header, key_of, recognises
from policyd.service.counters import Counters
from policyd.service.decision_log import DecisionLog
from policyd.service.short_way import ShortWay, UsualAnswer

_DUNNO = encode_reply("DUNNO")
_FIXED = {"OK": encode_reply("OK"), "DUNNO": _DUNNO}
_DEFER = encode_reply(INTERNAL_ERROR)

# A question of our own: as Postfix would ask it, and the same in an order that takes the long way.
_SELF_QUERY = [
    (name, value)
    for name, _, value in (
        attribute.partition("=")
        for attribute in (
            "protocol_state=RCPT protocol_name=ESMTP client_address=192.0.2.1 client_name=unknown "
            "reverse_client_name=unknown helo_name=policyd.invalid sender=self-query@policyd.invalid "
            "recipient=self-query@policyd.invalid recipient_count=0 queue_id= instance=1.2.3.0 size=0 etrn_domain= "
            "stress= sasl_method= sasl_username= sasl_sender= ccert_subject= ccert_issuer= ccert_fingerprint= "
            "ccert_pubkey_fingerprint= encryption_protocol="
        ).split()
    )
]
_USUAL_QUERY, _UNUSUAL_QUERY = encode_request(_SELF_QUERY), encode_request(_SELF_QUERY[::-1])

Answered = tuple[Request, Decision | None, int]  # the decision (None: it failed) and the rules' generation


class Answers:
    """Answers requests by the live rules and settings, which are put in force together."""

    def __init__(self, rules: RuleSet, log: DecisionLog, counters: Counters) -> None:
        self.attributions = Messages()
        self._log = log
        self._counters = counters
        self.put_in_force(rules)

    def put_in_force(self, rules: RuleSet, monitor: bool = False, header_name: str = "") -> None:
        """Every later request is answered by `rules`. To be called after the log's settings have changed, too.

        `monitor`: all answers are DUNNO. `header_name`: of the attribution header; empty: none is given.
        """
        self.rules = rules
        self._monitor = monitor
        self._header_name = "" if monitor else header_name
        self.usual = ShortWay(self._judge, self._remember if self._header_name else None, self._log, rules.generation)

    def answer(self, request: Request) -> tuple[bytes, Answered]:
        """The bytes of the reply, and what `record` needs to know of it."""
        generation = self.rules.generation
        try:
            reply, decision = self._judge(request)
            if self._header_name:
                if request.protocol_state == "RCPT":
                    self._remember(key_of(request), decision)
                elif request.protocol_state == "DATA":
                    reply, decision = self._stamped(request) or (reply, decision)
            return reply, (request, decision, generation)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is a temporary refusal
            self._failed(request, error)
            return _DEFER, (request, None, generation)

    def _judge(self, request: Request) -> tuple[bytes, Decision]:
        """The reply and the decision that it carries."""
        decision = decide(self.rules, request)
        if self._monitor:
            return _DUNNO, decision
        reply = _FIXED.get(decision.action)
        return reply or encode_reply(refusal(decision.reason, request.sender, request.instance)), decision

    def _remember(self, message: MessageKey, decision: Decision) -> None:
        self.attributions.remember(message, decision, time.monotonic())

    def _stamped(self, request: Request) -> tuple[bytes, Decision] | None:
        """At DATA, the header for what was decided for the recipients (SPEC 3.5)."""
        shared = self.attributions.decision_for(request, time.monotonic())
        if shared is None or not recognises(self.rules, shared, request):
            return None
        return encode_reply(header(self._header_name, shared)), shared._replace(action="PREPEND")

    def check(self) -> bool:
        """Whether a request still gets an answer: for the watchdog and /healthz. Tries the short way, too."""
        try:
            self.usual.answer(_USUAL_QUERY)
        except Exception as error:  # noqa: BLE001 - requests go the long way then
            self.short_way_failed(error)
        (request,) = RequestReader().receive(_UNUSUAL_QUERY)
        return self.answer(request)[0] != _DEFER

    def record(self, answered: Answered) -> None:
        """Logs and counts what was answered; called after the reply is on its way."""
        request, decision, generation = answered
        if decision is None:
            self._counters.answers["DEFER", "internal-error"] += 1
            return
        self._counters.answers[decision.action, decision.reason] += 1
        self._log.decided(request, decision, generation)

    def record_usual(self, answered: Iterable[UsualAnswer]) -> None:
        """As `record`, for what went the short way."""
        counts = self._counters.answers
        lines = []
        for _, counted, line in answered:
            counts[counted] += 1
            if line:
                lines.append(line)
        if lines:
            self._log.add(lines)

    def short_way_failed(self, error: Exception) -> None:
        """A bug of the short way alone; the request went the long one."""
        self._log.internal_error("internal error on the short way", error)

    def _failed(self, request: Request, error: Exception) -> None:
        """A bug of ours that costs a request its answer."""
        shown = request._replace(
            sender=without_local_part(request.sender), recipient=without_local_part(request.recipient)
        )
        self._log.internal_error(f"internal error, answered with {INTERNAL_ERROR.split()[0]}: {shown!r}", error)
