"""Domain and host names: the canonical form, patterns, and the steps up the tree.

The only place that lower-cases or encodes a name. Implements "Domains and names"
(SPEC 3.1): UTS 46 mapping (non-transitional), IDNA 2008 and symbols, A-labels. Nothing here
raises on odd input: what is no name is `None`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import idna
from idna.idnadata import codepoint_classes

V = TypeVar("V")

# A text longer than this is no name, whatever it would map to: UTS 46 may shrink a text (it drops
# soft hyphens), and its normalization costs more than linear time on long runs of combining marks.
LONGEST_TEXT = 1000
LONGEST_LABEL = 63
LONGEST_NAME = 253  # octets, as A-labels (RFC 1035, without the root's dot)

_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # what UTS 46 maps to a dot
_ASCII_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")


def canonical(text: str) -> str | None:
    """The name as lower-case A-labels without its trailing dot, or None where `text` is no name.

    `text` may hold surrogate escapes for bytes that were not UTF-8: those are no name. Address literals, empty labels,
    labels over 63 and names over 253 octets are none either (SPEC 3.1). A label that begins with `xn--` is a name like
    any other: neither DNS nor Postfix decodes it.
    """
    text = text[:-1] if text.endswith(".") else text
    if len(text) > LONGEST_TEXT:
        return None
    if not text.isascii():
        return _canonical_unicode(text)
    name = text.lower()
    if len(name) > LONGEST_NAME or _ASCII_NAME.fullmatch(name) is None:
        return None
    return name


@lru_cache(maxsize=4096)
def _canonical_unicode(text: str) -> str | None:
    """As `canonical`, for a text that has other characters than ASCII."""
    try:
        labels = idna.uts46_remap(text, std3_rules=False).split(".")
        if len(labels) > LONGEST_NAME or any(len(label) > LONGEST_LABEL for label in labels):
            return None  # an A-label is never shorter than its U-label; encoding a long one takes quadratic time
        name = ".".join(map(_a_label, labels))
    except UnicodeError:  # idna's own errors are of this class
        return None
    if len(name) > LONGEST_NAME or _ASCII_NAME.fullmatch(name) is None:
        return None
    return name


def _a_label(label: str) -> str:
    """One mapped label as ASCII: by IDNA 2008, and where that only minds a symbol, by Punycode all the same (SPEC 3.1).

    Raises UnicodeError for any other label.
    """
    if label.isascii():
        return label
    try:
        return idna.alabel(label).decode("ascii")
    except idna.InvalidCodepoint:
        _check_but_for_symbols(label)
    return "xn--" + label.encode("punycode").decode("ascii")


def _check_but_for_symbols(label: str) -> None:
    """The rules that IDNA 2008 looks at behind a symbol that it refuses; those before hold. Raises UnicodeError."""
    idna.check_bidi(label)
    for at, character in enumerate(label):
        point = ord(character)
        if idna.intranges_contain(point, codepoint_classes["CONTEXTJ"]):
            fits = idna.valid_contextj(label, at)
        elif idna.intranges_contain(point, codepoint_classes["CONTEXTO"]):
            fits = idna.valid_contexto(label, at)
        else:  # UTS 46 has let it pass
            fits = not character.isascii() or idna.intranges_contain(point, codepoint_classes["PVALID"])
        if not fits:
            raise UnicodeError(f"{character!r} does not fit in {label!r}")


def unicode_form(name: str) -> str:
    """A canonical name with its A-labels as U-labels: the form that people read. Other `xn--` labels stay."""
    if "xn--" not in name:
        return name
    return ".".join(_u_label(label) if label.startswith("xn--") else label for label in name.split("."))


@lru_cache(maxsize=4096)
def _u_label(label: str) -> str:
    try:
        text = label.removeprefix("xn--").encode("ascii").decode("punycode")
    except UnicodeError:
        return label
    return text if not text.isascii() and canonical(text) == label else label


def fold(name: str) -> str | None:
    """What Postfix reads in place of a canonical name that is written with U-labels: its dom() with the case folded.

    The name itself, but for a few letters (SPEC 3.1); None where that is no name.
    """
    return canonical(unicode_form(name).casefold()) if "xn--" in name else name


def without_service_labels(owner_name: str) -> str:
    """The host of an owner name such as `_25._tcp.mail.contoso.com` (SPEC 3.3, D)."""
    while owner_name.startswith("_") and "." in owner_name:
        owner_name = owner_name.partition(".")[2]
    return owner_name


def is_plain(text: str, name: str) -> bool:
    """Whether `text` is spelt as Postfix's own tables would have `name` (SPEC 3.3, R).

    Postfix folds case by Unicode and does nothing else: plain is the A-label or the U-label form, in any letter case,
    with or without one final dot.
    """
    folded = (text[:-1] if text.endswith(".") else text).casefold()
    return folded == name or (not text.isascii() and folded == unicode_form(name).casefold())


def usable_suffix(text: str) -> str | None:
    """Of a text that is no name the longest run of labels from the right that is one, canonical (SPEC 3.1)."""
    usable: list[str] = []
    length = -1
    labels = _DOTS.split(text)
    while labels and not labels[-1]:  # whoever reads `x..` may well read x
        labels.pop()
    for label in reversed(labels):
        name = canonical(label) if label and not label.endswith(".") else None
        length += 1 + len(name or "")
        if name is None or length > LONGEST_NAME:
            break
        usable.append(name)
    return ".".join(reversed(usable)) or None


def domain_text(address: str) -> str | None:
    """What follows the last `@` of an address, as spelt; None without `@`."""
    _, at, domain = address.rpartition("@")
    return domain if at else None


def upwards(name: str) -> Iterator[str]:
    """The name itself, then each name above it, nearest first."""
    while True:
        yield name
        dot = name.find(".")
        if dot < 0:
            return
        name = name[dot + 1 :]


def upwards_in(index: Mapping[str, V], name: str) -> Iterator[tuple[str, V]]:
    """What `index` has for the name itself and for each name above it, nearest first."""
    up, dot = name, "."
    while dot:
        if up in index:
            yield up, index[up]
        _, dot, up = up.partition(".")


def is_below(name: str, ancestor: str) -> bool:
    """Whether `name` lies below `ancestor`, at any depth."""
    return name.endswith(ancestor) and name[: -len(ancestor)].endswith(".")


@dataclass(frozen=True, slots=True, order=True)
class Pattern:
    """An entry `x` or `*.x` of the configuration; `name` is canonical and without `*.`."""

    name: str
    wildcard: bool = False

    def covers(self, name: str) -> bool:
        """Whether the entry covers a canonical name: `x` only x, `*.x` also all below it."""
        return name == self.name or (self.wildcard and is_below(name, self.name))

    def __str__(self) -> str:
        return f"*.{self.name}" if self.wildcard else self.name


def parse_pattern(text: str) -> Pattern | None:
    """`x` or `*.x` as a Pattern; None where that is no name."""
    wildcard = text.startswith("*.")
    name = canonical(text[2:] if wildcard else text)
    return None if name is None else Pattern(name, wildcard)


def without_local_part(address: str) -> str:
    """The address with `*` for its local part; signs of a route stay, since a decision depends on them."""
    local_part, at, domain = address.rpartition("@")
    if not at:
        return "*" if address else ""
    if not local_part:
        return address
    return "*" + "".join(sign for sign in "@%!" if sign in local_part) + at + domain


def labels_shared(one: str, other: str | None) -> int:
    """How many labels two canonical names have in common, from the end."""
    shared = 0
    for mine, theirs in zip(reversed(one.split(".")), reversed((other or "").split(".")), strict=False):
        if mine != theirs:
            break
        shared += 1
    return shared


def is_host_name(name: str) -> bool:
    """Whether a canonical name may stand in the configuration: its last label is no number (it would be an address)."""
    return not name.rpartition(".")[2].isdigit()
