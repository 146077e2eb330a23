r"""Decision lines read back: what policyd logged, and a request that would be decided alike (SPEC 6).

Takes lines as they come out of journald or syslog, whatever stands in front: `Nov 23 09:16:01 hub policyd[71]: `,
RFC 3339 or RFC 5424 headers, a priority `<6>`, or nothing. The certificate's name and issuer are logged decoded, and
of the fingerprints only the key's: the request that is rebuilt has that and no more, so that a pin of
`certificate_fingerprints` cannot match it. Never raises on odd lines.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from policyd.protocol.request import Request

VALUE_LIMIT = 255  # octets of a value; one that long may have been cut

_FIELDS = (
    *"action reason organization connector client certificate issuer key".split(),
    *"sender recipient tls instance generation".split(),
)
_SENDER, _RECIPIENT = _FIELDS.index("sender"), _FIELDS.index("recipient")
_SHORTEST = 100  # octets of a line whose values are empty, at least
_VALUE = r'("(?:[^"\\]|\\.)*+"|[^\s"]*+)'
_LINE = re.compile("".join(f" {name}={_VALUE}" for name in _FIELDS).replace(" ", ": ", 1) + r"( mode=monitor)?\s*")
_START = ": action="
_QUEUE_ID = re.compile(r'(?<!\S)(?:<\d{1,3}>)?("(?:[^"\\]|\\.)*"|[^\s"]+)$')
_NEEDS_NO_CODE = re.compile(r"[!-*,-~]*")
_ESCAPE = re.compile(rb'\\(?:x([0-9a-f]{2})|(["\\]))')


class LoggedDecision(NamedTuple):
    """One line. Values are text as in a Request: a byte that is not UTF-8 is a surrogate escape."""

    prefix: str  # what stood before it: time, host and so on
    queue_id: str
    action: str
    reason: str
    organization: str
    connector: str
    client: str
    certificate: str
    issuer: str
    key: str
    sender: str
    recipient: str
    tls: str
    instance: str
    generation: str
    monitor: bool
    cut: bool  # a value may have been cut, so that the request may be another

    def request(self) -> Request:
        """A request that says the same as the line."""
        return Request(
            protocol_state="DATA" if self.action == "PREPEND" else "RCPT",
            client_address=self.client,
            sender=self.sender,
            recipient=self.recipient,
            queue_id="" if self.queue_id == "NOQUEUE" else self.queue_id,
            instance=self.instance,
            ccert_subject=encode_xtext(self.certificate),
            ccert_issuer=encode_xtext(self.issuer),
            ccert_pubkey_fingerprint=self.key,
            encryption_protocol=self.tls,
        )


def parse_log_line(line: str) -> LoggedDecision | None:
    """The decision that a line tells of; None for any other line."""
    at = line.find(_START)
    while at >= 0 and (match := _LINE.fullmatch(line, at)) is None:
        at = line.find(_START, at + 1)  # the first was in the quotes of an odd queue id
    if at < 0 or match is None:
        return None
    queue_id = _QUEUE_ID.search(line, 0, at)
    if queue_id is None:
        return None
    prefix = line[: queue_id.start(1)]
    if ": " in line[: queue_id.start()].rstrip()[:-1]:
        return None  # somebody else's line, that only quotes one of ours
    *values, monitor = match.groups()
    if '"' in line:
        values = [_unquoted(value) for value in values]
    for number in (_SENDER, _RECIPIENT):
        if not (values[number].startswith("<") and values[number].endswith(">")):
            return None
        values[number] = values[number][1:-1]
    return LoggedDecision._make(
        (prefix, _unquoted(queue_id[1]), *values, monitor is not None, _is_cut(line, at, values))
    )


def _is_cut(line: str, at: int, values: list[str]) -> bool:
    """Whether a value is as long as a value can be; the brackets of an address count."""
    if len(line) - at < VALUE_LIMIT + _SHORTEST:
        return False
    lengths = [len(value.encode("utf-8", "surrogateescape")) for value in values]
    return max(lengths) >= VALUE_LIMIT or max(lengths[_SENDER], lengths[_RECIPIENT]) >= VALUE_LIMIT - 2


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    octets = value[1:-1].encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_octet, octets).decode("utf-8", "surrogateescape")


def _octet(match: re.Match[bytes]) -> bytes:
    code, plain = match.groups()
    return bytes([int(code, 16)]) if code is not None else bytes(plain)


def encode_xtext(text: str) -> str:
    """Text as Postfix sends a certificate's name: `+XX` for octets outside 33-126 and for `+` (RFC 3461, section 4)."""
    if _NEEDS_NO_CODE.fullmatch(text):
        return text
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(chr(octet) if 33 <= octet <= 126 and octet != 0x2B else f"+{octet:02X}" for octet in octets)


# ------------------------------------------------------------------------------------------- the time of a line

_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,]\d+)?\s?(Z|[+-]\d\d:?\d\d)?")
_TRADITIONAL = re.compile(r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d)\b")
_UNIX = re.compile(r"^(\d{9,11})(?:\.\d+)? ")
_MONTHS = {name: n for n, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_DAY = timedelta(days=1)


def time_of(prefix: str, now: datetime) -> datetime | None:
    """When a line with this prefix was written; None where it does not say.

    Without a time zone it is taken for UTC; without a year, as syslog has it, for the last such day before `now`.
    """
    try:
        if match := _ISO.search(prefix):
            *parts, zone = match.groups()
            moment = datetime(*map(int, parts), tzinfo=UTC)  # type: ignore[misc, arg-type]
            return moment - _offset(zone)
        if match := _TRADITIONAL.search(prefix):
            month, day, hour, minute, second = match.groups()
            return _latest(now, _MONTHS[month], int(day), int(hour), int(minute), int(second))
        if match := _UNIX.search(prefix):
            return datetime.fromtimestamp(int(match[1]), UTC)
    except (ValueError, OverflowError):  # the 30th of February
        return None
    return None


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone == "Z":
        return timedelta()
    digits = zone[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -offset if zone[0] == "-" else offset


def _latest(now: datetime, month: int, day: int, hour: int, minute: int, second: int) -> datetime:
    """The last such moment that is not after tomorrow; leap days may lie some years back."""
    for year in range(now.year + 1, now.year - 8, -1):
        try:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            continue
        if moment <= now + _DAY:
            return moment
    raise ValueError("no such day")
