"""`serve --record`: every request, privately, up to a limit, and never in the way of an answer (SPEC 7)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.testing import StringTransport

from policyd.protocol.request import parse_request
from policyd.records.redacted import redacted
from policyd.records.transcript import read_requests
from policyd.service import log_writer
from policyd.service.recording import RECORDING_LIMIT, Recording
from tests.helpers.in_memory import InMemory
from tests.helpers.waiting import until

ONE = b"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=a@contoso.com\nrecipient=b@other.example\n\n"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def told(recording: Recording) -> list[str]:
    lines: list[str] = []
    recording.tell = lines.append
    return lines


def test_requests_are_appended_as_they_came(tmp_path: Path) -> None:
    path = tmp_path / "requests"
    for sender in (b"a@", b"z@"):
        recording = Recording(str(path))
        recording.record(ONE.replace(b"a@", sender))
        recording.close()
    assert path.read_bytes() == ONE + ONE.replace(b"a@", b"z@")


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_the_file_is_its_owners_only(umask: int, tmp_path: Path) -> None:
    path = tmp_path / "requests"
    before = os.umask(umask)
    try:
        Recording(str(path)).close()
    finally:
        os.umask(before)
    assert mode(path) & 0o077 == 0
    assert umask == 0o777 or mode(path) == 0o600


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "requests"
    path.touch(mode=0o644)
    path.chmod(0o644)
    Recording(str(path)).close()
    assert mode(path) == 0o600


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "requests").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="requests"):
        Recording(str(tmp_path / "requests"))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_only_regular_files(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "requests")
    with pytest.raises(OSError, match="requests"):
        Recording(str(tmp_path / "requests"))


def test_the_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Recording(str(tmp_path / "no" / "requests"))


@pytest.mark.parametrize("rest", [ONE[:50], ONE[:-1], b"\n"])
def test_what_was_cut_off_does_not_run_into_the_next(rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "requests"
    path.write_bytes(ONE + rest)
    recording = Recording(str(path))
    recording.record(ONE)
    recording.close()
    with path.open("rb") as stream:
        *_, last = read_requests(stream)
    assert last == parse_request(ONE)
    assert path.read_bytes().endswith(b"\n\n" + ONE)


def test_the_limit_is_a_hundred_mebibytes() -> None:
    assert RECORDING_LIMIT == 104_857_600


def test_it_ends_at_the_limit_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "requests"
    path.write_bytes(ONE)  # what is there already counts
    recording = Recording(str(path), limit=3 * len(ONE))
    lines = told(recording)
    for _ in range(10):
        recording.record(ONE)
    recording.close()
    until(lambda: path.stat().st_size == 3 * len(ONE))
    assert path.read_bytes() == 3 * ONE
    assert len(lines) == 1
    assert str(path) in lines[0]


def test_what_other_workers_write_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policyd.service.recording._LOOK_EVERY", len(ONE))
    path = tmp_path / "requests"
    mine = Recording(str(path), limit=10 * len(ONE))
    lines = told(mine)
    others = Recording(str(path), limit=100 * len(ONE))
    for _ in range(9):
        others.record(ONE)
    others.close()
    mine.record(ONE)
    until(lambda: path.stat().st_size == 10 * len(ONE))
    mine.record(ONE)
    mine.close()
    assert path.read_bytes() == 10 * ONE
    assert len(lines) == 1


def test_a_write_that_fails_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    recording = Recording(str(tmp_path / "requests"))
    lines = told(recording)
    monkeypatch.setattr(log_writer.os, "write", full)

    def ended() -> bool:
        recording.record(ONE)
        return bool(lines)

    until(ended)
    monkeypatch.undo()
    recording.record(ONE)
    recording.close()
    assert len(lines) == 1
    assert (tmp_path / "requests").read_bytes() == b""


def test_without_a_log_it_says_so_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recording = Recording(str(tmp_path / "requests"), limit=1)
    recording.record(ONE)
    assert capfd.readouterr().err.startswith("<4>policyd: recording to ")


def test_the_server_records_every_state(tmp_path: Path) -> None:
    recording = Recording(str(tmp_path / "requests"))
    server = InMemory(recorder=recording)
    protocol = server.factory.buildProtocol(None)
    assert protocol is not None
    protocol.makeConnection(StringTransport())
    data = ONE.replace(b"RCPT", b"DATA")
    protocol.dataReceived(ONE + data[:20])
    protocol.dataReceived(data[20:])
    protocol.dataReceived(b"nonsense\n")
    recording.close()
    assert (tmp_path / "requests").read_bytes() == ONE + data


# ------------------------------------------------------------------------------------------- redacted

REDACTED = [
    (b"sender=kate@contoso.com", b"sender=*@contoso.com"),
    (b"sender=", b"sender="),
    (b"sender=root", b"sender=*"),
    (b"recipient=a%b@x.example", b"recipient=*%@x.example"),
    (b"recipient=a@b@x.example", b"recipient=*@@x.example"),
    (b"recipient=@x.example", b"recipient=@x.example"),
    (b"recipient=\xff@x.\xff", b"recipient=*@x.\xff"),
    (b"sasl_username=kate", b"sasl_username=*"),
    (b"sasl_username=kate@contoso.com", b"sasl_username=*@contoso.com"),
    (b"sasl_sender=kate@contoso.com", b"sasl_sender=*@contoso.com"),
    (b"ccert_subject=kate@contoso.com", b"ccert_subject=*@contoso.com"),
    (b"ccert_subject=kate+40contoso.com", b"ccert_subject=*@contoso.com"),
    (b"ccert_subject=mail.contoso.com", b"ccert_subject=mail.contoso.com"),
    (b"ccert_subject=bad+2@x", b"ccert_subject=*@x"),
    (b"helo_name=a=b", b"helo_name=a=b"),
]


@pytest.mark.parametrize(("line", "expected"), REDACTED, ids=[repr(line) for line, _ in REDACTED])
def test_redacted(line: bytes, expected: bytes) -> None:
    assert redacted(b"request=smtpd_access_policy\n" + line + b"\n\n") == (
        b"request=smtpd_access_policy\n" + expected + b"\n\n"
    )


def test_what_is_not_known_is_dropped() -> None:
    assert redacted(b"request=smtpd_access_policy\nemployee=Kate\n=x\n\n") == b"request=smtpd_access_policy\n\n"


def test_repeated_attributes_are_all_redacted() -> None:
    assert redacted(b"sender=a@x\nsender=b@y\n\n") == b"sender=*@x\nsender=*@y\n\n"


def test_a_redacted_recording(tmp_path: Path) -> None:
    recording = Recording(str(tmp_path / "requests"), redact=True)
    recording.record(ONE)
    recording.close()
    assert (tmp_path / "requests").read_bytes() == ONE.replace(b"a@", b"*@").replace(b"b@", b"*@")
