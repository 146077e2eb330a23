"""A reader of policyd's log, written from SPEC 6 alone: what a line says, or an error where it cannot be read."""

from __future__ import annotations

import re

FRONT = re.compile(r"<[346]>|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")  # on standard error, in a file
FIELDS = (
    *"action reason organization connector client certificate issuer key".split(),
    *"sender recipient tls instance generation".split(),
)


def without_front(line: str) -> str:
    """A line of a log as it is without its priority or time."""
    return FRONT.sub("", line, 1) if FRONT.match(line) else line


def read_decision(line: str) -> dict[str, bytes]:
    """The fields of one decision line (without its front), in order, `queue_id` first.

    `login` and `mode` are there where they stand. Raises ValueError for a line that is not exactly as documented.
    """
    if not all(" " <= character <= "~" for character in line):
        raise ValueError(f"not printable ASCII: {line!r}")
    fields = {}
    value, at = _value(line, 0, ":")
    fields["queue_id"] = value
    at = _literal(line, at, ":")
    for name in FIELDS:
        at = _literal(line, at, f" {name}=")
        fields[name], at = _value(line, at, " ")
        if name == "tls" and line.startswith(" login=", at):
            fields["login"], at = _value(line, at + len(" login="), " ")
            if not fields["login"]:
                raise ValueError(f"an empty login: {line!r}")
    if at < len(line):
        at = _literal(line, at, " mode=")
        fields["mode"], at = _value(line, at, " ")
    if at != len(line):
        raise ValueError(f"something behind the last field: {line[at:]!r}")
    return fields


def _literal(line: str, at: int, text: str) -> int:
    if not line.startswith(text, at):
        raise ValueError(f"{text!r} is not at {at} of {line!r}")
    return at + len(text)


def _value(line: str, at: int, stop: str) -> tuple[bytes, int]:
    """The value at `at`, and where it ends: at `stop` or the end of the line, or with its closing quote."""
    if not line.startswith('"', at):
        end = at
        while end < len(line) and not (line[end] == stop and (stop == " " or line.startswith(": ", end))):
            end += 1
        bare = line[at:end]
        inner = bare[1:-1] if bare.startswith("<") and bare.endswith(">") else bare
        if any(character in ' "\\<>' for character in inner):
            raise ValueError(f"should be in quotes: {bare!r}")
        return bare.encode("ascii"), end
    octets = bytearray()
    at += 1
    while not line.startswith('"', at):
        if line.startswith("\\x", at):
            octets.append(int(line[at + 2 : at + 4], 16))
            at += 4
        elif line.startswith("\\", at):
            octets.append(ord(line[at + 1]))
            at += 2
        elif at < len(line):
            octets.append(ord(line[at]))
            at += 1
        else:
            raise ValueError(f"no closing quote: {line!r}")
    return bytes(octets), at + 1


def decisions(log: str) -> list[dict[str, bytes]]:
    """All decision lines of a log, read; lines of the service itself (`policyd: ...`) are left out."""
    found = []
    for line in map(without_front, log.splitlines()):
        if " action=" in line and not line.startswith("policyd: "):
            found.append(read_decision(line))
    return found
