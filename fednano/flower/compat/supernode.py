"""Flower's SuperNode from inside its process: the command, its loop patched to answer messages, lines of its log."""

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

KEYLESS = f"[code: {int(ApiErrorCode.FLEET_SUPERNODE_REGISTRATION_DISABLED)}]"  # in the log, for a node without a key
INACTIVE = f"[code: {int(ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED)}]"  # for an unknown key, or one in use
NO_CONNECTION = f"Exit Code: {int(ExitCode.SUPERNODE_CONNECTION_ERROR)}\n"  # begins an entry that gives the cause
STAGES = ("Receiving", "Received", "Sending", "Sent")  # first words of entries about a message's progress

LOOK_S = 3.0  # the loop's sleep between two looks for a message; all its other sleeps are shorter

NodeApp = Callable[[Message, Context], Message]


class LoopClock(Protocol):
    """Replaces `time` in Flower's loop; `begin` is called when a message has been answered."""

    def sleep(self, seconds: float) -> None: ...

    def begin(self) -> None: ...


def run_supernode() -> None:
    """Run Flower's own command, which reads the arguments of this process. Raises SystemExit."""
    COMMAND.flower_supernode()


def stage_of(said: str) -> str | None:
    """The stage of a message that an entry of the log reports, in lower case; None if it reports none."""
    word = said.partition(" ")[0].rstrip(":")
    return word.lower() if word in STAGES else None


def answer_within(app: NodeApp, waits: LoopClock) -> None:
    """Make this process's SuperNode answer its messages with `app`. Its isolation must be "process".

    Flower starts a program for each message, and passes it the message through a server on a loopback port. Here the
    loop calls `app`: no program is started, no port is opened, and no code from the run's bundle is executed.
    """
    patch(loop, "time", waits)
    patch(loop, "_push_messages", partial(_answer, loop._push_messages, app, waits))
    patch(COMMAND, "_start_supernode_http_api", _no_server)


def _answer(
    push: Callable[..., None],
    app: NodeApp,
    waits: LoopClock,
    *,
    state: NodeState,
    object_store: ObjectStore,
    **remote: Any,
) -> None:
    """Answer the message that the loop has just stored, then let the loop's own function send the answer."""
    for message in state.get_messages_legacy(is_reply=False):
        state.record_message_processing_start(message.metadata.message_id)
        reply = _answered(app, whole(message, object_store), state)
        state.record_message_processing_end(message.metadata.message_id)
        loop._insert_message(reply, state, object_store)
    # Nothing else takes these tasks.
    for task in state.get_tasks(statuses=["pending"]):
        state.finish_task(task.task_id, sub_status=SubStatus.STOPPED, details="")
    push(state=state, object_store=object_store, **remote)
    waits.begin()


def whole(message: Message, store: ObjectStore) -> Message:
    """A message with its content, which is removed from the store."""
    number = message.metadata.message_id
    contents = {}
    for tree in iterate_object_tree(store.get_object_tree(number)):
        content = store.get(tree.object_id)
        assert content is not None, "the loop stores a whole message before it continues"
        contents[tree.object_id] = content
    store.delete(number)
    inflated = inflate_object_from_contents(number, contents)
    assert isinstance(inflated, Message)
    set_message_id(inflated, number)
    return inflated


def _answered(app: NodeApp, message: Message, state: NodeState) -> Message:
    run = state.get_run(message.metadata.run_id)
    context = state.get_run_series_context(run.series_id) if run else None
    assert run and context, "the loop stores both before the message"
    adopt_identity(run.run_id, context.node_id)  # replies are signed with it
    try:
        return app(message, context)
    except Exception as error:
        return Message(Error(CLIENT_APP_FAILED, repr(error)), reply_to=message)


def _no_server(*_: object) -> tuple[SimpleNamespace, threading.Thread]:
    """Replaces the server for programs that answer messages; starts none."""
    done = threading.Thread()
    done.start()
    return SimpleNamespace(), done
