"""Loading for the server, what a reload tells, and wishes that come while a reload is under way (SPEC 8)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from policyd.config.settings import Configuration
from policyd.loading.differences import settings_differences
from policyd.loading.updates import Update, load_rules
from policyd.service import reloads as module
from policyd.service.reloads import Outcome, Reloads
from policyd.store.file import Store
from tests.helpers.in_memory import InMemory
from tests.strategies import CERTIFICATE_FOLDER


def loaded(store: Store, text: str, folder: Path) -> Update:
    """What came of reading a file with that text."""
    path = folder / "policyd.toml"
    path.write_text(text, "utf-8")
    return load_rules(str(path), store)


def told_of(old: str, new: str, folder: Path) -> list[str]:
    """What a reload tells that it changes."""
    store = Store()
    before, after = (loaded(store, text, folder) for text in (old, new))
    assert before.configuration is not None
    assert after.configuration is not None, after.problems
    return [*settings_differences(before.configuration, after.configuration), *after.differences.lines]


BASE = """
[organizations.contoso]
accepted_domains = ["contoso.com", "*.contoso.net"]
pending_domains = ["new.example"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]

[organizations.contoso.partners.bank]
sender_domains = ["bank.example"]
require_tls = true
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("", "", []),
        (
            "[organizations.contoso]",
            '[policy]\nincoming = "REJECT"\n[organizations.contoso]',
            ["policy.incoming: OK -> REJECT"],
        ),
        (
            "[organizations.contoso]",
            '[policy]\nrelay_limits = ["5000/hour", "9/minute"]\n[organizations.contoso]',
            ["policy.relay_limits: none -> 5000/hour, 9/minute"],
        ),
        (
            "pending_domains",
            'outside_domains = ["news.contoso.net"]\nrelay_limits = []\nsuspended = "ticket\\n4711"\npending_domains',
            [
                'organization "contoso": outside_domains +news.contoso.net',
                'organization "contoso": relay_limits: the policy\'s -> none',
                'organization "contoso": suspended = "ticket\\n4711"',
            ],
        ),
        (
            "addresses = [",
            'suspended = "ticket 4711"\nfor_domains = ["contoso.com"]\naddresses = [',
            ['organization "contoso": connector "branch" changed (for_domains, suspended)'],
        ),
        (BASE, BASE + "[organizations.fabrikam]\n", ['organization "fabrikam" added']),
        ('"contoso.com", ', "", ['organization "contoso": accepted_domains -contoso.com']),
        ('"contoso.com"', '"contoso.org"', ['organization "contoso": accepted_domains -contoso.com +contoso.org']),
        ('"contoso.com"', '"*.contoso.com"', ['organization "contoso": accepted_domains -contoso.com +*.contoso.com']),
        (
            "pending_domains",
            'delegated_domains = ["b.contoso.net", "a.contoso.net"]\npending_domains',
            ['organization "contoso": delegated_domains +a.contoso.net +b.contoso.net'],
        ),
        (
            '"contoso.com", "*.contoso.net"',
            "",
            ['organization "contoso": accepted_domains -contoso.com -*.contoso.net'],
        ),
        ('["new.example"]', "[]", ['organization "contoso": pending_domains -new.example']),
        (
            "pending_domains",
            "connectors_only = true\npending_domains",
            ['organization "contoso": connectors_only = true'],
        ),
        (
            "pending_domains",
            "protect_sender_domains = true\npending_domains",
            ['organization "contoso": protect_sender_domains = true'],
        ),
        ("203.0.113.0/28", "203.0.113.0/29", ['organization "contoso": connector "branch" changed (addresses)']),
        (
            "addresses = [",
            "enabled = false\nrequire_tls = true\naddresses = [",
            ['organization "contoso": connector "branch" changed (enabled, require_tls)'],
        ),
        (
            "sender_domains = [",
            f'certificate_files = ["{CERTIFICATE_FOLDER}/cn-only.pem"]\nsender_domains = ["*", ',
            ['organization "contoso": partner "bank" changed (certificates, sender_domains)'],
        ),
        (
            "connectors.branch",
            "connectors.office",
            ['organization "contoso": connector "branch" removed', 'organization "contoso": connector "office" added'],
        ),
        ("bank.example", "bank2.example", ['organization "contoso": partner "bank" changed (sender_domains)']),
        (
            "partners.bank",
            "partners.tank",
            ['organization "contoso": partner "bank" removed', 'organization "contoso": partner "tank" added'],
        ),
    ],
)
def test_differences(old: str, new: str, told: list[str], tmp_path: Path) -> None:
    assert told_of(BASE, BASE.replace(old, new), tmp_path) == told


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('[service]\nlisten = ["inet:127.0.0.1:1"]', []),  # told as in need of a restart
        ('[service]\nmode = "monitor"', ["service.mode: enforce -> monitor"]),
        ('[log]\ndecisions = "none"', ["log.decisions: all -> none"]),
        ('[log]\naddresses = "domain"', ["log.addresses: full -> domain"]),
        ('[policy]\nattribution_header = "X-Secret"', ["policy.attribution_header changed"]),
        ('[policy]\nprovider_networks = ["10.0.0.0/8"]', ["policy.provider_networks changed"]),
        ('[policy]\nprovider_certificate_names = ["a.example"]', ["policy.provider_certificate_names changed"]),
    ],
)
def test_settings_that_change_at_once(settings: str, told: list[str], tmp_path: Path) -> None:
    assert told_of(BASE, f"{settings}\n{BASE}", tmp_path) == told
    assert told_of(f"{settings}\n{BASE}", f"{settings}\n{BASE}", tmp_path) == []


