"""A hundred reloads while Postfix asks: good, bad and huge (SPEC 8).

One server and one story, told once; each test looks at another side of it. A second, shorter one has two workers.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

from tests.helpers.conversation import Peer, question
from tests.helpers.policyd_server import PolicydServer
from tests.helpers.processes import children
from tests.helpers.waiting import until
from tests.server.reload_story import (
    BAD,
    COUNTS,
    EXPECTED,
    MANY,
    PATIENCE,
    PROBES,
    Answer,
    Asker,
    Files,
    Manager,
    Reading,
    logged,
)

RELOADS = 100
PEERS = 4
STORM = 30  # signals sent while one reload is under way
_TEN = (
    *("blue", "broken TOML", "red", "broken include", "blue"),
    *("certificate gone", "red", "no organization", "blue", "red"),
)
_INSTEAD = {29: "big", 59: "big", 89: "big", 41: "include gone", 53: "pipe among the includes", 73: "unknown keys"}
STATES = [_INSTEAD.get(n, _TEN[n % 10]) for n in range(RELOADS)]


@dataclass
class Told:
    """What a story left behind."""

    askers: list[Asker]
    log: str = ""
    rules_of: dict[int, str] = field(default_factory=lambda: {1: "red"})  # generation: rule set
    statuses: list[tuple[str, str]] = field(default_factory=list)  # state of the files, STATUS= of the reload
    meanwhile: int = 0  # signals of the storm that came while the first reload of it was under way
    storm: list[dict[str, str]] = field(default_factory=list)  # notifications of the storm

    @cached_property
    def decided(self) -> dict[str, tuple[Answer, int]]:
        """What the log says of each request."""
        return logged(self.log)


def everybody_asked_again(askers: list[Asker]) -> None:
    """Returns when each connection has sent and got a whole batch since the call."""
    wanted = [asker.batches + 2 for asker in askers]  # the next one may have been sent before

    def all_asked() -> bool:
        assert [asker.failure for asker in askers if asker.failure] == []
        return all(asker.batches >= enough for asker, enough in zip(askers, wanted, strict=True))

    until(all_asked, "answers on all connections", PATIENCE)


def tell(server: PolicydServer, files: Files, manager: Manager, states: list[str], told: Told) -> None:
    """Puts the files into each state, reloads, and waits for what systemd is told of it."""
    for state in states:
        files.write(state)
        server.reload()
        status = manager.outcome()
        told.statuses.append((state, status))
        if state in EXPECTED:
            told.rules_of[len(told.rules_of) + 1] = state
        everybody_asked_again(told.askers)


def finish(server: PolicydServer, told: Told) -> None:
    """Ends the asking, and waits until all of it is in the log."""
    for asker in told.askers:
        asker.finish()
    assert [asker.failure for asker in told.askers] == [""] * len(told.askers)
    last = [f" instance={asker.asked[-1]} " for asker in told.askers]
    told.log = server.wait_for_log(lambda log: all(text in log for text in last), seconds=PATIENCE)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    """The service manager of every server of this module."""
    found = Manager(tmp_path_factory.mktemp("manager") / "notify")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NOTIFY_SOCKET", found.address)
        yield found
    found.close()


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory,
    policyd_server: Callable[..., PolicydServer],
    free_port: Callable[[], int],
    manager: Manager,
) -> Told:
    """100 reloads one after the other, then a storm."""
    address = f"inet:127.0.0.1:{free_port()}"
    files = Files(tmp_path_factory.mktemp("story"), address)
    told = Told([Asker(number, address) for number in range(PEERS)])
    with policyd_server(files.main) as server:
        assert manager.status() == f"generation 1, {COUNTS['red']}, enforcing"
        for asker in told.askers:
            asker.start()
        tell(server, files, manager, STATES, told)
        # The storm: while 10,000 organizations are worked on, the file changes again, with many signals.
        files.write("big")
        reading = Reading(files.rules)
        with Peer(address) as peer:
            peer.socket.settimeout(PATIENCE)
            server.reload()
            assert manager.next().get("RELOADING") == "1"
            reading.wait()
            files.write("green")
            for _ in range(STORM):
                server.reload()
                peer.ask(question(**PROBES[4]))  # so the signal has come through: the kernel keeps one for a process
                told.meanwhile += manager.is_quiet()
            until(lambda: peer.ask(question(**PROBES[4])) == "OK", "the last state of the files", PATIENCE)
        everybody_asked_again(told.askers)
        finish(server, told)
    told.storm = manager.until_the_end()
    return told


def check_each_request(told: Told) -> None:
    """Each was answered once, in its turn, by its connection; row, organization and connector fit its generation."""
    last = max(told.rules_of)
    for asker in told.askers:
        assert asker.stayed_open
        assert len(asker.answers) == len(asker.asked) > len(told.statuses) * len(PROBES)
        for instance, answer in zip(asker.asked, asker.answers, strict=True):
            decision, generation = told.decided[instance]
            assert answer == "OK" if decision[0] == "OK" else answer.endswith(f" (ref {instance})"), instance
            # After the 100 comes the storm, with a few generations of two rule sets.
            states = [told.rules_of[generation]] if generation <= last else ["big", "green"]
            assert decision in [EXPECTED[state][int(instance.rpartition(".")[2])] for state in states], instance


def test_no_request_is_lost_and_every_answer_is_of_one_rule_set(story: Told) -> None:
    check_each_request(story)


def test_every_rule_set_answered_on_every_connection(story: Told) -> None:
    """So the reloads did happen under load; and no connection ever went back to older rules."""
    decided = story.decided
    for asker in story.askers:
        generations = [decided[instance][1] for instance in asker.asked]
        assert generations == sorted(generations)
        assert set(range(2, max(story.rules_of) + 1)) <= set(generations)


def test_a_generation_answers_from_the_moment_it_is_told(story: Told) -> None:
    """The log of one process is in order: nothing is decided by new rules before, or by old ones after the line."""
    generation = 1
    for line in story.log.splitlines():
        if match := re.match(r"<6>policyd: reloaded; generation (\d+), ", line):
            assert int(match[1]) == generation + 1
            generation += 1
        elif match := re.search(r" generation=(\d+)$", line):
            assert int(match[1]) == generation, line


def test_what_systemd_is_told_after_each_reload(story: Told) -> None:
    assert len(story.statuses) == RELOADS
    in_force, generation = "red", 1
    for state, status in story.statuses:
        if state in EXPECTED:
            in_force, generation = state, generation + 1
        rules = f"generation {generation}, {COUNTS[in_force]}, enforcing"
        assert status == (f"reload failed ({BAD[state]}); {rules}" if state in BAD else rules)


def test_what_is_logged_of_each_reload(story: Told) -> None:
    """The difference, or all that is wrong with its place."""
    to_blue = [
        'organization "north": accepted_domains -north.example +south.example',
        'organization "north": connector "appliance" removed',
        'organization "north": connector "gate" added',
        'organization "north": connector "office" removed',
        'organization "south": accepted_domains -south.example +north.example',
        'organization "south": connector "office" added',
        'organization "west" added',
    ]
    to_red = [
        'organization "north": accepted_domains -south.example +north.example',
        'organization "north": connector "appliance" added',
        'organization "north": connector "gate" removed',
        'organization "north": connector "office" added',
        'organization "south": accepted_domains -north.example +south.example',
        'organization "south": connector "office" removed',
        'organization "west" removed',
    ]
    events = [line[3:] for line in story.log.splitlines() if re.match("<[346]>policyd: ", line)]
    ends = [n for n, line in enumerate(events) if re.match("policyd: (?:not )?reloaded[;:] ", line)]
    before = "red"
    for n, state in enumerate(STATES):
        since = ends[n - 1] + 1 if n else 0
        problems = [line for line in events[since : ends[n]] if not line.startswith("policyd: changed: ")]
        problems = [line for line in problems if ": warning: " not in line and "listening on" not in line]
        until = ends[n + 1]
        changes = [line.removeprefix("policyd: changed: ") for line in events[ends[n] + 1 : until]]
        changes = [line for line in changes if not line.startswith("policyd: ")]
        if state in BAD:
            wanted = int(BAD[state].split()[0]) if " error" in BAD[state] else 0
            assert [bool(re.match(r"policyd: /\S+\.toml(:\d+)?: ", line)) for line in problems] == [True] * wanted, (
                problems
            )
            assert changes == []
            continue
        assert problems == []
        if state == "big":
            assert len(changes) == 101
            assert changes[-1] == f"{MANY + 7 - 100} more"
        elif before == "big":
            assert len(changes) == 101
        else:
            assert changes == (to_blue if state == "blue" else to_red)
        before = state


def test_a_storm_of_signals_becomes_few_reloads(story: Told) -> None:
    """All that come during one become one more, by the files as they are at the end."""
    ended = [said["STATUS"] for said in story.storm if said.get("READY") == "1"]
    assert COUNTS["big"] in ended[0]
    assert COUNTS["green"] in ended[-1]
    first, second, late = 1, 1, STORM - story.meanwhile
    assert len(ended) <= first + second + late + 2  # a notification may be seen a little after it was sent


def test_the_server_had_no_trouble_of_its_own(story: Told) -> None:
    assert "internal error" not in story.log
    assert "Traceback" not in story.log
    assert "protocol error" not in story.log


# --- workers --------------------------------------------------------------------------------------------------------


def sockets(pid: int) -> int:
    """How many sockets a process has open."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(descriptor.readlink()).startswith("socket:")
    return count


