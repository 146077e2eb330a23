"""Which dsn asks whom over TCP without looking at the certificate, as libpq would (SPEC 9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyd.database.dsn import unverified
from policyd.loading.load import load


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSSLMODE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("dsn", "host"),
    [
        ("postgresql://policyd@db.example.net/policyd", "db.example.net"),
        ("postgresql://policyd@192.0.2.5/policyd?sslmode=require", "192.0.2.5"),
        ("postgresql://policyd@db.example.net/policyd?sslmode=verify-ca", "db.example.net"),
        ("postgresql://policyd@db.example.net/policyd?sslmode=verify-full", ""),
        ("postgresql://policyd@[2001:db8::5]/policyd", "2001:db8::5"),
        ("postgresql://policyd@127.0.0.1/policyd", "127.0.0.1"),  # any local user takes the port while it is down
        ("postgresql:///policyd", ""),
        ("postgresql:///policyd?host=/run/postgresql", ""),
        ("postgresql://%2Frun%2Fpostgresql/policyd", ""),
        ("postgresql:///policyd?host=db2", "db2"),
        ("dbname=policyd", ""),
        ("host=@postgresql dbname=policyd", ""),
        ("host = db.example.net sslmode = 'verify-full'", ""),
        ("host=/run/postgresql,db2 sslmode=prefer", "db2"),
        ("host=,db2", "db2"),
        ("host=/run/postgresql hostaddr=192.0.2.5", "192.0.2.5"),
        ("service=policyd", "service policyd"),
        ("service=policyd sslmode=verify-full", ""),
        ("service=policyd host=/run/postgresql", ""),
        ("this is = no 'dsn", ""),
    ],
)
def test_hosts(dsn: str, host: str) -> None:
    assert unverified(dsn) == host


def test_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example.net")
    assert unverified("dbname=policyd") == "db.example.net"
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert unverified("dbname=policyd") == ""
    assert unverified("dbname=policyd sslmode=require") == "db.example.net"
    assert unverified("service=policyd") != "", "its file counts before the environment"


@pytest.mark.parametrize(("mode", "warned"), [("", True), ("&sslmode=verify-full", False)])
def test_a_check_warns(mode: str, warned: bool, tmp_path: Path) -> None:
    """Also where the database is away; what stands in the dsn besides is not shown."""
    dsn = f"postgresql://policyd:secret@127.0.0.1:1/policyd?connect_timeout=2{mode}"
    (tmp_path / "p.toml").write_text(f'[database]\ndsn = "{dsn}"\nsnapshot_file = "none"\n')
    problems = load(str(tmp_path / "p.toml")).problems
    found = [problem for problem in problems if "sslmode=verify-full" in problem.message]
    assert [(problem.severity, problem.line) for problem in found] == [("warning", 2)] * warned
    assert all('"127.0.0.1"' in problem.message for problem in found)
    assert "secret" not in str(problems)
