"""The documentation of the configuration says what the program reads: the reference page, the shipped example."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from policyd.config.keys import (
    CONNECTOR,
    DATABASE,
    LOG,
    METRICS,
    ORGANIZATION,
    PARTNER,
    POLICY,
    ROOT,
    SERVICE,
    TABLES,
    Table,
)
from policyd.config.settings import Configuration, DatabaseSettings, LogSettings, ServiceSettings
from policyd.loading.load import load
from policyd.policy.model import Connector, Organization, Partner
from tests.places import PROJECT

EXAMPLE = PROJECT / "contrib" / "policyd.toml"


def test_the_page_names_every_key_of_every_table() -> None:
    page = (PROJECT / "docs" / "reference" / "configuration.md").read_text("utf-8")
    sections = re.split(r"(?m)^## ", page)[1:]
    assert len(sections) == len(TABLES)
    for table, section in zip(TABLES, sections, strict=True):
        assert re.findall(r"(?m)^### (.*)$", section) == [key.name for key in table.keys]


ELSEWHERE = ("incoming", "relay_limits", "provider_networks", "provider_certificate_names")  # in Rules and Provider


@pytest.mark.parametrize(
    ("table", "of"),
    [
        (SERVICE, ServiceSettings),
        (LOG, LogSettings),
        (METRICS, Configuration),
        (DATABASE, DatabaseSettings),
        (POLICY, Configuration),
        (ORGANIZATION, Organization),
        (CONNECTOR, Connector),
        (PARTNER, Partner),
    ],
    ids=lambda value: getattr(value, "title", ""),
)
def test_defaults_are_those_of_the_program(table: Table, of: type, tmp_path: Path) -> None:
    fields = {field.name: field for field in dataclasses.fields(of)}
    for key in table.keys:
        assert (key.field or key.name) in fields or key.name in ELSEWHERE
    if table in (SERVICE, LOG, POLICY):  # written out, the defaults make what an empty file makes
        path = tmp_path / "policyd.toml"
        path.write_text("")
        empty = load(str(path)).configuration
        path.write_text(
            f"[{table.title}]\n" + "".join(f"{key.name} = {key.default}\n" for key in table.keys if key.default)
        )
        assert load(str(path)).configuration == empty is not None


def test_the_example_works_as_it_is() -> None:
    loaded = load(str(EXAMPLE))
    assert loaded.problems == ()
    assert loaded.configuration is not None
    assert [endpoint.host for endpoint in loaded.configuration.service.listen] == ["127.0.0.1"]


_LINE = re.compile(r"(?P<comment># )?(?:\[(?P<header>[a-z][\w.-]*)\]|(?P<key>[a-z_]+) = .*)")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A line of the example that is a header or a setting, commented out or not."""

    number: int  # of the line, from 0
    header: int  # the line of its table's header; -1 above all tables
    title: str  # of the table in the schema
    key: str  # empty for a header
    commented: bool


def settings_of_the_example() -> list[Setting]:
    found, header, title = [], -1, ""
    for number, line in enumerate(EXAMPLE.read_text("utf-8").splitlines()):
        match = _LINE.fullmatch(line)
        if match is None:
            assert not line or line.startswith("#"), line
            continue
        if match["header"]:
            header = number
            kinds = {"organizations": 2, "connectors": 4, "partners": 4}
            parts = match["header"].split(".")
            title = ".".join("NAME" if n % 2 and parts[n - 1] in kinds else part for n, part in enumerate(parts))
        found.append(Setting(number, header, title, match["key"] or "", bool(match["comment"])))
    return found


EXAMPLES = settings_of_the_example()
ANOTHER = """[organizations.fabrikam]
accepted_domains = ["fabrikam.com"]
connectors.gateway.certificate_names = ["*.fabrikam.com"]
"""
NOT_CARRIED_OUT = {"relay_limits", "tlsa", "until"}
NEEDED = {"dsn", "sender_domains", "require_tls"}  # that a table cannot be without


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title or "root")
def test_the_example_has_every_key_of_every_table(table: Table) -> None:
    shown = {setting.key for setting in EXAMPLES if setting.title == table.title}
    if table is PARTNER:  # what connectors have as well is explained there
        shown |= {key.name for key in CONNECTOR.keys}
    assert {key.name for key in table.keys} - shown == set()


@pytest.mark.parametrize(
    "setting",
    [setting for setting in EXAMPLES if setting.commented and setting.key],
    ids=lambda setting: f"{setting.title}-{setting.key}",
)
def test_what_the_example_comments_out_can_be_put_in(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting alone; with its table's header, and what such a table needs besides, where that is commented out."""
    monkeypatch.setattr("policyd.loading.load._read_database", lambda *_: None)  # there is no server here
    lines = EXAMPLE.read_text("utf-8").splitlines()
    wanted = {setting.number, setting.header} - {-1}
    if any(other.commented for other in EXAMPLES if other.number == setting.header):
        wanted |= {other.number for other in EXAMPLES if other.header == setting.header and other.key in NEEDED}
    for number in wanted:
        lines[number] = lines[number].removeprefix("# ")
    pem = (PROJECT / "tests" / "certs" / "cn-only.pem").read_text("ascii")
    if setting.key == "certificates":  # the example has but the beginning of one
        lines[setting.number] = f"certificates = [{pem!r}]".replace("'", '"')
    for folder in ("organizations.d", "certs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "organizations.d" / "x.toml").write_text(ANOTHER)
    (tmp_path / "certs" / "appliance.pem").write_text(pem)
    path = tmp_path / "policyd.toml"
    path.write_text("\n".join(lines), "utf-8")
    loaded = load(str(path))
    told = [f"{setting.key} is read and not carried out by this version of policyd"] * (setting.key in NOT_CARRIED_OUT)
    assert [problem.message for problem in loaded.problems] == told
    (default,) = (
        key.default for table in TABLES if table.title == setting.title for key in table.keys if key.name == setting.key
    )
    value = lines[setting.number].partition(" = ")[2]
    changes = value != default or setting.title in ("metrics", "database")
    assert (loaded.configuration != load(str(EXAMPLE)).configuration) is changes


def test_root_has_tables_for_all() -> None:
    assert set(ROOT.tables) == {"service", "log", "metrics", "database", "policy", "organizations"}
