"""What is fuzzed: a function of bytes for each target, which raises AssertionError where its invariant does not hold.

What it is for: `tests.fuzz` calls these under atheris, `test_fuzz.py` calls them for every file of the corpus. The
invariant stands in the docstring of each target. What it may not do: know atheris (it must run without), or use code
of policyd to check code of policyd where an independent one can be written: framing is read a second time in
`slow_wire`, decisions in `tests.laws.reference`, log lines in `tests.helpers.log_lines`.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from policyd.config import certificates
from policyd.config.effective import as_toml, organization_table, settings_table
from policyd.config.toml import file
from policyd.explain.walk import explain
from policyd.loading.load import load
from policyd.policy import names, networks
from policyd.policy.attribution import decide
from policyd.policy.fingerprints import DIGESTS
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request, decode_xtext
from policyd.protocol.wire import REQUEST_LIMIT, RequestReader
from policyd.records.decision_line import decision_line
from policyd.store.file import rule_set
from tests.fuzz import slow_wire
from tests.fuzz.made import Bytes, Pools, made_request, pools_of, text_of
from tests.helpers.conversation import question
from tests.helpers.in_memory import InMemory
from tests.helpers.log_lines import read_decision
from tests.laws import reference
from tests.laws.both_ways import answer_both_ways, read_both_ways
from tests.laws.reference import Reference
from tests.places import TESTS

CASES = TESTS / "cases"

Target = Callable[[bytes], None]


# --- the wire -------------------------------------------------------------------------------------------------------


def framing(data: bytes) -> None:
    """Bytes cut anyhow give the requests that a slow reading of SPEC 5 finds, and an error exactly where it does."""
    take = Bytes(data)
    sizes = [take.number(64) + 1 for _ in range(take.number(8))]
    repeat, stream = take.number(4) == 0, take.rest()
    if repeat:
        stream *= 40  # reaches REQUEST_LIMIT
    expected, sound = slow_wire.read(stream)

    whole = RequestReader()
    assert whole.receive(stream) == expected, "in one piece"
    assert (whole.error is None) == sound

    reader, got, at, turn = RequestReader(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)] if sizes else 1
        size = size if len(stream) < 4096 else size * 97
        got += reader.receive(stream[at : at + size])
        assert len(reader._buffer) <= REQUEST_LIMIT + size, "more is kept than a request"
        at, turn = at + size, turn + 1
    assert got == expected, "in pieces"
    assert (reader.error is None) == sound
    if not sound:
        assert reader.receive(b"request=smtpd_access_policy\n\n") == [], "nothing comes after an error"


def request(data: bytes) -> None:
    """The quick parser and the one for everything agree with a dict of lines; anything else is a ProtocolError."""
    body = data.rstrip(b"\n") + b"\n\n"
    if b"\n\n" in body[:-2]:
        body = body.replace(b"\n\n", b"\n")[:-1] + b"\n\n"
    read_both_ways(body)


@cache
def _rules() -> tuple[tuple[RuleSet, Reference, dict[str, Any]], ...]:
    """The configurations of tests/cases, each compiled and given to the slow reference."""
    found = []
    for path in sorted(CASES.glob("config*.toml")):
        configuration = load(str(path)).configuration
        assert configuration is not None
        raw = tomllib.loads(path.read_text("utf-8"))
        found.append((rule_set(configuration.rules), Reference(raw, CASES), raw))
    return tuple(found)


@cache
def _serving(number: int) -> InMemory:
    """What answers by the rules of a configuration: one for all inputs, for what it remembers from one to the next."""
    return InMemory(_rules()[number][0])


@cache
def _two_ways(number: int) -> tuple[InMemory, InMemory]:
    """Two more, for the short way and the long one."""
    rules = _rules()[number][0]
    return InMemory(rules), InMemory(rules)


def _check_answer(number: int, asked: Request) -> None:
    """One request: the reply, the log line and the explanation, against the slow reference."""
    rules, slow, _ = _rules()[number]
    serving = _serving(number)
    serving.output.written.clear()
    reply, answered = serving.answers.answer(asked)
    serving.answers.record(answered)
    lines = serving.logged().splitlines()
    assert serving.log.internal_errors == 0, f"internal error: {lines}"
    verdict = slow.decide(asked._asdict())
    decision = decide(rules, asked)
    assert (decision.action, decision.reason, decision.organization, decision.connector) == (
        verdict.action,
        verdict.reason,
        verdict.organization,
        verdict.connector,
    ), asked
    action = reply.removeprefix(b"action=").removesuffix(b"\n\n")
    assert reply == b"action=" + action + b"\n\n"
    assert (action == b"OK") == (verdict.action == "OK"), "OK only where the reference says so"
    refusal = {"REJECT": b"REJECT 5.7.1 ", "DEFER": b"DEFER 4.7.1 "}.get(verdict.action)
    assert action.startswith(refusal) if refusal else action in (b"OK", b"DUNNO"), action
    assert len(action) < 200
    assert all(0x20 <= octet <= 0x7E for octet in action)
    assert len(lines) == (asked.protocol_state == "RCPT")
    for line in lines:
        assert line[3:] == decision_line(asked, decision, rules.generation)
        assert read_decision(line[3:])["action"] == decision.action.encode()
    for memory in _two_ways(number):
        memory.output.written.clear()
    answer_both_ways(*_two_ways(number), question(**asked._asdict()))
    assert explain(rules, asked).decision == decision


def conversation(data: bytes) -> None:
    """Whole connections: never more replies than requests, each the reply that the slow reference would give."""
    take = Bytes(data)
    which = take.number(len(_rules()))
    stream = take.rest()
    reader = RequestReader()
    requests = reader.receive(stream)
    assert len(requests) <= stream.count(b"\n\n"), "more replies than requests"
    for asked in requests[:20]:
        _check_answer(which, asked)


def fingerprints_of(rules: RuleSet) -> list[str]:
    """Those of all certificate files of the connectors."""
    found: list[str] = []
    for organization in rules.organizations():
        for connector in organization.connectors:
            for stored in connector.stored_certificates:
                found += sorted(stored.certificate_fingerprints) + sorted(stored.public_key_fingerprints)
    return found


@cache
def _pools(number: int) -> Pools:
    rules, _, raw = _rules()[number]
    return pools_of(raw, fingerprints_of(rules))


def decision(data: bytes) -> None:
    """Requests made of what the configurations name, spelt oddly: the verdict is that of the slow reference."""
    take = Bytes(data)
    which = take.number(len(_rules()))
    _check_answer(which, made_request(take, _pools(which)))


# --- texts ----------------------------------------------------------------------------------------------------------


def xtext(data: bytes) -> None:
    """decode_xtext gives what an octet-by-octet reading gives, or None where that, or its UTF-8, is malformed."""
    text = text_of(data)
    octets = reference.xtext_decode(text)
    try:
        expected = None if octets is None else octets.decode("utf-8")
    except UnicodeDecodeError:
        expected = None
    assert decode_xtext(text) == expected
    encoded = "".join(chr(o) if 33 <= o <= 126 and o != 0x2B else f"+{o:02X}" for o in data)
    assert reference.xtext_decode(encoded) == data
    try:
        assert decode_xtext(encoded) == data.decode("utf-8")
    except UnicodeDecodeError:
        assert decode_xtext(encoded) is None


def name(data: bytes) -> None:
    """canonical is the reference's; it is idempotent, blind to ASCII case and one dot, and never longer than 253."""
    text = text_of(data)
    found = names.canonical(text)
    assert found == reference.canonical(text), "not the reference's"
    swapped = "".join(c.swapcase() if c.isascii() else c for c in text)
    assert names.canonical(swapped) == found, "letter case"
    if not text.endswith(".") and len(text) < names.LONGEST_TEXT:
        assert names.canonical(text + ".") == found, "one final dot"
    assert names.is_plain(text, found or "x") == (found is not None and reference.is_plain("a@" + text))
    if found is None:
        return
    assert len(found) <= 253
    assert found == found.lower()
    assert names.canonical(found) == found
    unicode_form = names.unicode_form(found)
    assert unicode_form == reference.u_form(found)
    assert names.is_plain(found, found)
    if names.canonical(unicode_form) == found:
        assert names.is_plain(unicode_form, found)
    assert list(names.upwards(found)) == list(reference.upwards(found))
    assert names.Pattern(found, True).covers("x." + found)
    assert not names.Pattern(found).covers("x" + found)


