"""Conversations with a real server: with orderly peers, peers that break the protocol, and peers that never listen."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.conversation import DEFAULTS, TIMEOUT, Peer, actions, question, write_configuration
from tests.helpers.log_lines import decisions
from tests.helpers.policyd_server import PolicydServer

RULES = """
[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.branch]
addresses = ["203.0.113.0/28"]
"""
LIMIT = 65536
OURS = question(client_address="203.0.113.5", sender="kate@contoso.com")  # OK
STRANGERS = question()  # REJECT
DATA = question(protocol_state="DATA")  # DUNNO


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], policyd_server: Callable[..., PolicydServer]
) -> Iterator[PolicydServer]:
    path = tmp_path_factory.mktemp("server") / "policyd.toml"
    write_configuration(path, free_port(), RULES)
    with policyd_server(path) as running:
        yield running


@pytest.fixture
def address(server: PolicydServer) -> str:
    return server.addresses[0]


# --- orderly peers --------------------------------------------------------------------------------------------------


def test_one_answer_for_each_request_in_order(address: str) -> None:
    with Peer(address) as peer:
        for _ in range(3):
            assert peer.ask(OURS) == "OK"
            assert peer.ask(DATA) == "DUNNO"
            assert peer.ask(STRANGERS).startswith("REJECT 5.7.1 Relaying denied for this server: ")
        assert peer.is_open()


def test_a_thousand_pipelined_requests(address: str) -> None:
    """Each answer belongs to its own request: the instance tells."""
    asked = [question(instance=f"f00.{number}") for number in range(1000)]
    with Peer(address) as peer:
        peer.send(b"".join(asked))
        replies = peer.replies(1000)
        assert [reply.rpartition(" (ref ")[2] for reply in replies] == [f"f00.{number})" for number in range(1000)]
        assert peer.end() == b""


@pytest.mark.parametrize("request_bytes", [OURS, OURS * 50], ids=["one request", "fifty"])
def test_a_peer_that_says_it_has_no_more_still_gets_its_answers(request_bytes: bytes, address: str) -> None:
    """shutdown(SHUT_WR) behind the last request, as `nc -N` does."""
    with Peer(address) as peer:
        peer.send(request_bytes)
        assert set(actions(peer.end())) == {"OK"}


def test_half_a_request_at_the_end_gets_no_answer(address: str) -> None:
    with Peer(address) as peer:
        peer.send(OURS + OURS[:-1])
        assert actions(peer.end()) == ["OK"]


def test_many_connections_at_once(address: str) -> None:
    peers = [Peer(address) for _ in range(200)]
    try:
        for peer in peers:
            peer.send(OURS[:100])
        for peer in peers:
            peer.send(OURS[100:])
        assert {peer.reply() for peer in peers} == {"OK"}
    finally:
        for peer in peers:
            peer.socket.close()


def test_other_attributes_and_another_order_are_fine(address: str) -> None:
    attributes = DEFAULTS | {"client_address": "203.0.113.5", "sender": "kate@contoso.com", "tls_sni": "x", "new": "="}
    turned = "".join(f"{name}={value}\n" for name, value in reversed(attributes.items())) + "\n"
    with Peer(address) as peer:
        assert peer.ask(turned.encode()) == "OK"


# --- peers that break the protocol ----------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    """A sound request of so many bytes."""
    room = size - len(question(padding="", client_address="203.0.113.5", sender="kate@contoso.com"))
    return question(padding="x" * room, client_address="203.0.113.5", sender="kate@contoso.com")


HOSTILE = {
    "a line without =": b"request=smtpd_access_policy\nsender\n\n",
    "a line without =, and no end": b"hello\n",
    "a NUL byte": b"request=smtpd_access_policy\nsender=a\0b\n\n",
    "CRLF": OURS.replace(b"\n", b"\r\n"),
    "CRLF, LF at the end": OURS.replace(b"\n", b"\r\n").removesuffix(b"\r\n") + b"\n\n",
    "HTTP GET": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP GET with = in its path": b"GET /?a=b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "SMTP": b"EHLO client.example\r\n",
    "an empty request": b"\n",
    "an empty request in one piece": b"\n\n",
    "no request attribute": b"protocol_state=RCPT\n\n",
    "another request": b"request=junk_mail_policy\nprotocol_state=RCPT\n\n",
    "another request first": b"request=other\nrequest=smtpd_access_policy\n\n",
    "over 64 KiB": padded(LIMIT + 1),
    "over 64 KiB in one line": b"request=" + b"x" * LIMIT,
    "64 KiB of short lines": b"a=b\n" * (LIMIT // 4),
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(range(1, 60)) + b"\n\n",
}


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_close_that_connection_only(name: str, before: int, server: PolicydServer, address: str) -> None:
    """What was asked before is answered, nothing else is; there is one line in the log; others go on."""
    seen = len(server.log())
    with Peer(address) as other, Peer(address) as peer:
        assert other.ask(OURS) == "OK"
        port = peer.socket.getsockname()[1]
        peer.send(OURS * before + HOSTILE[name])
        assert actions(peer.rest()) == ["OK"] * before
        assert other.ask(OURS) == "OK"
        assert other.is_open()
    log = server.wait_for_log(lambda text: "protocol error" in text and text.endswith("\n"), since=seen)
    lines = [line for line in log.splitlines() if "protocol error" in line]
    assert len(lines) == 1
    assert re.fullmatch(
        rf"<4>policyd: protocol error from \[127\.0\.0\.1\]:{port}: [ -~]+; closed the connection", lines[0]
    )


def test_nothing_behind_the_error_is_answered(address: str) -> None:
    with Peer(address) as peer:
        peer.send(OURS + b"nonsense\n" + OURS * 3)
        assert actions(peer.rest()) == ["OK"]


def test_exactly_64_kib_is_fine(address: str) -> None:
    assert len(padded(LIMIT)) == LIMIT
    with Peer(address) as peer:
        assert peer.ask(padded(LIMIT)) == "OK"
        assert peer.ask(OURS) == "OK"


def test_hostile_bytes_in_small_pieces(server: PolicydServer, address: str) -> None:
    with Peer(address) as peer:
        with contextlib.suppress(OSError):  # it may close while we still send
            peer.send(OURS + b"EHLO client.example\r\n" + OURS, piece=1)
        assert actions(peer.rest()) == ["OK"]


# --- peers that never read ------------------------------------------------------------------------------------------


def memory_of(server: PolicydServer) -> int:
    """Resident octets."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])  # type: ignore[index]


