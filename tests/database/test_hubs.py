"""Several policyd processes and one PostgreSQL: what is committed is in force everywhere, nothing stops the answers.

One story for the module, in the order of the tests: they share the server and the hubs.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.database.hubs import Hub, answer, configuration
from tests.database.postgres import Database, PostgresServer
from tests.helpers.policyd_server import PolicydServer
from tests.helpers.waiting import PATIENCE, until
from tests.places import PROJECT

FILE_ORGANIZATION = """
[organizations.onfile]
accepted_domains = ["onfile.example"]
[organizations.onfile.connectors.c]
addresses = ["203.0.113.200"]
"""
CHANGES = 100

pytestmark = pytest.mark.in_order


@pytest.fixture(scope="module")
def shared(postgresql: PostgresServer) -> Database:
    """The database of all hubs."""
    database = postgresql.database()
    with database.connect() as connection:
        connection.execute("INSERT INTO policyd.organizations (name) VALUES ('contoso')")
        connection.execute("INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'contoso.com')")
        connection.execute(
            "INSERT INTO policyd.connectors (organization, name, addresses) VALUES ('contoso', 'c', '{192.0.2.1}')"
        )
    return database


@pytest.fixture(scope="module")
def hubs(
    shared: Database,
    policyd_server: Callable[..., PolicydServer],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Hub]]:
    """Three: one process, one process with files besides, two workers."""
    made = []
    metrics = f'[metrics]\nlisten = "inet:127.0.0.1:{free_port()}"\n'
    for settings, more, processes in (("", metrics, 1), ("", FILE_ORGANIZATION, 1), ("workers = 2", "", 2)):
        port = free_port()
        config = configuration(tmp_path_factory.mktemp("hub"), shared, port, settings, more)
        made.append(Hub(policyd_server(config), port, processes))
    for hub in made:
        hub.server.start()
    yield made
    for hub in made:
        hub.server.kill()


@pytest.fixture
def panel(shared: Database, hubs: list[Hub]) -> Iterator[Any]:
    """A control panel's connection, to a server that runs."""
    if not shared.server.running:
        shared.server.start()
    with shared.connect(autocommit=True) as connection:
        yield connection


