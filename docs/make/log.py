"""docs/reference/log.md: the fields of a decision line and all lines about the service, from the program's code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from policyd import service
from policyd.policy.decision import Decision, Reason
from policyd.protocol.request import Request
from policyd.records.decision_line import VALUE_LIMIT, decision_line

_HEAD = """\
# Log

<!-- Made by `python docs/make`: change policyd/service/ or docs/make/log.py, not this file. -->

policyd logs to standard error, for journald, or to `[log] file`. On standard error each line begins with a priority,
`<6>` (informational) or `<4>` (warning), which journald takes off: refusals and troubles are warnings. Every line is
printable ASCII. The rules of it are [section 6](../specification.md#6-the-log) of the specification.

## Decisions

One line for each recipient that Postfix asks about (`[log] decisions` says which), as soon as the answer is sent:

```text
{line}
```

The fields always stand in this order. A value that holds anything but visible ASCII, or a quotation mark, a backslash,
or `<` or `>` within it, is quoted; octets that are not printable ASCII are `\\xNN` in it; a quotation mark and a
backslash have a backslash before them. A value is cut at {limit} octets. An empty value means: none.

| field | meaning |
|---|---|
"""
_SERVICE = """
## The service

Lines that begin with `policyd: ` are about the service itself. `...` stands for what differs.

| line | priority | meaning |
|---|---|---|
"""
_TAIL = """
Problems of the configuration are logged as `policyd check` prints them: `FILE:LINE: organization, connector: text`.
An internal error is logged with its traceback, and counted.
"""

_FIELDS = {
    "queue_id": "First on the line, followed by a colon: Postfix's queue id, `NOQUEUE` before there is one.",
    "action": "`OK`, `REJECT`, `DUNNO`, or `PREPEND` for the attribution header at DATA.",
    "reason": "Why: one of [reasons.md](reasons.md).",
    "organization": "Whom the decision is attributed to; on a refusal, who was identified, if it is one.",
    "connector": "The connector that the answer is owed to; on a refusal, the one that identified the client.",
    "client": "The client's address.",
    "certificate": "The name (first CN) of a certificate that Postfix has verified, decoded.",
    "issuer": "The name of its issuer, decoded. Any CA can choose it; it is never compared with anything.",
    "key": "The fingerprint of the client's public key, as Postfix sent it.",
    "sender": 'The envelope sender in `<>`; without its local part where `[log] addresses` is "domain".',
    "recipient": "The envelope recipient, likewise.",
    "tls": "The TLS version; empty without TLS.",
    "instance": "Postfix's name for the message on this connection: the `(ref ...)` in a refusal.",
    "generation": "The rules that decided, counted from 1 at the start.",
    "mode": "`monitor`, only there in monitor mode: Postfix was answered DUNNO.",
}

# What a line about the service means, by the words it begins with.
_EVENTS = {
    "listening on": "Started; with the rules in force.",
    "stopped": "Ended; all that had arrived was answered.",
    "reloaded;": "New rules are in force.",
    "not reloaded:": "The rules in force stay; why stands before it, line by line.",
    "changed:": "What a reload changed: settings, organizations, connectors, partners, domains.",
    "... changed: restart": "A setting that a reload cannot change.",
    "more than": "A connection over `max_connections` was closed at once.",
    "protocol error from": "A peer that does not speak the policy protocol; its connection was closed.",
    "only": "The limit of open files is lower than `max_connections` needs.",
    "cannot accept connections": "Out of file descriptors.",
    "cannot keep the rows": "The last rows could not be written for a start without the database.",
    "the database can be read again": "It could not before.",
    "the database is asked every few seconds": "No notification comes through a pooler, or there are too many.",
    "...; the rows of": "The database cannot be read; the last rows serve.",
    "worker ... ended": "A worker process died; its connections are lost, Postfix connects again.",
    "worker ... did not start": "It is tried again.",
    "worker ... has old rules": "It could not take new rules that are in force elsewhere.",
    "worker ... gives no answers": "It missed two checks.",
}


def page() -> str:
    """The whole page, in Markdown. Raises KeyError for a field or a line of which nothing is said here."""
    head = _HEAD.format(line=_example(), limit=VALUE_LIMIT)
    fields = "".join(f"| `{name}` | {_FIELDS[name]} |\n" for name in ("queue_id", *_names(), "mode"))
    events = "".join(f"| `policyd: {text}` | `{priority}` | {_meaning(text)} |\n" for text, priority in _events())
    return head + fields + _SERVICE + events + _TAIL


def _example() -> str:
    request = Request(
        client_address="203.0.113.9",
        sender="a@contoso.com",
        recipient="x@other.example",
        instance="1f3.65",
        ccert_subject="mail.contoso.com",
        ccert_issuer="Contoso+20CA",
        encryption_protocol="TLSv1.3",
    )
    return "<4>" + decision_line(request, Decision("REJECT", Reason.CERTIFICATE_UNKNOWN), 7)


def _names() -> list[str]:
    """The fields in their order, as a real line has them."""
    return re.findall(r" (\w+)=", decision_line(Request(), Decision("OK", Reason.INCOMING), 1))


def _events() -> list[tuple[str, str]]:
    """Every line about the service in the program's code, with `...` for what is put in, and its priority."""
    found = set()
    for module in sorted(Path(str(service.__file__)).parent.glob("*.py")):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "event":
                text = _template(node.args[0])
                if re.search(r"[a-z]{2}", text):  # else it is passed on from elsewhere
                    found.add((text, "<4>" if len(node.args) > 1 else "<6>"))
    return sorted(found)


def _template(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return re.sub(r"(\.\.\.)+", "...", "".join(_template(part) for part in node.values))
    return "..."


def _meaning(text: str) -> str:
    return _EVENTS[max((start for start in _EVENTS if text.startswith(start)), key=len, default=text)]
