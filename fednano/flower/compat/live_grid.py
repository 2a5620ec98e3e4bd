"""Flower's grid in a ServerApp's process: connected nodes, time until a reply is taken, messages to forget."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial

from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.superlink.grid import http_grid

from fednano.flower.compat import patch

__all__ = ["NodeInfo", "connected", "forget", "wait_briefly"]

FRESH_S = 20.0  # a node counts as connected for 60 s from each heartbeat, which comes every 21 to 27 s


def connected(nodes: Iterable[NodeInfo]) -> list[NodeInfo]:
    """The nodes that have missed no heartbeat.

    To Flower, a killed node stays connected until it has missed two heartbeats. Nodes that missed one are left out,
    since a message to them would come back as an error.
    """
    fresh = datetime.now(UTC).timestamp() + FRESH_S
    return [node for node in nodes if node.status == "online" and node.online_until > fresh]


def wait_briefly() -> None:
    """Make Flower's grid take a reply soon after it is complete; by default it waits 1, 2, 4 … 10 s between looks."""
    often = partial(pull_objects, initial_backoff=0.1, backoff_cap=1.0, max_tries_per_object=None)
    patch(http_grid, "pull_objects", often)


def forget(grid: Grid, message_id: str) -> None:
    """Have the SuperLink drop a message that its node did not take; otherwise it keeps the message until the run ends.

    Such a message holds the global model, so this matters once for every round in which a node died.
    """
    if isinstance(grid, http_grid.HttpGrid):
        grid._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=grid.node, run_id=grid.run.run_id, message_object_id=message_id)
        )
