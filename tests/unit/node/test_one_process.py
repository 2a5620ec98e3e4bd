"""A SuperNode that answers its messages itself, on Flower's own state and store."""

import importlib
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as loop
from flwr.supernode.nodestate import NodeState, NodeStateFactory

from fednano.flower.virtual_grid import adopt_identity, identity_kept
from fednano.node import one_process
from fednano.node.one_process import GROWS, LOOK_S, SOON_S, Waits

COMMAND = importlib.import_module("flwr.supernode.cli.flower_supernode")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[NodeState, Message]]:
    """The state of a SuperNode that has just taken a message, answered in this process."""
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
        one_process.in_one_process()
        yield state, message


def sent(state: NodeState) -> list[Message]:
    """What the loop would send, with its content."""
    found: list[Message] = []

    def send(message: Message, tree: Any, seconds: float) -> tuple[set[str], str]:
        found.append(one_process._whole(message, state.object_store))
        raise RuntimeError("there is no SuperLink")  # the loop logs it, and goes on

    loop._push_messages(state=state, object_store=state.object_store, send=send, push_object=lambda *_: None)
    return found


def test_a_message_is_answered_in_this_process(
    taken: tuple[NodeState, Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, message = taken

    def app(asked: Message, context: Context) -> Message:
        lease = asked.content.config_records["task"]["lease"]
        return Message(
            RecordDict({"result": ConfigRecord({"lease": lease, "name": context.node_config["name"]})}), reply_to=asked
        )

    monkeypatch.setattr(one_process, "app", app)
    (reply,) = sent(state)
    assert dict(reply.content.config_records["result"]) == {"lease": 5, "name": "site_a"}
    assert reply.metadata.reply_to_message_id == message.metadata.message_id
    assert [task.status.status for task in state.get_tasks()] == ["finished"]
    for number in (message.metadata.message_id, reply.metadata.message_id):
        assert state.object_store.get(number) is None, "nothing stays behind"


def test_an_app_that_fails_is_an_error_reply(taken: tuple[NodeState, Message], monkeypatch: pytest.MonkeyPatch) -> None:
    state, _ = taken

    def app(asked: Message, context: Context) -> Message:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(one_process, "app", app)
    (reply,) = sent(state)
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


def test_what_is_replaced_is_there() -> None:
    assert version("flwr").startswith("1.41."), "read one_process.py again with this version"
    assert re.findall(r"\btime\.\w+\([^)]*\)", inspect.getsource(loop)) == [
        "time.sleep(3)",
        "time.sleep(0.5)",
        "time.sleep(0.5)",
    ]
    assert "_start_supernode_http_api(config, state_factory)" in inspect.getsource(COMMAND)
    with pytest.raises(RuntimeError, match=r"flwr has no nothing; install flwr 1\.41"):
        one_process._replace(loop, "nothing", None)
