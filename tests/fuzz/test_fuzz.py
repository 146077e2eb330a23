"""The fuzz targets in an ordinary test run: every file of the corpus, and some seconds of fuzzing for each target.

The corpus runs everywhere; the fuzzing is skipped where atheris is not installed. Together less than a minute. The
inputs come from one seed, so runs hardly differ: what finds something new is `python -m tests.fuzz`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz import slow_wire
from tests.fuzz.__main__ import HERE, fuzz
from tests.fuzz.targets import TARGETS

INPUTS = 2500  # for each target
MOST_SECONDS = 60  # for them, on a machine that is busy

CORPUS = sorted((HERE / "corpus").glob("*/*"))


def test_every_target_has_a_corpus() -> None:
    assert {path.parent.name for path in CORPUS} == set(TARGETS)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_corpus(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_slow_wire_reads_what_is_meant() -> None:
    """The oracle itself, on the examples of SPEC 5."""
    begin = b"request=smtpd_access_policy\n"
    requests, sound = slow_wire.read(begin + b"sender=a=b\nsender=c\n\n" + begin)
    assert [request.sender for request in requests] == ["a=b"]
    assert sound
    for broken in (
        b"\n",
        b"request=x\n\n",
        begin + b"abc\n",
        begin + b"x=\0\n",
        b"sender=a\n\n",
        begin[:-1] + b"\r\n\n",
    ):
        assert slow_wire.read(begin + b"\n" + broken)[1] is False, broken
        assert len(slow_wire.read(begin + b"\n" + broken)[0]) == 1
    filler = b"x=" + b"y" * (slow_wire.LIMIT - len(begin) - 4)
    assert slow_wire.read(begin + filler + b"\n\n") == (requests[:0] + slow_wire.read(begin + b"\n")[0], True)
    assert slow_wire.read(begin + filler + b"y\n\n") == ([], False)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("target", TARGETS)
def test_some_seconds_of_fuzzing(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz(target, MOST_SECONDS, tmp_path, INPUTS), capsys.readouterr().out
