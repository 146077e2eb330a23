"""contrib/policyd.schema.json takes whatever `policyd check` takes, and refuses wrong keys, types and choices."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import date, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from policyd.config.files import read_files
from policyd.config.keys import TABLES
from policyd.config.messages import Message
from policyd.config.problems import Problem
from tests.places import PROJECT, TESTS

SCHEMA = json.loads((PROJECT / "contrib" / "policyd.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)

# What a schema can see: each of these, and nothing but these, makes it refuse a file.
SEEN = (
    *(Message.UNKNOWN_KEY, Message.WRONG_TYPE, Message.ELEMENT_TYPE, Message.BAD_NAME, Message.NOT_ONE_OF),
    *(Message.OUT_OF_RANGE, Message.NO_EVIDENCE, Message.NO_SENDER_DOMAINS, Message.NO_REQUIREMENT),
    *(Message.EMPTY_LIST, Message.NOTHING_TO_LISTEN, Message.NO_DSN),
)
GOOD = [
    PROJECT / "contrib" / "policyd.toml",
    PROJECT / "contrib" / "debian" / "policyd.toml",
    *sorted((TESTS / "suspicious_configs").rglob("*.toml")),
    *sorted((TESTS / "cases").glob("config*.toml")),
]


def told(path: Path) -> list[str]:
    """What the schema refuses in a file."""

    def plain(value: Any) -> Any:
        """A value as editors give it to a schema: dates are texts there."""
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value.isoformat() if isinstance(value, date | datetime) else value

    return [error.message for error in VALIDATOR.iter_errors(plain(tomllib.loads(path.read_text("utf-8"))))]


def is_toml(path: Path) -> bool:
    try:
        tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):  # no TOML, not UTF-8, a broken link, nested without end
        return False
    return True


BAD = sorted(filter(is_toml, (TESTS / "bad_configs").rglob("*.toml")))


def problems(folder: Path) -> list[Problem]:
    files = read_files(str(folder / "policyd.toml"), 0.0)
    return [files] if isinstance(files, Problem) else list(files.problems)


def is_of(problem: Problem, messages: tuple[Message, ...]) -> bool:
    patterns = ("[^\n]*?".join(map(re.escape, re.split(r"\{[a-z_]+\}", message.value))) for message in messages)
    return any(re.fullmatch(pattern, problem.message) for pattern in patterns)


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: str(path.relative_to(PROJECT)))
def test_it_takes_what_is_right(path: Path) -> None:
    assert told(path) == []


@pytest.mark.parametrize("path", BAD, ids=lambda path: str(path.relative_to(TESTS)))
def test_it_refuses_what_it_can_see(path: Path) -> None:
    folder = next(parent for parent in path.parents if parent.parent.name == "bad_configs")
    here = [problem for problem in problems(folder) if Path(problem.file) == path and problem.severity == "error"]
    assert bool(told(path)) is any(is_of(problem, SEEN) for problem in here), here


def test_it_has_every_key_with_its_meaning() -> None:
    text = json.dumps(SCHEMA, ensure_ascii=False)
    for table in TABLES:
        for key in table.keys:
            assert f'"{key.name}": {{"description": {json.dumps(key.meaning, ensure_ascii=False)}' in text


def test_the_example_names_it() -> None:
    first = (PROJECT / "contrib" / "policyd.toml").read_text("utf-8").splitlines()[0]
    assert first == "#:schema ./policyd.schema.json"
