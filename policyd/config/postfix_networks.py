"""mynetworks as entries of `addresses` (postconf(5), access to Postfix's match lists).

A list is judged from left to right, the first pattern that matches decides, and `!` turns it into an exclusion: so each
network comes without what was excluded before it. May not make anything wider: where an exclusion cannot be read,
the caller is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from policyd.config.imported import ImportFailedError, Level, Note
from policyd.config.postfix_text import logical_lines, read_text
from policyd.policy.networks import Network, parse_network

_LOOPBACK = (parse_network("127.0.0.0/8")[0], parse_network("::1")[0])
_TABLE = re.compile(r"[a-z][a-z0-9_]*:.+", re.DOTALL)


def read_networks(texts: Iterable[str], notes: list[Note]) -> tuple[list[str], bool]:
    """The networks, and whether all exclusions are in them; False: they are wider than mynetworks was.

    Each text is a value of mynetworks, or the path of a file of patterns.
    """
    found: dict[str, None] = {}
    safe = True
    for text in texts:
        excluded: list[Network] = []
        for pattern, wanted in _patterns(text):
            network = _network(pattern, notes, wanted=wanted)
            if network is None:
                safe = safe and wanted
            elif not wanted:
                excluded.append(network)
                _note(notes, "note", f"!{pattern}", "excluded: networks after it come without it")
            elif _is_loopback(network):
                _note(
                    notes, "left out", pattern, "this machine itself: permit_mynetworks or its own submission serve it"
                )
            else:
                found |= dict.fromkeys(map(str, _without(network, excluded)))
    if not safe:
        message = "disabled: an exclusion (!) could not be carried over, and without it the networks would be wider"
        _note(notes, "warning", "mynetworks", message)
    return list(found), safe


def networks_text(argument: str) -> str:
    """What an argument means: the text of the file of that name, where there is one, else the argument itself."""
    try:
        path = Path(argument)
        return "\n".join(line for _, line in logical_lines(read_text(path))) if path.is_file() else argument
    except OSError:  # no file has so long a name
        return argument


def _note(notes: list[Note], level: Level, pattern: str, message: str) -> None:
    notes.append(Note(level, "entry", pattern, "mynetworks", message))


def _patterns(text: str, inside: tuple[str, ...] = ()) -> Iterator[tuple[str, bool]]:
    """(pattern, whether it is wanted) of a list and of the files that it names; `inside` are the files above."""
    for item in re.split(r"[\s,]+", text):
        bare = item.lstrip("!")
        wanted = (len(item) - len(bare)) % 2 == 0
        if bare.startswith("/"):
            if bare in inside:
                raise ImportFailedError(f"{bare}: the file names itself, directly or through others")
            for _, line in logical_lines(read_text(Path(bare))):
                for pattern, wanted_there in _patterns(line, (*inside, bare)):
                    yield pattern, wanted_there == wanted
        elif bare:
            yield bare, wanted


def _network(pattern: str, notes: list[Note], *, wanted: bool) -> Network | None:
    """The network of a pattern, `[v6]` and `[v6]/n` too; None and a note for what is none."""
    shown = pattern if wanted else f"!{pattern}"
    try:
        network, host_bits = parse_network(pattern.replace("[", "").replace("]", ""))
    except ValueError as error:
        if _TABLE.fullmatch(pattern):
            message = "a table lookup is not carried over: write the addresses in it as a connector by hand"
        elif "/" in pattern or ":" in pattern or pattern.replace(".", "").isdigit():
            message = str(error)
        else:
            message = "neither an address nor a network (and no such file): a host name proves nothing"
        _note(notes, "left out", shown, message)
        return None
    if host_bits:
        _note(notes, "warning", shown, f"host bits are set, which Postfix refuses: the network {network} was read")
    return network


def _is_loopback(network: Network) -> bool:
    return any(
        loopback.family == network.family and loopback.first <= network.first and network.last <= loopback.last
        for loopback in _LOOPBACK
    )


def _without(network: Network, excluded: Iterable[Network]) -> list[Network]:
    """What is left of a network, in order of addresses."""
    left = [network]
    for hole in excluded:
        left = [part for piece in left for part in (_cut(piece, hole) if piece.overlaps(hole) else (piece,))]
    return left


def _cut(piece: Network, hole: Network) -> Iterator[Network]:
    if piece.first < hole.first:
        yield Network(piece.family, piece.first, hole.first - 1)
    if hole.last < piece.last:
        yield Network(piece.family, hole.last + 1, piece.last)
