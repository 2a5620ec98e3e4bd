"""Worker processes that train several clients of the virtual runtime at the same time, a core each.

A client belongs to one worker, where its optimizer state lives. What is computed does not depend on how many there
are: all of them use one thread.
"""

import math
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait

import torch

from fednano.core import tensors
from fednano.core.inner_step import OnStep
from fednano.core.tensors import State
from fednano.runtime.workers.process import Asked, Ended, Failed, Forget, Job, Mark, Marked, Setup, Stepped, serve
from fednano.training.client_memory import ClientMemory, joined, owned
from fednano.training.worker import Result, Task
from fednano.volatility.presence import ClientCrashedError

EXIT_S = 10.0  # for a process whose pipe is closed to be gone


class WorkerError(RuntimeError):
    """A worker process failed or ended."""


@dataclass(kw_only=True)
class _Worker:
    """A process and what it has been given: the job that it is at, and those that wait for it."""

    index: int
    setup: Setup
    process: multiprocessing.context.SpawnProcess
    pipe: Connection
    at: Task | None = None
    waiting: deque[Job] = field(default_factory=deque)
    marking: bool = False
    train_s: float = 0.0
    data_s: float = 0.0


class WorkerPool:
    """The worker processes of a run; to be closed.

    Args:
        setups: what each begins with. They share `weights` and `mean`.
        on_step: told of each step, in this process, while something is awaited.
        asked: given a lease and a time, whether the server wants it back by then.
        spent: wall-clock seconds inside steps, and of those waiting for batches, before the run was resumed.
    """

    def __init__(
        self,
        setups: Sequence[Setup],
        on_step: OnStep,
        asked: Callable[[int, float], bool],
        spent: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self._on_step = on_step
        self._asked = asked
        self._spent = spent
        self._weights, self._mean = setups[0].weights, setups[0].mean
        self._version: int | None = None  # of what lies there
        self.memory = ClientMemory()  # what clients keep for their codec: updates are encoded in this process
        self._kept: dict[str, State] = {}  # what they keep in the workers, as of the last mark
        self._ended: dict[str, tuple[Result, State] | None] = {}
        self._states = {
            client: {name: setup.copies[client][0].tensors[name] for name in names}
            for setup in setups
            for client, names in setup.restored.items()
        }
        self._workers: list[_Worker] = []
        try:
            for index, setup in enumerate(setups):
                self._workers.append(_start(index, setup))
        except BaseException:
            self.close()
            raise
        for shared in {id(shared): shared for setup in setups for shared in setup.shared()}.values():
            shared.close()
        self._of = {client: worker for worker in self._workers for client in worker.setup.copies}

    @property
    def train_s(self) -> float:
        """Wall-clock seconds inside inner steps, those of all workers added up."""
        return self._spent[0] + sum(worker.train_s for worker in self._workers)

    @property
    def data_s(self) -> float:
        """Those of them spent waiting for batches."""
        return self._spent[1] + sum(worker.data_s for worker in self._workers)

    def begin(self, task: Task, weights: State, now: float) -> None:
        """Let the task's client train from `weights` as soon as its worker is free, from `now` on its own clock."""
        if task.version != self._version:
            assert not any(worker.at for worker in self._workers), "work of two versions at once"
            self._weights.write(weights)
            self._mean.write(task.inner)
            self._version = task.version
        called = self._asked(task.lease, math.inf)
        worker = self._of[task.client]
        worker.waiting.append(Job(replace(task, inner={}), now, bool(task.inner), called))
        self._next(worker)

    def remember(self, states: Mapping[str, State]) -> None:
        """Take in what clients kept when a run was stopped, as `states` gave it; the workers have their share."""
        for client, state in states.items():
            self.memory.restore(client, owned(state, "codec"))
            self._kept[client] = owned(state, "strategy")

    def result(self, client: str) -> tuple[Result, State]:
        """What was done of the client's task, and the pseudo-gradient; waits for it.

        Raises ClientCrashedError where its machine died, WorkerError where the worker did.
        """
        while client not in self._ended:
            self._listen()
        ended = self._ended.pop(client)
        if ended is None:
            raise ClientCrashedError(client)
        return ended

    def forget(self, client: str) -> None:
        """Drop what a client remembers, as its machine did when it crashed."""
        self.memory.forget(client)
        self._send(self._of[client], Forget(client))

    def states(self) -> dict[str, State]:
        """What every client remembers as it is now: its optimizer's state, and what else it keeps.

        The tensors stay as they are until the second call from now; those that did not change are not copied.
        """
        for worker in self._workers:
            worker.marking = True
            self._send(worker, Mark())
        while any(worker.marking for worker in self._workers):
            self._listen()
        return joined(joined(self._states, self._kept), self.memory.states())

    def close(self) -> None:
        """End the processes. They hold nothing that would outlive them, so that nobody waits for a step to end."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()

    def _next(self, worker: _Worker) -> None:
        # One at a time: the result of a job lies where the next one will put its own.
        if worker.at is None and worker.waiting:
            job = worker.waiting.popleft()
            worker.at = job.task
            self._send(worker, job)

    def _listen(self) -> None:
        """Wait until a worker has news, and take it in."""
        pipes = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(pipes)):
            assert isinstance(pipe, Connection)
            worker = pipes[pipe]
            try:
                news = pipe.recv()
            except (EOFError, ConnectionError):
                raise self._lost(worker) from None
            self._take_in(worker, news)

    def _take_in(self, worker: _Worker, news: object) -> None:
        match news:
            case Stepped(step, train_s, data_s):
                worker.train_s, worker.data_s = train_s, data_s
                self._on_step(step)
            case Asked(lease, now):
                self._send(worker, self._asked(lease, now))
            case Ended(result):
                assert worker.at is not None
                self._ended[worker.at.client] = _received(result, worker.setup) if result else None
                worker.at = None
                self._next(worker)
            case Marked(copies, kept):
                worker.marking = False
                for client, arrays in kept.items():
                    self._kept[client] = {name: torch.from_numpy(array) for name, array in arrays.items()}
                for client, copy in copies.items():
                    self._states.pop(client, None)
                    if copy:
                        place, names = copy
                        held = worker.setup.copies[client][place].tensors
                        self._states[client] = {name: held[name] for name in names}
            case Failed():
                raise _failure(worker, news)

    def _send(self, worker: _Worker, order: object) -> None:
        try:
            worker.pipe.send(order)
        except ConnectionError:
            raise self._lost(worker) from None

    def _lost(self, worker: _Worker) -> WorkerError:
        """Why a worker is gone: what it said last, or else how its process ended."""
        with suppress(EOFError, ConnectionError):
            while worker.pipe.poll():
                if isinstance(news := worker.pipe.recv(), Failed):
                    return _failure(worker, news)
        worker.process.join(EXIT_S)
        code = worker.process.exitcode
        how = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
        clients = ", ".join(worker.setup.copies)
        return WorkerError(f"worker {worker.index} of hardware.workers={len(self._workers)} ({clients}) ended {how}")


def _start(index: int, setup: Setup) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(setup, theirs), name=f"fednano-worker-{index}")
    # Started by the first process otherwise, which would unblock the signals.
    resource_tracker.ensure_running()
    # Ctrl-C and a SIGTERM to the group are for this process to heed: those that it starts inherit the mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Worker(index=index, setup=setup, process=process, pipe=ours)


def _failure(worker: _Worker, failed: Failed) -> WorkerError:
    error = WorkerError(f"worker {worker.index} failed with {failed.cause}")
    error.add_note(failed.trace)
    return error


def _received(result: Result, setup: Setup) -> tuple[Result, State]:
    """A result with its tensors, which lie where the worker puts those of its next one."""
    done = replace(result.done, inner=tensors.clone(setup.inner.tensors))
    return replace(result, done=done), tensors.clone(setup.delta.tensors)
