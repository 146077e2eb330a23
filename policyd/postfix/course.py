"""What becomes of mail in a restriction list: carried out as smtpd does it, with the tables that it names (SPEC 7).

For `refusals` and `passage`. What hangs on DNS, on mail before or on another policy service is taken to let mail go on.
Changes nothing, asks no network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from policyd.policy.names import upwards
from policyd.policy.networks import parse_address
from policyd.postfix.actions import read_action
from policyd.postfix.lists import EARLY_LISTS, Lists
from policyd.postfix.mails import Mail
from policyd.postfix.networks import PRIVATE, Trusted, trusted_by
from policyd.postfix.restrictions import IMPLIED, PERMITTING_TABLES, Restriction
from policyd.postfix.tables import PATTERNS, Tables, first_answer, kind_and_name

End = Literal["goes on", "permits", "asks", "refuses", "fails"]

_STAGES = {f"smtpd_{stage}_restrictions": stage for stage in ("client", "helo", "sender", "recipient")}
_PARENTS = "parent_domain_matches_subdomains"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a list ends for a mail, and by what."""

    end: End
    by: Restriction | None = None
    key: str = ""  # of the table that `by` is
    action: str = ""  # what the table says


GOES_ON = Outcome("goes on")


class Course:
    """The lists of one smtpd, carried out."""

    def __init__(self, lists: Lists, tables: Tables) -> None:
        self.lists = lists
        self.tables = tables
        self.delayed = lists.value("smtpd_delay_reject").lower() != "no"

    @cached_property
    def mynetworks(self) -> Trusted:
        """Whom permit_mynetworks permits."""
        return trusted_by(self.lists.value("mynetworks"), self.tables)

    @cached_property
    def own_networks(self) -> Trusted:
        """Where no stranger comes from."""
        return Trusted((*PRIVATE, *self.mynetworks.networks))

    @cached_property
    def asks_certificates(self) -> bool:
        """Whether clients are asked for certificates."""
        return any(self.lists.value(f"smtpd_tls_{name}_ccert").lower() == "yes" for name in ("ask", "req"))

    def run(self, name: str, mails: Iterable[Mail]) -> dict[Mail, Outcome]:
        """What the list makes of each mail."""
        seen = {mail: self._visible(name, mail) for mail in mails}
        outcomes = self.of(self.lists.all[name], name, set(seen.values()))
        return {mail: outcomes[visible] for mail, visible in seen.items()}

    def of(self, restrictions: Sequence[Restriction], name: str, mails: Iterable[Mail]) -> dict[Mail, Outcome]:
        """As `run`, for restrictions of a list with this name."""
        outcomes: dict[Mail, Outcome] = {}
        left = set(mails)
        for restriction in restrictions:
            if not left:
                break
            ended = {
                mail: outcome
                for mail, outcome in self._of_one(restriction, name, left).items()
                if outcome.end != "goes on" and not (restriction.only_warns and outcome.end in ("refuses", "fails"))
            }
            outcomes |= ended
            left -= ended.keys()
        return outcomes | dict.fromkeys(left, GOES_ON)

    def _visible(self, name: str, mail: Mail) -> Mail:
        """The mail as far as it is known then: with smtpd_delay_reject = no the early lists see less of it."""
        if self.delayed or name not in EARLY_LISTS:
            return mail
        if name == EARLY_LISTS[-1]:
            return replace(mail, recipient="")
        return replace(mail, recipient="", sender="", verified=False, fingerprints=())

    def _of_one(self, restriction: Restriction, name: str, mails: set[Mail]) -> dict[Mail, Outcome]:
        if self.lists.is_policyd(restriction):
            return dict.fromkeys(mails, Outcome("asks", restriction))
        if not self.lists.knows(restriction):
            return dict.fromkeys(mails, Outcome("fails", restriction))
        if restriction.name in PERMITTING_TABLES or restriction.name == IMPLIED:
            return self._of_table(restriction, name, mails)
        return {mail: Outcome(end, restriction) for mail in mails if (end := self._end(restriction, mail)) is not None}

    def _end(self, restriction: Restriction, mail: Mail) -> End | None:
        """What a restriction without a table makes of a mail; None where the list goes on."""
        if restriction.name in ("reject", "defer", "defer_if_permit"):
            return "refuses"
        if restriction.name in ("reject_unauth_destination", "defer_unauth_destination"):
            return "refuses" if mail.recipient else None  # they are all outside
        if restriction.name == "permit":
            return "permits"
        if restriction.name == "permit_mynetworks":
            address = None if mail.anywhere else parse_address(mail.client)
            held = address is not None and any(network.holds(address) for network in self.mynetworks.networks)
            return "permits" if held else None
        if restriction.name == "permit_tls_all_clientcerts":
            return "permits" if mail.verified and self.asks_certificates else None
        if restriction.name == "permit_tls_clientcerts":  # its fingerprint may be there
            listed = bool(self.lists.value("relay_clientcerts")) and self.asks_certificates
            return "permits" if listed and (mail.verified or mail.fingerprints) else None
        return None

    def _of_table(self, restriction: Restriction, name: str, mails: set[Mail]) -> dict[Mail, Outcome]:
        stage = restriction.name.removeprefix("check_").removesuffix("_access")
        if restriction.name == IMPLIED:
            stage = _STAGES.get(name, "recipient")
        pattern = kind_and_name(restriction.argument)[0] in PATTERNS
        keys = {mail: self._keys(stage, mail, whole=pattern) for mail in mails}
        answers = self.tables.answers(restriction.argument, (key for tried in keys.values() for key in tried))
        groups: dict[tuple[str, str], set[Mail]] = defaultdict(set)
        for mail, tried in keys.items():
            key, action = first_answer(answers or {}, tried)
            if key:
                groups[key, action].add(mail)
        outcomes: dict[Mail, Outcome] = {}
        for (key, action), group in groups.items():
            outcomes |= self._of_answer(restriction, name, key, action, group)
        return outcomes

    def _of_answer(
        self, restriction: Restriction, name: str, key: str, text: str, mails: set[Mail]
    ) -> dict[Mail, Outcome]:
        action = read_action(text, self.lists.classes)
        if action.kind == "goes on":
            return {}
        if action.kind == "restrictions":
            inner = self.of(action.restrictions, name, mails)
            return {
                mail: replace(outcome, by=restriction, key=key, action=text)
                for mail, outcome in inner.items()
                if outcome.end != "goes on"
            }
        end: End = "permits" if action.kind == "permits" else "fails" if action.kind == "fails" else "refuses"
        return dict.fromkeys(mails, Outcome(end, restriction, key, text))

    def _keys(self, stage: str, mail: Mail, *, whole: bool) -> list[str]:
        """What smtpd looks up, in its order; `whole`: in a table of patterns, which is asked for the whole only."""
        if stage == "client":  # its name first
            addresses = [mail.client] if whole else _address_keys(mail.client)
            return [*self._domain_keys(mail.name, whole=whole), *addresses]
        if stage == "helo":
            return self._domain_keys(mail.name, whole=whole)
        if stage == "ccert":
            return list(mail.fingerprints)
        address = {"sender": mail.sender, "recipient": mail.recipient}.get(stage, "")
        if not address or whole:
            return [address] if address else []
        user, _, domain = address.rpartition("@")
        return [address, *self._domain_keys(domain, whole=False), f"{user}@"]

    def _domain_keys(self, name: str, *, whole: bool) -> list[str]:
        if whole or not name:
            return [name] if name else []
        dot = "" if "smtpd_access_maps" in self.lists.value(_PARENTS) else "."
        return [name, *(f"{dot}{up}" for up in upwards(name) if up != name)]


def _address_keys(address: str) -> list[str]:
    """An address, then its networks at each dot or colon (access(5))."""
    separator = ":" if ":" in address else "."
    keys = [address]
    while separator in keys[-1]:
        keys.append(keys[-1].rpartition(separator)[0])
    return [key for key in keys if key]
