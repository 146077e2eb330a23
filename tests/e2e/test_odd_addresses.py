"""Addresses of every odd spelling through a real Postfix: judged by where mail went, not by what was replied.

Thousands of spellings cannot have their replies in a table. What must hold for all of them: a stranger's mail reaches
nobody outside, and what leaves under a connector has a sender of its own organization, both as the next hop reads
addresses. The spellings are made from pieces, the same ones in each run; some are written out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from tests.e2e.hub import BRANCH, RELAY_RECIPIENTS, STRANGER, Hub, Mail
from tests.e2e.smtp import Message, SmtpClient
from tests.laws.reference import canonical

KATE, JOHN, OUTSIDE = "kate@contoso.com", "john@elsewhere.example", "x@other.example"
SPELLINGS = 1500  # of each kind
IN_A_SESSION = 50

LOCALS = (
    "kate",
    "x",
    "",
    "kate+x",
    '"kate"',
    '"kate@contoso.com"',
    '"x@other.example"',
    "x%other.example",
    "kate%contoso.com",
    "other.example!x",
    "contoso.com!kate",
    "x\\@other.example",
    "x@other.example",
    '"x"@other.example',
    "-x",
    "|x",
    "/x",
    '"x%other.example"',
    "x\uff20other.example",
    "x\uff05other.example",
    "x\ufe6bother.example",
    '"x\t"',
    '" "',
    '"\\""',
    "x=other.example",
    "x#other.example",
    "postmaster",
    "MAILER-DAEMON",
    "@other.example:x",
    "ü",
    "\u202ex",
    "a,b",
    "a;b",
)
SIGNS = ("@", "@", "@", "@", "@", "%", "!", "@@", " @ ", "@\u200b", "\uff20", "@.", ".@", "")
DOMAINS = (
    "contoso.com",
    "contoso.com",
    "contoso.com",
    "other.example",
    "other.example",
    "CONTOSO.COM",
    "contoso.com.",
    "contoso.com..",
    ".contoso.com",
    "contoso.com%other.example",
    "contoso.com@other.example",
    "contoso.com!other.example",
    "other.example%contoso.com",
    "contoso.com:25",
    "contoso.com/other.example",
    "contoso.com,other.example",
    "contoso.com other.example",
    "contoso.com(other.example)",
    "(contoso.com)other.example",
    "contoso.com\\other.example",
    "contoso.com\uff0eother.example",
    "other.example\uff20contoso.com",
    "contoso.com\uff05other.example",
    "ｃontoso.com",
    "conto\u017fo.com",
    "contoso\u3002com",
    "con\u00adtoso.com",
    "contoso.com\u00ad",
    "xn--contoso-.com",
    "bücher.example",
    "BÜCHER.example",
    "bu\u0308cher.example",
    "xn--bcher-kva.example",
    "xn--BCHER-KVA.example",
    "lab.contoso.net",
    "x.contoso.net",
    "tailspintoys.com",
    "[127.0.0.1]",
    "[IPv6:::1]",
    "[203.0.113.5",
    "127.0.0.1",
    "hub.example",
    "[hub.example]",
    "[contoso.com]",
    "#contoso.com",
    "-",
    "_contoso.com",
    "contoso_.com",
    "com",
    "",
    '"contoso.com"',
)
AROUND = (
    "<{}>",
    "<{}>",
    "<{}>",
    "<{}>",
    "<{}>",
    "{}",
    "<{}",
    "{}>",
    "<<{}>>",
    "< {} >",
    "<\t{}>",
    "<{}\r>",
    "<{}\x00>",
    "<{}\x01>",
    "<@other.example:{}>",
    "<@contoso.com,@other.example:{}>",
    "<@other.example,{}>",
    "kate <{}>",
    '"kate@contoso.com" <{}>',
    "<{}> (kate@contoso.com)",
    "<{} (kate@contoso.com)>",
    "<(kate@contoso.com) {}>",
    "<kate@contoso.com,{}>",
    "<{},kate@contoso.com>",
    "<kate@contoso.com {}>",
    "<{};>",
    "<all:{};>",
    "<all: kate@contoso.com, {};>",
    "<{}>,<x@other.example>",
    "<{}><x@other.example>",
    "<{}> <x@other.example>",
    "<{}%contoso.com>",
    "<{}@contoso.com>",
    "<{}> ORCPT=rfc822;x@other.example",
    "<{}> NOTIFY=NEVER",
    "<{}>\x0b",
    "<\\{}>",
    '<"{}">',
    "<kate@contoso.com\\,{}>",
)
WRITTEN_OUT = (
    "<>",
    "",
    "<@>",
    "<@contoso.com>",
    "<@contoso.com:>",
    "<@other.example:@contoso.com>",
    "<kate>",
    "<,>",
    "<:;>",
    "<()>",
    '<"">',
    '<""@>',
    '<"@">',
    "<%>",
    "<!>",
    "<x%>",
    "<!x>",
    "<x!>",
    "<x%other.example%>",
    "<x%%other.example@contoso.com>",
    "<kate@contoso.com\x00@other.example>",
    "<x@other.example\x00@contoso.com>",
    "<kate@contoso.com\r@other.example>",
    "<" + "x" * 1900 + "@contoso.com>",
    "<x@" + "a." * 400 + "contoso.com>",
    "<x@" + "\u0301" * 300 + ".contoso.com>",
    "<" + "x%a.example" * 100 + "@contoso.com>",
    "<" + "a.example!" * 100 + "x@contoso.com>",
    "<" + "@a.example," * 100 + "@b.example:x@contoso.com>",
    "<" + '"' * 500 + "@contoso.com>",
    "<" + "(" * 300 + "x@contoso.com>",
)


def spellings(seed: int) -> Iterator[bytes]:
    """What stands behind `RCPT TO:` or `MAIL FROM:`."""
    yield from (text.encode() for text in WRITTEN_OUT)
    chance = random.Random(seed)
    for _ in range(SPELLINGS):
        address = chance.choice(LOCALS) + chance.choice(SIGNS) + chance.choice(DOMAINS)
        yield chance.choice(AROUND).replace("{}", address).encode()


def sent(hub: Hub, client: Mail, envelopes: Sequence[tuple[bytes, bytes]]) -> list[Message]:
    """Each envelope (sender, recipient, as they stand on the wire) as a message; what the next hop got of them all."""
    token = f"odd-{random.randrange(1 << 40):x}"
    accepted = 0
    for first in range(0, len(envelopes), IN_A_SESSION):
        with hub.client("inet", client) as session:
            for sender, recipient in envelopes[first : first + IN_A_SESSION]:
                accepted += one(session, sender, recipient, token)
            session.quit()
    hub.postfix.wait_until_idle()
    relayed = hub.sink.with_token(token)
    assert len(relayed) == accepted, "what was taken is delivered, or this test does not see all"
    return relayed


def one(session: SmtpClient, sender: bytes, recipient: bytes, token: str) -> bool:
    """One message; whether Postfix took it."""
    mail = session.command(b"MAIL FROM:" + sender + b" SMTPUTF8")
    if not mail.accepted:
        mail = session.command(b"MAIL FROM:" + sender)
    taken = False
    if mail.accepted and session.command(b"RCPT TO:" + recipient).accepted:
        taken = session.data(f"Subject: {token}\r\n\r\n{sender!a} {recipient!a}\r\n".encode()).accepted
    session.command("RSET")
    return taken


def angled(address: str) -> bytes:
    """As a command has it."""
    return f"<{address}>".encode()


def address_of(text: str) -> tuple[str, str]:
    """The local part, and the domain as one reads it who delivers: Postfix folds case by Unicode."""
    local_part, at, domain = text.rpartition("@")
    return local_part if at else text, domain.removesuffix(".").casefold()


@pytest.mark.parametrize("certificate", [None, "unknown", "foreign"], ids=["plain", "unknown", "untrusted"])
def test_strangers_reach_nobody_outside(certificate: str | None, hub: Hub) -> None:
    """Whatever the recipient looks like: known recipients of the hub get it, or nobody."""
    odd = [*spellings(1)][:: 20 if certificate else 1]
    relayed = sent(hub, Mail("", (), certificate, STRANGER), [(angled(JOHN), each) for each in (*odd, angled(KATE))])
    known = {address_of(address) for address in RELAY_RECIPIENTS}
    for message in relayed:
        for recipient in message.recipients:
            local_part, domain = address_of(recipient)
            assert domain == "hub.example" or (local_part.strip('"'), domain) in known, (recipient, message.content)
    assert (KATE,) in {message.recipients for message in relayed}


def is_contosos(domain: str) -> bool:
    """As IDNA has it, and not what is delegated."""
    name = canonical(domain)
    if name in ("contoso.com", "xn--bcher-kva.example"):
        return True
    return f".{name}".endswith(".contoso.net") and not f".{name}".endswith(".lab.contoso.net")


def test_connectors_mail_leaves_with_its_own_senders_only(hub: Hub) -> None:
    """Whatever the sender looks like: the next hop sees one of the organization's, or no message."""
    envelopes = [(each, angled(OUTSIDE)) for each in (*spellings(2), angled(KATE))]
    relayed = sent(hub, Mail("", (), address=BRANCH), envelopes)
    for message in relayed:
        _, domain = address_of(message.sender)
        assert message.recipients == (OUTSIDE,)
        assert is_contosos(domain), (message.sender, message.content)
    assert KATE in {message.sender for message in relayed}


@pytest.mark.parametrize("certificate", [None, "contoso"], ids=["address", "certificate"])
def test_connectors_mail_goes_where_it_says(certificate: str | None, hub: Hub) -> None:
    """A connector may send anywhere, but no recipient leads on from there, and none to a locked organization."""
    odd = [*spellings(3)][:: 10 if certificate else 1]
    client = Mail("", (), certificate, STRANGER if certificate else BRANCH)
    relayed = sent(hub, client, [(angled(KATE), each) for each in (*odd, angled(OUTSIDE))])
    for message in relayed:
        for recipient in message.recipients:
            local_part, domain = address_of(recipient)
            assert not set("@%!") & set(local_part), (recipient, message.content)
            assert canonical(domain) not in (None, "tailspintoys.com"), (recipient, message.content)
    assert (OUTSIDE,) in {message.recipients for message in relayed}
