"""What Flower's SuperLink keeps of a live run: its own state in memory, spoken to without a network."""

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.common.constant import NOOP_FLWR_AID
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.run import Run
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid.http_grid import HttpGrid
from flwr.superlink.servicer.runtime import runtime_handlers
from support.awaiting import until
from support.hand_store import HandStore

from fednano.coordination.store import NO_LEASE, Heartbeat
from fednano.core.clock import VirtualClock
from fednano.flower.compat.messages import adopt_identity, identity_kept
from fednano.flower.live_grid import ASK_S, LiveGrid
from fednano.flower.records import TASK


class SuperLink:
    """Its store of objects, one run and one node, and Flower's grid of the ServerApp."""

    def __init__(self) -> None:
        self.store = InMemoryObjectStore()
        self.state = InMemoryLinkState(NoOpFederationManager(), self.store)
        run = self.state.create_run(None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP)
        self.node = self.state.create_node(NOOP_FLWR_AID, "", b"key", 30.0)
        self.state.activate_node(self.node, 30.0)
        self.grid = HttpGrid(token="none")
        self.grid.set_run(Run.create_empty(run))
        vars(self.grid)["_client"] = self
        self._task = SimpleNamespace(run_id=run)

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        handler = getattr(runtime_handlers, re.sub("(?<!^)(?=[A-Z])", "_", name).lower())
        return lambda request: handler(request, self.state, self._task)


@pytest.fixture
def link() -> Iterator[SuperLink]:
    link = SuperLink()
    with identity_kept():
        adopt_identity(link.grid.run.run_id)
        yield link


@pytest.mark.parametrize("died", [True, False])
def test_a_task_that_its_node_has_not_taken_is_not_kept(link: SuperLink, died: bool) -> None:
    clock, store = VirtualClock(), HandStore()
    grid = LiveGrid(link.grid, clock, store, 60.0)
    task = ConfigRecord({"client": "client_0", "lease": 7, "round": 0})
    content = RecordDict({TASK: task, "weights": ArrayRecord([np.zeros(1000)])})
    (message,) = grid.push_messages([grid.create_message(content, "train", link.node, "0")])
    assert sum(len(entry.content) for entry in link.store.store.values()) > 8000

    if died:
        link.state.deactivate_node(link.node)
    else:
        store.heartbeat(
            Heartbeat(name="client_0", incarnation="first", ready=True, leaving=False, step_s=0.5, lease=NO_LEASE)
        )
        grid.arrived()
        until(lambda: not grid.arrived() and not grid.pulling)
        clock.wait(61.0)
    clock.wait(clock.now() + ASK_S)
    until(lambda: grid.arrived() == [message])
    assert [reply.has_error() for reply in grid.pull_messages([message])] == [True]
    assert not link.store.store


def test_what_was_told_to_a_node_is_not_kept(link: SuperLink) -> None:
    grid = LiveGrid(link.grid, VirtualClock(), HandStore(), 60.0)
    grid.tell(link.node, RecordDict({"first": ConfigRecord({"config": "{}"})}))
    kept = set(link.store.store)
    link.state.deactivate_node(link.node)
    grid.tell(link.node, RecordDict({"second": ConfigRecord({"config": "{}"})}))
    (message,) = link.state.message_ins_store
    assert message not in kept and len(link.store) == len(kept)
