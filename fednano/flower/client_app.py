"""The ClientApp, which unpacks a task, has the node's worker do it, and packs the result."""

from collections.abc import Callable
from typing import Protocol

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fednano.codec.pair import CodecPair
from fednano.core.tensors import State
from fednano.flower import records
from fednano.flower.compat.messages import LocalMessage
from fednano.flower.packed import pack
from fednano.training.client_memory import ClientMemory
from fednano.training.worker import Result, Task


class Worker(Protocol):
    """Does tasks, in this process or elsewhere. `memory` holds the state that codecs keep for clients."""

    @property
    def memory(self) -> ClientMemory: ...

    def work(self, task: Task, weights: State) -> tuple[Result, State]:
        """Train the task from `weights`; returns what was done and the update."""


def make_client_app(worker: Callable[[Context], Worker], codecs: CodecPair) -> ClientApp:
    """A ClientApp whose tasks are done by `worker(context)`, the worker of the node named in the context."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        its = worker(context)
        content = answer(message.content, its.work, codecs, its.memory)
        if isinstance(content, records.Unpacked):
            return LocalMessage.reply(content, message)
        return Message(content, reply_to=message)

    return app


def answer(
    content: RecordDict, work: Callable[[Task, State], tuple[Result, State]], codecs: CodecPair, memory: ClientMemory
) -> RecordDict:
    """Do a message's task by `work`; returns the reply's content. Raises ValueError without a task."""
    task, weights = records.unpack_task(content, codecs.download)
    result, update = work(task, weights)
    if isinstance(content, records.Unpacked):
        return records.Unpacked(result)
    if not result.done.steps:
        return records.pack_result(result, ArrayRecord())  # nothing was trained, so the reply needs no tensors
    seed = codecs.update_seed(task.client, task.round)
    part = "" if task.stream is None else f"{task.stream.due}/"  # a residual for each fragment
    held = memory.of(task.client, "codec")
    mine = {name.removeprefix(part): tensor for name, tensor in held.items() if name.startswith(part)}
    packed, kept = pack(update, codecs.update, mine, seed)
    others = {name: tensor for name, tensor in held.items() if not name.startswith(part)}
    memory.keep(task.client, "codec", {**others, **{part + name: tensor for name, tensor in kept.items()}})
    return records.pack_result(result, packed)
