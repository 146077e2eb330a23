"""Warnings that depend on the day: the dates of certificate files (SPEC 4). tests/suspicious_configs has the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from policyd.loading.load import load
from tests.make_certs import NOT_AFTER, NOT_BEFORE
from tests.strategies import CERTIFICATE_FOLDER

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (NOT_BEFORE - SECOND, "is not valid before 2024-01-01"),
        (NOT_BEFORE, ""),
        (NOT_AFTER - 31 * DAY, ""),
        (NOT_AFTER - 30 * DAY, ""),
        (NOT_AFTER - 30 * DAY + SECOND, "expires on 2099-12-31, in 29 days"),
        (NOT_AFTER - 2 * DAY, "expires on 2099-12-31, in 2 days"),
        (NOT_AFTER - DAY, "expires on 2099-12-31, in 1 day"),
        (NOT_AFTER - DAY + SECOND, "expires on 2099-12-31, within a day"),
        (NOT_AFTER, "expires on 2099-12-31, within a day"),
        (NOT_AFTER + SECOND, "expired on 2099-12-31"),
    ],
    ids=str,
)
def test_dates_of_certificate_files(now: datetime, told: str, tmp_path: Path) -> None:
    assert now.tzinfo is UTC
    path = tmp_path / "policyd.toml"
    path.write_text(
        '[organizations.a]\naccepted_domains = ["contoso.com"]\n[organizations.a.connectors.c]\n'
        f'certificate_files = ["{CERTIFICATE_FOLDER}/cn-only.pem"]\n'
    )
    problems = load(str(path), now.timestamp()).problems
    assert [problem.severity for problem in problems] == ["warning"] * bool(told)
    assert all(told in problem.message and problem.line == 4 for problem in problems), problems


@pytest.mark.parametrize(
    ("accepted", "delegated", "warned"),
    [
        ("x.example", "lab.x.example", False),
        ("x.example", "x.example", False),  # all below it may be others'
        ("mail.x.example", "x.example", False),
        ("x.example", "xx.example", True),
        ("x.example", "y.example", True),
    ],
)
def test_what_is_delegated_to_no_effect(accepted: str, delegated: str, warned: bool, tmp_path: Path) -> None:
    path = tmp_path / "policyd.toml"
    path.write_text(
        f'[organizations.a]\naccepted_domains = ["{accepted}"]\ndelegated_domains = ["{delegated}"]\n'
        f'[organizations.a.connectors.c]\ncertificate_names = ["mail.{accepted}"]\n'
    )
    assert [problem.line for problem in load(str(path)).problems] == [3] * warned


def test_the_providers_networks_may_be_as_wide_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "policyd.toml"
    path.write_text('[policy]\nprovider_networks = [\n  "0.0.0.0/0",\n  "2000::/3",\n  "::/0",\n]\n')
    problems = load(str(path)).problems
    assert [problem.line for problem in problems] == [5]
    assert "write the IPv4 part as IPv4" in problems[0].message
