"""Files of exports as objects: the encodings of Windows, JSON in its wrappers, and CSV (SPEC 7, import).

Knows nothing of connectors or domains; `exchange` does. Raises ImportFailedError with file and line for what is no
export, with what it is and what brings one (`not_exports`); never anything else.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policyd.config.regular_file import FileRefused, read_regular
from policyd.imports.found import ImportFailedError
from policyd.imports.not_exports import kind_of_octets, kind_of_text, saved_again
from policyd.imports.powershell import described, flat

LARGEST_FILE = 256 * 1024 * 1024  # octets: thousands of tenants fit, a wrong file does not fill the memory

_BOMS = (
    (codecs.BOM_UTF32_LE, ""),  # before UTF-16LE, whose mark it begins with
    (codecs.BOM_UTF32_BE, ""),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BEFORE_CSV = re.compile(r"(?:(?:#TYPE|sep=)[^\r\n]*\r?\n)*", re.IGNORECASE)  # Export-Csv's and Excel's first lines
_DELIMITERS = ",;\t|"


def read_objects(path: Path, columns: frozenset[str], command: str) -> list[Mapping[str, Any]]:
    """The objects of an export, whatever wraps them. Entries that are no objects make the file no export.

    `columns`: in lower case, the fields of which a CSV file has two or more; `command`: what writes such an export.
    """
    octets = _octets(path)
    if kind := kind_of_octets(octets):
        raise ImportFailedError(f"{path}:1: this is {kind}. Bring the export: {command}")
    text = _text(path, octets)
    try:
        parsed = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        rows = _csv_rows(path, text, columns)
        if rows is None:
            raise ImportFailedError(_no_json(path, text, error, command)) from None
        return rows
    except RecursionError:
        raise ImportFailedError(f"{path}:1: this is no export: it is nested too deeply") from None
    except ValueError as error:  # NaN and Infinity, numbers of thousands of digits, a key twice
        raise ImportFailedError(f"{path}:1: this is no JSON: {error}") from None
    if not isinstance(parsed, dict | list):
        raise ImportFailedError(f"{path}:1: this is no export: it holds {described(parsed)} and no objects")
    if isinstance(parsed, dict) and any(key.lower().endswith("nextlink") for key in parsed):
        message = "this is one page of several (it has a nextLink), so that objects are missing"
        raise ImportFailedError(f"{path}:1: {message}. Bring all of them: {command}")
    objects = list(flat(parsed))
    for number, item in enumerate(objects, 1):
        if not isinstance(item, dict):
            raise ImportFailedError(f"{path}:1: this is no export: entry {number} is {described(item)}, not an object")
    return objects


def _octets(path: Path) -> bytes:
    try:
        return read_regular(str(path), LARGEST_FILE)
    except FileRefused as refused:
        raise ImportFailedError(f"{path}: cannot be read: {refused.reason}") from None


def _text(path: Path, octets: bytes) -> str:
    """The text of the file by its byte order mark; without one, UTF-8.

    The code pages of Windows are not guessed at: read in the wrong one, a domain is somebody else's.
    """
    mark, encoding = next(((mark, name) for mark, name in _BOMS if octets.startswith(mark)), (b"", "utf-8"))
    if not encoding:
        raise ImportFailedError(f"{path}:1: the file is UTF-32; save it as UTF-8: {saved_again(path.name, 'utf32')}")
    try:
        return octets[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        before = octets[len(mark) : len(mark) + error.start].decode(encoding, "replace")
        code_page = (
            ""
            if mark
            else f"; Windows-1252 or another code page? Where it was written: {saved_again(path.name, 'Default')}"
        )
        raise ImportFailedError(
            f"{path}:{before.count(chr(10)) + 1}: the file is not {encoding.upper()} here: {error.reason}{code_page}"
        ) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; PowerShell takes no account of letter case, so a key in two is there twice.

    Its own `{"value": 1, "Value": "OnPremises"}`, an enum by number and name, is no such thing.
    """
    seen: set[str] = set()
    for key, _ in pairs:
        folded = key if key == "Value" else key.lower()
        if folded in seen:
            raise ValueError(f"the key {json.dumps(key[:60])} stands twice in one object: which one counts?")
        seen.add(folded)
    return dict(pairs)


def _no_json(path: Path, text: str, error: json.JSONDecodeError, command: str) -> str:
    """What a file is that is neither JSON nor CSV, and what to do."""
    if not text.strip():
        return f"{path}:{error.lineno}: this is no JSON: the file is empty (the command had no result?)"
    if "\0" in text:
        hint = f"UTF-16 without a byte order mark? {saved_again(path.name, 'Unicode')}"
        return f"{path}:{error.lineno}: this is no JSON: {error.msg} ({hint})"
    if kind := kind_of_text(text, path.name):
        return f"{path}:1: this is no JSON: it is {kind.format(command=command)}"
    if error.msg == "Extra data":
        one = "several JSON texts follow one another: write all objects with one ConvertTo-Json"
        return f"{path}:{error.lineno}: this is no JSON: {one} ({command})"
    return f"{path}:{error.lineno}: this is no JSON: {error.msg} (write the export with ConvertTo-Json: {command})"


def _csv_rows(path: Path, text: str, columns: frozenset[str]) -> list[Mapping[str, Any]] | None:
    """The rows of a CSV file by its header; None where no delimiter makes two known columns of the first line."""
    skipped = _BEFORE_CSV.match(text)
    start = skipped.end() if skipped else 0
    lines_before = text.count("\n", 0, start)
    header, *_ = text[start:].splitlines() or [""]
    for delimiter in _DELIMITERS:
        if len(columns.intersection(map(str.lower, _fields(header, delimiter)))) >= 2:
            break
    else:
        return None
    reader = csv.reader(io.StringIO(text[start:], newline=""), delimiter=delimiter, strict=True)
    try:
        return list(_rows([name.strip() for name in next(reader)], reader))
    except (csv.Error, ValueError) as error:
        raise ImportFailedError(
            f"{path}:{lines_before + reader.line_num}: this is CSV, but not whole: {error}"
        ) from None


def _fields(line: str, delimiter: str) -> list[str]:
    """The fields of one line; of one that is no CSV with this delimiter, none."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _rows(header: Sequence[str], reader: Any) -> list[Mapping[str, Any]]:
    """Each row as an object. Raises ValueError for a row that is too long or too short."""
    _object([(name, None) for name in header])
    rows: list[Mapping[str, Any]] = []
    for row in reader:
        if row and len(row) != len(header):
            raise ValueError(f"{len(row)} fields, and the first line has {len(header)}")
        if any(field.strip() for field in row):
            rows.append(dict(zip(header, row, strict=True)))
    return rows
