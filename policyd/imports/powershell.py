"""Reads the JSON that `ConvertTo-Json` writes: encodings, wrappers, and single fields in whatever shape they have.

Knows nothing of connectors or domains; `exchange` does. SPEC 7, import. Raises ImportFailedError with file and line for
what is no export; never anything else.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from policyd.config.regular_file import FileRefused, read_regular
from policyd.imports.found import ImportFailedError, Kind, Level, Note

LARGEST_FILE = 256 * 1024 * 1024  # octets: thousands of tenants fit, a wrong file does not fill the memory

AddNote = Callable[[Note], None]

_BOMS = (
    (codecs.BOM_UTF32_LE, ""),  # before UTF-16LE, whose mark it begins with
    (codecs.BOM_UTF32_BE, ""),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WRAPPER = {"value", "Count"}
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


def read_objects(path: Path) -> list[Mapping[str, Any]]:
    """The objects of an export, whatever wraps them. Entries that are no objects make the file no export."""
    text = _text(path)
    try:
        parsed = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        hint = " (UTF-16 without a byte order mark?)" if "\0" in text else ""
        hint = hint or " (write the export with ConvertTo-Json)"
        hint = " (the file is empty: the command had no result?)" if not text.strip() else hint
        raise ImportFailedError(f"{path}:{error.lineno}: this is no JSON: {error.msg}{hint}") from None
    except RecursionError:
        raise ImportFailedError(f"{path}:1: this is no export: it is nested too deeply") from None
    except ValueError as error:  # NaN and Infinity, and numbers of thousands of digits
        raise ImportFailedError(f"{path}:1: this is no JSON: {error}") from None
    if not isinstance(parsed, dict | list):
        raise ImportFailedError(f"{path}:1: this is no export: it holds {_described(parsed)} and no objects")
    objects = list(flat(parsed))
    for number, item in enumerate(objects, 1):
        if not isinstance(item, dict):
            raise ImportFailedError(f"{path}:1: this is no export: entry {number} is {_described(item)}, not an object")
    return objects


def _text(path: Path) -> str:
    """The text of the file by its byte order mark; without one, UTF-8."""
    try:
        octets = read_regular(str(path), LARGEST_FILE)
    except FileRefused as refused:
        raise ImportFailedError(f"{path}: cannot be read: {refused.reason}") from None
    mark, encoding = next(((mark, name) for mark, name in _BOMS if octets.startswith(mark)), (b"", "utf-8"))
    if not encoding:
        raise ImportFailedError(f"{path}:1: the file is UTF-32; save it as UTF-8 or UTF-16")
    try:
        return octets[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        before = octets[len(mark) : len(mark) + error.start].decode(encoding, "replace")
        raise ImportFailedError(
            f"{path}:{before.count(chr(10)) + 1}: the file is not {encoding.upper()} here: {error.reason}"
        ) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def flat(value: Any) -> Iterator[Any]:
    """The entries of a list however it is wrapped: `{"value", "Count"}`, lists in lists, a bare value, null or ""."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict) and "value" in item and item.keys() <= _WRAPPER:
            waiting.append(item["value"])
        elif isinstance(item, list):
            waiting.extend(reversed(item))
        elif item is not None and not (isinstance(item, str) and not item.strip()):
            yield item


def _described(value: Any) -> str:
    """A value as a report shows it: short, and on one line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    return json.dumps(text if len(text) <= 60 else text[:60] + "...")


class Entry:
    """One object of an export: its fields by type, and the notes that reading them gave.

    Reading never raises: a field in an unusable shape gives a warning, and the value that grants least.
    """

    def __init__(self, fields: Mapping[str, Any], kind: Kind, note: AddNote) -> None:
        self.fields = fields
        self.kind = kind
        self._note = note
        self.name = ""
        self.name = self.text("Name") or self.text("Identity")

    def note(self, level: Level, field: str, message: str) -> None:
        """Adds to the report."""
        self._note(Note(level, self.kind, self.name, field, message))

    def text(self, field: str) -> str:
        """A text; empty where there is none."""
        texts = self.texts(field)
        if len(texts) > 1:
            self.note("warning", field, f"more than one value: only {_described(texts[0])} was read")
        return texts[0] if texts else ""

    def texts(self, field: str) -> list[str]:
        """The texts of a list, in order and once each, without blanks around them."""
        texts: list[str] = []
        for item in flat(self.fields.get(field)):
            if isinstance(item, str | int | float) and not isinstance(item, bool):
                # JSON may hold half a surrogate pair, which no text may: U+FFFD stands for it.
                text = str(item).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
                texts.append(text.strip())
            else:
                self.note("warning", field, f"{_described(item)} is no text and was not read")
        return list(dict.fromkeys(texts))

    def has(self, field: str) -> bool:
        """Whether there is any value but null, an empty text or an empty list."""
        return next(flat(self.fields.get(field)), None) is not None

    def is_set(self, field: str) -> bool:
        """Whether there is any value that is not false or 0 either."""
        return any(_SWITCH.get(str(item).lower(), True) for item in flat(self.fields.get(field)))

    def flag(self, field: str, *, absent: bool = False, doubtful: bool) -> bool:
        """A switch: `absent` where the field is missing or empty, `doubtful` where it is neither true nor false."""
        values = list(flat(self.fields.get(field)))
        if not values:
            return absent
        known = _SWITCH.get(str(values[0]).strip().lower()) if isinstance(values[0], bool | int | str) else None
        if known is None or len(values) > 1:
            self.note(
                "warning", field, f"{_described(values[0])} is neither true nor false: taken as {str(doubtful).lower()}"
            )
            return doubtful
        return known

    def choice(self, field: str, names: Mapping[int, str]) -> str:
        """An enum, by its number or its name in any case; empty where it is none of `names`."""
        values = list(flat(self.fields.get(field)))
        if len(values) != 1 or isinstance(values[0], bool) or not isinstance(values[0], int | str):
            return ""
        known = {str(number): name for number, name in names.items()} | {name.lower(): name for name in names.values()}
        return known.get(str(values[0]).strip().lower(), "")
