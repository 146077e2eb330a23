"""Postfix's own domains compared with the accepted ones (SPEC 7, check --postfix); see `wiring`.

An OK of policyd goes past Postfix's address classes, and a domain that no organization accepts is refused: so both
lists must be equal. Postfix does not normalise names: a domain in other letters must stand there in both its forms.
Only relay_domains can cover the names below an entry: all of them where parent_domain_matches_subdomains names it, else
those that begin with a dot (match_list(3), tried with 3.7). Overrides in master.cf do not count: trivial-rewrite(8)
knows main.cf only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from policyd.config.problems import subject
from policyd.config.settings import Configuration
from policyd.config.text import clean, quoted
from policyd.policy.names import canonical, unicode_form, upwards
from policyd.policy.zones import NOBODY
from policyd.postfix.findings import Findings
from policyd.postfix.messages import Message
from policyd.postfix.postconf import Postfix
from policyd.postfix.restrictions import words
from policyd.postfix.text import PostconfError, read_text
from policyd.store.file import rule_set

RELAY_DOMAINS = "relay_domains"
SETTINGS = ("mydestination", RELAY_DOMAINS, "virtual_alias_domains", "virtual_mailbox_domains")
_PATTERNS = ("regexp:", "pcre:", "cidr:", "randmap:")  # tables that Postfix asks for the whole name only
_ANY_LABEL = "any-name-below"


@dataclass(slots=True)
class _Names:
    """Names in lower case, as they are spelt otherwise."""

    listed: dict[str, str] = field(default_factory=dict)  # an entry -> the parameter that has it
    exact: set[str] = field(default_factory=set)
    above: set[str] = field(default_factory=set)  # they stand for all names below them

    def add(self, setting: str, entry: str, parents: bool) -> None:
        """An entry of a parameter; `parents`: it covers the names below it, and needs no dot for that."""
        name = entry.lower()
        if setting != RELAY_DOMAINS or parents:
            if not name.startswith("."):  # with a dot it matches nothing
                self.exact.add(name)
                self.listed.setdefault(name, setting)
                if parents:
                    self.above.add(name)
            return
        self.listed.setdefault(name, setting)
        (self.above if name.startswith(".") else self.exact).add(name.removeprefix("."))

    def has(self, name: str) -> bool:
        """Whether an entry is the name or covers it."""
        return name in self.exact or any(up in self.above for up in upwards(name) if up != name)

    def has_below(self, name: str) -> bool:
        """Whether an entry covers all names below it."""
        return any(up in self.above for up in upwards(name))


class PostfixDomains:
    """What Postfix takes for its own domains, from all four parameters."""

    def __init__(self, findings: Findings, looked_at: Iterable[str] = SETTINGS) -> None:
        self._findings = findings
        self._own, self._excluded = _Names(), _Names()
        self._unlisted: list[_Table] = []  # they answer single questions only
        self.complete = True  # all tables and files could be read
        covering = {word.text for word in words(findings.postfix.value("parent_domain_matches_subdomains"))}
        for setting in looked_at:
            parents = setting == RELAY_DOMAINS and setting in covering
            for item in self._items(setting, findings.postfix.value(setting)):
                if ":" in item:
                    self._add_table(_Table(setting, item, parents))
                else:
                    (self._excluded if item.startswith("!") else self._own).add(setting, item.lstrip("!"), parents)

    @property
    def listed(self) -> dict[str, str]:
        """Each entry that can be listed, and the parameter that has it."""
        return self._own.listed

    def _items(self, setting: str, value: str) -> Iterator[str]:
        """The entries of a parameter, with those of files that it names."""
        for word in words(value):
            if not word.text.startswith("/"):
                yield word.text
                continue
            try:
                text = read_text(word.text)
            except PostconfError as error:
                self._not_read(setting, word.text, str(error).removeprefix(f"{word.text}: "))
                continue
            yield from (item.text for line in text.split("\n") if not line.startswith("#") for item in words(line))

    def _add_table(self, table: _Table) -> None:
        try:
            entries = self._findings.postfix.entries(table.name)
        except PostconfError as error:
            if "unsupported dictionary type" in str(error):  # asking it about a name would fail as well, after a second
                self._not_read(table.setting, table.name, str(error))
            else:
                self._unlisted.append(table)
            return
        for key, _ in entries:  # of virtual_alias_maps also addresses, and names of users
            if "." in key and canonical(key.removeprefix(".")) is not None:
                self._own.add(table.setting, key, table.parents)

    def knows_below(self, name: str) -> bool:
        """Whether the names below `name` are known, too; True where nobody can tell."""
        return bool(self._unlisted) or not self.complete or self._own.has_below(name)

    def known(self, names: Iterable[str]) -> set[str]:
        """Which of the names Postfix takes for its own."""
        wanted = [name for name in names if not self._excluded.has(name)]
        found = {name for name in wanted if self._own.has(name)}
        for table in self._unlisted:
            keys = {name: table.keys_for(name) for name in wanted if name not in found}
            try:
                has = self._findings.postfix.lookup(table.name, [*dict.fromkeys(chain.from_iterable(keys.values()))])
            except PostconfError as error:
                self._not_read(table.setting, table.name, str(error))
                continue
            found |= {name for name, tried in keys.items() if any(key in has for key in tried)}
        return found

    def _not_read(self, setting: str, table: str, reason: str) -> None:
        self.complete = False
        values = {"table": clean(table), "setting": setting, "reason": clean(reason)}
        self._findings.add("warning", setting, None, Message.TABLE_NOT_READ, **values)


@dataclass(frozen=True, slots=True)
class _Table:
    setting: str
    name: str  # `type:name`
    parents: bool  # names below an entry are covered

    def keys_for(self, name: str) -> list[str]:
        """What Postfix asks the table about a domain (match_list(3))."""
        if self.setting != RELAY_DOMAINS or self.name.startswith(_PATTERNS):
            return [name]
        above = [up for up in upwards(name) if up != name]
        return [name, *(above if self.parents else (f".{up}" for up in above))]


_RECIPIENT_MAPS = {
    "mydestination": "local_recipient_maps",
    RELAY_DOMAINS: "relay_recipient_maps",
    "virtual_mailbox_domains": "virtual_mailbox_maps",
}


def recipient_maps(postfix: Postfix, names: Iterable[str]) -> dict[str, str]:
    """The parameter with the recipients of each of those domains that Postfix takes for its own."""
    left = list(names)
    found: dict[str, str] = {}
    for setting, maps in _RECIPIENT_MAPS.items():
        known = PostfixDomains(Findings(postfix), (setting,)).known(left)
        found |= dict.fromkeys(known, maps)
        left = [name for name in left if name not in known]
    return found


def compare_domains(findings: Findings, configuration: Configuration) -> None:
    """Accepted domains that Postfix does not know, and Postfix's domains that nobody accepts."""
    domains = PostfixDomains(findings)
    accepted = [
        (subject(("organizations", organization.name)), pattern)
        for organization in configuration.rules.organizations
        for pattern in organization.accepted_domains
    ]
    smtputf8 = findings.postfix.value("smtputf8_enable") != "no"  # without it other letters are a syntax error
    forms = {pattern.name: _forms(pattern.name, smtputf8) for _, pattern in accepted}
    known = domains.known(dict.fromkeys(chain.from_iterable(forms.values())))
    if domains.complete:  # else they may be where policyd could not look
        for owner, pattern in accepted:
            missing = [form for form in forms[pattern.name] if form not in known]
            for form in missing:
                values = {"domain": quoted(form), "owner": owner}
                findings.add_of_many("warning", RELAY_DOMAINS, None, Message.DOMAIN_UNKNOWN, **values)
            if not missing and pattern.wildcard and not all(map(domains.knows_below, forms[pattern.name])):
                values = {"name": quoted(pattern.name), "domain": quoted(str(pattern)), "owner": owner}
                findings.add_of_many("warning", RELAY_DOMAINS, None, Message.SUBDOMAINS_UNKNOWN, **values)
    _check_outside(findings, configuration, domains, smtputf8)
    rules = rule_set(configuration.rules)
    for name, setting in domains.listed.items():
        below = name.startswith(".")
        domain = canonical(_ANY_LABEL + name if below else name)
        if domain is not None and _comes_from_outside(domain) and rules.owner(domain) == NOBODY:
            values = {"domain": quoted(name), "setting": setting}
            findings.add_of_many("warning", setting, None, Message.DOMAIN_NOT_ACCEPTED, **values)


def _check_outside(findings: Findings, configuration: Configuration, domains: PostfixDomains, smtputf8: bool) -> None:
    """Domains that are hosted elsewhere, by policyd's word: no lock and no protection holds for them."""
    for organization in configuration.rules.organizations:
        for pattern in organization.outside_domains:
            for form in sorted(domains.known(_forms(pattern.name, smtputf8))):
                values = {"domain": quoted(form), "owner": subject(("organizations", organization.name))}
                findings.add_of_many("error", RELAY_DOMAINS, None, Message.OUTSIDE_DOMAIN_KNOWN, **values)


def _forms(name: str, smtputf8: bool) -> list[str]:
    """A name as Postfix may be asked for it: A-labels, and where that is another text U-labels."""
    return list(dict.fromkeys((name, unicode_form(name)))) if smtputf8 else [name]


def _comes_from_outside(name: str) -> bool:
    """Whether mail by SMTP is for it: localhost and a bare host name are for programs of this machine."""
    return "." in name and name.partition(".")[0] != "localhost"
