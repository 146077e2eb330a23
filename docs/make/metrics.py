"""docs/reference/metrics.md: every metric, from the exposition itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from policyd.config.settings import Configuration
from policyd.policy.model import Connector, Organization, Rules, StoredCertificate
from policyd.service.counters import Counters
from policyd.service.database_watch import DatabaseStatus
from policyd.service.metrics import Exposition
from policyd.service.reloads import Reloaded
from policyd.store.file import rule_set

_HEAD = """\
# Metrics

<!-- Made by `python docs/make`: change policyd/service/metrics.py, not this file. -->

With `[metrics] listen = "inet:127.0.0.1:9645"` policyd serves three pages. It needs the extra `metrics`
(prometheus-client). What is promised of them is in [section 8](../specification.md#8-the-service) of the specification.

* `/metrics`, for Prometheus: what stands below. `contrib/grafana` has a dashboard of it.
* `/healthz`, for whoever restarts what does not live: 200, and one line of what is in force and what is wrong with it.
* `/readyz`, for whoever sends mail here: 200 when Postfix would get an answer and what is in force is kept for the next
  start, else 503 with the reason in one line. policyd asks itself over each of its sockets; such a request is counted
  (`DUNNO` without a reason), and in no log.

Counters begin at 0 with policyd, and never go down: with several workers they are the sum of all that served, also of
those that ended, as far as they were last read. Levels of workers are those of the ones that run.

| metric | type | labels | meaning |
|---|---|---|---|
"""
_DECLARED = re.compile(
    r"# HELP (?P<name>\S+) (?P<text>.*)\n# TYPE (?P=name) (?P<kind>\w+)\n(?P<samples>(?:[^#\n].*\n)*)"
)
_HELD_BY_PROMETHEUS = {"le"}  # of histograms


def page() -> str:
    """The whole page, in Markdown."""
    return _HEAD + "".join(f"{row}\n" for row in _rows()) + "\nThe reasons are those of [reasons.md](reasons.md).\n"


def _rows() -> Iterator[str]:
    for match in _DECLARED.finditer(_exposed()):
        labels = sorted(set(re.findall(r'(\w+)="', match["samples"])) - _HELD_BY_PROMETHEUS)
        shown = ", ".join(f"`{label}`" for label in labels) or "-"
        yield f"| `{match['name']}` | {match['kind']} | {shown} | {match['text']} |"


def _exposed() -> str:
    """The exposition of a server that has something of everything."""
    stored = StoredCertificate("a.pem", (), frozenset(), frozenset(), not_after=1 << 33)
    connector = Connector(name="a", stored_certificates=(stored,))
    rules = rule_set(Rules(organizations=(Organization(name="a", connectors=(connector,)),))).lookups
    counted = Counters()
    counted.answers["OK", "incoming"] = 1
    database = DatabaseStatus(up=True, read_at=0.0, organizations=0, left_out=0, reads=0, failures=0)
    reloads: Any = SimpleNamespace(
        configuration=Configuration(),
        rules=rules,
        reloaded=Reloaded(reloads=0, failures=0, last=0.0, succeeded=True),
        database=SimpleNamespace(status=lambda: database),
    )
    processes: Any = SimpleNamespace(size=1, running=1, worker_pids={1: os.getpid()})
    return Exposition(counted, processes, reloads).text().decode("utf-8")
