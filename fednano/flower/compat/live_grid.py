"""Flower's grid in a ServerApp's process: connected nodes, time until a reply is taken, messages to forget."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial

from flwr.app import Error, Message, RecordDict
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.superlink.grid import http_grid
from google.protobuf.message import DecodeError

from fednano.flower.compat import patch
from fednano.flower.compat.messages import REPLY_UNAVAILABLE, set_message_id

__all__ = ["NodeInfo", "connected", "failed", "forget", "pulled", "wait_briefly"]

# What Flower raises for objects that no Flower node makes; it does not check what a node sends.
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, DecodeError)

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


def pulled(grid: Grid, message_id: str) -> list[Message]:
    """The replies to a message that have arrived; an error reply if a node sent something that Flower cannot read."""
    try:
        return list(grid.pull_messages([message_id]))
    except UNREADABLE as error:
        return [failed(message_id, f"the reply cannot be read: {error!r}")]


def failed(message_id: str, reason: str) -> Message:
    """An error reply to a message, made here."""
    task = Message(RecordDict(), 0, "train")
    set_message_id(task, message_id)
    return Message(Error(REPLY_UNAVAILABLE, reason), reply_to=task)


def forget(grid: Grid, message_id: str) -> None:
    """Have the SuperLink drop a message that its node did not take; otherwise it keeps the message until the run ends.

    Such a message holds the global model, so this matters once for every round in which a node died.
    """
    if isinstance(grid, http_grid.HttpGrid):
        grid._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=grid.node, run_id=grid.run.run_id, message_object_id=message_id)
        )
