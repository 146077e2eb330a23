"""The settings of the service (SPEC 4: [service], [log], [metrics], [database], [policy]) and the whole Configuration.

Plain immutable values; `tables` makes them, `service` runs by them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from policyd.policy.model import NO_PROVIDER, Provider, Rules

Mode = Literal["enforce", "monitor"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen, in Postfix notation: inet:host:port, unix:/path, or systemd:NAME."""

    kind: Literal["inet", "unix", "systemd"]
    host: str = ""  # inet
    port: int = 0  # inet
    path: str = ""  # unix: the path; systemd: the descriptor's name

    def __str__(self) -> str:
        if self.kind == "inet":
            return f"inet:[{self.host}]:{self.port}" if ":" in self.host else f"inet:{self.host}:{self.port}"
        return f"{self.kind}:{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """[service]"""

    listen: tuple[Endpoint, ...] = (Endpoint("inet", "127.0.0.1", 10045),)
    unix_mode: int = 0o660
    mode: Mode = "enforce"
    workers: int = 1  # "auto" is already resolved to the number of CPUs
    max_connections: int = 10000
    control: str | None = None  # path of the control socket; empty: none; None: the usual one, where systemd runs us


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """[log]"""

    decisions: Literal["all", "rejects", "none"] = "all"
    addresses: Literal["full", "domain"] = "full"
    file: str = ""  # absolute; empty: stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """[database]"""

    dsn: str = field(repr=False)  # may hold a password: never shown
    snapshot_file: str = "/var/lib/policyd/database.snapshot"  # absolute; empty: none is kept
    refresh_seconds: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that one policyd.toml and its includes say, read without an error."""

    service: ServiceSettings = field(default_factory=ServiceSettings)
    log: LogSettings = field(default_factory=LogSettings)
    metrics_listen: Endpoint | None = None
    database: DatabaseSettings | None = None
    attribution_header: str = ""
    provider: Provider = NO_PROVIDER
    rules: Rules = field(default_factory=Rules)
