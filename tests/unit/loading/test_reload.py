"""Loading for the server, what a reload tells, and wishes that come while a reload is under way (SPEC 8)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import threads
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from policyd.config.settings import Configuration
from policyd.loading.compiled import load_rules, load_rules_anew, release
from policyd.loading.differences import differences, settings_differences
from policyd.service.reloads import Reloads
from tests.helpers.compiled import compiled
from tests.helpers.in_memory import InMemory
from tests.strategies import CERTIFICATE_FOLDER

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
def test_differences(old: str, new: str, told: list[str]) -> None:
    before, after = compiled(BASE).rules, compiled(BASE.replace(old, new)).rules
    assert differences(before, after) == told


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
    path = tmp_path / "policyd.toml"
    path.write_text(BASE, "utf-8")
    old = load_rules(str(path), 1).configuration
    path.write_text(f"{settings}\n{BASE}", "utf-8")
    new = load_rules(str(path), 2).configuration
    assert old is not None
    assert new is not None
    assert settings_differences(old, new) == told
    assert settings_differences(new, new) == []


def test_what_is_taken_away_whole() -> None:
    assert differences(compiled(BASE).rules, compiled("").rules) == ['organization "contoso" removed']


def test_the_order_of_the_file_is_no_difference() -> None:
    first, second, third = BASE.strip().split("\n\n")
    turned = f"{third}\n\n{second}\n\n{first}".replace(
        '"contoso.com", "*.contoso.net"', '"*.contoso.net", "contoso.com"'
    )
    assert differences(compiled(BASE).rules, compiled(turned).rules) == []


def test_loading(tmp_path: Path) -> None:
    path = tmp_path / "policyd.toml"
    path.write_text(BASE)
    loaded = load_rules(str(path), 7)
    assert loaded.configuration is not None
    assert loaded.rules is not None
    assert loaded.rules.generation == 7
    assert [o.name for o in loaded.rules.organizations] == ["contoso"]


def test_loading_what_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "policyd.toml"
    path.write_text(BASE.replace("accepted_domains", "accepted_domain"))
    loaded = load_rules(str(path), 7)
    assert (loaded.configuration, loaded.rules) == (None, None)
    assert [(p.file, p.line) for p in loaded.problems if p.severity == "error"] == [(str(path), 3)]


class Runs:
    """Reloads whose reading is over when its function is called; it gives nothing new."""

    def __init__(self) -> None:
        self.over: list[Callable[[], None]] = []
        self.at_once = False
        rules = compiled(BASE)
        processes: Any = InMemory()
        self.reloads = Reloads(Clock(), "policyd.toml", Configuration(rules=rules.rules), rules, processes)

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
    monkeypatch.setattr(threads, "deferToThread", made.read)
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


def test_a_reload_tells_what_it_changes(tmp_path: Path) -> None:
    """Worked out where the rules are read, not in the reactor's thread."""
    path = tmp_path / "policyd.toml"
    path.write_text(BASE, "utf-8")
    before = compiled("", generation=4)
    loaded = load_rules_anew(str(path), before)
    assert loaded.rules is not None
    assert loaded.rules.generation == 5
    assert loaded.changes == ('organization "contoso" added',)
    path.write_text("nonsense", "utf-8")
    assert load_rules_anew(str(path), before).changes is None


def test_rules_that_are_released_are_gone() -> None:
    kept = compiled(BASE)
    rules = [compiled(BASE), kept]
    organization, same = rules[0].organizations[0], kept.organizations[0]
    held = sys.getrefcount(organization)
    release(rules)
    assert rules == []
    assert sys.getrefcount(organization) < held
    assert kept.organizations == (same,), "what somebody else has stays as it is"
