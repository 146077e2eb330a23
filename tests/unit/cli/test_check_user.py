"""`policyd check --user`: what root can read and write, and the user that policyd runs as cannot.

The user is `nobody`, since no machine lacks it; the folder is one that everybody can enter.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from policyd.cli.main import main
from policyd.cli.service_user import CannotBecomeError, rights_of
from policyd.config import writable
from policyd.loading.load import load
from tests.helpers.programs import needs_root
from tests.places import TESTS

CERTIFICATE = TESTS / "certs" / "cn-only.pem"
NOBODY = pwd.getpwnam("nobody")

FILES = {
    "policyd.toml": 'include = ["organizations.d/contoso.toml", "organizations.d/*.toml"]\n[service]\n',
    "organizations.d/contoso.toml": '[organizations.contoso]\naccepted_domains = ["contoso.com"]\n'
    "[organizations.contoso.connectors.appliance]\n"
    'certificate_names = ["mail.contoso.com"]\ncertificate_files = ["../certs/appliance.pem"]\n',
    "certs/appliance.pem": CERTIFICATE.read_text("ascii"),
}


@pytest.fixture
def installed() -> Iterator[Path]:
    """A configuration that is installed as docs/guide.md says, for the group of `nobody`."""
    folder = Path(tempfile.mkdtemp(prefix="policyd-check-", dir="/tmp"))
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        for path, mode in ((folder / name, 0o640), ((folder / name).parent, 0o750)):
            os.chown(path, 0, NOBODY.pw_gid)
            path.chmod(mode)
    assert load(str(folder / "policyd.toml")).problems == ()
    yield folder
    shutil.rmtree(folder)


def check(folder: Path, *options: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    """Exit code, the problems as lines with paths relative to the folder, and the line of counts."""
    capsys.readouterr()
    groups = os.getgroups()
    code = main(["check", "-c", str(folder / "policyd.toml"), *options])
    told = capsys.readouterr()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)
    return code, told.out.replace(f"{folder}/", "").splitlines(), told.err


@dataclass(frozen=True)
class Case:
    """Modes that differ from the installed ones; what is then told (`FILE[:LINE]`, and a part of the text)."""

    why: str
    modes: Mapping[str, int] = field(default_factory=dict)
    told: Sequence[tuple[str, str]] = ()


DENIED = "permission denied"
CASES = (
    Case("as installed"),
    Case("everybody may read", {"policyd.toml": 0o644, ".": 0o755}),
    Case("policyd.toml", {"policyd.toml": 0o600}, [("policyd.toml", DENIED)]),
    Case("its folder", {".": 0o700}, [("policyd.toml", DENIED)]),
    Case("an included file", {"organizations.d/contoso.toml": 0o600}, [("organizations.d/contoso.toml", DENIED)]),
    Case(
        "a folder of included files",
        {"organizations.d": 0o700},
        [("policyd.toml:1", 'cannot read the folder "organizations.d": Permission denied')] * 2,
    ),
    Case(
        "a folder whose files have names only",
        {"organizations.d": 0o740},
        [("policyd.toml:1", 'cannot read the folder "organizations.d": Permission denied')] * 2,
    ),
    Case(
        "a stored certificate",
        {"certs/appliance.pem": 0o600},
        [("organizations.d/contoso.toml:5", f'the certificate file "../certs/appliance.pem": {DENIED}')],
    ),
    Case(
        "a folder of certificates",
        {"certs": 0o700},
        [("organizations.d/contoso.toml:5", f'the certificate file "../certs/appliance.pem": {DENIED}')],
    ),
)


@needs_root
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
def test_what_the_user_cannot_read(case: Case, installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, mode in case.modes.items():
        (installed / name).chmod(mode)
    assert check(installed, capsys=capsys)[:2] == (0, [])  # root reads everything
    code, lines, counts = check(installed, "--user", "nobody", capsys=capsys)
    assert len(lines) == len(case.told), lines
    for line, (place, text) in zip(lines, case.told, strict=True):
        assert line.startswith(f"{place}: ")
        assert text in line
    assert code == (78 if case.told else 0)
    assert ("as the user nobody sees it" in counts) == bool(case.told)


@needs_root
@pytest.mark.parametrize(
    ("usual", "default", "options", "code"),
    [
        ("nobody", True, [], 78),
        ("nobody", True, ["--user", "root"], 0),
        ("nobody", False, [], 0),  # a draft somewhere
        ("nobody", False, ["--user", "nobody"], 78),
        ("no-such-user", True, [], 0),  # policyd is not installed as a service
    ],
)
def test_who_is_meant(
    usual: str,
    default: bool,
    options: list[str],
    code: int,
    installed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without --user: the usual user, where root checks the configuration of the service."""
    monkeypatch.setattr("policyd.cli.service_user.USUAL", usual)
    if default:
        monkeypatch.setattr("policyd.cli.check.DEFAULT_CONFIGURATION", f"{installed}/policyd.toml")
    (installed / "policyd.toml").chmod(0o600)
    assert check(installed, *options, capsys=capsys)[0] == code