def network(data: bytes) -> None:
    """Networks hold what `ipaddress` says they hold, and are written as they can be read again."""
    take = Bytes(data)
    first, second = text_of(take.piece()), text_of(take.rest())
    for text in (first, second):
        address = networks.parse_address(text)
        slow = reference.address(text)
        assert (address is None) == (slow is None), text
        if address is not None and slow is not None:
            assert address == (slow.version, int(slow)), text
    try:
        found, _ = networks.parse_network(first)
    except ValueError:
        return
    assert found.first <= found.last
    assert networks.parse_network(str(found)) == (found, False)
    blocks = list(found.prefixes())
    bits = found.bits
    assert sum(1 << (bits - length) for _, length in blocks) == found.size
    index = networks.PrefixIndex(iter([(found, 7)]))
    probes = [found.first, found.last, found.first - 1, found.last + 1, (found.first + found.last) // 2]
    other = networks.parse_address(second)
    if other is not None and other[0] == found.family:
        probes.append(other[1])
    for value in probes:
        if 0 <= value < 1 << bits:
            inside = found.first <= value <= found.last
            assert found.holds((found.family, value)) == inside
            assert [n for n, _ in index.find((found.family, value))] == [7] * inside
            address_of = ipaddress.IPv4Address if found.family == 4 else ipaddress.IPv6Address
            assert networks.format_address((found.family, value)) == str(address_of(value))


# --- files ----------------------------------------------------------------------------------------------------------


@cache
def _folder() -> Path:
    """A folder of this process for files that are written again for each input; in memory where that is there."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="policyd-fuzz-", dir=base))


def toml(data: bytes) -> None:
    """A file of any bytes is data that tomllib would give, each key with its line, or one problem within the file."""
    path = _folder() / "any.toml"
    path.write_bytes(data)
    found = file.read_toml(str(path))
    lines = data.replace(b"\r\n", b"\n").split(b"\n")
    try:
        expected: dict[str, Any] | None = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        expected = None
    if not isinstance(found, file.TomlFile):
        assert expected is None, f"refused: {found}"
        assert 0 <= found.line <= len(lines), found
        assert all(character.isprintable() for character in str(found)), found
        return
    assert found.data == expected
    for key in _paths(found.data):
        line = found.line(key)
        assert 1 <= line <= len(lines), (key, line)
        last = key[-1]
        if isinstance(last, str) and last.isascii() and last.isalnum():
            assert last.encode() in lines[line - 1] or b"\\" in lines[line - 1], (key, line, lines[line - 1])


def _paths(value: Any, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, below in inner:
        found += [(*above, key), *(_paths(below, (*above, key)) if len(above) < 20 else [])]
    return found[:200]


def configuration(data: bytes) -> None:
    """Any file loads, or has errors with a line in it; what loads compiles, and comes back from what `show` prints."""
    path = _folder() / "policyd.toml"
    path.write_bytes(data)
    loaded = load(str(path), now=1_800_000_000)
    lines = data.count(b"\n") + 1
    for problem in loaded.problems:
        if problem.file == str(path):
            assert 0 <= problem.line <= lines, problem
        assert all(character.isprintable() for character in str(problem)), problem
    errors = [problem for problem in loaded.problems if problem.severity == "error"]
    assert (loaded.configuration is None) == bool(errors)
    if loaded.configuration is None:
        return
    rule_set(loaded.configuration.rules)
    shown = _folder() / "shown.toml"
    organizations = loaded.configuration.rules.organizations
    shown.write_text("".join(as_toml(settings_table(loaded.configuration), organizations)), "utf-8")
    again = load(str(shown), now=1_800_000_000).configuration
    assert again is not None, load(str(shown), now=1_800_000_000).problems
    assert settings_table(again) == settings_table(loaded.configuration)
    assert list(map(organization_table, again.rules.organizations)) == list(map(organization_table, organizations))
    assert replace(again, rules=loaded.configuration.rules) == replace(
        loaded.configuration,
        provider=again.provider,
    )


def pem(data: bytes) -> None:
    """A file of any bytes is a certificate with the fingerprints of its octets, or is refused with a text."""
    der = data if data[:1] == b"\x30" else None
    content = data
    if der is not None:
        text = base64.encodebytes(der)
        content = b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"
    try:
        found = certificates.certificate_of(content, "/f.pem", "f.pem")
    except certificates.CertificateRefused:
        return
    stored = found.stored
    parsed = x509.load_pem_x509_certificates(content)[0]
    octets = parsed.public_bytes(Encoding.DER)
    assert stored.certificate_fingerprints == {
        hashlib.new(digest, octets, usedforsecurity=False).hexdigest().upper() for digest in DIGESTS.values()
    }
    for one in stored.names:
        assert names.canonical(one) == one
        assert not one.startswith("*.")
    try:
        key = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return
    if key in octets:  # an odd spelling of a key comes out of cryptography in other octets
        assert stored.public_key_fingerprints == {
            hashlib.new(digest, key, usedforsecurity=False).hexdigest().upper() for digest in DIGESTS.values()
        }


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (framing, request, conversation, decision, xtext, name, network, toml, configuration, pem)
}