def test_what_is_taken_away_whole(tmp_path: Path) -> None:
    other = '[organizations.fabrikam]\naccepted_domains = ["fabrikam.com"]\n'
    assert told_of(BASE + other, other, tmp_path) == ['organization "contoso" removed']
    assert told_of(other, BASE + other, tmp_path) == ['organization "contoso" added']


def test_the_order_of_the_file_is_no_difference(tmp_path: Path) -> None:
    first, second, third = BASE.strip().split("\n\n")
    assert told_of(BASE, f"{first}\n\n{third}\n\n{second}", tmp_path) == []


def test_of_very_many_differences_the_first_are_told(tmp_path: Path) -> None:
    many = "".join(f'[organizations.o{n:03}]\naccepted_domains = ["o{n}.example"]\n' for n in range(150))
    store = Store()
    loaded(store, BASE, tmp_path)
    differences = loaded(store, BASE + many, tmp_path).differences
    assert len(differences.lines) == 100
    assert differences.more == 50


def test_loading(tmp_path: Path) -> None:
    store = Store()
    for generation in (1, 2):
        update = loaded(store, BASE, tmp_path)
        assert update.configuration is not None
        assert update.configuration.rules.organizations == (), "those are in the store"
        rules = store.snapshot()
        assert rules.generation == generation
        assert [organization.name for organization in rules.organizations()] == ["contoso"]
        assert (rules.organization_count, rules.connector_count) == (1, 1)


def test_loading_what_is_bad(tmp_path: Path) -> None:
    store = Store()
    loaded(store, BASE, tmp_path)
    update = loaded(store, BASE.replace("accepted_domains", "accepted_domain"), tmp_path)
    assert update.configuration is None
    assert [(Path(p.file).name, p.line) for p in update.problems if p.severity == "error"] == [("policyd.toml", 3)]
    assert store.snapshot().generation == 1


def test_loading_nothing(tmp_path: Path) -> None:
    store = Store()
    assert loaded(store, "", tmp_path).configuration is not None, "a hub can begin empty"
    loaded(store, BASE, tmp_path)
    update = loaded(store, "", tmp_path)
    assert (update.configuration, update.refused) == (None, "the new configuration has no organization at all")
    assert store.snapshot().organization_count == 1


class Runs:
    """Reloads whose reading is over when its function is called; it gives nothing new."""

    def __init__(self) -> None:
        self.over: list[Callable[[], None]] = []
        self.at_once = False
        processes: Any = InMemory()
        processes.running = processes.size = 1
        self.reloads = Reloads(Clock(), "policyd.toml", Configuration(), Store(), processes)

    def read(self, *_: object) -> Deferred[None]:
        """Takes the place of the thread."""
        reading: Deferred[None] = Deferred()
        self.over.append(lambda: reading.callback(None))
        if self.at_once:
            reading.callback(None)
        return reading


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(module, "in_thread", made.read)
    return made


def test_one_wish_is_one_reload(runs: Runs) -> None:
    runs.reloads.ask()
    assert len(runs.over) == 1
    runs.over[0]()
    assert len(runs.over) == 1
    runs.reloads.ask()
    assert len(runs.over) == 2


def test_wishes_that_come_meanwhile_become_one_more(runs: Runs) -> None:
    """The file may have changed after it was read: so once more, but not once for each."""
    for _ in range(5):
        runs.reloads.ask()
    assert len(runs.over) == 1
    runs.over[0]()
    assert len(runs.over) == 2
    runs.over[1]()
    assert len(runs.over) == 2


def test_a_reload_that_is_over_at_once(runs: Runs) -> None:
    runs.at_once = True
    runs.reloads.ask()
    runs.reloads.ask()
    assert len(runs.over) == 2


def test_who_asks_during_a_reload_hears_of_the_next_one(
    runs: Runs,
) -> None:
    """Its files may have been read before they were changed. Two who wait share one."""
    heard: list[str] = []
    runs.reloads.reload().addCallback(lambda _: heard.append("first"))
    runs.reloads.reload().addCallback(lambda _: heard.append("second"))
    runs.reloads.reload().addCallback(lambda _: heard.append("third"))
    assert (len(runs.over), heard) == (1, [])
    runs.over[0]()
    assert (len(runs.over), heard) == (2, ["first"])
    runs.over[1]()
    assert (len(runs.over), heard) == (2, ["first", "second", "third"])


def test_a_reload_of_the_database_answers_nobody_who_asked_for_the_files(runs: Runs) -> None:
    heard: list[Outcome] = []
    runs.reloads.ask()
    runs.reloads.reload().addCallback(heard.append)
    runs.over[0]()
    assert heard == []
    runs.over[1]()
    assert len(heard) == 1


def test_a_bug_is_an_outcome(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever."""
    heard: list[Outcome] = []

    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "in_thread", fails)
    runs.reloads.reload().addCallback(heard.append)
    assert [outcome.in_force for outcome in heard] == [False]
