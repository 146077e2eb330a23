"""The wiring that the documents tell: settings of main.cf from a fenced block of Markdown or a fragment."""

from __future__ import annotations

import re
from pathlib import Path

_SETTING = re.compile(r"(smtpd_\w+) =((?:.*)(?:\n[ \t]+\S.*)*)")
_ASKS_TCP = re.compile(r"inet:127\.0\.0\.1:10045")


def documented_settings(file: Path) -> dict[str, str]:
    """All `smtpd_` parameters with their values, in one line each; README's wiring is the only block that has some."""
    text = file.read_text("utf-8")
    found = {name: " ".join(value.split()) for name, value in _SETTING.findall(text)}
    assert any("check_policy_service" in value for value in found.values()), f"{file} asks nobody"
    return found


def asking_port(settings: dict[str, str], port: int) -> dict[str, str]:
    """The same with policyd's usual TCP port replaced by another one."""
    return {name: _ASKS_TCP.sub(f"inet:127.0.0.1:{port}", value) for name, value in settings.items()}
