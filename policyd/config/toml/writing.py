"""A mapping as TOML text: the only importer of `toml`, which writes and never reads (SPEC 4).

toml 0.10.2 gets control characters, `\\x` escapes and quoted keys wrong, loses tables below odd keys, and looks for
circles at quadratic cost. So its encoder writes only plain values here, strings, keys and headers are written by this
module, and every text is read back with `tomllib` and compared before anybody sees it. May not guess: what TOML cannot
hold raises.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import toml

LINE_LENGTH = 100  # a list that would make a longer line gets a line for each entry

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


class CannotWriteTomlError(ValueError):
    """The mapping holds something that TOML cannot, or what was written does not read back as it."""


def dumps(data: Mapping[str, object]) -> str:
    """The mapping as TOML, tables depth first in its own order; equal to `data` when `tomllib` reads it.

    Values are str, bool, int, datetime with an offset, and lists or mappings of these; a sequence is written as an
    array. Values of a table come before the tables in it, and a table that holds nothing but tables has no header of
    its own. Raises CannotWriteTomlError for anything else (None, floats, other dates, tables in arrays, lone
    surrogates).
    """
    plain = _plain_table(data)
    text = "\n".join(_tables(plain, ()))
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # a bug of this module or of toml: never print such a text
        raise CannotWriteTomlError(f"what was written is no TOML: {error}") from error
    if _typed(read) != _typed(plain):
        raise CannotWriteTomlError("what was written does not read back as what was meant")
    return text


def _tables(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """The text of this table, header first, then of each table in it."""
    values = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if path and (values or not table):
        yield f"[{'.'.join(map(_key, path))}]\n" + _values(values)
    elif values:
        yield _values(values)
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _tables(value, (*path, key))


def _values(values: Mapping[str, Any]) -> str:
    lines = []
    for key, value in values.items():
        line = f"{_key(key)} = {_ENCODER.dump_value(value)}"
        if isinstance(value, list) and len(line) > LINE_LENGTH:
            line = "\n".join([f"{_key(key)} = [", *(f"  {_ENCODER.dump_value(item)}," for item in value), "]"])
        lines.append(line + "\n")
    return "".join(lines)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else basic_string(key)


def basic_string(text: str) -> str:
    """A text as a TOML basic string, fit for a report too.

    What is not printable is escaped, so that no name can disguise or reorder what people read.
    """
    return '"' + printable("".join(_ESCAPES.get(character, character) for character in text)) + '"'


def printable(text: str) -> str:
    """A text with an escape for each character that is not printable."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _code_point(c) for c in text)


def _code_point(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04X}" if number <= 0xFFFF else f"\\U{number:08X}"


def _list(values: Sequence[Any]) -> str:
    return "[" + ", ".join(str(_ENCODER.dump_value(value)) for value in values) + "]"


_ENCODER = toml.TomlEncoder()
_ENCODER.dump_funcs |= {str: basic_string, list: _list}


def _plain_table(data: Mapping[str, object]) -> dict[str, Any]:
    for key in data:
        if not isinstance(key, str):
            raise CannotWriteTomlError(f"a key is a text, not {key!r}")
    return {_plain_text(key): _plain(value, in_list=False) for key, value in data.items()}


def _plain(value: object, *, in_list: bool) -> Any:
    """The value with exact built-in types, so that subclasses and tuples cannot be written in another way."""
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, datetime) and value.tzinfo is not None and not in_list:
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:  # the range that every TOML reader takes
        return int(value)
    if isinstance(value, Mapping) and not in_list:
        return _plain_table(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_plain(item, in_list=True) for item in value]
    raise CannotWriteTomlError(f"{type(value).__name__} is nothing this program writes as TOML")


def _plain_text(text: str) -> str:
    try:
        return text.encode("utf-8").decode("utf-8")
    except UnicodeEncodeError:
        raise CannotWriteTomlError(f"{text!r} is not Unicode text") from None


def _typed(data: object) -> str:
    """A text that is equal exactly where types and values are (True is not 1) and the order of keys does not count."""
    return json.dumps(data, sort_keys=True, default=repr)
