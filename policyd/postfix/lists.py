"""The restriction lists of each smtpd: whom they let relay, and which of their policy services is policyd (SPEC 7).

For `wiring`, and for `imports.postfix_grants`. Reads no tables: what a restriction that looks something up says of a
client is the caller's question.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from policyd.config.settings import Configuration, Endpoint
from policyd.config.text import clean
from policyd.postfix.findings import Findings
from policyd.postfix.messages import Message
from policyd.postfix.postconf import Postfix, Smtpd
from policyd.postfix.restrictions import Restriction, parse_list, refusal, words

RELAY, RECIPIENT, DATA = "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_data_restrictions"
EARLY_LISTS = tuple(f"smtpd_{stage}_restrictions" for stage in ("client", "helo", "sender"))
OTHER_LISTS = (*EARLY_LISTS, DATA, "smtpd_end_of_data_restrictions", "smtpd_etrn_restrictions")
DECIDING = (RELAY, RECIPIENT)
_OF_A_MAIL = (*EARLY_LISTS, *DECIDING, DATA, "smtpd_end_of_data_restrictions")  # all of them must let it pass
_LOOPBACK = re.compile(r"(?:localhost|127\.[0-9.]+|\[?::1\]?):[^:/]+/inet")  # the name of a service

# A server that is policyd by its usual port, or by the name of its socket or of the folder that has it.
_LIKELY = re.compile(r":10045$|/policyd(?:\.sock)?$|[:/]policyd/[^/]+$")
# Servers that are others: SPF, greylisting, quotas, rates; postgrey's, cluebringer's, iRedAPD's and mtpolicyd's ports.
_OTHERS = re.compile(r"spf|grey|quota|rate|:(?:10023|10031|7777|12345)$", re.IGNORECASE)
_NOT_FOR_EVERYBODY = re.compile(r"permit_(?:mynetworks|sasl_authenticated|tls_(?:all_)?clientcerts|inet_interfaces)")


@dataclass(frozen=True)
class Lists:
    """The restriction lists of one smtpd; `service` is None where master.cf names none."""

    postfix: Postfix
    service: Smtpd | None
    ours: frozenset[str]  # the servers that are policyd

    @cached_property
    def all(self) -> Mapping[str, list[Restriction]]:
        """Every list by the name of its parameter."""
        named = [word.text for word in words(self.value("smtpd_restriction_classes"))]
        classes = {name: self.value(name) for name in named}
        return {name: parse_list(self.value(name), classes) for name in (*DECIDING, *OTHER_LISTS)}

    def value(self, name: str) -> str:
        """A parameter of this smtpd."""
        return self.postfix.value(name, self.service)

    def asks(self, name: str) -> bool:
        """Whether policyd stands in the list."""
        return any(self.is_policyd(restriction) for restriction in self.all[name])

    def is_policyd(self, restriction: Restriction) -> bool:
        """Whether it is the question to policyd."""
        return restriction.service is not None and restriction.service.server in self.ours

    def before(self, name: str) -> Iterator[Restriction]:
        """What stands before policyd in a list; all of it where policyd does not."""
        return takewhile(lambda restriction: not self.is_policyd(restriction), self.all[name])

    def refuses_behind(self, name: str) -> bool:
        """Whether something behind policyd in a list refuses relaying."""
        return bool(refusal(self.all[name][len([*self.before(name)]) :]))

    def lets_relay(self, permit: Restriction) -> bool:
        """Whether those whom a restriction permits relay here because of it.

        A permit ends its own list only, and what stands behind a refusal grants nothing. smtpd does not even start
        where neither deciding list refuses relaying (smtpd_recipient_restrictions in postconf(5)).
        """
        return any(refusal(self.all[name]) for name in DECIDING) and not any(map(refusal, self.until(permit)))

    def until(self, permit: Restriction) -> list[list[Restriction]]:
        """What a mail must pass, in each list, where a restriction permits it."""
        what = (permit.name, permit.argument)
        return [
            [*takewhile(lambda restriction: (restriction.name, restriction.argument) != what, self.all[name])]
            for name in _OF_A_MAIL
        ]

    @property
    def is_local(self) -> bool:
        """Whether only this machine itself can come here: it listens on loopback, and no proxy names other clients."""
        if self.service is None or not _LOOPBACK.fullmatch(self.service.name):
            return False
        return not any(map(self.value, ("smtpd_authorized_xclient_hosts", "smtpd_upstream_proxy_protocol")))

    @property
    def is_closed(self) -> bool:
        """Whether a list of its own in master.cf refuses all but those who log in or lie in mynetworks.

        So a submission service is written, and what policyd does in the lists that it inherits is no matter.
        """
        overrides = self.service.overrides if self.service is not None else {}
        return any(_is_closed(self.all[name]) for name in (*DECIDING, *EARLY_LISTS) if name in overrides)

    @property
    def trusts_networks_first(self) -> bool:
        """Whether permit_mynetworks stands before policyd."""
        names = (restriction.name for name in DECIDING if self.asks(name) for restriction in self.before(name))
        return "permit_mynetworks" in names


def _is_closed(restrictions: Iterable[Restriction]) -> bool:
    for restriction in restrictions:
        if restriction.name in ("reject", "defer") and not restriction.only_warns:
            return True
        for_everybody = restriction.permits and not _NOT_FOR_EVERYBODY.fullmatch(restriction.name)
        if for_everybody or restriction.is_table or restriction.service is not None:
            return False
    return False


def read_lists(findings: Findings, configuration: Configuration | None) -> list[Lists]:
    """The lists of every smtpd service, with policyd told from other policy services; finds wrong addresses."""
    ours = _policyd_among(findings, configuration)
    return [Lists(findings.postfix, service, ours) for service in findings.postfix.services or (None,)]


def _policyd_among(findings: Findings, configuration: Configuration | None) -> frozenset[str]:
    """The servers that are policyd: by address, else by name, else the only one that stands where it should."""
    postfix, servers = findings.postfix, _servers(findings.postfix)
    listen = configuration.service.listen if configuration is not None else ()
    queue = postfix.value("queue_directory")
    ours = frozenset(server for server in servers if any(_same(server, endpoint, queue) for endpoint in listen))
    if ours:
        return ours
    unknown = [server for server in servers if not _OTHERS.search(server)]
    likely = [server for server in servers if _LIKELY.search(server)] or unknown[: len(unknown) == 1]
    if listen and not any(endpoint.kind == "systemd" for endpoint in listen):
        listening = clean(" and ".join(str(endpoint) for endpoint in listen))
        for server in likely:
            name, service = servers[server]
            values = {"server": clean(server), "listen": listening, "queue": clean(queue)}
            findings.add("error", name, service, Message.OTHER_ADDRESS, **values)
    return frozenset(likely)


def _servers(postfix: Postfix) -> dict[str, tuple[str, Smtpd | None]]:
    """Every policy service that is asked anywhere, with the list that asks it first."""
    servers: dict[str, tuple[str, Smtpd | None]] = {}
    for service in (None, *postfix.services):
        for name, restrictions in Lists(postfix, service, frozenset()).all.items():
            for restriction in restrictions:
                if restriction.service is not None:
                    servers.setdefault(restriction.service.server, (name, service))
    return servers


def _same(server: str, endpoint: Endpoint, queue: str) -> bool:
    """Whether Postfix's `server` leads to where policyd listens."""
    kind, _, rest = server.partition(":")
    if kind != endpoint.kind:
        return False
    if kind == "unix":
        return os.path.realpath(os.path.join(queue, rest)) == os.path.realpath(endpoint.path)
    host, _, port = rest.rpartition(":")
    names = {endpoint.host, "localhost", ""} if endpoint.host in ("127.0.0.1", "::1") else {endpoint.host}
    anywhere = endpoint.host in ("0.0.0.0", "::")
    return port == str(endpoint.port) and (anywhere or host.strip("[]") in names)
