"""Pool of worker processes that train several clients of the virtual runtime in parallel, on one core each.

A client belongs to one worker, which holds its optimizer state. The results do not depend on the number of workers,
since each of them uses one thread.
"""

import math
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait

import torch
from msgspec.structs import replace

from fednano.core import tensors
from fednano.core.failures import StorageError
from fednano.core.inner_step import OnStep
from fednano.core.tensors import State
from fednano.process.tied import call, sealed
from fednano.runtime.workers.process import (
    AskDrain,
    Ended,
    Failed,
    Forget,
    Marked,
    MarkStates,
    PoolJob,
    Setup,
    Stepped,
    serve,
)
from fednano.training.client_memory import ClientMemory, joined, owned
from fednano.training.worker import Result, Task
from fednano.volatility.presence import ClientCrashedError

EXIT_S = 10.0  # for a process to end once its pipe is closed


class WorkerError(RuntimeError):
    """A worker process failed or ended."""


@dataclass(kw_only=True)
class _Worker:
    """A process with its current job and the jobs that wait for it."""

    index: int
    setup: Setup
    process: multiprocessing.context.SpawnProcess
    pipe: Connection
    at: Task | None = None
    waiting: deque[PoolJob] = field(default_factory=deque)
    marking: bool = False
    train_s: float = 0.0
    data_s: float = 0.0


class WorkerPool:
    """The worker processes of a run; must be closed.

    Args:
        setups: the setup of each process. They share `weights` and `mean`.
        on_step: called with each step, in this process, while it waits for a worker.
        asked: given a lease and a time, whether the server wants the lease back by then.
        spent: wall-clock seconds inside steps, and the part of them spent waiting for batches, before a resume.
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
        self._version: int | None = None  # of the weights in shared memory
        self._written: set[str] = set()  # those of them that are there
        self.memory = ClientMemory()  # the clients' codec state, since updates are encoded in this process
        self._kept: dict[str, State] = {}  # the clients' other state in the workers, as of the last mark
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
        """Wall-clock seconds inside inner steps, summed over all workers."""
        return self._spent[0] + sum(worker.train_s for worker in self._workers)

    @property
    def data_s(self) -> float:
        """The part of these seconds spent waiting for batches."""
        return self._spent[1] + sum(worker.data_s for worker in self._workers)

    def begin(self, task: Task, weights: State, now: float) -> None:
        """Have the task's client train from `weights` once its worker is free, starting at `now` on its own clock."""
        if task.version != self._version:
            assert not any(worker.at for worker in self._workers), "work of two versions at once"
            self._mean.write(task.inner)
            self._version, self._written = task.version, set()
        self._weights.write({name: tensor for name, tensor in weights.items() if name not in self._written})
        self._written |= weights.keys()
        called = self._asked(task.lease, math.inf)
        worker = self._of[task.client]
        job = PoolJob(
            task=replace(task, inner={}), now=now, averaged=bool(task.inner), called=called, sent=tuple(weights)
        )
        worker.waiting.append(job)
        self._next(worker)

    def remember(self, states: Mapping[str, State]) -> None:
        """Restore what clients kept, as `states` returned it before a resume; the workers restore their own part."""
        for client, state in states.items():
            self.memory.restore(client, owned(state, "codec"))
            self._kept[client] = owned(state, "strategy", "stream")

    def result(self, client: str) -> tuple[Result, State]:
        """Wait for the client's task; returns its result and the pseudo-gradient.

        Raises ClientCrashedError if the client's machine died, WorkerError if the worker did.
        """
        while client not in self._ended:
            self._listen()
        ended = self._ended.pop(client)
        if ended is None:
            raise ClientCrashedError(client)
        return ended

    def forget(self, client: str) -> None:
        """Drop a client's state, which was lost when its machine crashed."""
        self.memory.forget(client)
        self._send(self._of[client], Forget(client))

    def states(self) -> dict[str, State]:
        """Every client's current state: that of its optimizer, and whatever else it keeps.

        The tensors stay valid until the second call after this one; unchanged tensors are not copied.
        """
        for worker in self._workers:
            worker.marking = True
            self._send(worker, MarkStates())
        while any(worker.marking for worker in self._workers):
            self._listen()
        return joined(joined(self._states, self._kept), self.memory.states())

    def close(self) -> None:
        """Kill the processes. They hold nothing that must outlive them, so there is no need to finish a step."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()

    def _next(self, worker: _Worker) -> None:
        # One job at a time: the next job overwrites the result of the last one in shared memory.
        if worker.at is None and worker.waiting:
            job = worker.waiting.popleft()
            worker.at = job.task
            self._send(worker, job)

    def _listen(self) -> None:
        """Wait until a worker sends something, and process it."""
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
            case AskDrain(lease, now):
                self._send(worker, self._asked(lease, now))
            case Ended(result, submitted):
                assert worker.at is not None
                self._ended[worker.at.client] = _received(result, submitted, worker.setup) if result else None
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

    def _lost(self, worker: _Worker) -> WorkerError | StorageError:
        """Why a worker is gone: the error that it sent last, or else how its process ended."""
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
    process = context.Process(target=call, args=sealed(serve, setup, theirs), name=f"fednano-worker-{index}")
    # Otherwise the first worker's start would start the tracker, which unblocks the signals.
    resource_tracker.ensure_running()
    # Only this process handles Ctrl-C and a SIGTERM to the group: the workers inherit the mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Worker(index=index, setup=setup, process=process, pipe=ours)


def _failure(worker: _Worker, failed: Failed) -> WorkerError | StorageError:
    if failed.explained:
        return StorageError(failed.explained)
    error = WorkerError(f"worker {worker.index} failed with {failed.cause}")
    error.add_note(failed.trace)
    return error


def _received(result: Result, submitted: Sequence[str], setup: Setup) -> tuple[Result, State]:
    """A result with copies of its tensors, since the worker's next result overwrites the originals."""
    done = replace(result.done, inner=tensors.clone(setup.inner.tensors))
    return replace(result, done=done), tensors.clone({name: setup.delta.tensors[name] for name in submitted})