def connected(address: str) -> Peer:
    """A connection that waits long for its answers, as while a worker starts."""
    peer = Peer(address)
    peer.socket.settimeout(PATIENCE)
    return peer


def peers_of_all(address: str, workers: list[int]) -> list[Peer]:
    """Connections of which each worker has one at least."""
    idle = {pid: sockets(pid) for pid in workers}
    peers: list[Peer] = []
    while not all(sockets(pid) > idle[pid] for pid in workers):
        assert len(peers) < 200, "one worker gets all connections"
        peers.append(connected(address))
        ask_all(peers[-1:])  # it is accepted
    return peers


def ask_all(peers: list[Peer]) -> list[str]:
    """The action without its detail for probe 4 on each connection; nothing where that is lost."""
    answers = []
    for peer in peers:
        try:
            answers.append(peer.ask(question(**PROBES[4])).partition(":")[0])
        except (OSError, AssertionError):
            answers.append("")
    return answers


ANSWER_OF = {"red": "REJECT 5.7.1 Relaying denied for this server", "blue": "OK"}  # to probe 4


def test_all_workers_take_the_new_rules_and_one_that_hangs_is_replaced(
    tmp_path: Path, policyd_server: Callable[..., PolicydServer], free_port: Callable[[], int], manager: Manager
) -> None:
    address = f"inet:127.0.0.1:{free_port()}"
    files = Files(tmp_path, address, "workers = 2")
    told = Told([Asker(number, address) for number in range(6)])
    with policyd_server(files.main) as server:
        assert manager.status() == f"generation 1, {COUNTS['red']}, enforcing"
        assert server.process is not None
        parent = server.process.pid
        workers = children(parent)
        assert len(workers) == 2
        peers = peers_of_all(address, workers)
        for asker in told.askers:
            asker.start()
        for state in ("blue", "broken include", "red", "blue", "certificate gone", "no organization", "red"):
            tell(server, files, manager, [state], told)
            wanted = {ANSWER_OF[told.rules_of[max(told.rules_of)]]}
            assert state in EXPECTED or set(ask_all(peers)) == wanted
            until(lambda wanted=wanted: set(ask_all(peers)) == wanted, "both swap, soon after", PATIENCE)
        assert children(parent) == workers
        finish(server, told)

        # Worker 2 hangs when there are new rules: that hinders nobody, and who takes its place has them from the start.
        files.write("blue")
        os.kill(workers[1], signal.SIGSTOP)
        server.reload()
        assert "generation 6, " in manager.outcome()
        until(lambda: workers[1] not in children(parent), "worker 2 is ended", PATIENCE)
        until(lambda: len(children(parent)) == 2, "worker 2 is started again", PATIENCE)
        assert set(ask_all(peers)) == {ANSWER_OF["blue"], ""}
        new = [connected(address) for _ in range(40)]  # enough to meet worker 2 for sure
        assert set(ask_all(new)) == {ANSWER_OF["blue"]}
        for peer in (*peers, *new):
            peer.socket.close()
    manager.until_the_end()
    check_each_request(told)
    for asker in told.askers:
        generations = [told.decided[instance][1] for instance in asker.asked]
        assert generations == sorted(generations)
    assert "internal error" not in told.log
