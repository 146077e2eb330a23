"""Where coverage is measured, the servers of this folder count, too: some of the code runs in their processes only.

Those that other folders start are as fast as anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.places import PROJECT


@pytest.fixture(autouse=True, scope="module")
def _servers_count(measured: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if measured:
            patch.setenv("COVERAGE_PROCESS_START", measured)
            patch.setenv("COVERAGE_FILE", str(PROJECT / ".coverage"))
        yield
