"""What the values of [service], [log], [metrics], [database] and [policy] mean (SPEC 4); readers as in `readers`."""

from __future__ import annotations

import os
import re

from policyd.config.messages import Message
from policyd.config.problems import KeyPath, Report
from policyd.config.readers import Reader, elements, text, wrong_type
from policyd.config.settings import Endpoint
from policyd.config.text import clean, quoted
from policyd.policy.networks import format_address, parse_address

LONGEST_UNIX_PATH = 107  # octets: sun_path holds 108 with its final NUL (unix(7))
LONGEST_HEADER = 100  # octets of attribution_header: leaves the answer with names of 64 well inside a header line

_FORMS = "inet:host:port, unix:/path or systemd:NAME"
_FIELD_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322, 3.6.8
_DESCRIPTOR_NAME = re.compile(r"[!-9;-~]{1,255}")  # systemd.socket(5), FileDescriptorName=
_DSN = re.compile(r"postgres(?:ql)?://[!-~]+|[a-z_]+ *= *[^\0\n]*")
_RESERVED = frozenset(
    """
    apparently-to arc-authentication-results arc-message-signature arc-seal authentication-results
    auto-submitted bcc cc comments content-disposition content-transfer-encoding content-type date delivered-to
    disposition-notification-to dkim-signature errors-to from in-reply-to keywords list-unsubscribe message-id
    mime-version precedence received references reply-to resent-bcc resent-cc resent-date resent-from
    resent-message-id resent-sender resent-to return-path sender subject to
    """.split()
)


def parse_endpoint(text: str) -> Endpoint:
    """inet:host:port, unix:/path or systemd:NAME. Raises ValueError with the reason and what to write."""
    kind, colon, rest = text.partition(":")
    if kind == "inet" and colon:
        return _inet(rest)
    if kind == "unix" and colon:
        return _unix(rest)
    if kind == "systemd" and colon:
        if not _DESCRIPTOR_NAME.fullmatch(rest):
            raise ValueError("after systemd: stands the FileDescriptorName= of a socket unit, like systemd:policyd")
        return Endpoint("systemd", path=rest)
    if text.startswith("/"):
        raise ValueError(f"write {quoted('unix:' + text)}")
    if kind in ("tcp", "tcp4", "tcp6"):
        raise ValueError(f"write {quoted('inet:' + rest)}")
    raise ValueError(f"write {quoted(meant) if (meant := meant_endpoint(text)) else _FORMS}")


def meant_endpoint(text: str) -> str:
    """`host:port`, `:port` or `port` as an endpoint, of this machine only where no host is named; else empty."""
    host, _, port = text.rpartition(":")
    try:
        return str(_inet(text if host not in ("", "*") else f"127.0.0.1:{port}"))
    except ValueError:
        return ""


def _inet(rest: str) -> Endpoint:
    host, colon, port = rest.rpartition(":")
    if not colon and port.isdigit():
        raise ValueError(f"the host is missing: write {quoted('inet:127.0.0.1:' + port)}")
    if not colon or rest.endswith("]") or (not port and host):
        raise ValueError("the port is missing: write it after a colon, like inet:127.0.0.1:10045")
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:9]) <= 65535):
        raise ValueError("a port is a number from 1 to 65535")
    if host in ("", "*"):
        raise ValueError(
            f"name the address: {quoted('inet:127.0.0.1:' + port)} for this machine only, "
            f"{quoted('inet:0.0.0.0:' + port)} or {quoted('inet:[::]:' + port)} for all"
        )
    if host == "localhost":
        return Endpoint("inet", "127.0.0.1", int(port))
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    address = parse_address(bare)
    if address is None:
        raise ValueError("the host must be an IPv4 address, or an IPv6 address in brackets; names are not looked up")
    if ":" in bare and not bracketed:
        raise ValueError(f"an IPv6 address stands in brackets: write {quoted(f'inet:[{bare}]:{port}')}")
    return Endpoint("inet", format_address(address), int(port))


def _unix(path: str) -> Endpoint:
    if not path.startswith("/"):
        raise ValueError("the path must be absolute, like unix:/run/policyd/policyd.sock")
    if "\0" in path or path.endswith(("/", "/.", "/..")):
        raise ValueError("this is no name for a socket file")
    length = len(os.fsencode(path))
    if length > LONGEST_UNIX_PATH:
        raise ValueError(f"the path is {length} octets long; {LONGEST_UNIX_PATH} is the most that a socket can have")
    return Endpoint("unix", path=path)


