"""The ClientApp: unpack a task, let the node's worker do it, pack the result."""

from collections.abc import Callable
from typing import Protocol

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fednano.core.tensors import State
from fednano.flower import records
from fednano.flower.records import Codec
from fednano.training.worker import Result, Task


class Worker(Protocol):
    """Does a task; in this process or elsewhere."""

    def work(self, task: Task, weights: State) -> tuple[Result, State]:
        """Train the task from `weights`; returns what was done and the pseudo-gradient."""


def make_client_app(worker: Callable[[Context], Worker], codec: Codec) -> ClientApp:
    """A ClientApp whose messages are done by `worker(context)`, the worker of the node that the context names."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        content = answer(message.content, worker(context).work, codec)
        if isinstance(content, records.Unpacked):
            return records.Local.reply(content, message)
        return Message(content, reply_to=message)

    return app


def answer(content: RecordDict, work: Callable[[Task, State], tuple[Result, State]], codec: Codec) -> RecordDict:
    """A message's task, done by `work`, as the content of the reply. Raises ValueError or KeyError if it holds none."""
    task, weights = records.unpack_task(content, codec)
    result, delta = work(task, weights)
    if not result.done.steps:
        delta = {}  # nothing was trained: the refusal needs no tensors
    if isinstance(content, records.Unpacked):
        return records.Unpacked(result)
    return records.pack_result(result, records.pack_tensors(delta, codec))
