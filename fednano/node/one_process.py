"""A SuperNode in one process: its messages are answered where they arrive, by fednano's relay.

Flower starts a program for each message, whose imports take seconds, and hands it the message through a server on a
port of the loopback interface; its loop looks for messages every 3 s. All this passes between two rounds. Here the loop
itself calls the relay: nothing is started, no port is opened, and no code runs that came with a run.

What is said here of Flower was found with flwr 1.41.0: look here when raising it. A test holds every name that is used.
"""

import importlib
import threading
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal as loop
from flwr.supernode.nodestate import NodeState

from fednano.core.clock import pause
from fednano.flower.relay import app

LOOK_S = 3.0  # between two questions for a message, as Flower has it
SOON_S, GROWS = 0.1, 1.2
ANSWER_S = 0.05


class Waits:
    """Stands for `time` in Flower's loop.

    It asks for a message soon after the last one, and less and less often: a message waits for a sixth of the time that
    has passed since, and never longer than with Flower.
    """

    def __init__(self) -> None:
        self._next = SOON_S

    def sleep(self, seconds: float) -> None:
        if seconds < LOOK_S:
            pause(min(seconds, ANSWER_S))
            return
        pause(self._next)
        self._next = min(LOOK_S, self._next * GROWS)

    def begin(self) -> None:
        """A message has just been answered."""
        self._next = SOON_S


def in_one_process() -> None:
    """Make the SuperNode of this process answer its messages itself. Its isolation has to be "process"."""
    waits = Waits()
    command = importlib.import_module("flwr.supernode.cli.flower_supernode")  # a function hides it
    _replace(loop, "time", waits)
    _replace(loop, "_push_messages", partial(_answer, loop._push_messages, waits))
    _replace(command, "_start_supernode_http_api", _no_server)


def _replace(module: ModuleType, name: str, value: object) -> None:
    if not hasattr(module, name):
        raise RuntimeError(f"{module.__name__} of flwr has no {name}; install flwr 1.41")
    setattr(module, name, value)


def _answer(
    push: Callable[..., None], waits: Waits, *, state: NodeState, object_store: ObjectStore, **remote: Any
) -> None:
    """Answer the message that the loop has just stored, then let the loop's own function send the answer."""
    for message in state.get_messages_legacy(is_reply=False):
        state.record_message_processing_start(message.metadata.message_id)
        reply = _relayed(_whole(message, object_store), state)
        state.record_message_processing_end(message.metadata.message_id)
        loop._insert_message(reply, state, object_store)
    # Nobody else takes them.
    for task in state.get_tasks(statuses=["pending"]):
        state.finish_task(task.task_id, sub_status=SubStatus.STOPPED, details="")
    push(state=state, object_store=object_store, **remote)
    waits.begin()


def _whole(message: Message, store: ObjectStore) -> Message:
    """A message with its content, which the store holds no longer."""
    number = message.metadata.message_id
    contents = {}
    for tree in iterate_object_tree(store.get_object_tree(number)):
        content = store.get(tree.object_id)
        assert content is not None, "the loop stores all of a message before it goes on"
        contents[tree.object_id] = content
    store.delete(number)
    whole = inflate_object_from_contents(number, contents)
    assert isinstance(whole, Message)
    vars(whole.metadata)["_message_id"] = number
    return whole


def _relayed(message: Message, state: NodeState) -> Message:
    run = state.get_run(message.metadata.run_id)
    context = state.get_run_series_context(run.series_id) if run else None
    assert run and context, "the loop stores both before the message"
    # Replies are signed with it.
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run.run_id, context.node_id, 1
    try:
        return app(message, context)
    except Exception as error:
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, repr(error)), reply_to=message)


def _no_server(*_: object) -> tuple[SimpleNamespace, threading.Thread]:
    """In place of the server for programs that answer messages: none is started."""
    done = threading.Thread()
    done.start()
    return SimpleNamespace(), done
