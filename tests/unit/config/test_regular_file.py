"""Reading with a limit: what a file has, and no more memory than that (SPEC 4)."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from policyd.config.regular_file import FileRefused, read_regular

LIMIT = 1 << 20


def test_a_small_file_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"small")
    tracemalloc.start()
    try:
        assert read_regular(str(path), 1 << 30) == b"small"
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1, LIMIT - 1, LIMIT])
def test_all_of_a_file(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert read_regular(str(tmp_path / "file"), LIMIT) == content


@pytest.mark.parametrize("size", [LIMIT + 1, 3 * LIMIT])
def test_a_file_over_the_limit(size: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    with pytest.raises(FileRefused, match="larger than 1 MiB"):
        read_regular(str(tmp_path / "file"), LIMIT)


def test_a_file_that_says_it_is_empty() -> None:
    """As those of proc(5) do, and a pipe."""
    assert read_regular("/proc/self/status", LIMIT).startswith(b"Name:")


@pytest.mark.parametrize("size", [0, 300_000, LIMIT])
def test_a_pipe(size: int, tmp_path: Path) -> None:
    path, content = tmp_path / "pipe", os.urandom(size)
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    assert read_regular(str(path), LIMIT, pipe=True) == content
    writer.join()
