"""Postfix's restriction lists, read: what stands in them, in which order, with which options (SPEC 7; postconf(5)).

Understands braces, commas and blanks, `warn_if_reject`, restriction classes, and the options of
`check_policy_service { server, name=value, { name = value with blanks } }`. Pure. Costs at most `MOST_STEPS` words,
whatever classes hold each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

MOST_STEPS = 10_000  # words of one list with all its classes; a list that is longer is a mistake
DEEPEST = 100  # classes within classes; so many are too many for Postfix, too

_SEPARATORS = ", \t\r\n"
_REFUSES_EVERYTHING = frozenset(("reject", "defer", "defer_if_permit"))
_REFUSES_RELAYING = _REFUSES_EVERYTHING | {"reject_unauth_destination", "defer_unauth_destination"}
_OPTIONS = frozenset(
    ("default_action", "max_idle", "max_ttl", "policy_context", "request_limit", "retry_delay", "timeout", "try_limit")
)

# Restrictions that take what follows them as their argument; check_*_access do, too.
_WITH_ARGUMENT = frozenset(
    "check_policy_service reject_rbl_client reject_rhsbl_client reject_rhsbl_helo reject_rhsbl_sender "
    "reject_rhsbl_recipient reject_rhsbl_reverse_client permit_dnswl_client permit_rhswl_client sleep".split()
)


IMPLIED = "check_implied_access"  # a table by itself: check_*_access of the list's own stage

# Access tables; what is looked up is in the name. An OK of the second ones is no permission but a 451.
PERMITTING_TABLES = frozenset(f"check_{key}_access" for key in "client helo sender recipient etrn ccert sasl".split())
FORBIDDEN_TABLES = frozenset(
    f"check_{key}_access"
    for key in (
        "reverse_client_hostname",
        *(f"{of}_{kind}" for of in ("client", "reverse_client_hostname") for kind in ("ns", "mx", "a")),
        *(f"{of}_{kind}" for of in ("helo", "sender", "recipient") for kind in ("ns", "mx", "a")),
    )
)

# All other restrictions of Postfix 3.5 to 3.11 (postconf(5), smtpd_check.c), with old names that it still takes.
KNOWN = frozenset(
    "permit reject defer defer_if_permit defer_if_reject warn_if_reject sleep check_policy_service "
    "reject_unauth_pipelining reject_plaintext_session reject_multi_recipient_bounce "
    "permit_mynetworks permit_inet_interfaces permit_sasl_authenticated permit_tls_clientcerts "
    "permit_tls_all_clientcerts permit_auth_destination permit_mx_backup permit_dnswl_client permit_rhswl_client "
    "permit_naked_ip_address check_relay_domains reject_unauth_destination "
    "defer_unauth_destination reject_rbl_client reject_rbl reject_maps_rbl reject_rhsbl_client "
    "reject_rhsbl_reverse_client reject_rhsbl_helo reject_rhsbl_sender reject_rhsbl_recipient "
    "reject_unknown_client_hostname reject_unknown_client reject_unknown_reverse_client_hostname "
    "reject_invalid_helo_hostname reject_invalid_hostname "
    "reject_non_fqdn_helo_hostname reject_non_fqdn_hostname reject_unknown_helo_hostname reject_unknown_hostname "
    "reject_non_fqdn_sender reject_non_fqdn_recipient reject_unknown_sender_domain reject_unknown_recipient_domain "
    "check_recipient_maps reject_unlisted_sender reject_unlisted_recipient reject_unverified_sender "
    "reject_unverified_recipient reject_sender_login_mismatch reject_authenticated_sender_login_mismatch "
    "reject_unauthenticated_sender_login_mismatch reject_known_sender_login_mismatch".split()
)

REMOVED = dict.fromkeys(("permit_naked_ip_address", "check_relay_domains", "reject_maps_rbl"), (3, 9))  # unknown since


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a list, or what stands in one pair of braces."""

    text: str
    braced: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """The argument of check_policy_service."""

    server: str
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    malformed: str = ""  # the first option that smtpd would die of


@dataclass(frozen=True, slots=True)
class Restriction:
    """One restriction; of a class, each restriction in it."""

    name: str
    argument: str = ""
    service: Service | None = None  # of check_policy_service
    only_warns: bool = False  # warn_if_reject stands before it
    classes: tuple[str, ...] = ()  # the restriction classes in which it stands, the outermost first
    braced: bool = False  # its argument stands in braces

    def __str__(self) -> str:
        """With its argument, and the class that holds it: `check_client_access cidr:/x (of the class friends)`."""
        text = f"{self.name} {self.argument}".rstrip() if self.name != IMPLIED else self.argument
        return f"{text} (of the class {self.classes[-1]})" if self.classes else text

    @property
    def is_known(self) -> bool:
        """Whether Postfix knows it; it answers 451 to what comes to one that it does not know."""
        return self.is_table or self.name in KNOWN

    @property
    def refuses_everything(self) -> bool:
        """Whether no mail can pass it."""
        return self.name in _REFUSES_EVERYTHING and not self.only_warns

    @property
    def permits(self) -> bool:
        """Whether it exists to permit."""
        return self.name.startswith("permit")

    @property
    def is_table(self) -> bool:
        """Whether it looks something up in an access table, whose OK permits."""
        return self.name in PERMITTING_TABLES or self.name in FORBIDDEN_TABLES or self.name == IMPLIED

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
    open_lists: list[tuple[tuple[str, ...], Iterator[Word], bool]] = [((), iter(words(text)), False)]
    for _ in range(MOST_STEPS):
        if not open_lists:
            break
        inside, rest, warns = open_lists[-1]  # the classes around it, what is left of the innermost, only warns
        word = next(rest, None)
        while word is not None and word.text.lower() == "warn_if_reject":
            word, warns = next(rest, None), True
        if word is None:
            open_lists.pop()
        elif word.text in split and len(open_lists) < DEEPEST and word.text not in inside:
            open_lists.append(((*inside, word.text), iter(split[word.text]), warns))
        else:
            found.append(_restriction(word, rest, warns, inside))
    return found


def _restriction(word: Word, rest: Iterator[Word], only_warns: bool, classes: tuple[str, ...]) -> Restriction:
    name = word.text.lower()
    if name == "check_policy_service":
        argument = next(rest, Word(""))
        return Restriction(name, argument.text, parse_service(argument), only_warns, classes)
    if name in _WITH_ARGUMENT or name in PERMITTING_TABLES or name in FORBIDDEN_TABLES:
        argument = next(rest, Word(""))
        table, *_ = (argument.braced and words(argument.text)) or [argument]  # `{ type:name, { option = value } }`
        return Restriction(name, table.text, None, only_warns, classes, argument.braced)
    if ":" in name and "=" not in name.partition(":")[0]:  # a table by itself
        return Restriction(IMPLIED, word.text, None, only_warns, classes, word.braced)
    return Restriction(name if name in KNOWN else word.text, "", None, only_warns, classes)


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


def starts(restrictions: Iterable[Restriction]) -> bool:
    """Whether smtpd finds in the list the refusal without which it does not start (has_required, smtpd_check.c).

    It looks no further than `permit`; in a class that ends the look at the class.
    """
    left: tuple[str, ...] | None = None
    for restriction in restrictions:
        if left is not None and restriction.classes[: len(left)] == left:
            continue
        left = None
        if restriction.refuses_relaying:
            return True
        if restriction.name == "permit" and not restriction.only_warns:
            if not restriction.classes:
                return False
            left = restriction.classes
    return False


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
