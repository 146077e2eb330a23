"""The attribution header: what was decided for a message's recipients, told at its DATA request (SPEC 3.5).

RCPT and DATA may come over different connections, so decisions are remembered by `instance`, and only
there. The memory is bounded in number and age; messages that cannot get a header are forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict

from policyd.policy.decision import Decision, Reason
from policyd.protocol.request import Request

MESSAGES = 20000  # remembered at the most
AGE = 3600.0  # seconds; SMTP allows minutes between two commands, and there may be many
_LONGEST_INSTANCE = 100  # octets; Postfix's own have some 20


class _Message:
    """The recipients of one message that were answered OK."""

    __slots__ = ("accepted", "decision", "since")

    def __init__(self, decision: Decision, since: float) -> None:
        self.decision = decision
        self.since = since
        self.accepted = 0


class Messages:
    """What was answered for the recipients of the messages under way."""

    def __init__(self) -> None:
        self.unknown = 0  # DATA requests for a message that is not remembered
        self._attributed: OrderedDict[str, _Message] = OrderedDict()
        self._without: OrderedDict[str, None] = OrderedDict()  # mixed, or of nobody's connector: never a header

    def __len__(self) -> int:
        return len(self._attributed) + len(self._without)

    def remember(self, instance: str, decision: Decision, now: float) -> None:
        """Takes note of the answer to one recipient. `now` is of a clock that never goes back, in seconds."""
        if decision.action != "OK" or not instance or len(instance) > _LONGEST_INSTANCE or instance in self._without:
            return
        message = self._attributed.get(instance)
        if message is None and decision.connector:
            message = self._attributed[instance] = _Message(decision, now)
        if message is not None and message.decision[2:] == decision[2:]:  # organization and connector
            message.accepted += 1
        else:
            self._attributed.pop(instance, None)
            self._without[instance] = None
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._attributed and next(iter(self._attributed.values())).since < now - AGE:
            self._attributed.popitem(last=False)
        while len(self) > MESSAGES:
            (self._without or self._attributed).popitem(last=False)

    def decision_for(self, request: Request, now: float) -> Decision | None:
        """The decision that all recipients of the message share; None where there is no such."""
        if not request.instance:
            return None
        message = self._attributed.get(request.instance)
        if message is None or message.since < now - AGE:
            self.unknown += request.instance not in self._without
            return None
        count = request.recipient_count
        if not (count.isascii() and count.isdigit() and len(count) < 10) or not 0 < int(count) <= message.accepted:
            return None
        return message.decision


def header(name: str, decision: Decision) -> str:
    """The access(5) action that puts the header on a message. The names are ASCII by their own rule."""
    by = Reason(decision.reason).value
    return f"PREPEND {name}: organization={decision.organization}; connector={decision.connector}; by={by}"
