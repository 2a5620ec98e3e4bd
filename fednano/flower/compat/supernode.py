"""Flower's SuperNode from within its process: the command, its loop made to answer messages, what its log says."""

import importlib
import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol

from flwr.app import Context, Error, Message
from flwr.common.constant import SubStatus
from flwr.supercore.error import ApiErrorCode
from flwr.supercore.exit import ExitCode
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStore
from flwr.supernode import start_client_internal as loop
from flwr.supernode.nodestate import NodeState

from fednano.flower.compat import patch
from fednano.flower.compat.messages import CLIENT_APP_FAILED, adopt_identity, set_message_id

COMMAND = importlib.import_module("flwr.supernode.cli.flower_supernode")  # a function of that name hides the module

KEYLESS = f"[code: {int(ApiErrorCode.FLEET_SUPERNODE_REGISTRATION_DISABLED)}]"  # in the log: a node without a key
INACTIVE = f"[code: {int(ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED)}]"  # an unknown key, or one that is in use
NO_CONNECTION = f"Exit Code: {int(ExitCode.SUPERNODE_CONNECTION_ERROR)}\n"  # begins an entry that says why
STAGES = ("Receiving", "Received", "Sending", "Sent")  # begin entries that say where a message is

LOOK_S = 3.0  # that the loop sleeps between two questions for a message; all its other sleeps are shorter

App = Callable[[Message, Context], Message]


class Waits(Protocol):
    """Stands for `time` in Flower's loop, and hears when a message has been answered."""

    def sleep(self, seconds: float) -> None: ...

    def begin(self) -> None: ...


def run_supernode() -> None:
    """Flower's own command; it reads the arguments of this process. Raises SystemExit."""
    COMMAND.flower_supernode()


def stage_of(said: str) -> str | None:
    """Where a message is, in lower case, if an entry of the log says so."""
    word = said.partition(" ")[0].rstrip(":")
    return word.lower() if word in STAGES else None


def answer_within(app: App, waits: Waits) -> None:
    """Make the SuperNode of this process answer its messages by `app`. Its isolation has to be "process".

    Flower starts a program for each message, and hands it the message through a server on a port of the loopback
    interface. Here its loop calls `app`: nothing is started, no port is opened, and no code runs that came with a run.
    """
    patch(loop, "time", waits)
    patch(loop, "_push_messages", partial(_answer, loop._push_messages, app, waits))
    patch(COMMAND, "_start_supernode_http_api", _no_server)


def _answer(
    push: Callable[..., None], app: App, waits: Waits, *, state: NodeState, object_store: ObjectStore, **remote: Any
) -> None:
    """Answer the message that the loop has just stored, then let the loop's own function send the answer."""
    for message in state.get_messages_legacy(is_reply=False):
        state.record_message_processing_start(message.metadata.message_id)
        reply = _answered(app, whole(message, object_store), state)
        state.record_message_processing_end(message.metadata.message_id)
        loop._insert_message(reply, state, object_store)
    # Nobody else takes them.
    for task in state.get_tasks(statuses=["pending"]):
        state.finish_task(task.task_id, sub_status=SubStatus.STOPPED, details="")
    push(state=state, object_store=object_store, **remote)
    waits.begin()


def whole(message: Message, store: ObjectStore) -> Message:
    """A message with its content, which the store holds no longer."""
    number = message.metadata.message_id
    contents = {}
    for tree in iterate_object_tree(store.get_object_tree(number)):
        content = store.get(tree.object_id)
        assert content is not None, "the loop stores all of a message before it goes on"
        contents[tree.object_id] = content
    store.delete(number)
    inflated = inflate_object_from_contents(number, contents)
    assert isinstance(inflated, Message)
    set_message_id(inflated, number)
    return inflated


def _answered(app: App, message: Message, state: NodeState) -> Message:
    run = state.get_run(message.metadata.run_id)
    context = state.get_run_series_context(run.series_id) if run else None
    assert run and context, "the loop stores both before the message"
    adopt_identity(run.run_id, context.node_id)  # replies are signed with it
    try:
        return app(message, context)
    except Exception as error:
        return Message(Error(CLIENT_APP_FAILED, repr(error)), reply_to=message)


def _no_server(*_: object) -> tuple[SimpleNamespace, threading.Thread]:
    """In place of the server for programs that answer messages: none is started."""
    done = threading.Thread()
    done.start()
    return SimpleNamespace(), done
