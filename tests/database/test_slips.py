"""A tenant's slip, or its size, against the operator and the others: real rows, the shipped roles and `policyd serve`.

While rows of an organization do not compile, everything that is taken away has its effect all the same (SPEC 9).
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policyd.database.connection import Link
from policyd.database.documents import parse_document
from policyd.database.statements import LARGEST_DOCUMENT
from tests.database.hubs import Hub, configuration
from tests.database.postgres import OPERATOR, Database
from tests.helpers.policyd_server import PolicydServer
from tests.helpers.waiting import until
from tests.places import TESTS

ROWS = """
INSERT INTO policyd.organizations (name) VALUES ('contoso'), ('fabrikam');
INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'contoso.com'), ('contoso', 'accepted', 'moved.example'),
    ('contoso', 'accepted', 'gone.example'), ('fabrikam', 'accepted', 'fabrikam.com');
INSERT INTO policyd.connectors (organization, name, addresses) VALUES
    ('contoso', 'deleted', '{192.0.2.1}'), ('contoso', 'disabled', '{192.0.2.2}'),
    ('contoso', 'suspended', '{192.0.2.3}'), ('contoso', 'kept', '{192.0.2.4, 192.0.2.5}'),
    ('fabrikam', 'c', '{192.0.2.9}');
"""
SLIP = """
INSERT INTO policyd.connectors (organization, name, certificates)
VALUES ('contoso', 'slip', '{-----BEGIN CERTIFICATE-----}');
"""
CHANGES = {
    "a connector is deleted": "DELETE FROM policyd.connectors WHERE name = 'deleted'",
    "a connector is disabled": "UPDATE policyd.connectors SET enabled = false WHERE name = 'disabled'",
    "an address is taken out": "UPDATE policyd.connectors SET addresses = '{192.0.2.4}' WHERE name = 'kept'",
    "a domain is pending again": "UPDATE policyd.domains SET kind = 'pending' WHERE domain = 'gone.example'",
    "a domain goes to another": "UPDATE policyd.domains SET organization = 'fabrikam' WHERE domain = 'moved.example'",
}
SUSPENSION = "UPDATE policyd.connectors SET suspended = 'ticket 4711' WHERE name = 'suspended'"

# (address, sender): the answer before, the answer after
MAIL = {
    ("192.0.2.1", "a@contoso.com"): ("OK", "REJECT"),
    ("192.0.2.2", "a@contoso.com"): ("OK", "REJECT"),
    ("192.0.2.3", "a@contoso.com"): ("OK", "DEFER"),
    ("192.0.2.4", "a@contoso.com"): ("OK", "OK"),
    ("192.0.2.5", "a@contoso.com"): ("OK", "REJECT"),
    ("192.0.2.4", "a@gone.example"): ("OK", "REJECT"),
    ("192.0.2.4", "a@moved.example"): ("OK", "REJECT"),
    ("192.0.2.9", "a@moved.example"): ("REJECT", "OK"),
    ("192.0.2.9", "a@fabrikam.com"): ("OK", "OK"),
}


@pytest.fixture
def hub(
    database: Database,
    policyd_server: Callable[..., PolicydServer],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> Iterator[Hub]:
    """One that runs, with the rows before."""
    with database.connect() as panel:
        panel.execute(ROWS)
    port = free_port()
    made = Hub(policyd_server(configuration(tmp_path / "hub", database, port)), port)
    made.server.start()
    yield made
    made.server.kill()


def answers(hub: Hub) -> dict[tuple[str, str], str]:
    """To all the mail."""
    return {
        (address, sender): answer
        for address, sender in MAIL
        for answer in hub.answers(client_address=address, sender=sender, recipient="x@elsewhere.example")
    }


def test_a_slip_is_no_shield(hub: Hub, database: Database) -> None:
    before, after = ({mail: pair[n] for mail, pair in MAIL.items()} for n in (0, 1))
    assert answers(hub) == before
    with database.connect() as panel:
        panel.execute(SLIP)
    until(lambda: "its last good rows (revision 1) stay in force, less what" in hub.log(), hub.log)
    assert answers(hub) == before  # that is what they are for
    with database.connect(autocommit=True) as panel:
        for change in CHANGES.values():
            panel.execute(change)
    with database.connect(OPERATOR) as operator:
        operator.execute(SUSPENSION)
    until(lambda: answers(hub) == after, lambda: f"{answers(hub)}\n{hub.log()[-3000:]}")

    hub.server.stop()
    hub.server.start()
    assert answers(hub) == after
    hub.server.stop()
    database.server.stop()
    try:
        hub.server.start()  # from what it keeps
        assert answers(hub) == after
        assert "database away" in hub.log()
    finally:
        database.server.start()
    with database.connect() as panel:
        panel.execute("DELETE FROM policyd.connectors WHERE name = 'slip'")
    until(lambda: "its last good rows" not in hub.log().rpartition("reloaded")[2], hub.log)
    assert answers(hub) == after


@pytest.mark.parametrize("change", [*CHANGES, "suspension"])
def test_in_one_transaction_with_the_slip(change: str, hub: Hub, database: Database) -> None:
    """Each by itself, where the hub never sees the one without the other."""
    with database.owner() as owner, owner.transaction():
        owner.execute(SLIP)
        owner.execute(CHANGES.get(change, SUSPENSION))
    until(lambda: "its last good rows (revision 1) stay in force, less what" in hub.log(), hub.log)
    found = answers(hub)
    differing = {mail for mail, (before, _) in MAIL.items() if found[mail] != before}
    assert differing
    assert all(found[mail] == MAIL[mail][1] for mail in differing)


def certificate_of(octets: int) -> str:
    """A certificate's text with so much before it that it is of this length."""
    pem = (TESTS / "certs" / "cn-only.pem").read_text("ascii")
    return "x" * (octets - len(pem) - 1) + "\n" + pem


