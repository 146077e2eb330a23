"""Single objects of an export: their fields in whatever shape PowerShell gave them.

Knows neither files (`export_files`) nor what connectors and domains are (`exchange`). SPEC 7, import.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from policyd.imports.found import Kind, Level, Note

AddNote = Callable[[Note], None]

_WRAPPER = {"value", "Value", "Count", "count"}
_SWITCH = {"true": True, "1": True, "$true": True, "false": False, "0": False, "$false": False}
# Objects of an Exchange server's own shell: an IPRange, an IPAddress, an address space or domain, a directory object.
_TEXT_OF_OBJECT = ("Expression", "IPAddressToString", "Address", "Domain", "Name")
# What stands for a list where Export-Csv, or ConvertTo-Json at its depth, wrote its type in place of its values.
_TYPE_NAME = re.compile(
    r"(?:Deserialized\.)?(?:System\.Collections\.[\w.]+|System\.[A-Z]\w*\[\]|Microsoft\.Exchange\.[\w.]+)(?:`\d+)?(?:\[.*\])?"
)
_BETWEEN = re.compile(r"[\s,;|{}]+")


def flat(value: Any) -> Iterator[Any]:
    """The entries of a list however it is wrapped: `{"value", "Count"}`, lists in lists, a bare value, null or "".

    An answer of the admin API is a wrapper too (its other keys have an `@`), and so is an enum by number and name.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict) and is_wrapper(item):
            waiting.append(item["Value"] if "Value" in item else item["value"])
        elif isinstance(item, list):
            waiting.extend(reversed(item))
        elif item is not None and not (isinstance(item, str) and not item.strip()):
            yield item


def is_wrapper(item: Mapping[str, Any]) -> bool:
    """Whether an object only holds another value."""
    keys = {key for key in item if "@" not in key}
    return keys <= _WRAPPER and not keys.isdisjoint({"value", "Value"})


def described(value: Any) -> str:
    """A value as a report shows it: short, and on one line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    return json.dumps(text if len(text) <= 60 else text[:60] + "...")


def name_of_type(value: Any) -> str:
    """The name of a type that stands in place of a list's values, which are lost; empty where none does."""
    texts = (item.strip() for item in flat(value) if isinstance(item, str))
    return next(filter(_TYPE_NAME.fullmatch, texts), "")


def _text_of_object(item: Mapping[str, Any]) -> Any:
    return next((item[key] for key in _TEXT_OF_OBJECT if isinstance(item.get(key), str)), item)


def parts(text: str) -> list[str]:
    """The values of a list that came as one text, with blanks or , ; | between them."""
    return [part for part in _BETWEEN.split(text) if part]


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
            self.note("warning", field, f"more than one value: only {described(texts[0])} was read")
        return texts[0] if texts else ""

    def texts(self, field: str) -> list[str]:
        """The texts of a list, in order and once each, without blanks around them."""
        texts: list[str] = []
        for value in flat(self.fields.get(field)):
            item = _text_of_object(value) if isinstance(value, dict) else value
            if isinstance(item, str | int | float) and not isinstance(item, bool):
                # JSON may hold half a surrogate pair, which no text may: U+FFFD stands for it.
                text = str(item).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
                texts.append(text.strip())
            else:
                self.note("warning", field, f"{described(item)} is no text and was not read")
        return list(dict.fromkeys(texts))

    def items(self, field: str) -> list[str]:
        """The texts of a list, also where its values came as one text with blanks or , ; | between them."""
        return list(dict.fromkeys(part for text in self.texts(field) for part in parts(text)))

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
                "warning", field, f"{described(values[0])} is neither true nor false: taken as {str(doubtful).lower()}"
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
