"""Names that are nobody's own: the list of those that many parties present, and public suffixes (SPEC 4)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.config import many_parties, public_suffixes
from policyd.config.many_parties import SharedNames, shipped_names
from policyd.config.public_suffixes import is_public_suffix
from policyd.policy.names import Pattern, parse_pattern
from tests.places import PROJECT

LIST = Path(many_parties.__file__).with_name("many_parties.toml")


def pattern(text: str) -> Pattern:
    found = parse_pattern(text)
    assert found is not None
    return found


def test_each_name_of_the_list_has_a_provider_and_a_source() -> None:
    listed = tomllib.loads(LIST.read_text("utf-8"))["names"]
    assert all(set(entry) == {"provider", "name", "source"} and all(entry.values()) for entry in listed)
    assert [str(name) for name in shipped_names()] == [entry["name"] for entry in listed]  # canonical, none twice
    assert len(set(shipped_names())) == len(listed)
    assert not any(map(is_public_suffix, shipped_names()))


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("mail.protection.outlook.com", "*.outlook.com"),
        ("am6eur05-obe.outbound.protection.outlook.com", "*.outlook.com"),
        ("*.outlook.com", "*.outlook.com"),
        ("notoutlook.com", None),
        ("smtp.gmail.com", "*.gmail.com"),
        ("*.iphmx.com", "iphmx.com"),
        ("iphmx.com", "iphmx.com"),
        ("mx1.contoso.iphmx.com", None),  # one customer's own
        ("*.contoso.iphmx.com", None),
        ("mail.contoso.com", None),
    ],
)
def test_what_claims_a_name_of_the_list(text: str, claims: str | None) -> None:
    claimed = SharedNames(shipped_names()).claimed_by(pattern(text))
    assert (None if claimed is None else str(claimed)) == claims


SOME_OF_THE_LIST = """\
// ===BEGIN ICANN DOMAINS===
com
uk
co.uk
cn
公司.cn   a comment, since a rule ends at its first blank
*.ck
!www.ck
jp
*.kawasaki.jp
!city.kawasaki.jp
// ===BEGIN PRIVATE DOMAINS===
github.io
"""


@pytest.fixture(params=["the system's", "the library's"])
def _either_list(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    system = tmp_path / "list"
    if request.param == "the system's":
        system.write_text(SOME_OF_THE_LIST, "utf-8")
    monkeypatch.setattr(public_suffixes, "SYSTEM_LIST", system)
    public_suffixes._rules.cache_clear()
    yield
    public_suffixes._rules.cache_clear()


@pytest.mark.usefixtures("_either_list")
@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("com", True),
        ("co.uk", True),
        ("*.co.uk", True),
        ("contoso.co.uk", False),
        ("*.contoso.co.uk", False),
        ("github.io", True),  # of the list's second section
        ("*.github.io", True),
        ("contoso.github.io", False),
        ("公司.cn", True),
        ("xn--55qx5d.cn", True),
        ("ck", True),  # only `*.ck` is on the list
        ("contoso.ck", True),
        ("www.ck", False),  # an exception there
        ("*.kawasaki.jp", True),  # all that it covers are
        ("kawasaki.jp", False),
        ("city.kawasaki.jp", False),
        ("contoso", False),  # on no list
        ("local", False),
        ("mail.local", False),
        ("//", False),
    ],
)
def test_public_suffixes(text: str, is_one: bool) -> None:
    assert is_public_suffix(Pattern(text) if text == "//" else pattern(text)) is is_one


def test_nothing_of_the_request_path_reads_either() -> None:
    """They are read with a configuration: by `config`, by what proposes changes to one, and by imports."""
    users = {
        path.relative_to(PROJECT / "policyd").parts[0]
        for path in (PROJECT / "policyd").rglob("*.py")
        if "config.many_parties" in (text := path.read_text("utf-8")) or "config.public_suffixes" in text
    }
    assert users <= {"config", "explain", "imports", "cli"}
