r"""The line of a decision, written and read back; a line read gives a request that would be decided alike (SPEC 6).

Nothing a peer sends can end a line or forge a field. Reading takes lines as they come out of journald, syslog or our
own file, whatever stands in front: `Nov 23 09:16:01 hub policyd[71]: `, a time alone, RFC 3339 or RFC 5424 headers, a
priority `<6>`, or nothing. The certificate's name and issuer are logged decoded, and of the fingerprints only the
key's: the request that is rebuilt has that and no more, so that a pin of `certificate_fingerprints` cannot match it.
Never raises on odd lines.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from policyd.policy.decision import Decision
from policyd.policy.names import without_local_part
from policyd.protocol.request import Request, decode_xtext, encode_xtext

VALUE_LIMIT = 255  # octets of a value; one that long may have been cut

_FIELDS = (
    *"action reason organization connector client certificate issuer key".split(),
    *"sender recipient tls instance generation".split(),
)
_SENDER, _RECIPIENT = _FIELDS.index("sender"), _FIELDS.index("recipient")
_SHORTEST = 100  # octets of a line whose values are empty, at least
_VALUE = r'("(?:[^"\\]|\\.)*+"|[^\s"]*+)'
_LOGIN = f"(?: login={_VALUE})?"  # where there is one, behind the field "tls"
_LINE = re.compile(
    "".join(f" {name}={_VALUE}{_LOGIN * (name == 'tls')}" for name in _FIELDS).replace(" ", ": ", 1)
    + r"( mode=monitor)?\s*"
)
_START = ": action="
_QUEUE_ID = re.compile(r'(?<!\S)(?:<\d{1,3}>)?("(?:[^"\\]|\\.)*"|[^\s"]+)$')
_PLAIN = re.compile(r"[!#-;=?-\[\]-~]*")  # visible ASCII but for `"`, `\`, `<` and `>`
_PRINTABLE = re.compile(r"[ -~]*")
_UNPRINTABLE = {octet: f"\\x{octet:02x}" for octet in (*range(0x20), *range(0x7F, 0x100))}
_ESCAPE = re.compile(rb'\\(?:x([0-9a-f]{2})|(["\\]))')


def log_value(value: str) -> str:
    """A value as it stands in a line: cut, and quoted where it holds anything that could be misread."""
    bracketed = len(value) > 1 and value[0] == "<" and value[-1] == ">"
    inner = value[1:-1] if bracketed else value
    if len(value) <= VALUE_LIMIT and _PLAIN.fullmatch(inner):
        return value
    if len(value) <= VALUE_LIMIT and _PRINTABLE.fullmatch(value):
        return f'"{_backslashed(value)}"'
    octets = inner.encode("utf-8", "surrogateescape")
    octets = b"<" + octets[: VALUE_LIMIT - 2] + b">" if bracketed else octets[:VALUE_LIMIT]
    text = octets.decode("latin-1")
    if _PLAIN.fullmatch(text[1:-1] if bracketed else text):
        return text
    return f'"{_backslashed(text).translate(_UNPRINTABLE)}"'


def _backslashed(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def printable_octets(text: str) -> str:
    r"""The text in printable ASCII on one line: every other octet of it as `\xNN`."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1").translate(_UNPRINTABLE)


def decision_line(
    request: Request, decision: Decision, generation: int, domain_only: bool = False, monitor: bool = False
) -> str:
    """The line for one decision, without priority and line end."""
    sender, recipient = request.sender, request.recipient
    if domain_only:
        sender, recipient = without_local_part(sender), without_local_part(recipient)
    return (
        f"{log_value(request.queue_id or 'NOQUEUE')}{decision_part(decision)}{log_value(request.client_address)}"
        f"{certificate_part(request.ccert_subject, request.ccert_issuer, request.ccert_pubkey_fingerprint)}"
        f"{log_value(f'<{sender}>')} recipient={log_value(f'<{recipient}>')}"
        f"{tls_part(request.encryption_protocol, request.sasl_username, domain_only)}{log_value(request.instance)}"
        f"{end_part(generation, monitor)}"
    )


def decision_part(decision: Decision) -> str:
    """From behind the queue id to the client's address."""
    action, reason, organization, connector = decision
    return (
        f": action={action} reason={reason.value} organization={log_value(organization)} "
        f"connector={log_value(connector)} client="
    )


def certificate_part(subject: str, issuer: str, key: str) -> str:
    """From behind the client's address to the sender."""
    return (
        f" certificate={log_value(_decoded(subject))} issuer={log_value(_decoded(issuer))} key={log_value(key)} sender="
    )


def tls_part(tls: str, login: str = "", domain_only: bool = False) -> str:
    """From behind the recipient to the instance; of users who have not logged in there is no field `login`."""
    shown = without_local_part(login) if domain_only else login
    return f" tls={log_value(tls)}{f' login={log_value(shown)}' if login else ''} instance="


def end_part(generation: int, monitor: bool) -> str:
    """From behind the instance to the line's end."""
    return f" generation={generation}{' mode=monitor' if monitor else ''}"


def _decoded(xtext: str) -> str:
    """The text that is meant; the xtext itself where it is malformed."""
    text = decode_xtext(xtext)
    return xtext if text is None else text


# ---------------------------------------------------------------------------------------------- read back


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
    login: str  # SASL's user name; empty: none, or not logged
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
            sasl_username=self.login,
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
    *values, monitor = match.groups("")
    if '"' in line:
        values = [_unquoted(value) for value in values]
    for number in (_SENDER, _RECIPIENT):
        if not (values[number].startswith("<") and values[number].endswith(">")):
            return None
        values[number] = values[number][1:-1]
    return LoggedDecision._make((prefix, _unquoted(queue_id[1]), *values, monitor != "", _is_cut(line, at, values)))


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


# ------------------------------------------------------------------------------------------- the time of a line

_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,]\d+)?\s?(Z|[+-]\d\d:?\d\d)?")
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
            moment, zone = match.groups()
            return datetime.fromisoformat(f"{moment}{zone or 'Z'}").astimezone(UTC)
        if match := _TRADITIONAL.search(prefix):
            month, *others = match.groups()
            return _latest(now, _MONTHS[month], *map(int, others))
        if match := _UNIX.search(prefix):
            return datetime.fromtimestamp(int(match[1]), UTC)
    except (ValueError, OverflowError):  # the 30th of February
        return None
    return None


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
