"""The short way from the bytes of a usual request to its answer and its log line (SPEC 3.4, 3.6, 6).

What is decided for one client, sender domain and recipient domain is decided again for the next mail, so it is
remembered, with all that a reply and a log line need of it. What is not usual, and what is not remembered, goes the
long way through `Answers`, which alone decides; both ways give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from policyd.policy.decision import Decision
from policyd.policy.names import without_local_part
from policyd.protocol.request import Request
from policyd.protocol.usual import Session, match_recipient, parse_session, request_of
from policyd.records.decision_line import certificate_part, decision_part, end_part, tls_part
from policyd.service.attribution_header import MessageKey
from policyd.service.decision_log import DecisionLog

# Entries of each memory; then it starts anew. Nothing in them could not be worked out again.
_SESSIONS = 16384
_VERDICTS = 32768
_SESSION_LENGTH = 1024  # octets of a session's part; usual ones have 250 to 500
# One object for each protocol: what all sessions share stays in the cache. (An interned string may live for ever.)
_SHARED = {part: part for part in map(tls_part, ("", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"))}
_END = ")\n\n"  # of a refusal, behind the instance


@dataclass(slots=True)
class _Session:
    """What one end of a request says, and what a log line has of it. `number` is of no other one."""

    number: str
    values: Session
    line: str  # from behind the client's address to the sender
    tls: str  # from behind the recipient to the instance


@dataclass(slots=True)
class _Verdict:
    """A decision, in the forms in which it is needed."""

    decision: Decision
    reply: bytes  # empty: `refusal`, the request's instance and the end make it up
    refusal: str
    counted: tuple[str, str]
    logged: bool
    priority: str
    line: str  # from behind the queue id to the client's address


# The reply, what is counted (action and reason), and the log line (empty: none).
UsualAnswer = tuple[bytes, tuple[str, str], str]


class ShortWay:
    """The short way by one rule set and one set of settings; when any of them changes, another one takes its place.

    `judge` gives the reply and the decision for a request, the long way; `remember` is told of each decision and the
    message that it is about, for the attribution header.
    """

    def __init__(
        self,
        judge: Callable[[Request], tuple[bytes, Decision]],
        remember: Callable[[MessageKey, Decision], None] | None,
        log: DecisionLog,
        generation: int,
    ) -> None:
        self._judge = judge
        self._remember = remember
        self._log = log
        self._domain_only = log.domain_only
        self._end = end_part(generation, log.monitor) + "\n"
        self._numbers = count()
        self._sessions: dict[str, _Session] = {}
        self._verdicts: dict[str, _Verdict] = {}
        self._forms: dict[tuple[Decision, bytes], _Verdict] = {}

    def answer(self, data: bytes) -> UsualAnswer | None:
        """The answer to the one usual request that `data` is; None for anything else, and then nothing was done."""
        if not data.isascii() or b"\0" in data:
            return None
        text = data.decode("ascii")
        match = match_recipient(text)
        if match is None:
            return None
        rest = text[match.end() :]
        session = self._sessions.get(rest) or self._keep_session(rest)
        if session is None:
            return None
        parts = client, port, sender_local, sender_domain, recipient_local, recipient_domain, queue_id, instance = (
            match.groups("")
        )
        sender = sender_local + sender_domain  # as it was sent, also where the log hides some of it
        # No two clients, domains and sessions make the same key: none of them holds a space.
        key = f"{client} {sender_domain} {recipient_domain} {session.number}"
        verdict = self._verdicts.get(key) or self._keep_verdict(key, request_of(parts, session.values))
        reply = verdict.reply or f"{verdict.refusal}{instance}{_END}".encode("ascii")
        line = ""
        if verdict.logged:
            if self._domain_only:
                sender_local, recipient_local = _hidden(sender_local), _hidden(recipient_local)
            # As decision_line writes it.
            line = (
                f"{verdict.priority}{queue_id or 'NOQUEUE'}{verdict.line}{client}{session.line}"
                f"<{sender_local}{sender_domain}> recipient=<{recipient_local}{recipient_domain}>"
                f"{session.tls}{instance}{self._end}"
            )
        if self._remember is not None:  # at last: what fails goes the long way, and no recipient counts twice
            self._remember((instance, client, port, sender), verdict.decision)
        return reply, verdict.counted, line

    def _keep_session(self, rest: str) -> _Session | None:
        values = parse_session(rest) if len(rest) <= _SESSION_LENGTH else None
        if values is None:
            return None
        login, subject, issuer, _, key, tls = values
        if len(self._sessions) >= _SESSIONS:
            self._sessions.clear()
        line = certificate_part(subject, issuer, key)
        shown = tls_part(tls, login, self._domain_only)
        session = self._sessions[rest] = _Session(str(next(self._numbers)), values, line, _SHARED.get(shown, shown))
        return session

    def _keep_verdict(self, key: str, request: Request) -> _Verdict:
        reply, decision = self._judge(request)
        end = f"{request.instance}{_END}".encode("ascii")
        refusal = reply.removesuffix(end) if reply.endswith(end) else b""
        # The same decision is one object: their number is the connectors', and what is shared stays in the cache.
        form = decision, refusal or reply
        verdict = self._forms.get(form)
        if verdict is None:
            verdict = self._forms[form] = _Verdict(
                decision=decision,
                reply=b"" if refusal else reply,
                refusal=refusal.decode("ascii"),
                counted=_counted(decision.action, decision.reason),
                logged=self._log.wants(decision),
                priority=self._log.priority(decision),
                line=decision_part(decision),
            )
        if len(self._verdicts) >= _VERDICTS:
            self._verdicts.clear()
            self._forms.clear()
        self._verdicts[key] = verdict
        return verdict


@lru_cache
def _counted(action: str, reason: str) -> tuple[str, str]:
    """The same pair is one object."""
    return action, reason


def _hidden(local_part: str) -> str:
    """The local part with its @ as the log has it without addresses."""
    return without_local_part(f"{local_part}x")[:-1] if local_part else ""