@needs_root
def test_rights_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")

    def rights() -> tuple[int, int, list[int], str]:
        return os.geteuid(), os.getegid(), os.getgroups(), os.environ["HOME"]

    def fails() -> None:
        with rights_of("nobody"):
            seen.append(rights())
            raise ZeroDivisionError

    own = rights()
    seen: list[tuple[int, int, list[int], str]] = []
    with pytest.raises(ZeroDivisionError):
        fails()
    groups = os.getgrouplist("nobody", NOBODY.pw_gid)
    assert seen == [(NOBODY.pw_uid, NOBODY.pw_gid, groups, NOBODY.pw_dir)]  # libpq looks for .pgpass there
    assert rights() == own


@contextmanager
def as_nobody() -> Iterator[None]:
    """Not as root."""
    with rights_of("nobody") if os.geteuid() == 0 else rights_of(""):
        yield


@pytest.mark.parametrize("user", ["no-such-user", "root", "a\0b"])
def test_who_cannot_be_meant(user: str, capsys: pytest.CaptureFixture[str]) -> None:
    with as_nobody():
        assert main(["check", "--user", user]) == 64
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("policyd check: ")
    assert told.err.count("\n") == 1
    with as_nobody(), pytest.raises(CannotBecomeError), rights_of(user):
        pass


# --- where the server writes at its start


@dataclass(frozen=True)
class Place:
    """Settings (FOLDER is the user's own, CLOSED is root's), and what is told of them."""

    why: str
    settings: str
    told: str = ""
    line: int = 0


PLACES = (
    Place("nothing is written", ""),
    Place("a log that can be made", '[log]\nfile = "FOLDER/policyd.log"\n'),
    Place("no folder for it", '[log]\nfile = "FOLDER/logs/policyd.log"\n', 'there is no folder "FOLDER/logs"', 4),
    Place("a folder below a file", '[log]\nfile = "FOLDER/mine/x"\n', 'there is no folder "FOLDER/mine"', 4),
    Place("the unit makes it", '[log]\nfile = "FOLDER/made/policyd.log"\n'),
    Place("root's folder", '[log]\nfile = "CLOSED/x"\n', 'nobody cannot write to the folder "CLOSED"', 4),
    Place("a folder in it", '[log]\nfile = "CLOSED/in/x"\n', 'nobody cannot write to the folder "CLOSED/in"', 4),
    Place("a log of the user's", '[log]\nfile = "FOLDER/mine"\n'),
    Place("a log of root's", '[log]\nfile = "FOLDER/roots"\n', '"FOLDER/roots": nobody cannot write to it', 4),
    Place("a socket that can be made", 'listen = ["unix:FOLDER/policyd.sock"]\n'),
    Place(
        "one of two sockets",
        'listen = ["unix:FOLDER/policyd.sock",\n  "unix:FOLDER/none/policyd.sock"]\n',
        '"FOLDER/none/policyd.sock": there is no folder',
        4,
    ),
    Place("root's folder for it", 'listen = ["unix:CLOSED/s"]\n', 'nobody cannot write to the folder "CLOSED"', 3),
    Place(
        "of the metrics",
        '[metrics]\nlisten = "unix:CLOSED/m"\n',
        'nobody cannot write to the folder "CLOSED"',
        4,
    ),
)


@needs_root
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.why)
def test_where_the_server_could_not_write(
    place: Place, installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, closed = installed / "own", installed / "closed"
    for folder in (own, closed, closed / "in"):
        folder.mkdir()
    for name in ("mine", "roots"):
        (own / name).touch(0o600)
    os.chown(own, NOBODY.pw_uid, 0)
    os.chown(own / "mine", NOBODY.pw_uid, 0)
    closed.chmod(0o700)
    monkeypatch.setattr(writable, "_MADE_BY_SYSTEMD", (f"{own}/made",))

    def filled(text: str) -> str:
        return text.replace("FOLDER", str(own)).replace("CLOSED", str(closed))

    (installed / "policyd.toml").write_text(FILES["policyd.toml"] + filled(place.settings))
    assert check(installed, capsys=capsys)[:2] == (0, [])
    code, _, counts = check(installed, "--user", "nobody", "--strict", "--json", capsys=capsys)
    assert code == (78 if place.told else 0), counts
    main(["check", "-c", str(installed / "policyd.toml"), "--user", "nobody", "--json"])
    found = json.loads(capsys.readouterr().out)["problems"]
    assert [(one["severity"], one["line"]) for one in found] == [("warning", place.line)] * bool(place.told)
    assert all(filled(place.told) in one["message"] for one in found), found
