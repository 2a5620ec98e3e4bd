"""A SuperNode that answers its messages itself, on Flower's own state and store."""

from collections.abc import Iterator
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as loop
from flwr.supernode.nodestate import NodeState, NodeStateFactory

from fednano.flower.compat.messages import adopt_identity, identity_kept
from fednano.flower.compat.supernode import COMMAND, LOOK_S, App, answer_within, whole
from fednano.node import one_process
from fednano.node.one_process import GROWS, SOON_S, Waits


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[NodeState, Message]]:
    """The state of a SuperNode that has just taken a message, and the message."""
    for module, name in ((loop, "time"), (loop, "_push_messages"), (COMMAND, "_start_supernode_http_api")):
        monkeypatch.setattr(module, name, getattr(module, name))  # to be restored
    state = NodeStateFactory(ObjectStoreFactory()).state()
    state.set_node_id(7)
    run = Run.create_empty(1)
    state.store_run(run)
    state.set_run_series_context(run.series_id, Context(1, 7, {"name": "site_a"}, RecordDict(), {}))
    with identity_kept():
        adopt_identity()
        message = Message(RecordDict({"task": ConfigRecord({"lease": 5})}), 7, "train")
        loop._insert_message(message, state, state.object_store)
        state.create_task("flwr-clientapp", 1, "hash")
        yield state, message


def sent(state: NodeState, app: App) -> list[Message]:
    """What the loop would send, with its content, once `app` has answered."""
    found: list[Message] = []

    def send(message: Message, tree: Any, seconds: float) -> tuple[set[str], str]:
        found.append(whole(message, state.object_store))
        raise RuntimeError("there is no SuperLink")  # the loop logs it, and goes on

    answer_within(app, Waits())
    loop._push_messages(state=state, object_store=state.object_store, send=send, push_object=lambda *_: None)
    return found


def test_a_message_is_answered_in_this_process(taken: tuple[NodeState, Message]) -> None:
    state, message = taken

    def app(asked: Message, context: Context) -> Message:
        lease = asked.content.config_records["task"]["lease"]
        return Message(
            RecordDict({"result": ConfigRecord({"lease": lease, "name": context.node_config["name"]})}), reply_to=asked
        )

    (reply,) = sent(state, app)
    assert dict(reply.content.config_records["result"]) == {"lease": 5, "name": "site_a"}
    assert reply.metadata.reply_to_message_id == message.metadata.message_id
    assert [task.status.status for task in state.get_tasks()] == ["finished"]
    for number in (message.metadata.message_id, reply.metadata.message_id):
        assert state.object_store.get(number) is None, "nothing stays behind"


def test_an_app_that_fails_is_an_error_reply(taken: tuple[NodeState, Message]) -> None:
    state, _ = taken

    def app(asked: Message, context: Context) -> Message:
        raise RuntimeError("no such thing")

    (reply,) = sent(state, app)
    assert reply.has_error() and "no such thing" in reply.error.reason


def test_waits_grow_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(one_process, "pause", waited.append)
    waits = Waits()
    for _ in range(40):
        waits.sleep(3)
    assert waited[:2] == [SOON_S, SOON_S * GROWS] and waited[-1] == LOOK_S
    waits.begin()
    waits.sleep(3)
    assert waited[-1] == SOON_S
