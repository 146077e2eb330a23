"""The attribution header: what was decided for a message's recipients, told at its DATA request (SPEC 3.5).

RCPT and DATA may come over different connections, so decisions are remembered by message: its `instance`, and the
client's address and port and the sender, which a local user who guesses an `instance` does not share. He may know
them, so the named connector has to match the DATA request, too. The memory is bounded in number and age; messages that
cannot get a header are forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict

from policyd.policy.decision import Decision, Reason
from policyd.policy.identity import identity_of
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request

MESSAGES = 20000  # remembered at the most
AGE = 3600.0  # seconds; SMTP allows minutes between two commands, and there may be many
_UNKNOWN = ("", "unknown")  # as Postfix has it
_LONGEST_KEY = 600  # characters; Postfix's instances have some 20, an address by RFC 5321 at the most 254

MessageKey = tuple[str, str, str, str]  # instance, client address, client port, sender


def key_of(request: Request) -> MessageKey:
    """The message that a request is about."""
    return request.instance, request.client_address, request.client_port, request.sender


def _is_usable(key: MessageKey) -> bool:
    """Whether the key tells a message from others; only the sender may be empty."""
    return not any(part in _UNKNOWN for part in key[:3]) and sum(map(len, key)) <= _LONGEST_KEY


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
        self._attributed: OrderedDict[MessageKey, _Message] = OrderedDict()
        self._without: OrderedDict[MessageKey, None] = OrderedDict()  # mixed, or of nobody's connector: never a header

    def __len__(self) -> int:
        return len(self._attributed) + len(self._without)

    def remember(self, key: MessageKey, decision: Decision, now: float) -> None:
        """Takes note of the answer to one recipient. `now` is of a clock that never goes back, in seconds."""
        if decision.action != "OK" or not _is_usable(key) or key in self._without:
            return
        message = self._attributed.get(key)
        if message is None and decision.connector:
            message = self._attributed[key] = _Message(decision, now)
        if message is not None and message.decision[2:] == decision[2:]:  # organization and connector
            message.accepted += 1
        else:
            self._attributed.pop(key, None)
            self._without[key] = None
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
        key = key_of(request)
        message = self._attributed.get(key)
        if message is None or message.since < now - AGE:
            self.unknown += key not in self._without
            return None
        count = request.recipient_count
        if not (count.isascii() and count.isdigit() and len(count) < 10) or not 0 < int(count) <= message.accepted:
            return None
        return message.decision


def recognises(rules: RuleSet, decision: Decision, request: Request) -> bool:
    """Whether the connector that the decision names matches the request's own client (SPEC 3.2)."""
    return any(match[:2] == decision[2:] for match in identity_of(rules, request).matches)


def header(name: str, decision: Decision) -> str:
    """The access(5) action that puts the header on a message. The names are ASCII by their own rule."""
    by = Reason(decision.reason).value
    return f"PREPEND {name}: organization={decision.organization}; connector={decision.connector}; by={by}"