def test_one_that_is_too_large(hub: Hub, database: Database) -> None:
    """It is left out by name, and its domains stay locked; the others' changes go on, and nothing large is sent."""
    with database.connect(autocommit=True) as panel:
        panel.execute("UPDATE policyd.organizations SET connectors_only = true WHERE name = 'contoso'")
        for number in range(20):
            panel.execute(
                "INSERT INTO policyd.connectors (organization, name, certificates) VALUES ('contoso', %s, %s)",
                (f"large-{number}", [certificate_of(60_000)]),
            )
        panel.execute("UPDATE policyd.connectors SET addresses = '{192.0.2.10}' WHERE organization = 'fabrikam'")
    fabrikam = {"client_address": "192.0.2.10", "sender": "a@fabrikam.com", "recipient": "x@elsewhere.example"}
    until(lambda: hub.answers(**fabrikam) == {"OK"}, hub.log)
    until(lambda: 'organization "contoso": all of it is more than 1 MiB' in hub.log(), hub.log)
    found = answers(hub)
    assert {found["192.0.2.4", "a@contoso.com"], found["192.0.2.1", "a@contoso.com"]} == {"REJECT"}
    stranger = {"client_address": "198.51.100.7", "sender": "a@b.example"}
    assert hub.answers(**stranger, recipient="boss@contoso.com") == {"REJECT"}
    assert hub.answers(**stranger, recipient="boss@fabrikam.com") == {"OK"}
    link = Link(database.dsn())
    rows = link.read(None, complete=True).read
    link.close()
    assert len(rows["contoso"].document) < 1000
    parsed = parse_document("contoso", rows["contoso"].document, 0.0, 0)
    assert not parsed.sound
    assert parsed.organization.connectors_only
    with database.connect() as panel:  # what is left is as large as it may be
        panel.execute("DELETE FROM policyd.connectors WHERE name ~ '^large-(.|10)$'")
    until(
        lambda: "OK" in hub.answers(client_address="192.0.2.4", sender="a@contoso.com", recipient="x@y.example"),
        hub.log,
    )


def test_what_constraints_would_refuse_is_not_sent_either(database: Database) -> None:
    """Where somebody took them away: four descriptions of 300 MB cost a hub nothing."""
    with database.owner() as owner:
        owner.execute("ALTER TABLE policyd.connectors DROP CONSTRAINT connectors_description_is_short")
        owner.execute(ROWS)
        owner.execute(
            "UPDATE policyd.connectors SET description = repeat('x', 300000000) WHERE organization = 'contoso'"
        )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    link = Link(database.dsn())
    rows = link.read(None, complete=True).read
    link.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
    assert "too_large" in rows["contoso"].document
    assert parse_document("fabrikam", rows["fabrikam"].document, 0.0, 0).sound


def test_the_limit_is_the_documents_length(database: Database) -> None:
    """To the octet, and however the rows are made up; as many domains as there are stay locked."""
    with database.owner() as owner:
        owner.execute(ROWS)

        def document() -> str:
            link = Link(database.dsn())
            text = link.read(None, complete=True).read["contoso"].document
            link.close()
            return text

        def insert(name: str, octets: int) -> None:
            owner.execute(
                "INSERT INTO policyd.connectors (organization, name, certificates) VALUES ('contoso', %s, %s)",
                (name, [certificate_of(octets)]),
            )

        for number in range(15):
            insert(f"n{number}", 65_000)
        insert("y", 30_000)
        insert("z", LARGEST_DOCUMENT - len(document()) - 1000)
        grow = "UPDATE policyd.connectors SET description = repeat('x', %s) WHERE name = 'z'"
        owner.execute(grow, (1,))
        missing = LARGEST_DOCUMENT - len(document())
        assert 0 < missing < 999
        owner.execute(grow, (1 + missing,))
        assert len(document()) == LARGEST_DOCUMENT
        owner.execute(grow, (1 + missing + 1,))
        assert "too_large" in document()
        owner.execute("DELETE FROM policyd.connectors")
        owner.execute(
            "INSERT INTO policyd.domains"
            " SELECT 'contoso', 'accepted', 'd' || n || repeat('.abcdefghij', 20) || '.example'"
            " FROM generate_series(1, 50000) AS n"
        )
        assert "too_large" in document()
        assert 500_000 < len(document()) < 1.2 * LARGEST_DOCUMENT
