"""Every worked decision of tests/cases, asked of a real server over a real socket, and of `policyd explain`."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policyd.cli.main import main
from tests.helpers.conversation import Peer
from tests.helpers.log_lines import decisions
from tests.helpers.policyd_server import PolicydServer
from tests.places import TESTS
from tests.strategies import wire

CASES = TESTS / "cases"
BOTH = [tomllib.loads((CASES / name).read_text("utf-8")) for name in ("decisions.toml", "decisions-2.toml")]
DECISIONS = {
    "defaults": BOTH[0]["defaults"] | BOTH[1]["defaults"],
    "case": [  # each with its profile in place
        case
        | {"id": f"{number}.{case['id']}"}
        | {"request": decisions["profiles"].get(case.get("profile"), {}) | case.get("request", {})}
        for number, decisions in enumerate(BOTH, 1)
        for case in decisions["case"]
    ],
}
DEFAULT_CONFIGURATION = "config.toml"
LOGGED = {"action": "action", "reason": "reason", "organization": "organization", "connector": "connector"}


def request_of(case: dict[str, Any]) -> dict[str, str]:
    """The attributes of a case; its id is the instance, so that its log line is found again."""
    given = DECISIONS["defaults"] | case["request"]
    odd = {
        name: bytes.fromhex(text).decode("utf-8", "surrogateescape")
        for name, text in case.get("request_hex", {}).items()
    }
    return given | odd | {"instance": case["id"]}


def expected_of(case: dict[str, Any]) -> dict[str, str]:
    return {key: case[key] for key in LOGGED if key in case}


@dataclass(frozen=True, slots=True)
class Answered:
    """What the servers made of all cases, by id."""

    replies: dict[str, str]
    lines: dict[str, dict[str, str]]  # the log lines of those that were logged
    excess: bytes  # what a server sent beyond one reply for each request


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of tests/cases, to write in."""
    return shutil.copytree(CASES, tmp_path_factory.mktemp("cases") / "cases")


@pytest.fixture(scope="module")
def answered(folder: Path, free_port: Callable[[], int], policyd_server: Callable[..., PolicydServer]) -> Answered:
    """One server for each configuration, one connection to each; the cases in their order."""
    found = Answered({}, {}, b"")
    excess = b""
    for name in sorted({case.get("config", DEFAULT_CONFIGURATION) for case in DECISIONS["case"]}):
        address = f"inet:127.0.0.1:{free_port()}"
        text = (folder / name).read_text("utf-8").replace("inet:127.0.0.1:10045", address)
        if "[service]" not in text:
            text = f'[service]\nlisten = ["{address}"]\n{text}'
        path = folder / f"served-{name}"
        path.write_text(text, "utf-8")
        server = policyd_server(path)
        with server, Peer(address) as peer:
            for case in DECISIONS["case"]:
                if case.get("config", DEFAULT_CONFIGURATION) == name:
                    found.replies[case["id"]] = peer.ask(wire(request_of(case)))
            excess += peer.end()
        for fields in decisions(server.log()):
            line = {key: value.decode("utf-8", "surrogateescape") for key, value in fields.items()}
            assert line["instance"] not in found.lines, "one line a decision"
            found.lines[line["instance"]] = line
    return Answered(found.replies, found.lines, excess)


@pytest.mark.parametrize("case", DECISIONS["case"], ids=lambda case: f"{case['id']}: {case['why']}")
def test_answer_and_log_line(case: dict[str, Any], answered: Answered) -> None:
    reply = answered.replies[case["id"]]
    if case["action"] in ("REJECT", "DEFER"):
        assert reply.startswith(("REJECT 5.7.1 ", "REJECT 5.7.10 ") if case["action"] == "REJECT" else "DEFER 4.7.1 ")
        assert reply.endswith(f" (ref {case['id']})")
    else:
        assert reply == case["action"]
    if request_of(case)["protocol_state"] != "RCPT":
        assert case["id"] not in answered.lines
        return
    line = answered.lines[case["id"]]
    assert {key: line[LOGGED[key]] for key in expected_of(case)} == expected_of(case)


def test_one_reply_for_each_request(answered: Answered) -> None:
    assert answered.excess == b""
    assert len(answered.replies) == len(DECISIONS["case"]) > 100


@pytest.mark.parametrize("case", DECISIONS["case"], ids=lambda case: f"{case['id']}: {case['why']}")
def test_explain(case: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(folder / case.get("config", DEFAULT_CONFIGURATION))
    words = [f"{name}={value}" for name, value in request_of(case).items()]
    status = main(["explain", "-c", config, "--json", *words])
    told = json.loads(capsys.readouterr().out)
    assert {key: told[key] for key in expected_of(case)} == expected_of(case)
    assert {"action", "reason", "organization", "connector", "steps"} <= told.keys()
    assert told["steps"], "it must tell something"
    assert all({"about", "text"} <= step.keys() for step in told["steps"])
    assert status == (1 if case["action"] in ("REJECT", "DEFER") else 0)
