"""The ClientApp: unpack a task, let the node's worker do it, pack the result."""

from collections.abc import Callable
from typing import Protocol

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fednano.codec.base import Codec
from fednano.core.tensors import State
from fednano.flower import records
from fednano.flower.compat.messages import Local
from fednano.training.client_memory import ClientMemory
from fednano.training.worker import Result, Task


class Worker(Protocol):
    """Does tasks; in this process or elsewhere. `memory` is where its clients keep what their codec wants kept."""

    @property
    def memory(self) -> ClientMemory: ...

    def work(self, task: Task, weights: State) -> tuple[Result, State]:
        """Train the task from `weights`; returns what was done and the update."""


def make_client_app(worker: Callable[[Context], Worker], codec: Codec) -> ClientApp:
    """A ClientApp whose messages are done by `worker(context)`, the worker of the node that the context names."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        its = worker(context)
        content = answer(message.content, its.work, codec, its.memory)
        if isinstance(content, records.Unpacked):
            return Local.reply(content, message)
        return Message(content, reply_to=message)

    return app


def answer(
    content: RecordDict, work: Callable[[Task, State], tuple[Result, State]], codec: Codec, memory: ClientMemory
) -> RecordDict:
    """A message's task, done by `work`, as the content of the reply. Raises ValueError or KeyError if it holds none."""
    task, weights = records.unpack_task(content)
    result, update = work(task, weights)
    if isinstance(content, records.Unpacked):
        return records.Unpacked(result)
    if not result.done.steps:
        return records.pack_result(result, ArrayRecord())  # nothing was trained: the refusal needs no tensors
    packed, kept = records.pack_update(update, codec, memory.of(task.client, "codec"))
    memory.keep(task.client, "codec", kept)
    return records.pack_result(result, packed)
