"""Names as Postfix reads them, through a real Postfix: no spelling and no name below leads past a lock (SPEC 3.1-3.4).

Postfix folds case in its tables by Unicode, `relay_domains` covers the names below an entry, and append_dot_mydomain
completes a bare host name, all after policyd was asked. An attack has failed when the locked organization's server saw
nothing; good mail has to arrive, with the address as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.e2e.hub import BRANCH, STRANGER, Hub, Mail, recommended_wiring, relay_settings
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Sink
from tests.helpers.certificates import CertificateFiles
from tests.helpers.programs import why_no_postfix

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

ORGANIZATIONS = """
[organizations.hoster]
accepted_domains = ["hoster.example"]
delegated_domains = ["tailspin.hoster.example"]

[organizations.contoso]
accepted_domains = ["contoso.com", "bücher.example", "straße.example", "strasse.example"]

[organizations.contoso.connectors.head-office]
certificate_names = ["mail.contoso.com"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.5"]

[organizations.fabrikam]
accepted_domains = ["fabrikam.com"]

[organizations.fabrikam.connectors.office]
addresses = ["192.0.2.10"]

[organizations.fabrikam.partners.bank]
sender_domains = ["*.bank.example"]
addresses = ["198.51.100.200"]

[organizations.tailspin]
accepted_domains = ["business.example", "tailspin.com", "tailspin.hoster.example"]
connectors_only = true
protect_sender_domains = true
OUTSIDE
[organizations.tailspin.connectors.main]
addresses = ["192.0.2.20"]
"""
OUTSIDE = 'outside_domains = ["news.tailspin.com"]\n'
SYMBOLS = """
[organizations.northwind]
accepted_domains = ["i❤.ws"]

[organizations.northwind.connectors.main]
addresses = ["192.0.2.30"]
"""

# In main.cf: `!` leaves out what is hosted elsewhere; the other names cover those below them.
RELAY_DOMAINS = (
    "!news.tailspin.com contoso.com bücher.example xn--bcher-kva.example straße.example xn--strae-oqa.example "
    "strasse.example fabrikam.com business.example tailspin.com tailspin.hoster.example i❤.ws xn--i-7iq.ws"
)

KATE, JOHN, OUTSIDER = "kate@contoso.com", "john@elsewhere.example", "x@other.example"
OK, NO = "250 2.1.5", "554 5.7.1 "


class Sides(NamedTuple):
    """One hub, seen from what it relays to: its organizations' servers, and everybody else's."""

    inside: Hub
    outside: Hub


@pytest.fixture(scope="module")
def outer_sink(free_port: Callable[[], int]) -> Iterator[Sink]:
    with Sink(free_port()) as sink:
        yield sink


@pytest.fixture(scope="module")
def postfix(
    free_port: Callable[[], int],
    sink: Sink,
    outer_sink: Sink,
    certificates: Mapping[str, CertificateFiles],
    addresses: Mapping[str, str],
) -> Iterator[Postfix]:
    """As an installation of old: names below are covered, and bare host names completed."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    listeners = {name: Listener(free_port(), recommended_wiring(address)) for name, address in addresses.items()}
    settings = {
        **relay_settings(sink.port, certificates),
        "default_transport": f"smtp:[127.0.0.1]:{outer_sink.port}",
        "mydomain": "hoster.example",
        "append_dot_mydomain": "yes",
        "relay_domains": RELAY_DOMAINS,
        "parent_domain_matches_subdomains": "relay_domains",
        "relay_recipient_maps": "",
    }
    with Postfix(listeners, settings) as postfix:
        yield postfix


@pytest.fixture(scope="module")
def addresses(free_port: Callable[[], int]) -> Mapping[str, str]:
    """policyd with the organizations above, and with domains hosted elsewhere and names of symbols as well."""
    return {name: f"inet:127.0.0.1:{free_port()}" for name in ("names", "more")}


def serving(policyd_server: Callable[..., PolicydServer], folder: Path, address: str, rules: str) -> PolicydServer:
    folder.mkdir()
    config = folder / "policyd.toml"
    config.write_text(f'[service]\nlisten = ["{address}"]\n{rules}', "utf-8")
    return policyd_server(config)


@pytest.fixture(scope="module")
def names(
    policyd_server: Callable[..., PolicydServer],
    addresses: Mapping[str, str],
    postfix: Postfix,
    sink: Sink,
    outer_sink: Sink,
    certificates: Mapping[str, CertificateFiles],
    scratch: Path,
) -> Iterator[Sides]:
    rules = ORGANIZATIONS.replace("OUTSIDE\n", "")
    with serving(policyd_server, scratch / "names", addresses["names"], rules):
        yield Sides(Hub(postfix, sink, certificates), Hub(postfix, outer_sink, certificates))


@pytest.fixture(scope="module")
def more(
    policyd_server: Callable[..., PolicydServer],
    addresses: Mapping[str, str],
    postfix: Postfix,
    sink: Sink,
    outer_sink: Sink,
    certificates: Mapping[str, CertificateFiles],
    scratch: Path,
) -> Iterator[Sides]:
    rules = ORGANIZATIONS.replace("OUTSIDE\n", OUTSIDE) + SYMBOLS
    with serving(policyd_server, scratch / "more", addresses["more"], rules):
        yield Sides(Hub(postfix, sink, certificates), Hub(postfix, outer_sink, certificates))


# What reached a locked organization, by what Postfix makes of the name. kate's server has no business there.
PAST_THE_LOCK = (
    ("as-it-is", "boss@business.example", "registered servers only"),
    ("folded", "boss@busineß.example", "can be read as another one"),
    ("folded-capital", "boss@BUSINEẞ.example", "can be read as another one"),
    ("below", "boss@x.tailspin.com", "registered servers only"),
    ("far-below", "boss@x.y.tailspin.com", "registered servers only"),
    ("folded-and-below", "boss@x.busineß.example", "can be read as another one"),
    ("completed", "boss@tailspin", "has no valid domain"),
)


@pytest.mark.parametrize("certificate", [None, "contoso"], ids=["address", "certificate"])
@pytest.mark.parametrize("row", PAST_THE_LOCK, ids=lambda row: row[0])
def test_no_spelling_leads_past_a_lock(row: tuple[str, str, str], certificate: str | None, names: Sides) -> None:
    _, recipient, says = row
    mail = Mail(KATE, (recipient,), certificate, STRANGER if certificate else BRANCH)
    delivery = names.inside.deliver("names", mail)
    assert delivery.mail_reply.accepted, delivery.transcript
    assert not delivery.relayed, f"{recipient} arrived at the locked organization: {delivery.relayed}"
    assert delivery.reply.startswith(NO), delivery.transcript
    assert says in delivery.reply


# Senders of a protected organization, as the receiving side may read them.
PROTECTED = (
    ("folded", "boss@busineß.example"),
    ("below", "boss@x.tailspin.com"),
    ("broken-a-label", "boss@xn--x.tailspin.com"),
    ("broken-a-label-far-below", "boss@a.xn--0.tailspin.com"),
    ("symbol", "boss@☃.tailspin.com"),
    ("no-name", "boss@\u2488.tailspin.com"),
    ("two-dots", "boss@a..tailspin.com"),
)


@pytest.mark.parametrize("row", PROTECTED, ids=lambda row: row[0])
def test_no_spelling_of_a_sender_is_unprotected(row: tuple[str, str], names: Sides) -> None:
    """contoso's certificate may send any sender but a protected one; a stranger may not to anybody here."""
    _, sender = row
    for mail in (Mail(sender, (OUTSIDER,), "contoso"), Mail(sender, (KATE,))):
        for side in names:
            delivery = side.deliver("names", mail)
            if not delivery.mail_reply.accepted:
                assert "Bad sender address syntax" in delivery.mail_reply.text, delivery.transcript
                continue
            assert not delivery.relayed, f"{sender} left the hub: {delivery.relayed}"
            assert delivery.reply.startswith(NO), delivery.transcript
            assert "sender domain is protected" in delivery.reply.lower(), delivery.transcript


# A partner's agreement holds for what the partner's and the organization's names can be read as.
AGREED = (
    ("as-it-is", "teller@x.bank.example", "sam@fabrikam.com"),
    ("below-ours", "teller@x.bank.example", "sam@x.fabrikam.com"),
    ("broken-a-label", "teller@xn--x.bank.example", "sam@fabrikam.com"),
    ("symbol", "teller@☃.bank.example", "sam@fabrikam.com"),
)


@pytest.mark.parametrize("certificate", [None, "contoso"], ids=["stranger", "certificate"])
@pytest.mark.parametrize("row", AGREED, ids=lambda row: row[0])
def test_no_spelling_leads_past_an_agreement(row: tuple[str, str, str], certificate: str | None, names: Sides) -> None:
    _, sender, recipient = row
    delivery = names.inside.deliver("names", Mail(sender, (recipient,), certificate))
    assert not delivery.relayed, f"{sender} reached {recipient}: {delivery.relayed}"
    assert delivery.reply.startswith(NO), delivery.transcript


# who, sender, recipient: arrives at an organization of the hub, as it was written
ARRIVES = (
    ("capital-umlaut", STRANGER, JOHN, "hans@BÜCHER.example"),
    ("capital-umlaut-bounce", BRANCH, "", "hans@BÜCHER.example"),
    ("mixed-umlaut", STRANGER, JOHN, "hans@BüCHER.Example"),
    ("both-readings-are-ours", STRANGER, JOHN, "hans@straße.example"),
    ("both-readings-are-ours-capital", STRANGER, JOHN, "hans@STRASSE.example"),
    ("symbol-sender", STRANGER, "bob@i❤.ws", KATE),
    ("a-label-sender", STRANGER, "bob@xn--i-7iq.ws", KATE),
)


@pytest.mark.parametrize("row", ARRIVES, ids=lambda row: row[0])
def test_good_mail_arrives(row: tuple[str, str, str, str], names: Sides) -> None:
    _, client, sender, recipient = row
    delivery = names.inside.deliver("names", Mail(sender, (recipient,), address=client))
    assert delivery.reply.startswith(OK), delivery.transcript
    assert [(message.sender, message.recipients) for message in delivery.relayed] == [(sender, (recipient,))]


LEAVES = (
    ("a-label-of-a-symbol", "bob@xn--i-7iq.ws"),
    ("odd-a-label", "bob@xn--x.other.example"),
    ("symbol", "bob@❤.other.example"),
    ("folds-to-nobody", "bob@straß.other.example"),
)


@pytest.mark.parametrize("row", LEAVES, ids=lambda row: row[0])
def test_mail_to_odd_names_elsewhere_leaves(row: tuple[str, str], names: Sides) -> None:
    """Refused for ever before: a connector's own mail to a domain that DNS knows."""
    _, recipient = row
    side = names.inside if recipient.endswith(".ws") else names.outside  # Postfix relays .ws to northwind
    delivery = side.deliver("names", Mail(KATE, (recipient,), address=BRANCH))
    assert delivery.reply.startswith(OK), delivery.transcript
    assert [message.recipients for message in delivery.relayed] == [(recipient,)]


def test_what_is_hosted_elsewhere_is_neither_locked_nor_protected(more: Sides) -> None:
    """outside_domains: contoso's mail to the newsletter service goes out, and the service's comes in."""
    news = "list@news.tailspin.com"
    delivery = more.outside.deliver("more", Mail(KATE, (news,), address=BRANCH))
    assert delivery.reply.startswith(OK), delivery.transcript
    assert [message.recipients for message in delivery.relayed] == [(news,)]
    delivery = more.inside.deliver("more", Mail(news, (KATE,)))
    assert delivery.reply.startswith(OK), delivery.transcript
    assert [message.sender for message in delivery.relayed] == [news]
    beside = more.inside.deliver("more", Mail(KATE, ("boss@x.tailspin.com",), address=BRANCH))
    assert beside.reply.startswith(NO), beside.transcript
    assert not beside.relayed


@pytest.mark.parametrize("domain", ["i❤.ws", "xn--i-7iq.ws", "XN--I-7IQ.ws"])
def test_a_symbol_can_be_a_customer(domain: str, more: Sides) -> None:
    delivery = more.inside.deliver("more", Mail(JOHN, (f"bob@{domain}",)))
    assert delivery.reply.startswith(OK), delivery.transcript
    assert len(delivery.relayed) == 1
    delivery = more.outside.deliver("more", Mail(f"bob@{domain}", (OUTSIDER,), address="192.0.2.30"))
    assert delivery.reply.startswith(OK), delivery.transcript
    assert [message.sender for message in delivery.relayed] == [f"bob@{domain}"]