def steps() -> Iterator[tuple[list[str], dict[str, str], str]]:
    """Statements, a request, and the answer to it from then on."""
    for n in range(CHANGES // 4):
        name, address = f"t{n}", f"198.51.100.{n + 1}"
        mail = {"client_address": address, "sender": f"a@{name}.example", "recipient": "x@elsewhere.example"}
        made = [
            f"INSERT INTO policyd.organizations (name) VALUES ('{name}')",
            f"INSERT INTO policyd.domains VALUES ('{name}', 'accepted', '{name}.example')",
            f"INSERT INTO policyd.connectors (organization, name, addresses) VALUES ('{name}', 'c', '{{{address}}}')",
        ]
        yield made, mail, "OK"
        yield [f"UPDATE policyd.connectors SET enabled = false WHERE organization = '{name}'"], mail, "REJECT"
        more = [
            f"UPDATE policyd.connectors SET enabled = true WHERE organization = '{name}'",
            f"INSERT INTO policyd.domains VALUES ('{name}', 'accepted', '*.{name}.test')",
        ]
        yield more, mail | {"sender": f"a@deep.{name}.test"}, "OK"
        if n % 2:
            yield [f"DELETE FROM policyd.organizations WHERE name = '{name}'"], mail, "REJECT"
        else:
            yield [f"DELETE FROM policyd.domains WHERE domain = '{name}.example'"], mail, "REJECT"


OURS = {"client_address": "192.0.2.1", "sender": "a@contoso.com", "recipient": "x@elsewhere.example"}
FILES = {"client_address": "203.0.113.200", "sender": "a@onfile.example", "recipient": "x@elsewhere.example"}


def all_answer(hubs: list[Hub], expected: str, **mail: str) -> float:
    """Seconds until every hub answers so, with every worker."""
    return until(
        lambda: all(hub.answers(**mail) == {expected} for hub in hubs),
        lambda: f"{expected} for {mail}: {[hub.answers(**mail) for hub in hubs]}\n{hubs[0].log()[-3000:]}",
    )


def metric(hub: Hub, name: str) -> float:
    """What a hub's metrics say."""
    listen = re.search(r'\[metrics\]\nlisten = "inet:([0-9.:]+)"', hub.server.config.read_text())
    assert listen is not None
    with urllib.request.urlopen(f"http://{listen[1]}/metrics", timeout=60) as page:
        found = re.search(rf"(?m)^{name} (.*)$", page.read().decode())
    assert found is not None, name
    return float(found[1])


def test_a_hundred_changes_in_a_row(panel: Any, hubs: list[Hub]) -> None:
    took = []
    for statements, mail, expected in steps():
        with panel.transaction():
            for statement in statements:
                panel.execute(statement)
        took.append(all_answer(hubs, expected, **mail))
        assert all(hub.answers(**OURS) == {"OK"} for hub in hubs)
    assert len(took) == CHANGES
    assert hubs[1].answers(**FILES) == {"OK"}
    assert hubs[0].answers(**FILES) == {"REJECT"}
    assert metric(hubs[0], "policyd_database_up") == 1
    assert metric(hubs[0], "policyd_database_organizations") == metric(hubs[0], "policyd_organizations")
    assert metric(hubs[0], "policyd_generation") > CHANGES / 4
    print(f"\nCOMMIT to effect on all hubs: median {statistics.median(took):.3f} s, longest {max(took):.3f} s")


def test_workers_that_start_again_have_every_change(panel: Any, hubs: list[Hub]) -> None:
    hub = hubs[2]
    assert hub.server.process is not None
    pid = hub.server.process.pid
    workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(workers) == 2
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
    until(lambda: hub.log().count("ended; starting it again") == 2, hub.log)
    there = {"client_address": "198.51.100.1", "sender": "a@deep.t0.test", "recipient": "x@elsewhere.example"}
    gone = {"client_address": "198.51.100.2", "sender": "a@deep.t1.test", "recipient": "x@elsewhere.example"}
    assert hub.answers(**there) == {"OK"}
    assert hub.answers(**gone) == {"REJECT"}
    panel.execute("INSERT INTO policyd.domains VALUES ('t0', 'accepted', 'again.example')")
    all_answer(hubs, "OK", **there | {"sender": "a@again.example"})


def test_what_is_rolled_back_has_no_effect(panel: Any, hubs: list[Hub]) -> None:
    with panel.transaction(force_rollback=True):
        panel.execute("DELETE FROM policyd.organizations")
    panel.execute("INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'marker.example')")
    all_answer(hubs, "OK", **OURS | {"sender": "a@marker.example"})
    assert all(hub.answers(**OURS) == {"OK"} for hub in hubs)


def test_an_organization_that_does_not_compile_keeps_its_last_good_rows(panel: Any, hubs: list[Hub]) -> None:
    panel.execute(
        "INSERT INTO policyd.connectors (organization, name, certificates)"
        " VALUES ('contoso', 'bad', '{-----BEGIN CERTIFICATE-----}')"
    )
    panel.execute("INSERT INTO policyd.domains VALUES ('contoso', 'accepted', 'late.example')")
    panel.execute("INSERT INTO policyd.domains VALUES ('t0', 'accepted', 'after.example')")
    all_answer(hubs, "OK", client_address="198.51.100.1", sender="a@after.example", recipient="x@elsewhere.example")
    for hub in hubs:
        assert hub.answers(**OURS) == {"OK"}
        assert hub.answers(**OURS | {"sender": "a@late.example"}) == {"REJECT"}
        place = 'database:organizations/contoso/connectors/bad: warning: organization "contoso", connector "bad": '
        assert place in hub.log()
        assert "its last good rows (revision " in hub.log()
        assert "1 left out" in hub.log()

    assert metric(hubs[0], "policyd_database_left_out") == 1


def test_the_server_restarts(panel: Any, shared: Database, hubs: list[Hub]) -> None:
    panel.close()
    shared.server.restart()
    with shared.connect(autocommit=True) as connection:
        connection.execute("INSERT INTO policyd.domains VALUES ('t0', 'accepted', 'back.example')")
    all_answer(hubs, "OK", client_address="198.51.100.1", sender="a@back.example", recipient="x@elsewhere.example")
    assert all(hub.answers(**OURS) == {"OK"} for hub in hubs)


def test_a_database_that_is_slow_delays_no_answer(panel: Any, shared: Database, hubs: list[Hub]) -> None:
    with shared.owner() as owner, owner.transaction():
        owner.execute("LOCK TABLE policyd.state IN ACCESS EXCLUSIVE MODE")  # a reader waits now
        for hub in hubs:
            hub.server.reload()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'policyd' AND wait_event_type = 'Lock'"
        )
        until(lambda: owner.execute(waiting).fetchone() == (len(hubs),), lambda: "the hubs do not read")
        before = [hub.log().count("reloaded; generation") for hub in hubs]
        assert all(hub.answers(**OURS) == {"OK"} for hub in hubs)
    until(
        lambda: all(hub.log().count("reloaded; generation") > n for hub, n in zip(hubs, before, strict=True)),
        lambda: hubs[0].log()[-2000:],
    )


