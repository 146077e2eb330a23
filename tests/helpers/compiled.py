"""Rules for tests: a configuration as a dict or as TOML text, compiled by the way that `policyd serve` goes.

It writes a file, loads it and fails the test with the problems when it is not valid. Knows nothing of sockets.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policyd.loading.load import load
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request
from policyd.store.file import rule_set
from tests.strategies import to_toml


def compiled(config: Mapping[str, Any] | str, generation: int = 1) -> RuleSet:
    """The rules of a configuration; relative names of certificate files do not work here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policyd.toml")
        path.write_text(config if isinstance(config, str) else to_toml(config), "utf-8")
        return compiled_file(path, generation)


def compiled_file(path: Path, generation: int = 1) -> RuleSet:
    """The rules of a configuration file."""
    loaded = load(str(path))
    errors = [str(problem) for problem in loaded.problems if problem.severity == "error"]
    assert loaded.configuration is not None, "\n".join(errors)
    return rule_set(loaded.configuration.rules, generation)


def request_of(attributes: Mapping[str, str]) -> Request:
    """The request with these attributes; those that policyd does not look at are left out."""
    return Request(**{name: value for name, value in attributes.items() if name in Request._fields})
