"""What the metrics say, at one moment (SPEC 8): the page is made of counters and of the rules in force."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from policyd.policy.model import Connector, Organization, Rules, StoredCertificate
from policyd.service import metrics
from policyd.service.counters import Counters
from policyd.service.metrics import Exposition
from policyd.service.reloads import Reloaded
from policyd.store.file import rule_set

NOW = 1_700_000_000
DAY = 86400
EXPIRY = "policyd_certificate_expiry_days"


@pytest.fixture(autouse=True)
def _the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.time, "time", lambda: float(NOW))


def expiring(name: str, *days: float) -> Connector:
    """A connector with stored certificates that expire in so many days."""
    stored = StoredCertificate(
        source=name, not_after=NOW, names=(), certificate_fingerprints=frozenset(), public_key_fingerprints=frozenset()
    )
    return Connector(name=name, stored_certificates=tuple(replace(stored, not_after=int(NOW + d * DAY)) for d in days))


def shown(*connectors: Connector) -> dict[str, float]:
    """The values without labels of a page."""
    rules = rule_set(Rules(organizations=(Organization(name="contoso", connectors=connectors),)), 7).lookups
    reloaded = Reloaded(0, 0, 0.0, True)
    database = SimpleNamespace(status=lambda: None)
    configuration = SimpleNamespace(service=SimpleNamespace(mode="enforce"))
    reloads: Any = SimpleNamespace(rules=rules, reloaded=reloaded, database=database, configuration=configuration)
    processes: Any = SimpleNamespace(size=1, running=1, worker_pids={})
    metrics_of = Exposition(Counters(), processes, reloads).collect()
    return {one.name: float(one.value) for metric in metrics_of for one in metric.samples if not one.labels}


@pytest.mark.parametrize(
    ("connectors", "days"),
    [
        ([expiring("a", 30)], 30),
        ([expiring("a", 30, 5, 90)], 5),
        ([expiring("a", 90), expiring("b", 400), expiring("c", 30.5)], 30.5),
        ([expiring("a", 30), expiring("b", -2)], -2),
    ],
)
def test_the_next_certificate_that_expires(connectors: list[Connector], days: float) -> None:
    assert shown(*connectors)[EXPIRY] == days


def test_without_certificate_files_there_is_no_such_metric() -> None:
    values = shown(Connector(name="a", certificate_names=()))
    assert EXPIRY not in values
    assert (values["policyd_generation"], values["policyd_organizations"], values["policyd_connectors"]) == (7, 1, 1)
