"""The short way of a usual request gives what the long way gives: reading, reply, log line, counts, what DATA hears.

Each request is answered the short way twice, so that what is worked out and what is remembered are both compared; a
request that is none for the short way must be left untouched by it. The comparison itself is in `both_ways.py`.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from policyd.policy.ruleset import RuleSet
from policyd.protocol import usual
from policyd.protocol.request import ProtocolError, parse_request
from policyd.protocol.usual import read_request
from policyd.service import short_way
from tests.helpers.compiled import compiled
from tests.helpers.conversation import question
from tests.helpers.in_memory import RULES, InMemory
from tests.laws.both_ways import answer_both_ways, read_both_ways
from tests.strategies import ATTRIBUTES, conversations, patient, wire

many = settings(patient, max_examples=120)
OURS = {"client_address": "203.0.113.5", "sender": "kate@contoso.com", "queue_id": "4XyZ", "recipient": "x@contoso.com"}


# --- reading --------------------------------------------------------------------------------------------------------

quick = settings(many, max_examples=300)
NEW_NAMES = ("compatibility_level", "mail_version", "tls_sni", "", "x y", "ä", "Sender", "request ")
any_values = st.one_of(
    st.sampled_from(
        ["", "a", "kate@contoso.com", "a=b", "=", "RCPT", "smtpd_access_policy", "\r", " ", "\x85", "\u2028"]
    ),
    st.text(st.characters(exclude_characters="\n\0", codec="utf-8"), max_size=12),
    st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"").replace(b"\0", b"").decode("utf-8", "surrogateescape")),
)
names = st.sampled_from([*ATTRIBUTES, *NEW_NAMES])


@st.composite
def nearly_postfix(draw: st.DrawFn) -> bytes:
    """Postfix's 29 attributes in its order, then a few changes: left out, repeated, moved, new ones."""
    lines = [(name, draw(any_values)) for name in ATTRIBUTES[1:]]
    lines.insert(0, ("request", draw(st.sampled_from(["smtpd_access_policy"] * 6 + ["other", ""]))))
    spoilt = draw(st.integers(0, 9)) == 9
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        change = draw(st.sampled_from(["leave out", "repeat", "move", "add", "replace"]))
        if change in ("leave out", "move", "replace"):
            taken = lines.pop(at)
            if change == "move":
                lines.insert(draw(st.integers(0, len(lines))), taken)
            elif change == "replace":
                lines.insert(at, (draw(names), draw(any_values)))
        elif change == "repeat":
            lines.insert(draw(st.integers(0, len(lines))), (lines[at][0], draw(any_values)))
        else:
            lines.insert(at, (draw(names), draw(any_values)))
    texts = [f"{name}={value}\n" for name, value in lines]
    if spoilt:
        texts.insert(draw(st.integers(0, len(texts))), draw(st.sampled_from(["x\n", "sender\n", "\r\n", "\n"])))
    return "".join(texts).encode("utf-8", "surrogateescape") + b"\n"


@quick
@given(nearly_postfix())
def test_nearly_in_postfix_order(data: bytes) -> None:
    read_both_ways(data)


@quick
@given(st.lists(st.tuples(names, any_values), min_size=1, max_size=12), st.booleans())
def test_in_any_order(pairs: list[tuple[str, str]], known: bool) -> None:
    lines = [*pairs, ("request", "smtpd_access_policy")] if known else pairs
    read_both_ways("".join(f"{name}={value}\n" for name, value in lines).encode("utf-8", "surrogateescape") + b"\n")


@quick
@given(
    st.lists(
        st.sampled_from([b"request=smtpd_access_policy", b"=", b"a", b"sender=x", b"\0", b"\xff=\xff"]), min_size=1
    )
)
def test_arbitrary_lines(lines: list[bytes]) -> None:
    read_both_ways(b"\n".join(lines) + b"\n\n")


@pytest.mark.parametrize("line", [b"x\n", b"sender\n", b"\r\n"])
@pytest.mark.parametrize("place", range(len(ATTRIBUTES) + 1))
def test_a_line_without_an_equals_sign_is_refused_wherever_it_stands(place: int, line: bytes) -> None:
    lines = question()[:-1].splitlines(keepends=True)
    with pytest.raises(ProtocolError):
        read_request(b"".join([*lines[:place], line, *lines[place:], b"\n"]))


