"""What is worth knowing of a good configuration, or odd about where it listens (SPEC 4, notes and warnings).

Part of `policyd check`; only looks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from policyd.config.messages import Message
from policyd.config.problems import KeyPath, Problem, Severity
from policyd.config.settings import Configuration, Endpoint
from policyd.config.text import quoted
from policyd.config.toml.file import TomlFile, read_toml

_EVERYWHERE = {"0.0.0.0": "inet:127.0.0.1", "::": "inet:[::1]"}


def notes_about(file: str, configuration: Configuration) -> list[Problem]:
    """Notes and warnings about what the configuration of `file` says; its defaults have no line to stand at."""
    source = read_toml(file)
    if not isinstance(source, TomlFile):
        return []
    return [
        Problem(file, source.line(key), severity, "", message.value.format(**fills), message.id)
        for key, endpoint in _endpoints(source, configuration)
        for severity, message, fills in _about(key[0] == "service", endpoint)
    ]


def _endpoints(source: TomlFile, configuration: Configuration) -> Iterator[tuple[KeyPath, Endpoint]]:
    if "listen" in source.data.get("service", {}):
        for index, endpoint in enumerate(configuration.service.listen):
            yield ("service", "listen", index), endpoint
    if configuration.metrics_listen is not None:
        yield ("metrics", "listen"), configuration.metrics_listen


def _about(requests: bool, endpoint: Endpoint) -> Iterator[tuple[Severity, Message, dict[str, str]]]:
    """What there is to say of an endpoint; `requests`: Postfix asks there."""
    if endpoint.kind == "unix" and _is_anybodys(os.path.dirname(endpoint.path)):
        yield "warning", Message.SOCKET_ANYBODYS, {"value": quoted(str(endpoint))}
    if endpoint.kind == "inet" and requests:
        value = quoted(str(endpoint))
        loopback = _EVERYWHERE.get(endpoint.host)
        if loopback is None:
            yield "note", Message.LISTENS_ON_TCP, {"value": value}
        else:
            example = quoted(f"{loopback}:{endpoint.port}")
            yield "warning", Message.LISTENS_EVERYWHERE, {"value": value, "example": example}


def _is_anybodys(folder: str) -> bool:
    """Whether every user may make files there, as in /tmp."""
    try:
        return bool(os.stat(folder).st_mode & stat.S_IWOTH)
    except OSError:
        return False
