"""Postfix's restriction lists, read: what stands in them, in which order, with which options (SPEC 7; postconf(5)).

Understands braces, commas and blanks, `warn_if_reject`, restriction classes, and the options of
`check_policy_service { server, name=value, { name = value with blanks } }`. Pure. Costs at most `MOST_STEPS` words,
whatever classes hold each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

MOST_STEPS = 100_000  # words of one list with all its classes; a list that is longer is a mistake
DEEPEST = 100  # classes within classes; so many are too many for Postfix, too

_SEPARATORS = ", \t\r\n"
_REFUSES_RELAYING = frozenset(
    ("reject_unauth_destination", "defer_unauth_destination", "reject", "defer", "defer_if_permit")
)
_OPTIONS = frozenset(
    ("default_action", "max_idle", "max_ttl", "policy_context", "request_limit", "retry_delay", "timeout", "try_limit")
)

# Restrictions that take what follows them as their argument; check_*_access do, too.
_WITH_ARGUMENT = frozenset(
    "check_policy_service reject_rbl_client reject_rhsbl_client reject_rhsbl_helo reject_rhsbl_sender "
    "reject_rhsbl_recipient reject_rhsbl_reverse_client permit_dnswl_client permit_rhswl_client sleep".split()
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a list, or what stands in one pair of braces."""

    text: str
    braced: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """The argument of check_policy_service."""

    server: str
    options: Mapping[str, str] = field(default_factory=dict)
    malformed: str = ""  # the first option that smtpd would die of


@dataclass(frozen=True, slots=True)
class Restriction:
    """One restriction; of a class, each restriction in it."""

    name: str
    argument: str = ""
    service: Service | None = None  # of check_policy_service
    only_warns: bool = False  # warn_if_reject stands before it

    @property
    def permits(self) -> bool:
        """Whether it exists to permit."""
        return self.name.startswith("permit")

    @property
    def is_table(self) -> bool:
        """Whether it looks something up in an access table, whose OK permits."""
        return self.name.startswith("check_") and self.name.endswith("_access")

    @property
    def refuses_relaying(self) -> bool:
        """Whether mail to a foreign domain cannot pass it."""
        return self.name in _REFUSES_RELAYING and not self.only_warns


def words(text: str) -> list[Word]:
    """Postfix's own splitting (mystrtokq): at blanks and commas, but not within braces."""
    return [_word(text[start:end]) for start, end in _spans(text)]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start, depth = -1, 0
    for position, character in enumerate(text):
        if depth == 0 and character in _SEPARATORS:
            if start >= 0:
                yield start, position
            start = -1
            continue
        start = position if start < 0 else start
        if character == "{":
            depth += 1
        elif character == "}" and depth:
            depth -= 1
    if start >= 0:
        yield start, len(text)


def _word(text: str) -> Word:
    """Braced only where one pair of braces holds all of it; Postfix refuses what else begins with a brace."""
    depth = 0
    for position, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            whole = text[0] == "{" and position == len(text) - 1
            return Word(text[1:-1].strip(), True) if whole else Word(text)
    return Word(text)


def parse_list(text: str, classes: Mapping[str, str]) -> list[Restriction]:
    """The restrictions of a list, with those of restriction classes in their place. `classes`: name -> list."""
    split = {name: words(inner) for name, inner in classes.items()}
    found: list[Restriction] = []
    open_lists: list[tuple[str, Iterator[Word], bool]] = [("", iter(words(text)), False)]  # class, rest, only warns
    for _ in range(MOST_STEPS):
        if not open_lists:
            break
        _, rest, warns = open_lists[-1]
        word = next(rest, None)
        while word is not None and word.text.lower() == "warn_if_reject":
            word, warns = next(rest, None), True
        if word is None:
            open_lists.pop()
        elif word.text in split and len(open_lists) < DEEPEST and word.text not in {name for name, *_ in open_lists}:
            open_lists.append((word.text, iter(split[word.text]), warns))
        else:
            found.append(_restriction(word, rest, warns))
    return found


def _restriction(word: Word, rest: Iterator[Word], only_warns: bool) -> Restriction:
    name = word.text.lower()
    if name == "check_policy_service":
        argument = next(rest, Word(""))
        return Restriction(name, argument.text, parse_service(argument), only_warns)
    if name in _WITH_ARGUMENT or (name.startswith("check_") and name.endswith("_access")):
        argument = next(rest, Word(""))
        table, *_ = (argument.braced and words(argument.text)) or [argument]  # `{ type:name, { option = value } }`
        return Restriction(name, table.text, None, only_warns)
    if ":" in name and "=" not in name.partition(":")[0]:  # a table by itself: check_*_access of the list's own stage
        return Restriction("check_implied_access", word.text, None, only_warns)
    return Restriction(name, "", None, only_warns)


def parse_service(argument: Word) -> Service:
    """`server`, or in braces `server, name=value, { name = value }`."""
    if argument.text.startswith("{") and not argument.braced:  # a brace too many or too few
        server, *_ = words(argument.text.strip("{} \t")) or [Word("")]
        return Service(server.text.rstrip("}"), malformed=argument.text)
    if not argument.braced:
        return Service(argument.text)
    server, *rest = words(argument.text) or [Word("")]
    options: dict[str, str] = {}
    malformed = ""
    for option in rest:
        name, equals, value = option.text.partition("=")
        if equals and name.strip() in _OPTIONS and value.strip():
            options[name.strip()] = value.strip()
        else:
            malformed = malformed or option.text
    return Service(server.text, options, malformed)


def refusal(restrictions: Iterable[Restriction]) -> str:
    """The restriction of a list that nobody's mail to a foreign domain passes; empty where there is none.

    What stands behind `permit` is never reached.
    """
    for restriction in restrictions:
        if restriction.refuses_relaying:
            return restriction.name
        if restriction.name == "permit":
            return ""
    return ""