def versions_of(request: bytes) -> dict[str, bytes]:
    """A request as Postfix 3.7 sends it, as older ones would and as newer ones do."""
    missing = (b"client_port", b"server_address", b"server_port", b"policy_context", b"encryption_cipher")
    old = b"".join(line for line in request.splitlines(keepends=True) if line.partition(b"=")[0] not in missing)
    newer = request[:-1] + b"compatibility_level=3.10\nmail_version=3.10.1\ntls_sni=mx.example.net\n\n"
    return {"3.7": request, "2.9": old, "3.12": newer}


@pytest.mark.parametrize("version", ["3.7", "2.9", "3.12"])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"sender": "", "queue_id": "4XyZ1234"},
        {"client_address": "2001:db8::25", "recipient": "Info+tag@MAIL.other.example"},
        {"ccert_subject": "mail.contoso.com", "ccert_issuer": "Lab+20CA", "ccert_fingerprint": "AA:BB"},
        {"client_name": "ünknown?", "helo_name": "[192.0.2.1]", "size": "", "stress": "yes"},
    ],
)
def test_postfix_seldom_takes_the_slow_way(
    values: dict[str, str], version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = versions_of(question(**values))[version]
    expected = parse_request(data)
    monkeypatch.setattr(usual, "parse_request", lambda text: None)
    assert read_request(data) == (expected if data.isascii() else None)


@many
@given(
    st.lists(st.sampled_from(question(**OURS).splitlines(keepends=True)), max_size=3),
    st.lists(st.integers(0, 30), max_size=3),
    st.lists(
        st.tuples(st.integers(0, 32), st.sampled_from([b"x\n", b"sender\n", b"=\n", b"a=b\n", b"\r\n", b"\n"])),
        max_size=1,
    ),
)
def test_lines_left_out_moved_and_repeated(
    repeated: list[bytes], gone: list[int], new: list[tuple[int, bytes]]
) -> None:
    lines = question(**OURS).splitlines(keepends=True)
    kept = [line for number, line in enumerate(lines[:-1]) if number not in gone]
    for number, line in enumerate(repeated):
        kept.insert(number * 7, line)
    for number, line in new:
        kept.insert(number, line)
    event("usual" if read_both_ways(b"".join([*kept, b"\n"])) else "not usual")


# --- answering ------------------------------------------------------------------------------------------------------

ways = st.fixed_dictionaries(
    {
        "monitor": st.booleans(),
        "header": st.sampled_from(["", "X-Hub-Origin"]),
        "decisions": st.sampled_from(["all", "all", "rejects", "none"]),
        "domain_only": st.booleans(),
        "path": st.sampled_from(["", "/a/file"]),
    }
)


def serving(rules: RuleSet, way: dict[str, Any]) -> InMemory:
    memory = InMemory(rules)
    memory.output.path = way["path"]
    memory.log.monitor, memory.log.decisions = way["monitor"], way["decisions"]
    memory.log.domain_only = way["domain_only"]
    memory.answers.put_in_force(rules, way["monitor"], way["header"])
    return memory


@many
@given(conversations(), ways)
def test_requests_near_a_configuration(
    conversation: tuple[dict[str, Any], list[dict[str, str]]], way: dict[str, Any]
) -> None:
    config, asked = conversation
    rules = compiled(config)
    short, long = serving(rules, way), serving(rules, way)
    for number, attributes in enumerate([*asked, *asked]):
        # The same mail again has another instance, which refusals repeat.
        took = answer_both_ways(short, long, wire(attributes | {"instance": f"1f3.65.{number}"}))
        event("the short way" if took else "not usual")


SIGNS = st.text('az09.-_+=~%!@"\\<> :/[]{}|\t\r\x0b\x7f\x00ü', max_size=8)
values = st.one_of(
    SIGNS,
    st.tuples(SIGNS, st.sampled_from(["@", "@b.example", "", "@@"]), SIGNS).map("".join),
    st.sampled_from(
        [
            "0",
            "1",
            "a@b",
            "a%b@contoso.com",
            "a!b@contoso.com",
            "a@[192.0.2.1]",
            "@b",
            "a@",
            "",
            "RCPT",
            "rcpt",
            "2001:db8::1",
            "::ffff:192.0.2.1",
        ]
    ),
    st.tuples(st.integers(100, 150), st.integers(100, 130)).map(lambda n: "l" * n[0] + "@" + "d" * n[1]),
    st.integers(40, 50).map(lambda n: "1" * n),
)


@settings(many, max_examples=400)
@given(st.lists(st.dictionaries(st.sampled_from(ATTRIBUTES[1:]), values, max_size=2), min_size=1, max_size=6), ways)
def test_values_of_every_kind(changes: list[dict[str, str]], way: dict[str, Any]) -> None:
    rules = InMemory().answers.rules
    short, long = serving(rules, way), serving(rules, way)
    for change in changes:
        data = question(**(OURS | change))
        usual = read_both_ways(data)
        took = [answer_both_ways(short, long, data) for _ in range(2)]
        assert took == [usual] * 2
        event("the short way" if usual else "not usual")


PLAIN = {"monitor": False, "header": "", "decisions": "all", "domain_only": False, "path": ""}
PINNED = f"""
[organizations.fabrikam]
accepted_domains = ["fabrikam.com", "elsewhere.example"]

[organizations.fabrikam.connectors.pin]
public_key_fingerprints = ["{"AA:" * 31}AA"]
require_tls = true
"""
THEIRS = {"client_address": "198.51.100.9", "sender": "john@elsewhere.example", "recipient": "y@other.example"}


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("sender", ["john@elsewhere.example", ""])
def test_what_is_remembered_is_of_all_that_a_decision_depends_on(sender: str, pinned: bool) -> None:
    """Every mixture of two requests: one attribute that is not in the key would give the answer to another."""
    rules = compiled(RULES + (PINNED if pinned else ""))
    short, long = serving(rules, PLAIN), serving(rules, PLAIN)
    theirs = THEIRS | {"sender": sender}
    session = {
        "ccert_subject": "mail.contoso.com",
        "encryption_protocol": "TLSv1.3",
        "ccert_pubkey_fingerprint": "AA:" * 31 + "AA",
    }
    for attributes in mixtures(OURS | session, theirs):
        assert answer_both_ways(short, long, question(**attributes))
    decided = {counted for counted, number in short.counters.answers.items() if number}
    assert len(decided) >= 4, decided


def mixtures(ours: dict[str, str], theirs: dict[str, str]) -> list[dict[str, str]]:
    """Each attribute of the one or of the other, in every way."""
    names = [name for name in ours if name != "queue_id"]
    return [
        {name: (ours if taken else theirs).get(name, "") for name, taken in zip(names, mixture, strict=True)}
        for mixture in itertools.product([False, True], repeat=len(names))
    ]


@pytest.mark.parametrize(("sessions", "verdicts"), [(1, 1), (2, 1000), (1000, 2), (3, 5)])
def test_memories_that_overflow(sessions: int, verdicts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes to the place of something forgotten is never taken for it, and no memory grows beyond its limit."""
    monkeypatch.setattr(short_way, "_SESSIONS", sessions)
    monkeypatch.setattr(short_way, "_VERDICTS", verdicts)
    session = {"ccert_subject": "mail.contoso.com", "encryption_protocol": "TLSv1.3"}
    asked = mixtures(OURS | session, THEIRS)
    random.Random(sessions * verdicts).shuffle(asked)
    rules = compiled(RULES + PINNED)
    short, long = serving(rules, PLAIN), serving(rules, PLAIN)
    for attributes in asked * 3:
        assert answer_both_ways(short, long, question(**attributes))
        kept = short.answers.usual
        assert len(kept._sessions) <= sessions
        assert len(kept._forms) <= len(kept._verdicts) <= verdicts


def test_long_sessions_are_not_remembered() -> None:
    rules = compiled(RULES)
    short, long = serving(rules, PLAIN), serving(rules, PLAIN)
    assert answer_both_ways(short, long, question(**OURS, policy_context="c" * 500))
    assert not answer_both_ways(short, long, question(**OURS, policy_context="c" * 1000))
    assert len(short.answers.usual._sessions) == 1


def test_nothing_is_remembered_beyond_a_change() -> None:
    """Other rules or other settings begin with nothing, whatever was asked before."""
    closed = RULES.replace("203.0.113.0/28", "192.0.2.0/28")
    short, long = InMemory(compiled(RULES)), InMemory(compiled(RULES))
    changes = itertools.product(
        (RULES, closed), (False, True), ("", "X-Hub-Origin"), ("all", "rejects", "none"), (False, True)
    )
    for number, (text, monitor, header, decisions, domain_only) in enumerate(changes):
        for memory in (short, long):
            memory.log.monitor, memory.log.decisions, memory.log.domain_only = monitor, decisions, domain_only
            rules = compiled(text)
            rules.generation = number + 1
            memory.answers.put_in_force(rules, monitor, header)
        for attributes in (OURS, OURS, THEIRS):
            assert answer_both_ways(short, long, question(**attributes))


LONG = "l" * 128, "d" * 62 + "." + "d" * 61
SPELLINGS = [
    *("", "a@contoso.com", "A@CONTOSO.com", "contoso.com", "a@", "@contoso.com", "a@contoso.com.", "a%b@contoso.com"),
    *("a!b@contoso.com", '"a"@contoso.com', "a@b@contoso.com", "a b@contoso.com", "a@[192.0.2.1]", "ä@contoso.com"),
    *("a@c\u00f6ntoso.com", "a<b@contoso.com", "a\\b@contoso.com", "a@con toso.com", "a@-", "a@.", "a+b=c@contoso.com"),
    *("@".join(LONG), "l" + "@".join(LONG), "@".join(LONG) + "d", "l" * 200 + "@contoso.com"),
]


@pytest.mark.parametrize("domain_only", [False, True])
def test_spellings_of_addresses(domain_only: bool) -> None:
    rules = compiled(RULES)
    short, long = (serving(rules, PLAIN | {"domain_only": domain_only}) for _ in range(2))
    taken = set()
    for sender, recipient in itertools.product(SPELLINGS, SPELLINGS):
        if answer_both_ways(short, long, question(**(OURS | {"sender": sender, "recipient": recipient}))):
            taken |= {sender}
    assert {"", "a@contoso.com", "a+b=c@contoso.com", "@".join(LONG)} <= taken
    assert not {"contoso.com", "a@", "a@b@contoso.com", "a b@contoso.com", "ä@contoso.com"} & taken


@pytest.mark.parametrize("who", [OURS, THEIRS])
def test_spellings_of_instances_and_queue_ids(who: dict[str, str]) -> None:
    """A refusal repeats an instance that can be repeated; one that cannot must not change the next one's answer."""
    rules = compiled(RULES)
    short, long = serving(rules, PLAIN), serving(rules, PLAIN)
    taken = set()
    instances = ["1f3.65.0", "i" * 48, "i" * 49, "a-b", "", "a b", "1)", "1f3.65.1", 'a"', "a=b", "ä"]
    for queue_id, instance in itertools.product(
        ["4XyZ", "", "q" * 48, "q" * 300, "4X Z", 'a"', "4X=", "<4X>"], instances
    ):
        if answer_both_ways(short, long, question(**(who | {"instance": instance, "queue_id": queue_id}))):
            taken |= {instance}
    assert taken == {"1f3.65.0", "i" * 48, "1f3.65.1"}


def test_both_ways_remember_a_message_by_client_port_and_sender() -> None:
    """SPEC 3.5; the log that hides local parts does not hide them from the memory."""
    way = PLAIN | {"header": "X-Hub-Origin", "domain_only": True}
    short, long = serving(compiled(RULES), way), serving(compiled(RULES), way)
    ports = ("40001", "40002", "", "unknown")
    for client, port, sender in itertools.product(
        ("203.0.113.5", "203.0.113.6"), ports, ("a@contoso.com", "b@x.example")
    ):
        asked = OURS | {"client_address": client, "client_port": port, "sender": sender}
        assert answer_both_ways(short, long, question(**asked)), asked
    without_port = question(**OURS).replace(b"client_port=40001\n", b"")
    assert answer_both_ways(short, long, without_port)
    assert len(short.answers.attributions) == 8
    assert ("1f3.65.0", "203.0.113.5", "40002", "a@contoso.com") in short.answers.attributions._attributed


def test_spellings_of_client_addresses() -> None:
    rules = compiled(RULES)
    short, long = serving(rules, PLAIN), serving(rules, PLAIN)
    plain = ["203.0.113.5", "2001:DB8::5", "::ffff:203.0.113.5", "unknown", "1" * 45]
    odd = ["1" * 46, "", "203.0.113.5 ", " 203.0.113.5", "fe80::1%eth0", 'a"', "a=b", "<a>", "\u0662", "203.0.113.5/32"]
    for client in (*plain, *odd, *plain):
        assert answer_both_ways(short, long, question(**(OURS | {"client_address": client}))) == (client in plain), (
            client
        )
