"""What lets mail past policyd in the restriction lists: permits, tables, classes, other services (SPEC 7).

Part of `policyd check --postfix`; see `wiring`. `passage` says what each list lets pass; here it is told, at services
that ask policyd and at those that do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import groupby

from policyd.config.problems import Severity, subject
from policyd.config.settings import Configuration
from policyd.config.text import clean, quoted
from policyd.policy.model import Organization
from policyd.policy.names import canonical
from policyd.policy.ruleset import RuleSet
from policyd.policy.zones import NOBODY
from policyd.postfix.actions import read_action
from policyd.postfix.findings import Findings
from policyd.postfix.lists import DECIDING, MAIL_LISTS, RECIPIENT, Lists
from policyd.postfix.messages import Message
from policyd.postfix.options import default_action_kind, default_action_of
from policyd.postfix.passage import Grant, Passages, Reach
from policyd.postfix.restrictions import FORBIDDEN_TABLES, starts
from policyd.postfix.tables import PATTERNS, Tables, kind_and_name
from policyd.store.file import rule_set

_ORDINARY = ("postmaster", "abuse", "info", "someone")  # local parts that tables of patterns are asked about
_HARMLESS_ELSEWHERE = ("networks", "service", "unknown table", "own", "names")  # at services that do not ask policyd


class Doors:
    """Tells of what lets mail past policyd."""

    def __init__(self, findings: Findings, configuration: Configuration | None, tables: Tables) -> None:
        self._findings = findings
        self._organizations = configuration.rules.organizations if configuration is not None else ()
        self._configuration = configuration
        self._tables = tables

    @cached_property
    def _rules(self) -> RuleSet | None:
        return rule_set(self._configuration.rules) if self._configuration is not None else None

    @property
    def locked(self) -> list[Organization]:
        """Organizations that strangers may not reach as they like, or whose senders they may not use."""
        return [one for one in self._organizations if _is_locked(one) or one.protect_sender_domains]

    def before_policyd(self, passages: Passages) -> None:
        """What stands before policyd at a service that asks it."""
        grants = [*passages.open_to(Reach.ANYWHERE), *passages.open_to(Reach.OWN)]
        told = dict.fromkeys(grant for grant in grants if grant.list in DECIDING)
        tell: dict[str, Callable[[Lists, Grant], None]] = {"service": self._service, "own": self._own}
        for (_, restriction), group in groupby(told, key=lambda grant: (grant.list, grant.by)):
            of_table = [grant for grant in group if grant.kind == "table"]
            if of_table and restriction.name == "check_recipient_access":
                self._recipients(passages.lists, of_table)
            elif of_table:
                self._permits(passages.lists, of_table[0])
        for grant in told:
            if grant.kind not in ("networks", "table"):
                tell.get(grant.kind, self._permits)(passages.lists, grant)

    def elsewhere(self, passages: Passages) -> None:
        """What lets strangers relay at a service that does not ask policyd."""
        lists, name = passages.lists, clean(passages.lists.name)
        if not any(starts(lists.all[deciding]) for deciding in DECIDING):
            self._findings.add("error", RECIPIENT, lists.service, Message.SMTPD_DIES, service=name)
            return
        seen = set()
        for grant in passages.open_to(Reach.ANYWHERE):
            if grant.kind in _HARMLESS_ELSEWHERE or (grant.list, grant.by) in seen:
                continue
            what = "anything anywhere, in everybody's name"
            if grant.key and grant.by.name == "check_recipient_access":
                if self._recipient(grant)[0] is not Message.TABLE_OPENS_RECIPIENT:
                    continue
                what = f"to {quoted(grant.key)}"
            seen.add((grant.list, grant.by))
            values = {"service": name, "restriction": _named(grant), "list": grant.list, "what": what}
            self._findings.add("error", grant.list, lists.service, Message.PERMIT_WITHOUT, **values)

    def unasked(self, passages: Passages) -> None:
        """A service where strangers reach, without policyd, organizations that are locked at the others."""
        if self.locked and passages.strangers_reach_own:
            named = ", ".join(one.name for one in self.locked[:3])
            values = {"service": clean(passages.lists.name), "organizations": clean(named)}
            self._findings.add("warning", RECIPIENT, passages.lists.service, Message.SERVICE_NOT_ASKED, **values)

    def refused_permits(self, lists: Lists) -> None:
        """An OK of tables from which Postfix takes none."""
        for name in MAIL_LISTS:
            for restriction in lists.all[name]:
                if restriction.name not in FORBIDDEN_TABLES:
                    continue
                for key, action in self._tables.entries(restriction.argument) or ():
                    if read_action(action, lists.classes).kind == "permits":
                        values = {"restriction": clean(str(restriction)), "list": name, "key": quoted(key)}
                        self._findings.add("warning", name, lists.service, Message.OK_NOT_TAKEN, **values)
                        break

    def _permits(self, lists: Lists, grant: Grant) -> None:
        """Restrictions and tables that permit."""
        message, severity = {
            "names": (Message.ALLOW_LIST_BEFORE, "warning"),
            "backup": (Message.BACKUP_BEFORE, "error"),
            "unknown table": (Message.TABLE_BEFORE, "warning"),
        }.get(grant.kind, (Message.TABLE_PERMITS if grant.key else Message.PERMIT_BEFORE, "error"))
        if grant.reach == Reach.OWN and grant.kind not in ("names", "unknown table"):
            message = Message.TABLE_OPENS_OWN if grant.key else Message.PERMIT_AUTH_BEFORE
        self._tell(lists, grant, message, "error" if severity == "error" else "warning")

    def _own(self, lists: Lists, grant: Grant) -> None:
        self._tell(lists, grant, Message.TABLE_OPENS_OWN if grant.key else Message.PERMIT_AUTH_BEFORE, "error")

    def _service(self, lists: Lists, grant: Grant) -> None:
        """Another policy service: what it says nobody knows, but what counts when it is down stands in main.cf."""
        service = grant.by.service if grant.within is None else grant.within.service
        if service is None:
            return
        action = default_action_of(lists, service)
        if default_action_kind(action, lists.classes) == "relays":
            values = {"action": clean(action), "argument": clean(service.server)}
            self._findings.add("error", grant.list, lists.service, Message.SERVICE_DEFAULT_OK, **values)
        else:
            server = clean(service.server)
            self._findings.add("warning", grant.list, lists.service, Message.SERVICE_BEFORE, argument=server)

    def _recipients(self, lists: Lists, grants: Iterable[Grant]) -> None:
        """A table of recipients: an OK opens the way to those alone. One finding of each kind for a table."""
        told = set()
        for grant in grants:
            message, severity, owner = self._recipient(grant)
            if message is not None and message not in told:
                told.add(message)
                self._tell(lists, grant, message, severity, owner=owner)

    def _recipient(self, grant: Grant) -> tuple[Message | None, Severity, str]:
        """What the key of a table of recipients opens, how bad that is, and for whom."""
        table = grant.by.argument
        if kind_and_name(table)[0] in PATTERNS:
            return self._pattern(grant)
        user, _, domain = grant.key.rpartition("@")
        if grant.key.endswith("@") or not ("." in grant.key or user):
            return Message.TABLE_OPENS_RECIPIENT, "error", ""
        return self._domain((domain or grant.key).removeprefix("."), grant.reach)

    def _domain(self, text: str, reach: Reach) -> tuple[Message | None, Severity, str]:
        name = canonical(text)
        if self._rules is None:
            return Message.TABLE_PERMITS_SOME, "warning", ""
        organization = self._rules.owner(name) if name is not None else NOBODY
        if organization == NOBODY:
            return (Message.TABLE_OPENS_RECIPIENT, "error", "") if reach == Reach.ANYWHERE else (None, "error", "")
        if any(_is_locked(one) for one in self._organizations if one.name == organization):
            return Message.TABLE_OPENS_LOCKED, "warning", subject(("organizations", organization))
        return None, "warning", ""

    def _pattern(self, grant: Grant) -> tuple[Message | None, Severity, str]:
        """A pattern, as far as asking about some addresses can show whom it matches."""
        outside = [f"{user}@example.org" for user in _ORDINARY]
        own = {f"{user}@{domain}": domain for domain in self._locked_domains() for user in _ORDINARY}
        answers = self._tables.answers(grant.by.argument, [*outside, *own]) or {}
        permitted = {address for address, action in answers.items() if action == grant.action}
        if not permitted.isdisjoint(outside):
            return Message.TABLE_OPENS_RECIPIENT, "error", ""
        reached = next((domain for address, domain in own.items() if address in permitted), "")
        return self._domain(reached, grant.reach) if reached else (Message.TABLE_PERMITS_SOME, "warning", "")

    def _locked_domains(self) -> Iterator[str]:
        for organization in self._organizations:
            if _is_locked(organization):
                yield from (pattern.name for pattern in organization.accepted_domains)

    def _tell(self, lists: Lists, grant: Grant, message: Message, severity: Severity, **more: str) -> None:
        values = {
            "restriction": clean(str(grant.by)),
            "list": grant.list,
            "key": quoted(grant.key),
            "action": quoted(grant.action),
            **more,
        }
        self._findings.add(severity, grant.list, lists.service, message, **values)


def _named(grant: Grant) -> str:
    """A restriction, with the entry of its table that permits."""
    return clean(f"{grant.by}, for {grant.key}" if grant.key else str(grant.by))


def _is_locked(organization: Organization) -> bool:
    return organization.connectors_only or bool(organization.partners)
