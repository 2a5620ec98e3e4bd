"""The trainer in each of Ray's worker processes, which serves any client."""

import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM
from socket import socket as Socket

from flwr.app import Context, Message

from fednano.core.clock import RealClock
from fednano.core.inner_step import InnerStep
from fednano.core.tensors import State
from fednano.flower import records
from fednano.flower.client_app import make_client_app
from fednano.flower.packed import pack_state, unpack_state
from fednano.runtime.beginning import local_trainer
from fednano.runtime.parts import Parts
from fednano.runtime.ray.stage import Stage
from fednano.strategy.streaming import Streaming
from fednano.training.client_memory import ClientMemory
from fednano.training.worker import ClientWorker, Result, Task

KEPT = "fednano.kept"  # a client's state, which travels with its task, since any process may get the task


class ClientActor:
    """The model and the data in one worker process."""

    def __init__(self, stage: Stage) -> None:
        parts = stage.recipe.parts()
        self._parts: Parts = replace(parts, hardware=replace(parts.hardware, threads=stage.threads))
        self._trainer = local_trainer(self._parts, parts.tokens_per_step)
        self._clock = RealClock(since=stage.since)
        self._stage = stage
        self._socket = Socket(AF_UNIX, SOCK_DGRAM)
        self._socket.setblocking(False)
        self._app = make_client_app(lambda context: self, parts.codecs)

    def train(self, message: Message, context: Context) -> Message:
        """Do the task in a message; the client's optimizer state comes with it and returns with the reply."""
        client = str(message.content.config_records[records.TASK]["client"])
        kept = take_kept(message)
        if kept:
            self._trainer.restore({client: kept}, 0.0, 0.0)
        try:
            reply = self._app(message, context)
            states = self._trainer.states() if self._parts.optim.state == "keep" else self.memory.states()
            attach_kept(reply, states.get(client, {}))
        finally:
            self._trainer.forget(client)
        return reply

    @property
    def memory(self) -> ClientMemory:
        """Client state; empty between two tasks, since it travels with them."""
        return self._trainer.memory

    def work(self, task: Task, weights: State) -> tuple[Result, State]:
        """A `Worker` for any client."""
        parts = self._parts
        worker = ClientWorker(
            client=task.client,
            trainer=self._trainer,
            source=parts.source,
            pools=parts.pools.rows,
            shape=parts.shape,
            packing=parts.packing,
            tokens_per_s=parts.hardware.speed(parts.settings.names.index(task.client)),
            clock=self._clock,
            may_step=lambda step_s: True,
            on_step=self._tell,
            part=parts.strategy.client,
            streaming=Streaming.of(parts.strategy),
        )
        return worker.work(task, weights)

    def _tell(self, step: InnerStep) -> None:
        tell_step(self._socket, self._stage.steps, step)


def tell_step(socket: Socket, path: Path, step: InnerStep) -> None:
    """Report a step to the socket at `path`, for display only: it is dropped if the reader is slow or gone."""
    with suppress(OSError):
        socket.sendto(json.dumps(asdict(step)).encode(), str(path))


def attach_kept(message: Message, state: State) -> None:
    """Add a client's state, if it has any, to a message of the protocol."""
    if state:
        message.content[KEPT] = pack_state(state)


def take_kept(message: Message) -> State:
    """Remove a client's state from a message; empty if it has none."""
    if KEPT not in message.content.array_records:
        return {}
    kept = unpack_state(message.content.array_records[KEPT])
    del message.content[KEPT]
    return kept
