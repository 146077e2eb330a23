"""The benchmark's tools: a yardstick that lies is worse than none. Nothing here looks at a time."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import tomllib
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.bench import groups, mail, workers
from tests.bench.against import against_line, row
from tests.bench.build import build, compiler
from tests.bench.mail import Sent
from tests.bench.pairs import control, in_turn, ratios, spread
from tests.bench.report import YARDSTICK, Run, summary, svg, table
from tests.bench.requests import MOST, Exchange, configuration, requests
from tests.bench.servers import Place, cpu_nanoseconds
from tests.places import PROJECT
from tests.strategies import ATTRIBUTES

needs_cc = pytest.mark.skipif(compiler() is None, reason="no C compiler")

# What smtpd of Postfix 3.7 sends, in its order; 3.8 appends two.
POSTFIX_3_7 = list(ATTRIBUTES)
POSTFIX_3_8 = [*POSTFIX_3_7, "compatibility_level", "mail_version"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("programs")
    return {name: build(name, folder) for name in ("load", "echo")}


@pytest.fixture(params=["inet:0", "unix:"])
def echo(programs: dict[str, Path], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a running echo."""
    wanted = request.param if request.param == "inet:0" else f"unix:{tmp_path}/echo"
    with subprocess.Popen([programs["echo"], wanted], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


@pytest.fixture
def one_shot() -> Iterator[Callable[[bytes], str]]:
    """Start a server that takes one connection, answers the first bytes with the given ones, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(answer: bytes) -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass

        def start(answer: bytes) -> str:
            threading.Thread(target=serve, args=(answer,), daemon=True).start()
            return f"inet:127.0.0.1:{listener.getsockname()[1]}"

        yield start


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Files of 200 requests and of the actions they must get: DUNNO but for every tenth."""
    (tmp_path / "requests").write_text("".join(exchange.text for exchange in requests(10, 200)))
    (tmp_path / "expected").write_text("OK\nDUNNO\nDUNNO\nDUNNO\nDUNNO\nDUNNO\nDUNNO\nDUNNO\nDUNNO\nDUNNO\n" * 20)
    return str(tmp_path / "requests"), str(tmp_path / "expected")


def load(programs: dict[str, Path], *arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [programs["load"], *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


@needs_cc
def test_a_program_is_compiled_once(tmp_path: Path) -> None:
    program = build("echo", tmp_path)
    assert build("echo", tmp_path) == program
    assert [path.name for path in tmp_path.iterdir()] == [program.name]


@needs_cc
@pytest.mark.parametrize("options", [[], ["-c", "7"], ["-c", "3", "-p", "64"]], ids=["one", "seven", "pipelined"])
def test_echo_answers_every_request_once(
    programs: dict[str, Path], echo: str, files: tuple[str, str], options: list[str]
) -> None:
    status, result = load(programs, *options, "-n", "3000", "-s", "30", echo, files[0])
    assert (status, result["errors"], result["mismatches"]) == (0, 0, 0)
    assert (result["requests"], result["measured"], result["answers"]) == (3000, 3000, {"DUNNO": 3000})
    assert 0 < result["p50"] <= result["p90"] <= result["p99"] <= result["p99.9"] <= result["max"]


@needs_cc
def test_load_counts_wrong_actions(programs: dict[str, Path], echo: str, files: tuple[str, str]) -> None:
    status, result = load(programs, "-c", "4", "-n", "2000", "-s", "30", "-e", files[1], echo, files[0])
    assert (status, result["errors"], result["mismatches"]) == (1, 0, 200)


@needs_cc
@pytest.mark.parametrize(
    "answer",
    [b"", b"action=OK\n", b"action=OK\n\naction=OK\n\n", b"action=\n\n", b"OK\n\n", b"action=OK\r\n\r\n", b"\n\n"],
    ids=["none", "half", "two", "empty", "no action", "CRLF", "empty lines"],
)
def test_load_counts_bad_answers(
    programs: dict[str, Path], one_shot: Callable[[bytes], str], files: tuple[str, str], answer: bytes
) -> None:
    status, result = load(programs, "-n", "1", "-s", "30", one_shot(answer), files[0])
    assert (status, result["errors"]) == (1, 1)


@needs_cc
@pytest.mark.parametrize("target", ["inet:192.0.2.1:25", "inet:[2001:db8::1]:25", "localhost:25", "inet:127.0.0.1"])
def test_load_stays_on_loopback(programs: dict[str, Path], files: tuple[str, str], target: str) -> None:
    assert load(programs, target, files[0]) == (2, {})


@needs_cc
@pytest.mark.parametrize("size", [1, 2, 5, 700])
def test_echo_finds_the_empty_line_at_any_chunking(echo: str, size: int) -> None:
    kind, _, where = echo.partition(":")
    bytes_out = b"a=b\nc=\n\n" * 3 + b"d=" + b"e" * 1500 + b"\n\nf=g\n"
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as client:
        client.connect(where if kind == "unix" else (where.rpartition(":")[0], int(where.rpartition(":")[2])))
        for start in range(0, len(bytes_out), size):
            client.sendall(bytes_out[start : start + size])
        client.shutdown(socket.SHUT_WR)
        answers = b"".join(iter(lambda: client.recv(4096), b""))
    assert answers == b"action=DUNNO\n\n" * 4


@pytest.mark.parametrize("connectors", [1, 10, 12, 1000])
def test_configuration_has_that_many_connectors_and_no_address_twice(connectors: int) -> None:
    organizations = tomllib.loads("".join(configuration(connectors)))["organizations"]
    evidence = [c for o in organizations.values() for c in o["connectors"].values()]
    assert len(evidence) == connectors
    spans = sorted(span(entry) for c in evidence for entry in c.get("addresses", ()))
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(spans))
    names = [name for c in evidence for key in c if key != "addresses" for name in c[key]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("connectors", [0, MOST + 1])
def test_configuration_refuses_more_than_there_are_addresses(connectors: int) -> None:
    with pytest.raises(ValueError, match="number of connectors"):
        next(configuration(connectors))


def test_addresses_stay_in_their_networks_to_the_last_organization() -> None:
    inside = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "198.18.0.0/15", "2001:db8::/32")]
    for exchange in requests(MOST, 500):
        address = ipaddress.ip_address(parse(exchange)["client_address"])
        assert any(address in network for network in inside)


def test_requests_are_what_postfix_sends() -> None:
    attributes = [parse(exchange) for exchange in requests(1000, 2000)]
    assert {tuple(a) for a in attributes} == {tuple(POSTFIX_3_7), tuple(POSTFIX_3_8)}
    for a in attributes:
        assert (a["request"], a["protocol_state"]) == ("smtpd_access_policy", "RCPT")
        assert str(ipaddress.ip_address(a["client_address"])) == a["client_address"]
        assert len(a["ccert_pubkey_fingerprint"]) == len(a["ccert_fingerprint"]) in (0, 32 * 3 - 1)
        assert a["ccert_fingerprint"] or not a["ccert_subject"]
        assert a["encryption_protocol"] or not a["ccert_fingerprint"]
        assert " " not in a["ccert_subject"] + a["ccert_issuer"]


def test_seven_of_ten_requests_are_to_be_accepted_and_all_is_reproducible() -> None:
    first, again = list(requests(1000, 5000)), list(requests(1000, 5000))
    assert first == again
    assert 0.67 < sum(exchange.action == "OK" for exchange in first) / len(first) < 0.73
    assert {exchange.action for exchange in first} == {"OK", "REJECT"}


def test_summary_compares_within_a_round() -> None:
    def run(server: str, number: int, rate: float, p99: float) -> Run:
        load = {
            "requests_per_second": rate,
            "p50": 5.0,
            "p99": p99,
            "requests": 1000,
            "errors": 0,
            "mismatches": number,
        }
        return Run(server, 10, 1, number, load | {"load_cpu_seconds": 1.0, "run_seconds": 2.0}, 0.5, 0.5, 1 << 20)

    runs = [run(YARDSTICK, n, 1000.0 * n, 10.0) for n in (1, 2, 3)] + [run("x", n, 500.0 * n, 20.0) for n in (1, 2, 3)]
    rows = summary(runs)
    x = rows[1]
    assert (x.server, x.rounds, x.ratio, x.ratio_lowest, x.ratio_highest, x.p99_ratio) == ("x", 3, 0.5, 0.5, 0.5, 2.0)
    assert (x.requests_per_second, x.cpu_seconds_per_100k, x.load_cpu, x.others_cpu) == (1000.0, 50.0, 0.5, 0.25)
    assert x.mismatches == 6
    assert len({len(line) for line in table(rows).splitlines()}) == 1
    xml.etree.ElementTree.fromstring(svg(rows, 'a "<caption>"'))
    assert summary(runs[3:])[0].ratio is None


@needs_cc
def test_the_command_measures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--servers", "echo,twisted", "--connections", "2", "--rounds", "1"]
    command += ["--connectors", "10", "--seconds", "0.2", "--warmup", "0", "--requests", "100"]
    root = PROJECT
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "j")], cwd=root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads((tmp_path / "j").read_text())
    assert [row["server"] for row in document["summary"]] == ["C echo", "bare Twisted"]
    assert all(run["load"]["answers"].keys() == {"DUNNO"} for run in document["runs"])


