"""Whom Postfix trusts by address, whatever policyd says: mynetworks, XCLIENT, PROXY lines, QMQP (SPEC 7).

Part of `policyd check --postfix`; see `wiring`. `networks` says whom a list holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policyd.config.settings import Configuration
from policyd.config.text import clean, quoted
from policyd.policy.networks import Network
from policyd.postfix.findings import Findings
from policyd.postfix.messages import Message
from policyd.postfix.networks import LOOPBACK, PRIVATE, Trusted, connectors_of, network_of, trusted_by
from policyd.postfix.postconf import Listener
from policyd.postfix.tables import Tables

WIDE = {4: 1 << 16, 6: 1 << 80}  # addresses of the Internet: a /16, and a /48 of IPv6

_MYNETWORKS, _XCLIENT, _QMQPD = "mynetworks", "smtpd_authorized_xclient_hosts", "qmqpd_authorized_clients"
_PROXY, _POSTSCREEN_PROXY = "smtpd_upstream_proxy_protocol", "postscreen_upstream_proxy_protocol"
_MOST_SHOWN = 4  # networks that are named in one finding


class Trust:
    """Tells of whom Postfix trusts too much."""

    def __init__(self, findings: Findings, configuration: Configuration | None, tables: Tables) -> None:
        self._findings = findings
        self._postfix = findings.postfix
        self._tables = tables
        self._addresses = [*connectors_of(configuration)]

    def networks(self, service: Listener | None) -> None:
        """mynetworks of a service where permit_mynetworks lets mail past policyd."""
        trusted = self._trusted(_MYNETWORKS, service)
        self._connectors(trusted, service)
        values = {"networks": shown(trusted.written_of(trusted.strangers))}
        provider, network = trusted.provider
        if trusted.is_everybody:
            self._findings.add("error", _MYNETWORKS, service, Message.MYNETWORKS_EVERYBODY, **values)
        elif provider:
            values = {"networks": network, "provider": provider}
            self._findings.add("error", _MYNETWORKS, service, Message.MYNETWORKS_PROVIDER, **values)
        elif any(one.size > WIDE[one.family] for one in trusted.strangers):
            self._findings.add("warning", _MYNETWORKS, service, Message.MYNETWORKS_WIDE, **values)
        behind = self._postfix.value("proxy_interfaces", service)
        private = touching(trusted.outside(LOOPBACK), PRIVATE)
        if behind and private:
            values = {"networks": shown(trusted.written_of(private))}
            self._findings.add("warning", _MYNETWORKS, service, Message.MYNETWORKS_BEHIND_PROXY, **values)

    def everybody(self, service: Listener | None) -> None:
        """mynetworks of a service where permit_mynetworks decides only when policyd does not."""
        trusted = self._trusted(_MYNETWORKS, service)
        if trusted.is_everybody:
            values = {"networks": shown(trusted.written_of(trusted.strangers))}
            self._findings.add("error", _MYNETWORKS, service, Message.MYNETWORKS_EVERYBODY, **values)

    def claimed_addresses(self, service: Listener | None) -> None:
        """Who may say to an smtpd which address he has: by XCLIENT, or in a PROXY line."""
        hosts = self._postfix.value(_XCLIENT, service)
        trusted = self._trusted(_XCLIENT, service)
        connector = self._connector_in(trusted)
        values = {"hosts": clean(hosts)}
        if trusted.is_everybody or connector:
            who = "everybody" if trusted.is_everybody else connector
            self._findings.add("error", _XCLIENT, service, Message.XCLIENT_EVERYBODY, who=who, **values)
        elif trusted.unread or any(network.size > 1 for network in trusted.networks):
            self._findings.add("warning", _XCLIENT, service, Message.XCLIENT, **values)
        protocol = self._postfix.value(_PROXY, service)
        if protocol and not is_local(self._postfix.value("inet_interfaces"), service):
            self._proxy(_PROXY, service, Message.PROXY_PROTOCOL, protocol)

    def other_listeners(self) -> None:
        """postscreen before smtpd, and qmqpd beside it."""
        for listener in self._postfix.listeners:
            if is_local(self._postfix.value("inet_interfaces"), listener):
                continue
            protocol = self._postfix.value(_POSTSCREEN_PROXY, listener)
            if listener.program == "postscreen" and protocol:
                self._proxy(_POSTSCREEN_PROXY, listener, Message.POSTSCREEN_PROXY_PROTOCOL, protocol)
            if listener.program == "qmqpd":
                self._qmqpd(listener)

    def _qmqpd(self, listener: Listener) -> None:
        trusted = self._trusted(_QMQPD, listener)
        who = "everybody" if trusted.is_everybody else self._connector_in(trusted)
        who = who or shown(trusted.written_of(trusted.strangers))
        if who:
            values = {"service": clean(listener.name), "who": who}
            self._findings.add("error", _QMQPD, listener, Message.QMQPD_OPEN, **values)

    def _proxy(self, parameter: str, service: Listener | None, message: Message, protocol: str) -> None:
        name = clean(service.name) if service is not None else "smtpd"
        self._findings.add("warning", parameter, service, message, protocol=clean(protocol), service=name)

    def _trusted(self, parameter: str, service: Listener | None) -> Trusted:
        interest = [network for _, network in self._addresses]
        return trusted_by(self._postfix.value(parameter, service), self._tables, interest)

    def _connectors(self, trusted: Trusted, service: Listener | None) -> None:
        for owner, network in self._addresses:
            touched = trusted.holding(network)
            if touched is not None:
                values = {"address": quoted(str(network)), "owner": owner, "network": str(touched)}
                self._findings.add_of_many("error", _MYNETWORKS, service, Message.CONNECTOR_IN_MYNETWORKS, **values)

    def _connector_in(self, trusted: Trusted) -> str:
        return next((owner for owner, network in self._addresses if trusted.holding(network) is not None), "")


def shown(networks: Sequence[Network]) -> str:
    """The first of some networks."""
    more = ["..."] if len(networks) > _MOST_SHOWN else []
    return ", ".join([*map(str, networks[:_MOST_SHOWN]), *more])


def is_local(interfaces: str, service: Listener | None) -> bool:
    """Whether only this machine itself reaches a service: it listens on loopback, or is no service of the network."""
    if service is None:
        return are_local(interfaces)
    address, _, kind = service.name.rpartition("/")
    if kind == "pass":
        return False  # postscreen hands on what it took
    if kind != "inet":
        return True
    host, colon, _ = address.rpartition(":")
    return _is_loopback(host) if colon else are_local(interfaces)


def are_local(interfaces: str) -> bool:
    """Whether inet_interfaces names loopback only."""
    names = [name for name in interfaces.replace(",", " ").split() if name]
    return bool(names) and all(name == "loopback-only" or _is_loopback(name) for name in names)


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return Trusted(LOOPBACK).covers(network_of(host))
    except ValueError:
        return False


def touching(networks: Iterable[Network], others: Iterable[Network]) -> list[Network]:
    """Those of some networks that share an address with others."""
    return [network for network in networks if any(network.overlaps(other) for other in others)]
