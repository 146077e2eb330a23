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
from itertools import chain, takewhile

from policyd.config.settings import Configuration, Endpoint
from policyd.postfix.postconf import Listener, Postfix
from policyd.postfix.restrictions import REMOVED, Restriction, parse_list, refusal, words

RELAY, RECIPIENT, DATA = "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_data_restrictions"
END_OF_DATA = "smtpd_end_of_data_restrictions"
EARLY_LISTS = tuple(f"smtpd_{stage}_restrictions" for stage in ("client", "helo", "sender"))
OTHER_LISTS = (*EARLY_LISTS, DATA, END_OF_DATA, "smtpd_etrn_restrictions")
DECIDING = (RELAY, RECIPIENT)
MAIL_LISTS = (*EARLY_LISTS, *DECIDING, DATA, END_OF_DATA)  # all of them must let it pass
_NEVER = (99,)  # a version that never comes
_LOOPBACK = re.compile(r"(?:localhost|127\.[0-9.]+|\[?::1\]?):[^:/]+/inet")  # the name of a service

# Where policyd.socket listens, and where the guide has sockets that systemd opens.
_USUAL = re.compile(r"^inet:(?:127\.0\.0\.1|localhost|\[::1\])?:?10045$|/(?:policyd/policyd\.sock|private/policyd)$")
_NOT_FOR_EVERYBODY = re.compile(r"permit_(?:mynetworks|sasl_authenticated|tls_(?:all_)?clientcerts|inet_interfaces)")


@dataclass(frozen=True)
class Lists:
    """The restriction lists of one smtpd; `service` is None where master.cf names none."""

    postfix: Postfix
    service: Listener | None
    ours: frozenset[str]  # the servers that are policyd

    @property
    def name(self) -> str:
        """The service, as `submission/inet`."""
        return self.service.name if self.service is not None else "smtpd"

    @cached_property
    def classes(self) -> Mapping[str, str]:
        """The restriction classes, each with its list."""
        return {word.text: self.value(word.text) for word in words(self.value("smtpd_restriction_classes"))}

    @cached_property
    def all(self) -> Mapping[str, list[Restriction]]:
        """Every list by the name of its parameter."""
        return {name: parse_list(self.value(name), self.classes) for name in (*DECIDING, *OTHER_LISTS)}

    def value(self, name: str) -> str:
        """A parameter of this smtpd."""
        return self.postfix.value(name, self.service)

    def asks(self, name: str) -> bool:
        """Whether policyd stands in the list."""
        return any(self.is_policyd(restriction) for restriction in self.all[name])

    def knows(self, restriction: Restriction) -> bool:
        """Whether this Postfix knows a restriction."""
        return restriction.is_known and self.postfix.version < REMOVED.get(restriction.name, _NEVER)

    def is_policyd(self, restriction: Restriction) -> bool:
        """Whether it is the question to policyd."""
        return restriction.service is not None and restriction.service.server in self.ours

    def before(self, name: str) -> Iterator[Restriction]:
        """What stands before policyd in a list; all of it where policyd does not."""
        return takewhile(lambda restriction: not self.is_policyd(restriction), self.all[name])

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
            for name in MAIL_LISTS
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


def _is_closed(restrictions: Iterable[Restriction]) -> bool:
    for restriction in restrictions:
        if restriction.name in ("reject", "defer") and not restriction.only_warns:
            return True
        for_everybody = restriction.permits and not _NOT_FOR_EVERYBODY.fullmatch(restriction.name)
        if for_everybody or restriction.is_table or restriction.service is not None:
            return False
    return False


def read_lists(postfix: Postfix, configuration: Configuration | None) -> list[Lists]:
    """The lists of every smtpd service, with policyd told from other policy services."""
    ours = _policyd_among(postfix, configuration)
    return [Lists(postfix, service, ours) for service in postfix.services or (None,)]


def _policyd_among(postfix: Postfix, configuration: Configuration | None) -> frozenset[str]:
    """The servers that are policyd: they lead to where it listens; nobody's name is taken for its.

    Where systemd has its sockets, or the configuration cannot be read, that is where policyd.socket listens.
    """
    listen = configuration.service.listen if configuration is not None else ()
    queue = postfix.value("queue_directory")
    known = [endpoint for endpoint in listen if endpoint.kind != "systemd"]
    ours = {server for server in servers_of(postfix) if any(_same(server, endpoint, queue) for endpoint in known)}
    if len(known) < len(listen) or not listen:
        ours |= {server for server in servers_of(postfix) if _is_usual(server, queue)}
    return frozenset(ours)


def _is_usual(server: str, queue: str) -> bool:
    kind, _, rest = server.partition(":")
    return _USUAL.search(os.path.join(queue, rest) if kind == "unix" else server) is not None


def servers_of(postfix: Postfix) -> list[str]:
    """Every policy service that is asked anywhere."""
    servers: dict[str, None] = {}
    for service in (None, *postfix.services):
        lists = Lists(postfix, service, frozenset())
        of_classes = [parse_list(text, {}) for text in lists.classes.values()]  # a table may name them
        for restriction in chain(*lists.all.values(), *of_classes):
            if restriction.service is not None:
                servers[restriction.service.server] = None
    return list(servers)


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
    is_name = re.fullmatch(r"(?!localhost$)(?=.*[a-z])[\w.-]+", host, re.IGNORECASE) is not None
    return port == str(endpoint.port) and (anywhere or is_name or host.strip("[]") in names)
