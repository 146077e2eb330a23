"""Where the server writes at its start: the log and unix sockets. What would keep it from starting (SPEC 7 and 8).

Part of `policyd check`, with the rights of the user that policyd runs as; says nothing about folders that the unit
makes. Only looks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from policyd.config.messages import Message
from policyd.config.problems import KeyPath, Problem
from policyd.config.settings import Configuration
from policyd.config.text import quoted
from policyd.config.toml.file import TomlFile, read_toml

# RuntimeDirectory= and LogsDirectory= of the unit: there when the server starts.
_MADE_BY_SYSTEMD = ("/run/policyd", "/var/run/policyd", "/var/log/policyd")


def not_writable(file: str, configuration: Configuration, user: str) -> list[Problem]:
    """Warnings about places in the configuration of `file`, in which this process, run by `user`, cannot write."""
    refused = [(key, path, reason) for key, path, reason in _places(configuration, user) if reason]
    source = read_toml(file) if refused else None
    return [
        Problem(
            file,
            source.line(key) if isinstance(source, TomlFile) else 0,
            "warning",
            "",
            Message.NOT_WRITABLE.value.format(value=quoted(path), reason=reason, user=user),
            Message.NOT_WRITABLE.id,
        )
        for key, path, reason in refused
    ]


def _places(configuration: Configuration, user: str) -> Iterator[tuple[KeyPath, str, str]]:
    """Each place: its key, its path, and why it is none to write to (empty where it is)."""
    log = configuration.log.file
    if log:
        there = os.path.exists(log)
        yield ("log", "file"), log, _refused(log, user) if there else _folder_refuses(log, user)
    for index, endpoint in enumerate(configuration.service.listen):
        if endpoint.kind == "unix":
            yield ("service", "listen", index), endpoint.path, _folder_refuses(endpoint.path, user)
    if configuration.service.control:
        yield (
            ("service", "control"),
            configuration.service.control,
            _folder_refuses(configuration.service.control, user),
        )
    metrics = configuration.metrics_listen
    if metrics is not None and metrics.kind == "unix":
        yield ("metrics", "listen"), metrics.path, _folder_refuses(metrics.path, user)


def _refused(path: str, user: str) -> str:
    return "" if os.access(path, os.W_OK, effective_ids=True) else f"{user} cannot write to it"


def _folder_refuses(path: str, user: str) -> str:
    """Why no file can be made there; empty where it can."""
    folder = os.path.dirname(path)
    if os.access(f"{folder}/", os.W_OK | os.X_OK, effective_ids=True):
        return ""
    try:
        os.stat(f"{folder}/")
    except (FileNotFoundError, NotADirectoryError):
        return "" if folder in _MADE_BY_SYSTEMD else f"there is no folder {quoted(folder)}"
    except OSError:
        pass  # a folder above that the user cannot enter
    return f"{user} cannot write to the folder {quoted(folder)}"