def test_a_peer_that_never_reads(server: PolicydServer, address: str) -> None:
    """It is not read from either, so it costs no memory, and nobody waits for it. When it reads, all is there."""
    small = b"request=smtpd_access_policy\nprotocol_state=RCPT\n\n"  # its answer is three times as long
    with Peer(address, receive_buffer=4096) as deaf, Peer(address) as other:
        assert other.ask(OURS) == "OK"
        before = memory_of(server)
        deaf.socket.setblocking(False)
        sent, most, quiet_until = 0, 64 << 20, time.monotonic() + 0.5
        block = small * 1000
        while sent < most and time.monotonic() < quiet_until:
            try:
                sent += deaf.socket.send(block[sent % len(small) :])
                quiet_until = time.monotonic() + 0.5
            except BlockingIOError:
                assert other.ask(OURS) == "OK"  # meanwhile
        assert sent < most, "the server takes requests without end from a peer that takes no answers"
        assert memory_of(server) - before < 16 << 20
        # Now it reads. What the kernel has taken of the last request is a whole number of bytes, not of requests.
        deaf.socket.settimeout(TIMEOUT)
        assert len(set(deaf.replies(sent // len(small)))) == 1
        deaf.send(small[sent % len(small) :] + OURS)
        if sent % len(small):
            deaf.reply()
        assert deaf.reply() == "OK"
        assert deaf.end() == b""


def test_a_peer_that_goes_away_without_its_answers(server: PolicydServer, address: str) -> None:
    for _ in range(20):
        with Peer(address) as peer:
            peer.send(OURS * 20)
    with Peer(address) as peer:
        assert peer.ask(OURS) == "OK"
    assert "Traceback" not in server.log()


# --- settings of the service ----------------------------------------------------------------------------------------


@pytest.fixture
def serve(
    tmp_path: Path, free_port: Callable[[], int], policyd_server: Callable[..., PolicydServer]
) -> Callable[[str, str], PolicydServer]:
    """A function (lines of [service], further tables) -> a server with the rules above, not yet started."""

    def make(service: str = "", tables: str = "") -> PolicydServer:
        write_configuration(tmp_path / "policyd.toml", free_port(), RULES + tables, service)
        return policyd_server(tmp_path / "policyd.toml")

    return make


def test_max_connections(serve: Callable[..., PolicydServer]) -> None:
    with serve("max_connections = 3") as server:
        address = server.addresses[0]
        peers = [connected(address) for _ in range(3)]
        with Peer(address) as fourth:
            assert fourth.rest() == b""
        assert all(peer.ask(OURS) == "OK" for peer in peers)
        log = server.wait_for_log(lambda text: "more than 3 connections" in text)
        assert len([line for line in log.splitlines() if "more than 3 connections" in line]) == 1
        peers.pop().socket.close()
        peers.append(connected(address))
        for peer in peers:
            peer.socket.close()


def connected(address: str) -> Peer:
    """A connection on which the server answers; tries anew while it still counts one that was closed."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        peer = Peer(address)
        try:
            peer.send(OURS)
            assert peer.reply() == "OK"
            return peer
        except (OSError, AssertionError):
            peer.socket.close()
            assert time.monotonic() < deadline


def test_monitor_mode_decides_and_logs_and_answers_dunno(serve: Callable[..., PolicydServer]) -> None:
    with serve('mode = "monitor"') as server, Peer(server.addresses[0]) as peer:
        assert [peer.ask(OURS), peer.ask(STRANGERS), peer.ask(DATA)] == ["DUNNO"] * 3
        peer.end()
    lines = decisions(server.log())
    assert [(line["action"], line["reason"], line["mode"]) for line in lines] == [
        (b"OK", b"sender-domain", b"monitor"),
        (b"REJECT", b"no-connector", b"monitor"),
    ]


@pytest.mark.parametrize(("setting", "logged"), [("all", ["OK", "REJECT"]), ("rejects", ["REJECT"]), ("none", [])])
def test_which_decisions_are_logged(setting: str, logged: list[str], serve: Callable[..., PolicydServer]) -> None:
    with serve("", f'[log]\ndecisions = "{setting}"\n') as server, Peer(server.addresses[0]) as peer:
        assert peer.ask(OURS) == "OK"
        assert peer.ask(STRANGERS).startswith("REJECT")
        assert peer.ask(DATA) == "DUNNO"
        peer.end()
    assert [line["action"].decode() for line in decisions(server.log())] == logged


def test_local_parts_stay_out_of_the_log(serve: Callable[..., PolicydServer]) -> None:
    with serve("", '[log]\naddresses = "domain"\n') as server, Peer(server.addresses[0]) as peer:
        peer.ask(question(sender="kate@contoso.com", recipient="bob%secret@other.example"))
        peer.ask(question(sender="", recipient="bob"))
        peer.end()
    shown = [(line["sender"], line["recipient"]) for line in decisions(server.log())]
    assert shown == [(b"<*@contoso.com>", b"<*%@other.example>"), (b"<>", b"<*>")]
    assert not re.search("kate|bob|secret", server.log())


def test_priorities_for_journald(serve: Callable[..., PolicydServer]) -> None:
    with serve() as server, Peer(server.addresses[0]) as peer:
        peer.ask(OURS)
        peer.ask(STRANGERS)
        peer.end()
    lines = server.log().splitlines()
    assert all(line[:3] in ("<4>", "<6>") for line in lines if "action=" in line)
    assert [line[:3] for line in lines if "action=" in line] == ["<6>", "<4>"]