def start_badly(hub: Hub, policyd_command: list[str]) -> tuple[int, str]:
    """Exit status and messages of a hub that cannot start."""
    done = subprocess.run(
        [*policyd_command, "serve", "-c", str(hub.server.config)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_restart_while_the_database_is_away(shared: Database, hubs: list[Hub], policyd_command: list[str]) -> None:
    since = [len(hub.log()) for hub in hubs]  # it was away before
    shared.server.stop()
    away = "stay in force"
    until(lambda: all(away in hub.log()[n:] for hub, n in zip(hubs, since, strict=True)), lambda: hubs[0].log()[-2000:])
    assert metric(hubs[0], "policyd_database_up") == 0
    assert time.time() - 3600 < metric(hubs[0], "policyd_database_read_timestamp_seconds") < time.time()
    for hub in hubs:
        assert hub.answers(**OURS) == {"OK"}
        hub.server.stop()  # keeps what is not kept yet
        assert hub.snapshot.stat().st_mode & 0o777 == 0o600
        mark = len(hub.log())
        hub.server.start()
        until(lambda since=mark, hub=hub: "database away: rows of 20" in hub.log()[since:], hub.log)
        assert " (UTC) are used" in hub.log()[mark:]
        assert hub.answers(**OURS) == {"OK"}
        assert hub.answers(**OURS | {"sender": "a@late.example"}) == {"REJECT"}  # the last good rows, still
        hub.server.reload()  # SIGHUP reads the files and goes on with the rows that are known
        until(lambda since=mark, hub=hub: "reloaded; generation 2" in hub.log()[since:], hub.log)
        assert hub.answers(**OURS) == {"OK"}

    unit = (PROJECT / "systemd" / "policyd.service").read_text()
    final = re.findall(r"(?m)^RestartPreventExitStatus=(.*)$", unit)
    assert final == ["64 78"]  # whoever ends with 69 is started again
    first = hubs[0]
    first.server.stop()
    good = first.snapshot.read_bytes()
    damaged = bytearray(good)
    damaged[len(damaged) // 2] ^= 1
    for content, says in ((bytes(damaged), "checksum"), (good[:-1], "checksum"), (b"", "no snapshot"), (None, "no ")):
        first.snapshot.unlink(missing_ok=True)
        if content is not None:
            first.snapshot.write_bytes(content)
            first.snapshot.chmod(0o600)
        code, told = start_badly(first, policyd_command)
        assert code == 69, told
        assert "policyd: not started: the database cannot be read, and there are no rows from before" in told
        assert "Connection refused" in told
        assert says in told
        assert "secret" not in told
    first.snapshot.write_bytes(good)
    first.snapshot.chmod(0o600)
    first.server.start()
    assert first.answers(**OURS) == {"OK"}


def test_the_database_comes_back(panel: Any, hubs: list[Hub]) -> None:
    panel.execute("DELETE FROM policyd.connectors WHERE name = 'bad'")
    # a hub pauses for up to half a minute between two tries
    until(
        lambda: all(hub.answers(**OURS | {"sender": "a@late.example"}) == {"OK"} for hub in hubs),
        lambda: hubs[0].log()[-2000:],
        4 * PATIENCE,
    )
    assert metric(hubs[0], "policyd_database_up") == 1
    assert all("secret" not in hub.log() for hub in hubs)


def test_an_emptied_database_takes_nothing_away(panel: Any, hubs: list[Hub]) -> None:
    panel.execute("DELETE FROM policyd.organizations")
    until(lambda: all("has no organizations any more" in hub.log() for hub in hubs), lambda: hubs[0].log()[-2000:])
    assert all(hub.answers(**OURS) == {"OK"} for hub in hubs)
    panel.execute("INSERT INTO policyd.organizations (name) VALUES ('new')")
    all_answer(hubs, "REJECT", **OURS)


def test_answer_is_the_first_word() -> None:
    with pytest.raises(OSError, match="refused"):
        answer(1, sender="a@b.example")
