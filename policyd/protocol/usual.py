"""The request that Postfix usually sends, read by one expression: whole, at RCPT, in her order, of plain values.

The short way to what `request.parse_request` reads from the same bytes (SPEC 5). What it does not take is only
unusual: an address without a domain, a quoted or routed local part, another state, an attribute that stands elsewhere.
"""

from __future__ import annotations

import re

from policyd.protocol.request import POLICY_REQUEST, Request, parse_request

# Visible ASCII but for what a log line has to quote (`"`, `<`, `>`, `\`) and for `@`; a recipient's local part may not
# name a route (`%`, `!`) either. The lengths leave room for two in one value of a log line.
_SENDER_LOCAL = r"[!#-;=?A-\[\]-~]{1,128}+@"
_RECIPIENT_LOCAL = r"[#$&-;=?A-\[\]-~]{1,128}+@"
_DOMAIN = "[0-9A-Za-z._-]{1,124}+"
_ANY = ".*+"  # stops at the line's end, and gives nothing back

# Postfix 2.9 and later send these lines first, in this order. Those that came later are optional.
_RECIPIENT_PART = re.compile(
    rf"request={POLICY_REQUEST}\n"
    "protocol_state=RCPT\n"
    rf"protocol_name={_ANY}\n"
    "client_address=([0-9A-Za-z:.]{1,45}+)\n"
    rf"client_name={_ANY}\n"
    rf"(?:client_port=({_ANY})\n)?"
    rf"reverse_client_name={_ANY}\n"
    rf"(?:server_address={_ANY}\n)?"
    rf"(?:server_port={_ANY}\n)?"
    rf"helo_name={_ANY}\n"
    # A sender is empty, or has both parts.
    rf"sender=((?:{_SENDER_LOCAL})?+)((?<=@){_DOMAIN}|(?<==)(?=\n))\n"
    rf"recipient=({_RECIPIENT_LOCAL})({_DOMAIN})\n"
    "recipient_count=0\n"
    "queue_id=([0-9A-Za-z]{0,48}+)\n"
    "instance=([0-9A-Za-z.]{1,48}+)\n"
    rf"size={_ANY}\n"
)
# Then these, which are of the SMTP session, and others that came later or come one day.
_SESSION_PART = re.compile(
    "".join(f"{name}={_ANY}\n" for name in "etrn_domain stress sasl_method".split())
    + rf"sasl_username=({_ANY})\n"
    + rf"sasl_sender={_ANY}\n"
    + "".join(
        f"{name}=({_ANY})\n"
        for name in "ccert_subject ccert_issuer ccert_fingerprint ccert_pubkey_fingerprint encryption_protocol".split()
    )
    + rf"(?:[^\n=]*+={_ANY}\n)*+\n"
)

# A match for the recipient's part at the start of a text, or None. Its groups: client address, client port (None: not
# sent), the sender's local part with its @, the sender's domain, the recipient's local part with its @, the recipient's
# domain, queue id, instance.
match_recipient = _RECIPIENT_PART.match

Session = tuple[str, str, str, str, str, str]  # the last six fields of a Request


def parse_session(rest: str) -> Session | None:
    """What the end of a request, behind `match_recipient`, says of its session; None where it is not usual."""
    match = _SESSION_PART.fullmatch(rest)
    return None if match is None else match.groups()  # type: ignore[return-value]


def request_of(recipient: tuple[str, ...], session: Session) -> Request:
    """The request that both parts make up; `recipient` are the groups of `match_recipient`, the missing ones empty."""
    client, port, sender_local, sender_domain, recipient_local, recipient_domain, queue_id, instance = recipient
    return Request(
        "RCPT",
        client,
        port,
        sender_local + sender_domain,
        recipient_local + recipient_domain,
        "0",
        queue_id,
        instance,
        *session,
    )


def parse_usual(data: bytes) -> Request | None:
    """The request in `data`, where it is a usual one; else None."""
    if b"\0" in data or not data.isascii():
        return None
    text = data.decode("ascii")
    recipient = match_recipient(text)
    session = None if recipient is None else parse_session(text[recipient.end() :])
    if recipient is None or session is None:
        return None
    return request_of(recipient.groups(""), session)


def read_request(data: bytes) -> Request:
    """The request in `data`, which ends with its empty line: `parse_request`, quickly where it can be."""
    return parse_usual(data) or parse_request(data)
