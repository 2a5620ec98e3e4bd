"""Flower's simulation grid for the federation, with stop requests, steps and client state handled inside."""

import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Event

from flwr.app import Message
from flwr.serverapp import Grid

from fednano.coordination.store import CoordinationStore
from fednano.core.inner_step import InnerStep, OnStep
from fednano.core.tensors import State
from fednano.flower import records
from fednano.flower.wrapped_grid import WrappedGrid
from fednano.runtime.ray.actor import attach_kept, take_kept


class ClientFailedError(RuntimeError):
    """A client's task failed in a runtime in which no client may fail."""


class Kept:
    """The clients' states between their tasks, and the seconds that they reported."""

    def __init__(self, states: Mapping[str, State], train_s: float, data_s: float) -> None:
        self._states = dict(states)
        self.train_s, self.data_s = train_s, data_s

    def states(self) -> dict[str, State]:
        return dict(self._states)

    def send(self, message: Message) -> None:
        """Add the client's state to its task."""
        client = str(message.content.config_records[records.TASK]["client"])
        attach_kept(message, self._states.get(client, {}))

    def receive(self, reply: Message) -> None:
        """Keep the client's state and the seconds from its reply."""
        kept = take_kept(reply)
        result = records.unpack_result(reply.content)
        self.train_s += result.done.train_s
        self.data_s += result.done.data_s
        if kept:
            self._states[result.task_client] = kept


class StepsHeard:
    """The inner steps that worker processes report."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def __enter__(self) -> "StepsHeard":
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def new(self) -> Iterable[InnerStep]:
        while True:
            try:
                yield InnerStep(**json.loads(self._socket.recv(1 << 16)))
            except BlockingIOError:
                return


class RayGrid(WrappedGrid):
    """Checks for requests to stop, shows steps, carries client state, and raises when a client fails.

    Args:
        grid: Flower's own grid.
        store: the run's coordination store.
        lost: set once Ray is gone, so that no reply can come.
        kept: the clients' states.
        heard: the steps of the worker processes.
        on_step: shows a step.
    """

    def __init__(
        self,
        grid: Grid,
        store: CoordinationStore,
        lost: Event,
        kept: Kept,
        heard: StepsHeard,
        on_step: OnStep,
    ) -> None:
        super().__init__(grid)
        self._store = store
        self._lost = lost
        self._kept = kept
        self._heard = heard
        self._on_step = on_step

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        for message in messages:
            self._kept.send(message)
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that have arrived. Raises StopRequestedError, or ClientFailedError if one is an error."""
        self._store.check_stop()
        if self._lost.is_set():
            raise ClientFailedError("Ray ended before the run did")
        for told in self._heard.new():
            self._on_step(told)
        replies = list(super().pull_messages(message_ids))
        for reply in replies:
            if reply.has_error():
                raise ClientFailedError(f"a client failed: {reply.error.reason}")
            self._kept.receive(reply)
        return replies
