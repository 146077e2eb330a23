"""The rows of the database, kept in a file for a start without it (SPEC 9).

Private (0600), replaced in one step, with a version, a length and a checksum: a file that is damaged, cut, of another
version, or that others could have written is refused like none. Decides nothing about what is in it.

    policyd-database 1 LENGTH SHA256
    [stamp, revision, number of organizations]
    [name, [revision, document, stamp] of the latest rows, the same of the good ones (null; true: they are the latest)]

Lines after the first are JSON, compressed together; LENGTH and SHA256 are of the compressed octets. The time of the
file says when the database was last seen to hold these rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from typing import Any

from policyd.config.regular_file import FileRefused, open_regular
from policyd.database.standings import Standing, Standings
from policyd.database.view import Row

_NAME = b"policyd-database"
_VERSION = b"1"
_LARGEST = 1 << 31  # octets, compressed


class SnapshotRefused(ValueError):
    """There is no snapshot that could be used; the text says why."""


def write_snapshot(path: str, standings: Standings) -> None:
    """Replaces the file at `path`. Raises OSError. Works in portions, since other threads want to go on."""
    compressor = zlib.compressobj(level=1)
    pieces = [compressor.compress(_line([standings.stamp, standings.revision, len(standings.by_name)]))]
    for name, one in standings.by_name.items():
        good = None if one.good is None else True if one.good is one.latest else list(one.good)
        pieces.append(compressor.compress(_line([name, list(one.latest), good])))
    pieces.append(compressor.flush())
    body = b"".join(pieces)
    head = b" ".join((_NAME, _VERSION, str(len(body)).encode(), hashlib.sha256(body).hexdigest().encode()))
    beside = f"{path}.new"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(head + b"\n" + body)
        file.flush()
        os.fsync(descriptor)
    os.replace(beside, path)


def read_snapshot(path: str) -> Standings:
    """What the file holds; nothing of it is read into the model yet. Raises SnapshotRefused."""
    if not path:
        raise SnapshotRefused("none is kept (snapshot_file is empty)")
    try:
        content, read_at = _content(path)
    except FileRefused as refused:
        if refused.why == "missing":
            raise SnapshotRefused(f"there is no {path} yet") from None
        raise SnapshotRefused(f"{path} cannot be read: {refused.reason}") from None
    head, _, body = content.partition(b"\n")
    words = head.split(b" ")
    if len(words) != 4 or words[0] != _NAME:
        raise SnapshotRefused(f"{path} is no snapshot of policyd")
    if words[1] != _VERSION:
        raise SnapshotRefused(f"{path} is of another version of policyd")
    if words[2] != str(len(body)).encode() or words[3] != hashlib.sha256(body).hexdigest().encode():
        raise SnapshotRefused(f"{path} is damaged: its checksum is wrong")
    try:
        return _standings(zlib.decompress(body), read_at)
    except (ValueError, TypeError, KeyError, zlib.error) as error:  # a right checksum over nonsense: a bug, or malice
        raise SnapshotRefused(f"{path} is damaged: {type(error).__name__}") from None


def _content(path: str) -> tuple[bytes, float]:
    """The octets, and when the file was last known to be right."""
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        if status.st_mode & 0o022:
            raise SnapshotRefused(f"{path} can be written by others than its owner")
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise SnapshotRefused(f"{path} is too large")
    return content, status.st_mtime


def _line(values: list[Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode("ascii") + b"\n"


def _standings(text: bytes, read_at: float) -> Standings:
    first, *lines = text.splitlines()
    stamp, revision, count = json.loads(first)
    by_name: dict[str, Standing] = {}
    for line in lines:
        name, latest, good = json.loads(line)
        row = _row(latest)
        by_name[str(name)] = Standing(row, None if good is None else row if good is True else _row(good), None)
    if len(by_name) != count:
        raise ValueError("organizations are missing")
    return Standings(str(stamp), int(revision), read_at, by_name)


def _row(value: Any) -> Row:
    revision, document, *stamp = value  # an older policyd kept none
    if not isinstance(document, str):
        raise TypeError("no document")
    return Row(int(revision), document, *map(str, stamp))
