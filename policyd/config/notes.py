"""What is worth knowing of a good configuration, and not wrong (SPEC 4, notes). Part of `policyd check`; only looks."""

from __future__ import annotations

from policyd.config.messages import Message
from policyd.config.problems import Problem
from policyd.config.settings import Configuration
from policyd.config.text import quoted
from policyd.config.toml.file import TomlFile, read_toml


def notes_about(file: str, configuration: Configuration) -> list[Problem]:
    """Notes about what the configuration of `file` says; its defaults have no line to stand at."""
    source = read_toml(file)
    if not isinstance(source, TomlFile) or "listen" not in source.data.get("service", {}):
        return []
    return [
        Problem(
            file,
            source.line(("service", "listen", index)),
            "note",
            "",
            Message.LISTENS_ON_TCP.value.format(value=quoted(str(endpoint))),
            Message.LISTENS_ON_TCP.id,
        )
        for index, endpoint in enumerate(configuration.service.listen)
        if endpoint.kind == "inet"
    ]