def span(entry: str) -> tuple[int, int]:
    """The first and last address of an entry; version 4 below version 6."""
    if "-" in entry:
        first, last = map(ipaddress.ip_address, entry.split("-"))
        return int(first), int(last)
    network = ipaddress.ip_network(entry)  # refuses host bits
    return int(network.network_address), int(network.broadcast_address)


def parse(exchange: Exchange) -> dict[str, str]:
    """The attributes of a request; refuses a name that comes twice."""
    assert exchange.text.endswith("\n\n")
    pairs = [line.split("=", 1) for line in exchange.text[:-2].split("\n")]
    attributes = dict(pairs)
    assert len(attributes) == len(pairs)
    return attributes


def test_a_drift_falls_out_of_the_ratios_and_the_control() -> None:
    speeds = iter(1.1**n for n in range(100))  # the machine gets faster and faster
    yardsticks, others = in_turn(lambda: 100 * next(speeds), lambda: 90 * next(speeds), 8)
    assert (len(yardsticks), len(others)) == (9, 8)
    assert ratios(others, yardsticks) == pytest.approx([0.9] * 8)
    assert control(yardsticks) == pytest.approx([1.0] * 7)
    with pytest.raises(ValueError, match="zip"):
        ratios(others, yardsticks[1:])


@pytest.mark.parametrize(
    ("count", "from_the_ends"),
    [(1, 0), (2, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (20, 5), (40, 13), (100, 39)],
    ids=str,
)
def test_the_median_is_as_sure_as_the_tables_of_the_sign_test_say(count: int, from_the_ends: int) -> None:
    found = spread([float(n) for n in reversed(range(count))])
    assert (found.least, found.most) == (from_the_ends, count - 1 - from_the_ends)
    assert found.median == (found.lower_quartile + found.upper_quartile) / 2 == (count - 1) / 2


def test_cpu_seconds_of_a_pair_are_compared_with_each_other() -> None:
    used = [(speed * n, speed * 100.0) for n, speed in zip(range(91, 111), itertools.cycle((1, 3)), strict=False)]
    found = row("/old", 10, 100_000, used, 0)
    assert (found.ratio.median, found.ratio.least, found.ratio.most) == pytest.approx((1.005, 0.96, 1.05))
    assert against_line(found) == (
        "CPU of 100,000 requests: 1.005 (0.960-1.050) of /old, 20 pairs at 10 connections; 192.50 s; faults: 0"
    )


@needs_cc
def test_a_checkout_stands_beside_another(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/policyd").symlink_to(PROJECT / "policyd")
    command = [sys.executable, "-m", "tests.bench", "--against", str(tmp_path / "old"), "--pairs", "2"]
    command += ["--connectors", "10", "--requests", "500", "--connections", "2", "--json", str(tmp_path / "j")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("CPU of 500 requests: ")
    (found,) = json.loads((tmp_path / "j").read_text())["against"]
    assert (found["other"], found["requests"], found["connections"]) == (str(tmp_path / "old"), 500, 2)
    assert found["ratio"]["count"] == 2
    (tmp_path / "new/policyd").mkdir(parents=True)
    (tmp_path / "new/policyd/__init__.py").touch()
    (tmp_path / "new/policyd/__main__.py").write_text("raise SystemExit('its own code')")
    command[command.index(str(tmp_path / "old"))] = str(tmp_path / "new")
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("its own code\n\n")


def test_rates_inside_postfix_stand_beside_the_echo_s() -> None:
    echo = [Sent(100.0, 80.0, 10.0, 5.0), Sent(100.0, 80.0, 10.0, 7.0), Sent(100.0, 20.0, 10.0, 6.0)]
    policyd = [Sent(90.0, 80.0, 9.0, 40.0), Sent(70.0, 20.0, 9.5, 60.0)]
    row = mail._row("policyd", 1, policyd, echo)
    assert (row.accepted, row.delivered, row.cpu_microseconds) == (80.0, 50.0, 50.0)
    assert (row.accepted_ratio.median, row.delivered_ratio.median) == pytest.approx((0.8, 0.75))
    assert mail._row("C echo", 1, echo, None).delivered_ratio.median == pytest.approx(2.0)
    lines = mail.mail_table([row]).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["1", "policyd", "accepted", "80", "0.800", "0.75-0.85", "0.70-0.90", "50"],
        ["1", "policyd", "delivered", "50", "0.750", "0.62-0.88", "0.50-1.00", "50"],
        ["1", "policyd", "of", "CPU", "9", "0.925", "0.91-0.94", "0.90-0.95", "50"],
    ]


@needs_cc
@pytest.mark.skipif(mail.why_not() != "", reason=mail.why_not())
def test_a_real_postfix_asks_every_server(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path / "organizations.toml")
    place.organizations.write_text("".join(configuration(10)), "utf-8")
    rows = mail.measure_mail(place, pairs=2, messages=3, say=lambda _: None)
    assert {(row.server, row.recipients) for row in rows} == set(itertools.product(["C echo", "policyd"], [1, 10]))
    assert all(row.accepted > 0 and row.delivered > 0 and row.of_cpu > 0 for row in rows)
    logged = (tmp_path / "decisions.log").read_text("ascii").splitlines()
    runs = 1 + 2  # the first is to warm up
    assert sum("action=OK reason=incoming organization=org0" in line for line in logged) == runs * 3 * (1 + 10)


def test_cpu_time_of_a_process_is_its_own() -> None:
    before = time.process_time_ns()
    found = cpu_nanoseconds(os.getpid())
    assert before <= found <= time.process_time_ns()


def test_a_cpu_hierarchy_is_found_in_either_version(tmp_path: Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("cpuset cpu io\n")
    second = f"cgroup2 {tmp_path} cgroup2 rw,nosuid 0 0\n"
    first = "cgroup /groups/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
    accounting = "cgroup /groups/cpuacct cgroup rw,cpuacct 0 0\n"
    assert groups.hierarchy(f"proc /proc proc rw 0 0\n{accounting}{second}") == groups.Hierarchy(tmp_path, 2)
    assert groups.hierarchy(accounting + first) == groups.Hierarchy(Path("/groups/cpu,cpuacct"), 1)
    (tmp_path / "cgroup.subtree_control").write_text("cpuset io\n")
    assert groups.hierarchy(accounting + second) is None


@pytest.mark.parametrize(
    ("version", "lines", "expected"),
    [
        (2, "0::/system.slice/ssh.service\n", "system.slice/ssh.service"),
        (2, "1:cpu:/old\n0::/\n", ""),
        (1, "2:cpuacct:/b\n1:cpu,cpuset:/a\n0::/c\n", "a"),
    ],
)
def test_the_own_group_is_found(version: int, lines: str, expected: str) -> None:
    assert groups._own(groups.Hierarchy(Path("/groups"), version), lines) == expected


def test_a_group_holds_a_process_and_goes_away_or_says_why_not() -> None:
    reason = groups.why_not()
    if reason:  # most containers
        assert reason.startswith("no CPU group can be made: ")
        return
    with subprocess.Popen(["sleep", "600"]) as process:
        belongs = Path(f"/proc/{process.pid}/cgroup")
        before = belongs.read_text()
        try:
            with groups.Group("test", share=0.5, weight=2) as group:
                group.take(process.pid)
                assert belongs.read_text() != before
            assert belongs.read_text() == before
        finally:
            process.kill()
    assert not group.path.exists()


@needs_cc
def test_load_counts_each_connection(programs: dict[str, Path], echo: str, files: tuple[str, str]) -> None:
    _, result = load(programs, "-a", "-c", "5", "-n", "1000", "-s", "30", echo, files[0])
    ports, answers = zip(*result["connections"], strict=True)
    assert sum(answers) == result["measured"] == 1000
    assert len(set(ports) - {0}) == (5 if echo.startswith("inet:") else 0)


@needs_cc
def test_workers_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[float, int]] = []

    @contextlib.contextmanager
    def group(name: str, share: float, weight: int) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(take=lambda pid: taken.append((share, pid)))

    monkeypatch.setattr(workers, "Group", group)  # so that it runs where no group can be had
    monkeypatch.setattr(workers, "TRIES", 4)
    place = Place(tmp_path, tmp_path / "organizations.toml")
    place.organizations.write_text("".join(configuration(10)), "utf-8")
    exchanges = list(requests(10, 100))
    (tmp_path / "requests").write_text("".join(exchange.text for exchange in exchanges))
    (tmp_path / "expected").write_text("".join(f"{exchange.action}\n" for exchange in exchanges))
    rows, luck = workers.measure_workers(place, [40], 2, 0.3, 0.5, 1, lambda _: None)
    assert [(row.server, len(row.cpus), row.faults) for row in rows] == [
        ("policyd", 1, 0),
        ("policyd, 2 workers", 2, 0),
    ]
    assert len(set(taken)) == 3
    assert rows[0].busiest_answers == rows[0].busiest_connections == (1.0, 1.0)
    assert all(0.5 <= part <= 1 for pair in (rows[1].busiest_answers, rows[1].busiest_connections) for part in pair)
    assert sum(luck[0].fullest.values()) == 4
    assert all(20 <= count <= 40 for count in luck[0].fullest)
    assert len({len(line) for line in workers.workers_table(rows).splitlines()}) == 1
    assert workers.luck_table(luck).startswith("40 new connections, 4 times; on the fullest worker: ")
