"""Several processes that serve: the parent's side (SPEC 8).

The parent opens all sockets, reads the rules once into the store, and starts one process a worker. It starts a worker
that ended anew, with the same sockets: what connected meanwhile waits in their backlog. New rules are in force when
the shared generation says so; who does not take them within seconds is ended, and a new one has them from the start.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, fail, gatherResults
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.python.failure import Failure

from policyd.config.settings import Configuration
from policyd.service.counters import Counters
from policyd.service.decision_log import open_log
from policyd.service.generation import Generation, shared_generation
from policyd.service.sockets import CannotListen, open_sockets, remove_socket_file
from policyd.service.turns import Turns, shared_counts
from policyd.service.worker_messages import CONTROL_DESCRIPTOR, Control
from policyd.store.file import Store

ANSWER_SECONDS = 5.0  # for a worker to say that it is well, or what it has counted
TAKE_SECONDS = 5.0  # for a worker to take new rules
START_SECONDS = 30.0  # for a worker to start
RESTART_SECONDS = 1.0  # between the end of a worker and its next start
FINISH_SECONDS = 8.0  # for a worker to answer what has arrived


class WorkerFailed(Exception):
    """A worker could not do what it was told; the text says why."""


class _Worker(ProcessProtocol):
    """One worker process, seen from its parent."""

    def __init__(
        self,
        reactor: Any,
        number: int,
        shared: tuple[int, int],
        sockets: tuple[socket.socket, ...],
        ended: Callable[[_Worker], None],
    ):
        self._shared = shared  # descriptors: of the counts, of the generation
        self._turns = Turns(shared[0], number - 1)
        self.number = number
        self._sockets = sockets
        self.ready = False
        self.process: Any = None
        self.gone: Deferred[None] = Deferred()
        self._reactor = reactor
        self._ended = ended
        self._control: Control | None = None
        self._asked = 0
        self._waiting: dict[int, Deferred[Any]] = {}  # questions by number
        self.missed = 0  # checks in a row without an answer

    def start(self) -> None:
        """Starts the process."""
        self.ready = False
        self.missed = 0
        self.gone = Deferred()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        factory = Factory.forProtocol(lambda: Control(self._heard, self._line_lost))
        factory.noisy = False
        self._control = self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory).protocol
        ours.close()
        descriptors = {0: 0, 1: 1, 2: 2, CONTROL_DESCRIPTOR: theirs.fileno()}
        first = CONTROL_DESCRIPTOR + 1
        shared = [*self._shared, *(opened.fileno() for opened in self._sockets)]
        passed = {first + n: descriptor for n, descriptor in enumerate(shared)}
        arguments = [sys.executable, "-m", "policyd.service.worker", str(self.number), *map(str, passed)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LISTEN_", "WATCHDOG_"))}
        environment.pop("NOTIFY_SOCKET", None)  # only the parent speaks to systemd
        self._turns.have(0)  # so that others leave connections to it as soon as it can take them
        self.process = self._reactor.spawnProcess(
            self, sys.executable, arguments, environment, childFDs=descriptors | passed
        )
        theirs.close()

    def ask(self, seconds: float, *message: Any) -> Deferred[Any]:
        """Says something that has an answer; fails with WorkerFailed when none comes in time."""
        if self._control is None:
            return fail(WorkerFailed(f"worker {self.number} is not running"))
        answer: Deferred[Any] = Deferred()
        self._asked += 1
        self._waiting[self._asked] = answer
        self._control.say(self._asked, *message)

        def too_late(*_: object) -> NoReturn:
            raise WorkerFailed(f"worker {self.number} gives no answer")

        return answer.addTimeout(seconds, self._reactor, too_late)

    def say(self, *message: Any) -> None:
        """Says something that has no answer."""
        if self._control is not None:
            self._control.say(0, *message)

    def kill(self) -> None:
        """Ends a process that does not answer."""
        if self.process is not None and self.process.pid is not None:
            self.process.signalProcess("KILL")

    def _heard(self, message: tuple[Any, ...]) -> None:
        number, succeeded, result = message
        answer = self._waiting.pop(number)  # a Deferred that has timed out takes what comes too late
        if succeeded:
            answer.callback(result)
        else:
            answer.errback(WorkerFailed(f"worker {self.number}: {result}"))

    def _line_lost(self) -> None:
        self._control = None
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.errback(WorkerFailed(f"worker {self.number} ended"))

    def processEnded(self, reason: Failure) -> None:
        """The process is gone."""
        self._turns.leave()
        self.process = None
        self.ready = False
        self.gone.callback(None)
        self._ended(self)


def _kill_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.kill()


class Workers:
    """All workers of one daemon."""

    def __init__(self, reactor: Any, configuration: Configuration, store: Store) -> None:
        self.size = configuration.service.workers
        self._reactor = reactor
        self._service = configuration.service
        self._configuration = configuration
        self._store = store
        descriptor = shared_generation()
        self._shared = (shared_counts(self.size), descriptor)
        self._generation = Generation(descriptor)
        self.log = open_log(configuration.log.file, reactor)
        self._workers: list[_Worker] = []
        self._sockets: list[socket.socket] = []  # all that are open
        self._socket_files: list[str] = []  # ours to remove
        self._finishing = False
        self._lost = Counters()  # what workers that ended had counted when they were last asked
        self._last: dict[int, Counters] = {}

    async def start(self, passed: list[tuple[int, str]]) -> None:
        """Opens all sockets and starts all workers. Raises CannotListen."""
        service = self._service
        shared: list[list[socket.socket]] = []  # of each socket, one copy for each worker
        for endpoint in service.listen:
            for copies in open_sockets(endpoint, service.unix_mode, passed, self.size):
                shared.append(copies)
                self._sockets += copies
            if endpoint.kind == "unix":
                self._socket_files.append(endpoint.path)
        self._generation.number = self._store.snapshot().generation
        self._workers = [
            _Worker(self._reactor, n + 1, self._shared, mine, self._ended)
            for n, mine in enumerate(zip(*shared, strict=True))
        ]
        try:
            await gatherResults([ensureDeferred(self._started(w)) for w in self._workers], consumeErrors=True)
        except Exception as error:
            reason = getattr(error, "subFailure", None)
            raise CannotListen(f"cannot start the workers: {reason.value if reason else error}") from error

    async def _started(self, worker: _Worker) -> None:
        """Starts a worker and waits until it serves. Raises WorkerFailed."""
        worker.start()
        await worker.ask(START_SECONDS, "serve", self._configuration, self._store.path)
        worker.ready = True

    def _ended(self, worker: _Worker) -> None:
        if self._finishing:
            return
        if worker.number in self._last:
            self._lost = self._lost + replace(self._last.pop(worker.number), connections=0)
        self.log.event(f"worker {worker.number} ended; starting it again", "<4>")
        self._reactor.callLater(RESTART_SECONDS, self._restart, worker)

    def _restart(self, worker: _Worker) -> None:
        if self._finishing:
            return

        def failed(failure: Failure) -> None:
            self.log.event(f"worker {worker.number} did not start: {failure.getErrorMessage()}", "<4>")
            worker.kill()

        ensureDeferred(self._started(worker)).addErrback(failed)

    def apply(self) -> None:
        """There are new rules in the store: from its next round of events on each worker decides by them.

        Who is asleep is woken to take them, so that the store can give the old ones up; who hangs is ended.
        """
        self._generation.number = self._store.snapshot().generation
        for worker in self._workers:
            if worker.ready:
                worker.ask(TAKE_SECONDS, "take").addErrback(self._left_behind, worker)

    def _left_behind(self, failure: Failure, worker: _Worker) -> None:
        if worker.ready and not self._finishing:
            self.log.event(f"worker {worker.number} has old rules: {failure.getErrorMessage()}; ending it", "<4>")
            worker.kill()

    def reopen_logs(self) -> None:
        """Opens the log files anew, everywhere."""
        self.log.reopen()
        for worker in self._workers:
            worker.say("reopen")

    async def check(self, mend: bool = False) -> bool:
        """Whether any worker answers. `mend`: one that misses two checks is ended, and started again."""
        workers = [worker for worker in self._workers if worker.ready]
        answers = await DeferredList([w.ask(ANSWER_SECONDS, "check") for w in workers], consumeErrors=True)
        for worker, (succeeded, well) in zip(workers, answers, strict=True):
            if succeeded and well:
                worker.missed = 0
            elif mend and not self._finishing:
                worker.missed += 1
                if worker.missed > 1:
                    self.log.event(f"worker {worker.number} gives no answers; ending it", "<4>")
                    worker.kill()
        return any(succeeded and well for succeeded, well in answers)

    async def counted(self) -> Counters:
        """The sum of what all have counted."""
        workers = [worker for worker in self._workers if worker.ready]
        answers = await DeferredList([w.ask(ANSWER_SECONDS, "count") for w in workers], consumeErrors=True)
        for worker, (succeeded, counted) in zip(workers, answers, strict=True):
            if succeeded:
                self._last[worker.number] = counted
        return sum(self._last.values(), self._lost)

    async def finish(self) -> None:
        """Lets all workers answer what has arrived and end."""
        self._finishing = True
        running = [worker for worker in self._workers if worker.process is not None]
        for worker in running:
            worker.say("finish")
        limit = self._reactor.callLater(FINISH_SECONDS, _kill_all, running)
        await DeferredList([worker.gone for worker in running])
        if limit.active():
            limit.cancel()
        for opened in self._sockets:
            opened.close()  # a socket lives as long as any of its copies is open
        for path in self._socket_files:
            remove_socket_file(path)

    def close(self) -> None:
        """Writes out the parent's log."""
        self.log.close()