def endpoint(value: object, path: KeyPath, report: Report) -> Endpoint | None:
    """One place to listen at."""
    if not isinstance(value, str):
        wrong_type(value, path, report, 'a text like "inet:127.0.0.1:9645"')
        return None
    try:
        return parse_endpoint(value)
    except ValueError as error:
        report.error(path, Message.BAD_ENDPOINT, value=quoted(value), reason=clean(str(error)))
        return None


def control(value: object, path: KeyPath, report: Report) -> str | None:
    """The path of a unix socket; empty for none."""
    if value == "":
        return ""
    parsed = endpoint(value, path, report)
    if parsed is None or parsed.kind == "unix":
        return None if parsed is None else parsed.path
    reason = 'write unix:/path, or "" for none'
    report.error(path, Message.BAD_ENDPOINT, value=quoted(str(value)), reason=reason)
    return None


def listen(value: object, path: KeyPath, report: Report) -> tuple[Endpoint, ...] | None:
    """The places to listen at, at least one, each once."""
    if value == []:
        report.error(path, Message.NOTHING_TO_LISTEN)
        return None
    texts = elements(value, path, report, "inet:127.0.0.1:10045")
    endpoints: list[tuple[Endpoint, int]] = []
    for index, element in texts or ():
        parsed = endpoint(element, (*path, index), report)
        if parsed is None:
            continue
        for other, first in endpoints[:100]:
            if collide(parsed, other):
                place = report.place((*path, first))
                report.error((*path, index), Message.LISTEN_TWICE, value=str(parsed), other=str(other), place=place)
                break
        endpoints.append((parsed, index))
    return tuple(parsed for parsed, _ in endpoints) or None


def collide(one: Endpoint, other: Endpoint) -> bool:
    """Whether the kernel would refuse to bind both: the same, or one port on an address and on all of its family."""
    if one == other:
        return True
    if one.kind != "inet" or other.kind != "inet" or one.port != other.port:
        return False
    same_family = (":" in one.host) == (":" in other.host)
    return same_family and (one.host in ("0.0.0.0", "::") or other.host in ("0.0.0.0", "::"))


def unix_mode(value: object, path: KeyPath, report: Report) -> int | None:
    """The mode of a unix socket, an octal number as text."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        bare = str(value) if type(value) is int and 0 <= value < 10000 else "this"
        report.error(path, Message.BAD_UNIX_MODE, value=quoted(value) if isinstance(value, str) else bare)
        return None
    mode = int(value, 8)
    if not mode & 0o222:
        report.error(path, Message.UNIX_MODE_USELESS, value=quoted(value))
        return None
    if mode & 0o002:
        report.warning(path, Message.UNIX_MODE_OTHERS, value=quoted(value))
    return mode


def attribution_header(value: object, path: KeyPath, report: Report) -> str | None:
    """A header field name; empty for none."""
    name = text(value, path, report)
    if not name:
        return name
    if not _FIELD_NAME.fullmatch(name) or len(name) > LONGEST_HEADER:
        bare = name.strip().rstrip(":").strip()
        fits = _FIELD_NAME.fullmatch(bare) and len(bare) <= LONGEST_HEADER
        hint = f"; write {quoted(bare)}" if fits else "; use letters, digits and hyphens, 100 at most"
        report.error(path, Message.BAD_HEADER, value=quoted(name), hint=hint)
        return None
    if name.lower() in _RESERVED:
        report.error(path, Message.RESERVED_HEADER, value=quoted(name))
        return None
    return name


def file_to_write(example: str) -> Reader:
    """The absolute path of a file; empty for none."""

    def read(value: object, path: KeyPath, report: Report) -> str | None:
        if not isinstance(value, str):
            wrong_type(value, path, report, "a file name in quotes")
            return None
        full = os.path.abspath(os.path.join(report.source.folder, value)) if value and "\0" not in value else ""
        if value and (not full or value.endswith("/") or os.path.isdir(full)):
            hint = f"; name the file in that folder, like {example}" if full else ""
            report.error(path, Message.BAD_PATH, key=str(path[-1]), value=quoted(value), hint=hint)
            return None
        return full

    return read


def dsn(value: object, path: KeyPath, report: Report) -> str | None:
    """How to connect to PostgreSQL; what is wrong with one is never shown, since a password may stand in it."""
    given = text(value, path, report)
    if given is not None and not _DSN.fullmatch(given):
        report.error(path, Message.BAD_DSN)
        return None
    return given
