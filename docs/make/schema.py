"""contrib/policyd.schema.json: what editors complete and check by, from policyd/config/keys.py (JSON Schema, draft 7).

It knows keys, types, choices and ranges. What values mean, and what two organizations may not share, `policyd check`
alone knows: whatever that takes, the schema takes.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

from policyd.config.keys import CONNECTOR, EVIDENCE_KEYS, ORGANIZATION, PARTNER, ROOT, TABLES, Key, Table

_NAME = "^[A-Za-z0-9._-]{1,64}$"
_TEXTS = {"type": "array", "items": {"type": "string"}}
_KINDS: dict[str, dict[str, Any]] = {  # of what `Key.type` says for people
    "true or false": {"type": "boolean"},
    "text": {"type": "string"},
    "file name": {"type": "string"},
    "header field name": {"type": "string"},
    "octal number in quotes": {"type": "string"},
    "date or date-time": {"type": "string"},  # as editors see TOML's dates
    "list of texts": _TEXTS,
    "list of file names": _TEXTS,
    "list of file name patterns": _TEXTS,
}
_NEVER_EMPTY = EVIDENCE_KEYS | {"sender_domains", "for_domains", "listen"}
_NUMBER = re.compile(r"number from (\d+) to (\d+)")


def page() -> str:
    """The whole schema, as it is written."""
    root = _object(ROOT)
    properties: dict[str, Any] = root["properties"]
    for table in TABLES:
        if table.title in ROOT.tables:
            properties[table.title] = _object(table)
    properties["database"]["required"] = ["dsn"]
    organization = _object(ORGANIZATION)
    connector, partner = _object(CONNECTOR), _object(PARTNER)
    connector["anyOf"] = [{"required": [key]} for key in sorted(EVIDENCE_KEYS)]
    partner["required"] = ["sender_domains"]
    encrypted = {"required": ["require_tls"], "properties": {"require_tls": {"const": True}}}
    partner["anyOf"] = [*connector["anyOf"], encrypted]
    organization["properties"] |= {"connectors": _named(CONNECTOR, connector), "partners": _named(PARTNER, partner)}
    properties["organizations"] = _named(ORGANIZATION, organization)
    head = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "policyd.toml",
        "$comment": "Made by `python docs/make`: change policyd/config/keys.py, not this file.",
    }
    root["description"] = "The configuration of policyd, or a file that it includes; see policyd.toml(5)."
    return json.dumps(head | root, indent=1, ensure_ascii=False) + "\n"


def _object(table: Table) -> dict[str, Any]:
    return {
        "description": table.meaning,
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: _value(key) for key in table.keys},
    }


def _named(table: Table, of: dict[str, Any]) -> dict[str, Any]:
    """Tables under names that the administrator chooses."""
    return {
        "description": table.meaning,
        "type": "object",
        "additionalProperties": False,
        "patternProperties": {_NAME: of},
    }


def _value(key: Key) -> dict[str, Any]:
    value = {"description": key.meaning, **_kind(key.type)}
    if key.name in _NEVER_EMPTY and value.get("type") == "array":
        value["minItems"] = 1
    if key.default:
        value["default"] = _of_toml(key.default)
    return value | {"examples": [_of_toml(key.example)]}


def _kind(words: str) -> dict[str, Any]:
    """A type, from the words for it."""
    if words in _KINDS:
        return dict(_KINDS[words])
    choices = re.findall(r'"([^"]*)"', words)
    number = _NUMBER.match(words)
    if number is None:
        return {"enum": choices}
    least, most = map(int, number.groups())
    whole = {"type": "integer", "minimum": least, "maximum": most}
    return {"anyOf": [whole, {"enum": choices}]} if choices else whole


def _of_toml(text: str) -> Any:
    value = tomllib.loads(f"value = {text}")["value"]
    return value if isinstance(value, bool | int | str | list) else value.isoformat()
