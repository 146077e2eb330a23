"""What a real Postfix sent, sent again in pieces of any size: the same answers, in order, on an open connection.

The reference says what the answers must be, for a configuration under which the recorded clients do all kinds of
things: some are identified by certificate, some by address, some pinned, some strangers.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.conversation import Peer, write_configuration
from tests.helpers.log_lines import decisions
from tests.helpers.policyd_server import PolicydServer
from tests.laws.reference import Reference, Verdict
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


class Replay:
    """A running server with the configuration above, and what the reference says."""

    def __init__(self, server: PolicydServer, address: str, reference: Reference) -> None:
        self.server = server
        self.address = address
        self.reference = reference
        self.asked: list[dict[str, str]] = []  # everything, in order

    def verdict(self, attributes: dict[str, str]) -> Verdict:
        self.asked.append(attributes)
        return self.reference.decide(attributes)


@pytest.fixture(scope="module")
def replay(
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
    policyd_server: Callable[..., PolicydServer],
) -> Replay:
    folder = tmp_path_factory.mktemp("transcripts")
    pinned = next(path for path in TRANSCRIPTS if path.name == PINNED_IN)
    pin = attributes_of(requests_in(pinned)[0])["ccert_pubkey_fingerprint"]
    text = CONFIGURATION.format(pin=pin)
    address = write_configuration(folder / "policyd.toml", free_port(), text)
    server = policyd_server(folder / "policyd.toml")
    server.start()
    return Replay(server, address, Reference(tomllib.loads(text), folder))


@pytest.mark.parametrize("size", SIZES, ids=["whole file", "whole request", "128", "7", "1"])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.name)
def test_answers(path: Path, size: int, replay: Replay) -> None:
    requests = requests_in(path)
    assert b"".join(requests) == path.read_bytes(), "the transcript is not what this test takes it for"
    asked = [attributes_of(request) for request in requests]
    with Peer(replay.address) as peer:
        if size == WHOLE_REQUEST:
            replies = [peer.ask(request) for request in requests]
        else:
            peer.send(path.read_bytes(), size)
            replies = peer.replies(len(requests))
        assert peer.is_open()
        assert peer.end() == b"", "more replies than requests"
    for reply, attributes in zip(replies, asked, strict=True):
        verdict = replay.verdict(attributes)
        if verdict.action == "REJECT":
            assert reply.startswith("REJECT 5.7.1"), attributes
            assert reply.endswith(f" (ref {attributes['instance']})"), attributes
        else:
            assert reply == verdict.action, attributes


def test_all_was_logged(replay: Replay) -> None:
    """Runs last: each request in state RCPT has one line, in the order of asking, as the reference has it."""
    if len(replay.asked) != len(SIZES) * sum(len(requests_in(path)) for path in TRANSCRIPTS):
        pytest.skip("not all of test_answers ran, or not all of it passed")
    replay.server.stop()
    logged = [
        tuple(fields[key].decode() for key in ("instance", "action", "reason", "organization", "connector"))
        for fields in decisions(replay.server.log())
    ]
    expected = []
    for attributes in replay.asked:
        if attributes["protocol_state"] == "RCPT":
            verdict = replay.reference.decide(attributes)
            expected.append(
                (attributes["instance"], verdict.action, verdict.reason, verdict.organization, verdict.connector)
            )
    assert logged == expected
    reasons = {reason for _, _, reason, _, _ in expected}
    assert len(reasons) > 8, f"the configuration no longer meets the transcripts: {reasons}"
