"""Whatever a peer sends, each decision is one line, from which every field can be read back (SPEC 6)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.policy.decision import Decision, Reason
from policyd.protocol.request import Request, decode_xtext
from policyd.records.decision_line import decision_line
from tests.helpers.log_lines import read_decision

many = settings(max_examples=400, deadline=None)

octets = st.one_of(
    st.binary(max_size=30),
    st.text('!~abc.=@%<>"\\: \t\r\x0b\x0c\x1b\x7f\0', max_size=12).map(str.encode),
    st.sampled_from(
        [b"<", b">", b"<>", b"<a>", b"a b", b": action=OK", b'"', b"\\", b"\\x41", b"mode=monitor", "ü\u2028".encode()]
    ),
    st.integers(250, 259).map(lambda n: b"x" * n),
    st.tuples(st.integers(245, 258), st.binary(max_size=12)).map(lambda t: b"y" * t[0] + t[1]),
).map(lambda b: b.replace(b"\n", b""))
values = octets.map(lambda b: b.decode("utf-8", "surrogateescape"))
xtexts = st.one_of(values, st.binary(max_size=40).map(lambda b: "".join(f"+{o:02X}" for o in b)))
requests = st.builds(
    Request,
    protocol_state=st.just("RCPT"),
    client_address=values,
    sender=values,
    recipient=values,
    queue_id=values,
    instance=values,
    ccert_subject=xtexts,
    ccert_issuer=xtexts,
    ccert_fingerprint=values,
    ccert_pubkey_fingerprint=values,
    encryption_protocol=values,
)
names = st.text("abz09._-", min_size=0, max_size=64)
decisions = st.builds(Decision, st.sampled_from(["OK", "REJECT", "DUNNO"]), st.sampled_from(Reason), names, names)


def cut(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")[:255]


def cut_address(text: str) -> bytes:
    return b"<" + text.encode("utf-8", "surrogateescape")[:253] + b">"


def cut_whole(text: str) -> bytes:
    """A value that looks like an address keeps its `>`."""
    return cut_address(text[1:-1]) if len(text) > 2 and text[0] == "<" and text[-1] == ">" else cut(text)


def decoded(xtext: str) -> str:
    text = decode_xtext(xtext)
    return xtext if text is None else text


@many
@given(requests, decisions, st.integers(1, 10**9), st.booleans())
def test_every_field_reads_back(request: Request, decision: Decision, generation: int, monitor: bool) -> None:
    line = decision_line(request, decision, generation, monitor=monitor)
    expected = {
        "queue_id": cut_whole(request.queue_id or "NOQUEUE"),
        "action": decision.action.encode(),
        "reason": decision.reason.value.encode(),
        "organization": decision.organization.encode(),
        "connector": decision.connector.encode(),
        "client": cut_whole(request.client_address),
        "certificate": cut_whole(decoded(request.ccert_subject)),
        "issuer": cut_whole(decoded(request.ccert_issuer)),
        "key": cut_whole(request.ccert_pubkey_fingerprint),
        "sender": cut_address(request.sender),
        "recipient": cut_address(request.recipient),
        "tls": cut_whole(request.encryption_protocol),
        "instance": cut_whole(request.instance),
        "generation": str(generation).encode(),
    }
    assert read_decision(line) == (expected | {"mode": b"monitor"} if monitor else expected)


@many
@given(requests, decisions)
def test_local_parts_stay_out(request: Request, decision: Decision) -> None:
    """`addresses = "domain"`: of what stands before the last @ only the signs of a route are left."""
    fields = read_decision(decision_line(request, decision, 1, domain_only=True))
    for name, address in (("sender", request.sender), ("recipient", request.recipient)):
        local_part, at, domain = address.rpartition("@")
        signs = "".join(sign for sign in "@%!" if sign in local_part)
        shown = (f"*{signs}" if local_part else "") + at + domain if at else ("*" if address else "")
        assert fields[name] == cut_address(shown)


@many
@given(requests, decisions)
def test_quotes_only_where_needed(request: Request, decision: Decision) -> None:
    """A value of nothing but plain characters stands bare, so that grep and awk work."""
    plain = Request(*("".join(c for c in value if "!" <= c <= "~" and c not in '"\\<>+') for value in request))
    assert '"' not in decision_line(plain, decision, 1)
