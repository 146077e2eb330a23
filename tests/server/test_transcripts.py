"""What a real Postfix sent, sent again in pieces of any size: the same answers, in order, on an open connection.

The reference says what the answers must be, for a configuration under which the recorded clients do all kinds of
things: some are identified by certificate, some by address, some pinned, some strangers.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.conversation import Peer, write_configuration
from tests.helpers.log_lines import decisions
from tests.helpers.policyd_server import PolicydServer
from tests.laws.reference import Reference
from tests.places import TESTS

TRANSCRIPTS = sorted((TESTS / "transcripts").glob("*.txt"))
WHOLE_FILE, WHOLE_REQUEST = 0, -1
SIZES = (WHOLE_FILE, WHOLE_REQUEST, 128, 7, 1)

CONFIGURATION = """
[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.cert]
certificate_names = ["*.contoso.com"]

[organizations.fabrikam]
accepted_domains = ["*.fabrikam.com", "bücher.example"]
pending_domains = ["example.org"]

[organizations.fabrikam.connectors.branch]
addresses = ["203.0.113.7"]

[organizations.fabrikam.connectors.local]
addresses = ["::1"]
require_tls = true

[organizations.fabrikam.connectors.pin]
public_key_fingerprints = ["{pin}"]

[organizations.fabrikam.partners.contoso]
sender_domains = ["contoso.com"]
require_tls = true
"""
# The key of the certificate of an unknown CA in cert-not-trusted.txt.
PINNED_IN = "cert-not-trusted.txt"


def requests_in(path: Path) -> list[bytes]:
    return [text + b"\n\n" for text in path.read_bytes().split(b"\n\n") if text]


def attributes_of(request: bytes) -> dict[str, str]:
    lines = request.decode("utf-8", "surrogateescape").split("\n")[:-2]
    return dict(line.split("=", 1) for line in lines)


@dataclass(frozen=True)
class Replayed:
    """Of each transcript in pieces of each size: replies, whether the connection stayed open, and what else came."""

    replies: dict[tuple[str, int], list[str]]
    stayed_open: dict[tuple[str, int], bool]
    excess: dict[tuple[str, int], bytes]
    log: str
    reference: Reference


@pytest.fixture(scope="module")
def replayed(
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
    policyd_server: Callable[..., PolicydServer],
) -> Replayed:
    """All of them, one after the other, asked of one server."""
    folder = tmp_path_factory.mktemp("transcripts")
    pinned = next(path for path in TRANSCRIPTS if path.name == PINNED_IN)
    pin = attributes_of(requests_in(pinned)[0])["ccert_pubkey_fingerprint"]
    text = CONFIGURATION.format(pin=pin)
    address = write_configuration(folder / "policyd.toml", free_port(), text)
    replies, stayed_open, excess = {}, {}, {}
    with policyd_server(folder / "policyd.toml") as server:
        for path in TRANSCRIPTS:
            requests = requests_in(path)
            for size in SIZES:
                at = path.name, size
                with Peer(address) as peer:
                    if size == WHOLE_REQUEST:
                        replies[at] = [peer.ask(request) for request in requests]
                    else:
                        peer.send(path.read_bytes(), size)
                        replies[at] = peer.replies(len(requests))
                    stayed_open[at] = peer.is_open()
                    excess[at] = peer.end()
    return Replayed(replies, stayed_open, excess, server.log(), Reference(tomllib.loads(text), folder))


@pytest.mark.parametrize("size", SIZES, ids=["whole file", "whole request", "128", "7", "1"])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.name)
def test_answers(path: Path, size: int, replayed: Replayed) -> None:
    requests, at = requests_in(path), (path.name, size)
    assert b"".join(requests) == path.read_bytes(), "the transcript is not what this test takes it for"
    assert replayed.stayed_open[at]
    assert replayed.excess[at] == b"", "more replies than requests"
    for reply, attributes in zip(replayed.replies[at], map(attributes_of, requests), strict=True):
        verdict = replayed.reference.decide(attributes)
        if verdict.action == "REJECT":
            assert reply.startswith("REJECT 5.7.1"), attributes
            assert reply.endswith(f" (ref {attributes['instance']})"), attributes
        else:
            assert reply == verdict.action, attributes


def test_all_was_logged(replayed: Replayed) -> None:
    """Each request in state RCPT has one line, in the order of asking, as the reference has it."""
    logged = [
        tuple(fields[key].decode() for key in ("instance", "action", "reason", "organization", "connector"))
        for fields in decisions(replayed.log)
    ]
    expected = []
    for path in TRANSCRIPTS:
        for attributes in [attributes_of(request) for request in requests_in(path)] * len(SIZES):
            if attributes["protocol_state"] == "RCPT":
                verdict = replayed.reference.decide(attributes)
                expected.append(
                    (attributes["instance"], verdict.action, verdict.reason, verdict.organization, verdict.connector)
                )
    assert logged == expected
    reasons = {reason for _, _, reason, _, _ in expected}
    assert len(reasons) > 8, f"the configuration no longer meets the transcripts: {reasons}"
