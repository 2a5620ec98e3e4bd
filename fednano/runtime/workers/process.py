"""One worker process of the virtual runtime, which trains its clients in the order of their jobs.

Imports nothing from Flower, so that a worker starts quickly. The pipe carries numbers; tensors are in shared memory.
"""

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace

from fednano.core.clock import VirtualClock
from fednano.core.failures import explained
from fednano.core.inner_step import InnerStep
from fednano.core.tensors import State
from fednano.data.loader import Packing, RowNumbers, TextSource
from fednano.model.gpt import GPT, GPTConfig
from fednano.optim.inner import Optim
from fednano.strategy.client_part import ClientPart
from fednano.strategy.streaming import Streaming
from fednano.training.hardware import Hardware
from fednano.training.local import LocalTrainer
from fednano.training.shared import SharedState
from fednano.training.worker import ClientWorker, Result, Task
from fednano.volatility.membership import Membership
from fednano.volatility.presence import ClientCrashedError, Presence
from fednano.volatility.profiles import Profile

Arrays = dict[str, np.typing.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The initial data of a worker process.

    Args:
        names: all clients of the run.
        submit_s: seconds that submitting takes each of them.
        weights: the global weights, written before the first task of their version.
        mean: the clients' mean optimizer state, written likewise; empty if clients do not average theirs.
        delta: where this worker leaves a pseudo-gradient.
        inner: where this worker leaves a client's optimizer state to be averaged.
        copies: for each of its clients, two places for a copy of its optimizer state, used in turn.
        restored: in a resumed run, the names of the tensors in the first of the two places.
        kept: in a resumed run, what its clients kept for the strategy's client-side part and for streaming.
        part: the strategy's client-side part.
        streaming: which fragments clients submit, if the strategy has any.
    """

    gpt: GPTConfig
    optim: Optim
    hardware: Hardware
    volatility: Profile
    seed: int
    names: tuple[str, ...]
    submit_s: tuple[float, ...]
    source: TextSource
    pools: Sequence[RowNumbers]
    packing: Packing
    shape: tuple[int, int]
    weights: SharedState
    mean: SharedState
    delta: SharedState
    inner: SharedState
    copies: dict[str, tuple[SharedState, SharedState]]
    restored: dict[str, tuple[str, ...]]
    kept: dict[str, Arrays]
    part: ClientPart | None
    streaming: Streaming | None

    def shared(self) -> Iterator[SharedState]:
        """All shared memory of the worker."""
        yield from (self.weights, self.mean, self.delta, self.inner)
        for pair in self.copies.values():
            yield from pair


@dataclass(frozen=True, kw_only=True)
class PoolJob:
    """A task that its client begins at `now`, in seconds on its clock; the tensors are in shared memory.

    `averaged`: the task comes with the mean optimizer state. `called`: the server wants the lease back at some time.
    `sent`: the names of the weights that the task brings.
    """

    task: Task
    now: float
    averaged: bool
    called: bool
    sent: tuple[str, ...]


@dataclass(frozen=True)
class Forget:
    """Drop the client's state: its machine died."""

    client: str


@dataclass(frozen=True)
class MarkStates:
    """Copy the optimizer states as they are now."""


@dataclass(frozen=True)
class Stepped:
    """An inner step was taken; with the trainer's wall-clock seconds so far."""

    step: InnerStep
    train_s: float
    data_s: float


@dataclass(frozen=True)
class AskDrain:
    """A question whether the server wants the lease back by `now`; the answer is a bool."""

    lease: int
    now: float


@dataclass(frozen=True)
class Ended:
    """The job has ended; without a result if the client crashed. `submitted`: the names of the update's tensors."""

    result: Result | None
    submitted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Marked:
    """The copies of all clients that trained since the last mark: which place holds one, and its tensors' names.

    `kept` is what these clients keep for the strategy's client-side part and for streaming.
    """

    copies: dict[str, tuple[int, tuple[str, ...]] | None]
    kept: dict[str, Arrays]


@dataclass(frozen=True)
class Failed:
    """The worker failed with `cause`; `explained`: the cause and remedy if it lies outside the program."""

    cause: str
    trace: str
    explained: str | None


def arrays_of(state: State) -> Arrays:
    """Tensors as NumPy arrays for a pipe; torch would send each tensor as a descriptor of shared memory."""
    return {name: tensor.numpy() for name, tensor in state.items()}


def serve(setup: Setup, pipe: Connection) -> None:
    """Carry out the orders from the pipe until its other end is closed."""
    try:
        process = PoolProcess(setup, pipe)
        while True:
            process.do(pipe.recv())
    except (EOFError, ConnectionError):
        return  # the run is over
    except Exception as error:
        pipe.send(Failed(repr(error), traceback.format_exc(), explained(error)))


class PoolProcess:
    """The clients of one worker process, and the trainer that they share."""

    def __init__(self, setup: Setup, pipe: Connection) -> None:
        self._setup = setup
        self._pipe = pipe
        B, T = setup.shape
        self._trainer = LocalTrainer(
            model=GPT(setup.gpt), optim=setup.optim, hardware=setup.hardware, batch_tokens=B * T
        )
        restored = {c: {n: setup.copies[c][0].tensors[n] for n in names} for c, names in setup.restored.items()}
        self._trainer.restore(restored, 0.0, 0.0)
        for client, arrays in setup.kept.items():
            self._trainer.memory.restore(client, {name: torch.from_numpy(array) for name, array in arrays.items()})
        self._place = dict.fromkeys(restored, 0)  # of each client's newest copy
        self._changed: set[str] = set()
        self._called = False
        membership = Membership.draw(setup.volatility, setup.names, setup.seed)
        self._clients = {client: self._client(client, membership) for client in setup.copies}

    def _client(self, client: str, membership: Membership) -> tuple[VirtualClock, Presence, ClientWorker]:
        setup, index = self._setup, self._setup.names.index(client)
        clock = VirtualClock()
        presence = Presence(membership, client, clock, setup.submit_s[index])
        worker = ClientWorker(
            client=client,
            trainer=self._trainer,
            source=setup.source,
            pools=setup.pools,
            shape=setup.shape,
            packing=setup.packing,
            tokens_per_s=setup.hardware.speed(index),
            clock=clock,
            may_step=presence.may_step,
            on_step=self._stepped,
            speed=partial(membership.speed, client),
            asked=self._asked,
            might_step=presence.might_step,
            part=setup.part,
            streaming=setup.streaming,
        )
        return clock, presence, worker

    def do(self, order: PoolJob | Forget | MarkStates) -> None:
        """Carry out one order; sends its result through the pipe."""
        match order:
            case PoolJob():
                self._pipe.send(self._work(order))
            case Forget(client):
                self._clients[client][2].crashed()
                self._changed.add(client)
            case MarkStates():
                changed, states = sorted(self._changed), self._trainer.memory.states()
                kept = {client: arrays_of(states.get(client, {})) for client in changed}
                self._pipe.send(Marked({client: self._copy(client) for client in changed}, kept))
                self._changed.clear()

    def _work(self, job: PoolJob) -> Ended:
        setup, task = self._setup, job.task
        if job.averaged:
            task = replace(task, inner=setup.mean.tensors)
        clock, presence, worker = self._clients[task.client]
        clock.wait(job.now)
        self._changed.add(task.client)
        self._called = job.called
        try:
            presence.arrive()
            result, delta = worker.work(task, {name: setup.weights.tensors[name] for name in job.sent})
        except ClientCrashedError:
            return Ended(None)
        setup.delta.write(delta)
        setup.inner.write(result.done.inner)
        return Ended(replace(result, done=replace(result.done, inner={})), tuple(delta))

    def _copy(self, client: str) -> tuple[int, tuple[str, ...]] | None:
        state: State | None = self._trainer.state(client)
        if state is None:
            return None
        place = 1 - self._place.get(client, 1)
        self._setup.copies[client][place].write(state)
        self._place[client] = place
        return place, tuple(state)

    def _stepped(self, step: InnerStep) -> None:
        self._pipe.send(Stepped(step, self._trainer.train_s, self._trainer.data_s))

    def _asked(self, lease: int, now: float) -> bool:
        if not self._called:
            return False
        self._pipe.send(AskDrain(lease, now))
        answer = self._pipe.recv()
        assert isinstance(answer, bool), "nothing else is sent to a worker that asks"
        return answer
