"""The options of check_policy_service, and what the attribution header needs in Postfix (SPEC 7); see `wiring`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from policyd.config.settings import Configuration
from policyd.config.text import clean, quoted
from policyd.postfix.actions import read_action
from policyd.postfix.findings import Findings
from policyd.postfix.lists import DATA, DECIDING, Lists
from policyd.postfix.messages import DEFER, Message
from policyd.postfix.postconf import Postfix
from policyd.postfix.restrictions import Restriction, Service, words
from policyd.postfix.text import PostconfError

LONGEST_TIMEOUT = 30  # seconds

_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PERMIT_TOO_MANY = frozenset("permit permit_tls_clientcerts permit_tls_all_clientcerts permit_mx_backup".split())


def recommended_service(postfix: Postfix, configuration: Configuration | None) -> str:
    """The restriction that asks policyd, as main.cf should have it."""
    return f"check_policy_service {{ {_server(postfix, configuration)}, timeout=10s, {DEFER} }}"


def _server(postfix: Postfix, configuration: Configuration | None) -> str:
    """How main.cf would name policyd."""
    for endpoint in configuration.service.listen if configuration is not None else ():
        queue = postfix.value("queue_directory").rstrip("/") + "/"
        if endpoint.kind == "unix":
            return f"unix:{endpoint.path.removeprefix(queue)}"
        if endpoint.kind == "inet":
            return str(endpoint)
    return "unix:policyd/policyd.sock"


def check_options(findings: Findings, lists: Lists, configuration: Configuration | None) -> None:
    """The options of policyd in every list of an smtpd."""
    watching = configuration is not None and configuration.service.mode == "monitor"
    for name, restrictions in lists.all.items():
        for position, restriction in enumerate(restrictions):
            if not lists.is_policyd(restriction) or restriction.service is None:
                continue
            following = restrictions[position + 1].name if position + 1 < len(restrictions) else ""
            outside = following if "=" in following else ""
            if option := restriction.service.malformed or outside:
                recommended = recommended_service(findings.postfix, configuration)
                values = {"option": quoted(option), "recommended": recommended}
                message = Message.BRACES if restriction.service.malformed else Message.OPTION_OUTSIDE
                findings.add("error", name, lists.service, message, **values)
            if restriction.only_warns and name in DECIDING:
                findings.add("warning", name, lists.service, Message.ONLY_WARNS)
            _check_path(findings, lists, name, restriction.service)
            _check_timeout(findings, lists, name, restriction.service)
            if name in DECIDING:
                _check_default_action(findings, lists, name, restriction, watching)


def _check_path(findings: Findings, lists: Lists, name: str, service: Service) -> None:
    """A chrooted smtpd takes an absolute path from the root that it was given."""
    if lists.service is None or not lists.service.chroot or not service.server.startswith("unix:/"):
        return
    queue = lists.value("queue_directory").rstrip("/")
    path = service.server.removeprefix("unix:")
    inside = path.startswith(f"{queue}/")
    relative = "unix:" + (path.removeprefix(f"{queue}/") if inside else "policyd/policyd.sock")
    values = {"queue": clean(queue), "server": clean(service.server), "relative": clean(relative)}
    findings.add("error", name, lists.service, Message.CHROOT_PATH, **values)


def _check_timeout(findings: Findings, lists: Lists, name: str, service: Service) -> None:
    own = service.options.get("timeout")
    timeout = own or lists.value("smtpd_policy_service_timeout")
    number = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", timeout)
    if number is not None and int(number[1]) * _UNIT[number[2] or "s"] > LONGEST_TIMEOUT:
        message = Message.LONG_TIMEOUT if own else Message.NO_TIMEOUT
        findings.add("warning", name, lists.service, message, timeout=timeout)


def _check_default_action(
    findings: Findings, lists: Lists, name: str, restriction: Restriction, watching: bool
) -> None:
    if restriction.service is None:
        return
    action = default_action_of(lists, restriction.service)
    kind = default_action_kind(action, lists.classes)
    if kind in ("relays", "discards"):
        message = Message.DEFAULT_OK if kind == "relays" else Message.DEFAULT_DISCARDS
        findings.add("error", name, lists.service, message, action=clean(action))
    elif kind == "bounces" and not watching and not restriction.only_warns:
        findings.add("warning", name, lists.service, Message.DEFAULT_BOUNCES, action=clean(action))


def default_action_of(lists: Lists, service: Service) -> str:
    """What is done when a policy service is down."""
    return service.options.get("default_action") or lists.value("smtpd_policy_service_default_action")


def stops_nothing(lists: Lists, restriction: Restriction) -> bool:
    """Whether what stands behind a policy service decides when that is down."""
    service = restriction.service
    return service is not None and read_action(default_action_of(lists, service), lists.classes).kind == "goes on"


def default_action_kind(action: str, classes: Mapping[str, str]) -> Literal["relays", "discards", "bounces", "defers"]:
    """What Postfix makes of mail to outside when a policy service is down, with this default action.

    A list of restrictions is carried out, and so is a class. After what goes on a later reject_unauth_destination
    bounces; an unknown word becomes 451.
    """
    read = read_action(action, classes)
    if read.kind == "permits":
        return "relays"
    if read.kind == "discards":
        return "discards"
    for restriction in read.restrictions if read.kind == "restrictions" else ():
        if restriction.name in _PERMIT_TOO_MANY:
            return "relays"
        if restriction.refuses_relaying:
            return "defers" if restriction.name.startswith("defer") else "bounces"
    return "defers" if read.kind in ("defers", "fails") else "bounces"


def check_stamping(findings: Findings, lists: Lists, configuration: Configuration) -> None:
    """Whether the attribution header is asked for at DATA and made public by header_checks."""
    if not lists.asks(DATA):
        server = _server(findings.postfix, configuration)
        findings.add("error", DATA, lists.service, Message.NO_DATA_RESTRICTION, server=server)
    header = f"{configuration.attribution_header}: organization=contoso; connector=head-office; by=sender-domain"
    for word in words(lists.value("header_checks")):
        try:
            actions = findings.postfix.lookup(word.text, [header])
        except PostconfError as error:
            values = {"table": clean(word.text), "setting": "header_checks", "reason": clean(str(error))}
            findings.add("warning", "header_checks", lists.service, Message.TABLE_NOT_READ, **values)
            return
        if actions:
            (action,) = actions.values()
            if action.partition(" ")[0].upper() != "REPLACE":
                values = {"action": clean(action)}
                findings.add("error", "header_checks", lists.service, Message.HEADER_NOT_REPLACED, **values)
            return
    findings.add("error", "header_checks", lists.service, Message.NO_HEADER_CHECKS)
