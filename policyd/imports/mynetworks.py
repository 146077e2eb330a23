"""mynetworks as entries of `addresses` (SPEC 7, import; postconf(5) has the form of such lists).

A list is judged from left to right, the first pattern that matches decides, and `!` turns it into an exclusion: so each
network comes without what was excluded before it. A table matches whatever it holds: its results are not looked at.
May not make anything wider: where an exclusion cannot be read, the caller is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from policyd.config.toml.writing import basic_string
from policyd.config.unusable_addresses import why_unusable
from policyd.imports.found import ImportFailedError, Level, Note
from policyd.imports.postfix_tables import file_lines, kind_and_path, table_lines
from policyd.policy.networks import LOOPBACK, Address, Network, parse_network
from policyd.postfix.postconf import Postfix
from policyd.postfix.text import PostconfError

_TABLE = re.compile(r"[a-z][a-z0-9_]*:.+", re.DOTALL)


def read_networks(texts: Iterable[str], notes: list[Note], postfix: Postfix | None = None) -> tuple[list[str], bool]:
    """The networks, and whether all exclusions are in them; False: they are wider than mynetworks was.

    Each text is a value of mynetworks, or the path of a file of patterns. `postfix`: the one whose main.cf has it; a
    file that is named there and cannot be read is noted. Raises ImportFailedError.
    """
    found: dict[str, None] = {}
    safe = True
    for text in texts:
        excluded: list[Network] = []
        for pattern, wanted in _patterns(text, notes, postfix):
            networks = _networks(pattern, notes, postfix, wanted=wanted)
            if networks is None:
                safe = safe and wanted
                continue
            if not wanted:
                excluded.extend(networks)
                _note(notes, "note", f"!{pattern}", "excluded: networks after it come without it")
                continue
            for network in networks:
                if not _without(network, LOOPBACK):
                    message = "this machine itself: permit_mynetworks or its own submission serve it"
                    _note(notes, "left out", pattern, message)
                elif unusable := why_unusable(network):
                    _note(notes, "left out", pattern, unusable)
                else:
                    found |= dict.fromkeys(map(str, _without(network, excluded)))
    if not safe:
        message = "disabled: an exclusion (!) could not be carried over, and without it the networks would be wider"
        _note(notes, "warning", "mynetworks", message)
    return list(found), safe


class Hosts:
    """The addresses that a value of mynetworks holds: the first pattern that matches decides.

    What cannot be read of it holds none. Raises ImportFailedError for a table that cannot be read.
    """

    def __init__(self, text: str, postfix: Postfix) -> None:
        notes: list[Note] = []
        read = [
            (wanted, _networks(pattern, notes, postfix, wanted=wanted))
            for pattern, wanted in _patterns(text, notes, postfix)
        ]
        self._networks = [(wanted, network) for wanted, networks in read for network in networks or ()]

    def __contains__(self, address: Address) -> bool:
        """Whether the address is one of them."""
        return next((wanted for wanted, network in self._networks if network.holds(address)), False)


def networks_text(argument: str) -> str:
    """What an argument means: the text of the file of that name, where there is one, else the argument itself.

    Raises ImportFailedError for a file that cannot be read.
    """
    try:
        is_file = Path(argument).is_file()
    except OSError:  # no file has so long a name
        return argument
    return "\n".join(line for _, line in file_lines(argument)) if is_file else argument


def _note(notes: list[Note], level: Level, pattern: str, message: str) -> None:
    notes.append(Note(level, "entry", pattern, "mynetworks", message))


def _patterns(
    text: str, notes: list[Note], postfix: Postfix | None, inside: tuple[str, ...] = ()
) -> Iterator[tuple[str, bool]]:
    """(pattern, whether it is wanted) of a list and of the files that it names; `inside` are the files above.

    A file that main.cf names and that cannot be read is noted, and is a pattern itself.
    """
    for item in re.split(r"[\s,]+", text):
        bare = item.lstrip("!")
        wanted = (len(item) - len(bare)) % 2 == 0
        if bare in inside:
            raise ImportFailedError(f"{bare}: the file names itself, directly or through others")
        try:
            lines = file_lines(bare) if bare.startswith("/") else []
        except ImportFailedError as error:
            if postfix is None:
                raise
            _note(notes, "left out", item, str(error))
            yield bare, wanted
            continue
        for _, line in lines:
            for pattern, wanted_there in _patterns(line, notes, postfix, (*inside, bare)):
                yield pattern, wanted_there == wanted
        if bare and not bare.startswith("/"):
            yield bare, wanted


def _networks(pattern: str, notes: list[Note], postfix: Postfix | None, *, wanted: bool) -> list[Network] | None:
    """What a pattern covers; None and a note where that cannot be said."""
    if pattern.startswith("/"):
        return None
    name = pattern if wanted else f"!{pattern}"
    if _is_address(pattern) or not _TABLE.fullmatch(pattern):
        network = _network(pattern, notes, name)
        return None if network is None else [network]
    try:
        return _of_table(pattern, notes, name, postfix)
    except (ImportFailedError, PostconfError, ValueError) as error:
        message = f"a table lookup that is not carried over ({error}): write the addresses in it as a connector by hand"
        _note(notes, "left out", name, message)
        return None


def _is_address(pattern: str) -> bool:
    """`fd00::1` looks like a table of type `fd00`."""
    try:
        parse_network(pattern)
    except ValueError:
        return False
    return True


def _of_table(table: str, notes: list[Note], name: str, postfix: Postfix | None) -> list[Network]:
    """The addresses of a text table, the networks of a cidr one. Raises ValueError where they depend on more.

    Raises PostconfError and ImportFailedError as `table_lines` does.
    """
    kind, _ = kind_and_path(table)
    if kind in ("pcre", "regexp"):
        raise ValueError(f"a table of type {kind} is no list")
    networks = []
    for place, line in table_lines(table, postfix):
        key, *rest = line.split(maxsplit=1)
        if kind == "cidr" and (key.startswith("!") or key.lower() in ("if", "endif")):
            raise ValueError(f"{place}: {basic_string(key)} is a condition")
        if not rest or (kind != "cidr" and "/" in key):
            why = "is a network, which such a table never matches" if rest else "has no value after it"
            _note(notes, "left out", name, f"{place}: {basic_string(key)} {why}")
            continue
        network = _network(key, notes, place)
        networks += [] if network is None else [network]
    return networks


def _network(pattern: str, notes: list[Note], name: str) -> Network | None:
    """The network of a pattern, `[v6]` and `[v6]/n` too; None and a note for what is none."""
    try:
        network, host_bits = parse_network(pattern.replace("[", "").replace("]", ""))
    except ValueError as error:
        if "/" in pattern or ":" in pattern or pattern.replace(".", "").isdigit():
            message = str(error)
        else:
            message = "neither an address nor a network (and no such file): a host name proves nothing"
        _note(notes, "left out", name, message)
        return None
    if host_bits:
        _note(notes, "warning", name, f"host bits are set, which Postfix refuses: the network {network} was read")
    return network


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
