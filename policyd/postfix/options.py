"""The options of check_policy_service, and what the attribution header needs in Postfix (SPEC 7); see `wiring`."""

from __future__ import annotations

import re
from typing import Literal

from policyd.config.settings import Configuration
from policyd.config.text import clean, quoted
from policyd.postfix.findings import Findings
from policyd.postfix.lists import DATA, DECIDING, Lists
from policyd.postfix.messages import DEFER, Message
from policyd.postfix.postconf import Postfix
from policyd.postfix.restrictions import Restriction, Service, words
from policyd.postfix.text import PostconfError

LONGEST_TIMEOUT = 30  # seconds

_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_GOES_ON = frozenset("dunno defer_if_permit defer_if_reject prepend warn info hold filter redirect bcc".split())


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
            option = restriction.service.malformed or (following if "=" in following else "")
            if option:
                recommended = recommended_service(findings.postfix, configuration)
                values = {"option": quoted(option), "recommended": recommended}
                findings.add("error", name, lists.service, Message.BRACES, **values)
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
    options = restriction.service.options if restriction.service is not None else {}
    action = options.get("default_action") or lists.value("smtpd_policy_service_default_action")
    kind = default_action_kind(action)
    if kind == "relays":
        findings.add("error", name, lists.service, Message.DEFAULT_OK, action=clean(action))
    elif kind == "bounces" and not watching and not restriction.only_warns:
        findings.add("warning", name, lists.service, Message.DEFAULT_BOUNCES, action=clean(action))


def default_action_kind(action: str) -> Literal["relays", "bounces", "defers"]:
    """What Postfix makes of a default action when policyd is down.

    A number without a text is an OK, a restriction's name is carried out, DISCARD accepts and drops. After DUNNO and
    what goes on like it a later reject_unauth_destination bounces; an unknown word becomes 451.
    """
    word, _, text = action.strip().lower().partition(" ")
    word = word.rstrip(",")
    if word in ("ok", "discard") or word.startswith("permit") or (word.isdigit() and not text.strip()):
        return "relays"
    if word.startswith(("4", "defer")) and word not in _GOES_ON:
        return "defers"
    return "bounces" if word.startswith(("5", "reject")) or word in _GOES_ON or not word else "defers"


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
