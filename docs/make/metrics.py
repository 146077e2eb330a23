"""docs/reference/metrics.md: every metric, from the exposition itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from policyd.policy.model import Connector, Organization, Rules, StoredCertificate
from policyd.service.counters import Counters
from policyd.service.database_watch import DatabaseStatus
from policyd.service.metrics import Exposition
from policyd.service.reloads import Reloaded
from policyd.store.file import rule_set

_HEAD = """\
# Metrics

<!-- Made by `python docs/make`: change policyd/service/metrics.py, not this file. -->

With `[metrics] listen = "inet:127.0.0.1:9645"` policyd serves `/metrics` for Prometheus and `/healthz` for health
checks: 200 while requests get answers, 503 otherwise. It needs the extra `metrics` (prometheus-client). With several
workers the numbers are their sum. `contrib/grafana` has a dashboard of all of them. What is promised of both is in
[section 8](../specification.md#8-the-service) of the specification.

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
    reloaded = Reloaded(reloads=0, failures=0, last=0.0, succeeded=True)
    database = DatabaseStatus(up=True, read_at=0.0, organizations=0, left_out=0, reads=0, failures=0)
    return Exposition(counted, rules, reloaded, 1, database).text().decode("utf-8")
