"""What keeps connectors' mail from policyd, or refuses it after policyd's OK: in every restriction list (SPEC 7).

Part of `policyd check --postfix`; see `wiring`. Unknown restrictions and tables that smtpd cannot open are found as
they stand; what a list makes of a connector's mail is found by `course`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property

from policyd.config.settings import Configuration
from policyd.config.text import clean, quoted
from policyd.policy.names import canonical
from policyd.postfix.actions import read_action
from policyd.postfix.course import Outcome
from policyd.postfix.domains import recipient_maps
from policyd.postfix.findings import Findings
from policyd.postfix.lists import DATA, DECIDING, EARLY_LISTS, END_OF_DATA, MAIL_LISTS
from policyd.postfix.mails import Mail, mails_of, strangers
from policyd.postfix.messages import Message
from policyd.postfix.passage import Passages
from policyd.postfix.restrictions import IMPLIED, KNOWN, PERMITTING_TABLES, Restriction

_LOGINS = "smtpd_sender_login_maps"
_LOGIN_CHECKS = frozenset(
    "reject_sender_login_mismatch reject_unauthenticated_sender_login_mismatch "
    "reject_known_sender_login_mismatch".split()
)
_UNLISTED = "smtpd_reject_unlisted_sender"
_AFTER = (DATA, END_OF_DATA)
_NEEDS_MORE = ("permit_tls_clientcerts", "permit_tls_all_clientcerts", "check_ccert_access", "check_recipient_access")
_SHOWN = {"check_client_access": "client", "check_helo_access": "name", "check_recipient_access": "recipient"}


class Refusals:
    """Tells of what refuses mail of connectors at one smtpd that asks policyd."""

    def __init__(self, findings: Findings, configuration: Configuration | None, passages: Passages) -> None:
        self._findings = findings
        self._organizations = configuration.rules.organizations if configuration is not None else ()
        self._course = passages.course
        self._lists = passages.lists
        self._by_table = [name for name in passages.asked if not self._lists.asks(name)]
        self._mails = mails_of(configuration)

    @cached_property
    def _recipient_maps(self) -> dict[str, str]:
        names = [pattern.name for organization in self._organizations for pattern in organization.accepted_domains]
        return recipient_maps(self._findings.postfix, names)

    def look(self) -> None:
        """All lists, in the order in which smtpd goes through them."""
        for name in MAIL_LISTS:
            restrictions = [*_reached(self._lists.all[name])]
            for restriction in restrictions:
                self._check_one(name, restriction)
            self._carry_out(name)
            self._check_logins(name, restrictions)
            self._check_unlisted(name, "reject_unlisted_sender" in [restriction.name for restriction in restrictions])
        self._check_unlisted(_UNLISTED, self._lists.value(_UNLISTED).lower() == "yes")
        if not self._course.delayed:
            self._check_early()
        if maps := self._lists.value("smtpd_reject_filter_maps"):
            self._add("warning", "smtpd_reject_filter_maps", Message.REPLIES_REWRITTEN, maps=clean(maps))

    def _check_one(self, name: str, restriction: Restriction) -> None:
        """Whether smtpd understands a restriction, and all that its table leads to."""
        values = {"restriction": clean(str(restriction)), "list": name}
        if not self._lists.knows(restriction):
            if "=" not in restriction.name:  # an option outside of its braces: `options` tells
                self._add("error", name, Message.UNKNOWN_RESTRICTION, hint=self._hint(restriction.name), **values)
        elif restriction.name == IMPLIED and name in _AFTER:
            self._add("error", name, Message.NOT_HERE, **values)
        elif restriction.is_table and restriction.braced and restriction.name != "check_ccert_access":
            self._add("error", name, Message.TABLE_IN_BRACES, **values)
        elif restriction.is_table:
            if reason := self._course.tables.missing(restriction.argument):
                self._add("error", name, Message.TABLE_MISSING, reason=clean(reason), **values)
            for action in self._restrictions_of(restriction):
                for inner in action:
                    if not self._lists.knows(inner):
                        named = clean(f"{inner.name}, to which {restriction} leads,")
                        hint = self._hint(inner.name)
                        values = {"restriction": named, "list": name, "hint": hint}
                        self._add("error", name, Message.UNKNOWN_RESTRICTION, **values)

    def _restrictions_of(self, restriction: Restriction) -> Iterator[tuple[Restriction, ...]]:
        for _, text in self._course.tables.entries(restriction.argument) or ():
            yield read_action(text, self._lists.classes).restrictions

    def _hint(self, name: str) -> str:
        near = get_close_matches(name, [*KNOWN, *PERMITTING_TABLES, *self._lists.classes], n=1, cutoff=0.8)
        return f" (meant for {near[0]}?)" if near else ""

    def _carry_out(self, name: str) -> None:
        """What the list makes of mail of connectors, and of strangers."""
        # reject_unauth_destination there: see `wiring`; but who is in no table that asks policyd comes to it, too
        told_elsewhere = name in DECIDING and name not in self._by_table
        everybody = self._course.run(name, strangers())
        outcomes = self._course.run(name, self._mails)
        blocked = {
            mail: outcome
            for mail, outcome in outcomes.items()
            if outcome.end in ("refuses", "fails")
            and outcome.by is not None
            and self._lists.knows(outcome.by)
            and not (told_elsewhere and outcome.by.refuses_relaying)
        }
        general = [everybody[mail] for mail in everybody if ":" not in mail.client]
        (first, *_) = general
        if first.end == "refuses" and first.by is not None and all(one.by == first.by for one in general):
            others = {mail: outcome for mail, outcome in blocked.items() if outcome.by != first.by}
            if len(others) < len(blocked) or not (self._mails or told_elsewhere):
                self._tell_everybody(name, first)
            blocked = others
        self._tell_connectors(name, blocked)

    def _tell_everybody(self, name: str, outcome: Outcome) -> None:
        values = {"restriction": clean(str(outcome.by)), "list": name, "when": _when(name)}
        action = quoted(f"{outcome.key} {outcome.action}") if outcome.action else "all that comes to it"
        self._add("error", name, Message.LIST_REFUSES, action=action, **values)

    def _tell_connectors(self, name: str, blocked: dict[Mail, Outcome]) -> None:
        """Each connector once for each key; one whose address nobody knows only where all samples are refused."""
        passing = {(mail.owner, mail.sender) for mail in self._mails if mail.anywhere and mail not in blocked}
        told = set()
        for mail, outcome in blocked.items():
            entry = (mail.owner, outcome.by, outcome.key)
            if outcome.by is None or (mail.owner, mail.sender) in passing or entry in told:
                continue
            told.add(entry)
            values = {
                "restriction": clean(str(outcome.by)),
                "list": name,
                "owner": mail.owner,
                "what": quoted(_matched(outcome.by, name, mail)),
                "action": quoted(f"{outcome.key} {outcome.action}".strip()),
                "when": _when(name),
            }
            self._findings.add_of_many("error", name, self._lists.service, Message.CONNECTOR_REFUSED, **values)

    def _check_logins(self, name: str, restrictions: Sequence[Restriction]) -> None:
        maps = self._lists.value(_LOGINS)
        if not maps or self._lists.value("smtpd_sasl_auth_enable").lower() != "yes" or not self._owns_senders(maps):
            return
        for restriction in restrictions:
            if restriction.name in _LOGIN_CHECKS and not restriction.only_warns:
                values = {"restriction": clean(str(restriction)), "list": name}
                self._add("warning", name, Message.LOGIN_MISMATCH, **values)

    def _owns_senders(self, maps: str) -> bool:
        """Whether a login owns a sender of a connector's organization; True where nobody can tell."""
        own = {mail.sender.rpartition("@")[2] for mail in self._mails}
        for table in maps.replace(",", " ").split():
            entries = self._course.tables.entries(table)
            if entries is None or not table.startswith(("hash:", "texthash:", "inline:", "lmdb:", "btree:", "cdb:")):
                return True
            if any(canonical(key.rpartition("@")[2]) in own for key, _ in entries):
                return True
        return False

    def _check_unlisted(self, setting: str, refuses: bool) -> None:
        """Senders that Postfix's own tables of recipients do not list."""
        if not refuses:
            return
        for organization in self._organizations:
            if not any(connector.enabled for connector in organization.connectors):
                continue
            for pattern in organization.accepted_domains:
                maps = self._recipient_maps.get(pattern.name, "")
                if maps and self._lists.value(maps):
                    values = {
                        "setting": setting if setting == _UNLISTED else f"reject_unlisted_sender in {setting}",
                        "domain": quoted(pattern.name),
                        "owner": f"organization {quoted(organization.name)}",
                        "maps": maps,
                    }
                    self._findings.add_of_many(
                        "warning", setting, self._lists.service, Message.UNLISTED_SENDERS, **values
                    )
                    break

    def _check_early(self) -> None:
        for name in EARLY_LISTS[:2]:
            for restriction in _reached(self._lists.all[name]):
                if restriction.name in _NEEDS_MORE:
                    values = {"restriction": clean(str(restriction)), "list": name}
                    self._add("warning", "smtpd_delay_reject", Message.EARLY_DECISION, **values)

    def _add(self, severity: str, parameter: str, message: Message, /, **values: str) -> None:
        self._findings.add(
            "error" if severity == "error" else "warning", parameter, self._lists.service, message, **values
        )


def _reached(restrictions: Iterable[Restriction]) -> Iterator[Restriction]:
    """The restrictions of a list that some mail comes to."""
    for restriction in restrictions:
        yield restriction
        if restriction.refuses_everything or (restriction.name == "permit" and not restriction.classes):
            return


def _when(name: str) -> str:
    return "after policyd granted it" if name in _AFTER else "before policyd is asked"


def _matched(restriction: Restriction, name: str, mail: Mail) -> str:
    """What of the mail a table looks at."""
    if restriction.name == IMPLIED:
        return mail.sender if name == EARLY_LISTS[-1] else mail.client
    return str(getattr(mail, _SHOWN.get(restriction.name, "sender")))
