"""Flower's grid as a live server uses it: replies on the run's clock, few questions, invitations to nodes elsewhere."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from fednano.clock import Clock
from fednano.coordination.board import LiveBoard
from fednano.flower import records
from fednano.flower.relay import RUN
from fednano.flower.wire import NODE
from fednano.runtime.wrapped_grid import WrappedGrid

ASK_S = 0.5  # between two questions for the reply to a message
LOOK_S = 3.0  # between two questions who is connected
FRESH_S = 20.0  # a node counts as connected for 60 s from each heartbeat, which comes every 21 to 27 s
AGAIN_S = 120.0  # a trainer that was told what is run beats within seconds, once its data is there


class LiveGrid(WrappedGrid):
    """Flower's grid, whose replies tell times on the run's clock.

    A node counts them from when it took up the task, since neither side knows the other's clock: its work ended when
    its reply came, less what the reply took.

    A reply costs Flower a question each time that somebody looks for it. None is asked while the client's trainer says
    that it works on the task.

    Args:
        grid: Flower's.
        clock: the run's.
        board: tells what the trainers work on.
    """

    def __init__(self, grid: Grid, clock: Clock, board: LiveBoard) -> None:
        super().__init__(grid)
        self._clock = clock
        self._board = board
        self._unanswered: dict[str, tuple[str, int]] = {}  # message → client, lease
        self._asked = -ASK_S
        self._introductions: dict[str, int] = {}  # message → node
        self._names: dict[int, str] = {}  # in the order in which they were told

    def get_nodes(self) -> Iterable[NodeInfo]:
        return self._grid.get_nodes()

    def node_ids(self) -> dict[str, int]:
        """The nodes that are connected, by the names under which their keys were registered.

        Where a SuperLink knows no keys, nodes are asked for their names; of two with one name the later one counts.
        Flower takes one that was killed for connected until it has missed two heartbeats. Those that missed one are
        left out: what is sent to them would come back as an error.
        """
        fresh = datetime.now(UTC).timestamp() + FRESH_S
        online = [node for node in self._grid.get_nodes() if node.status == "online" and node.online_until > fresh]
        registered = {node.name: node.node_id for node in online if node.name}
        return {**self._introduced([node.node_id for node in online if not node.name]), **registered}

    def _introduced(self, nodes: Sequence[int]) -> dict[str, int]:
        """Nodes without a key by the names that they told; who has not, and is not asked now, is."""
        told = self._grid.pull_messages(list(self._introductions)) if self._introductions else ()
        for reply in told:
            node = self._introductions.pop(reply.metadata.reply_to_message_id, None)
            if node is not None and not reply.has_error() and NODE in reply.content.config_records:
                self._names[node] = str(reply.content.config_records[NODE]["name"])
        waited_for = {*self._names, *self._introductions.values()}
        if new := [node for node in nodes if node not in waited_for]:
            asked = self._grid.push_messages([self.create_message(RecordDict(), "query", node, "") for node in new])
            self._introductions.update(zip(asked, new, strict=True))
        return {name: node for node, name in self._names.items() if node in nodes}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = list(messages)
        ids = list(self._grid.push_messages(pushed))
        for message_id, message in zip(ids, pushed, strict=True):
            if task := message.content.config_records.get(records.TASK):
                self._unanswered[message_id] = str(task["client"]), int(str(task["lease"]))
        return ids

    def arrived(self) -> list[str]:
        """The messages to which there may be a reply by now; none while it was just asked for."""
        now = self._clock.now()
        if now < self._asked + ASK_S:
            return []
        self._asked = now
        working = {(name, beat.lease) for name, beat in self._board.present().items()}
        return [message for message, work in self._unanswered.items() if work not in working]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message in self._grid.pull_messages(message_ids):
            self._unanswered.pop(message.metadata.reply_to_message_id, None)
            if not message.has_error():
                _shift_busy(message.content, self._clock.now())
            yield message

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self._grid.send_and_receive(messages, timeout=timeout)


def _shift_busy(content: RecordDict, now: float) -> None:
    if (result := content.config_records.get(records.RESULT)) is None:
        return
    begun, ended = result.get("busy_from"), result.get("busy_until")
    if isinstance(begun, float) and isinstance(ended, float):
        result["busy_from"], result["busy_until"] = now - max(0.0, ended - begun), now


class Invitation:
    """Tells nodes elsewhere what is run: those that are connected and whose trainers do not beat, once in a while.

    Args:
        grid: reaches them.
        board: tells who beats.
        clients: their names.
        run: the run's name on the board.
        config: the resolved configuration.
    """

    def __init__(
        self, grid: LiveGrid, board: LiveBoard, clients: Sequence[str], run: str, config: Mapping[str, Any]
    ) -> None:
        self._grid = grid
        self._board = board
        self._record = {"run": run, "config": json.dumps(config)}
        self._due = dict.fromkeys(clients, 0.0)

    def send(self, now: float) -> None:
        """What is due at `now`. Answers are not waited for: the beats of a trainer are one."""
        present = self._board.present() if self._due else {}
        waited_for = [name for name, due in self._due.items() if name not in present and due <= now]
        if not waited_for:
            return
        nodes = self._grid.node_ids()
        for name in waited_for:
            self._due[name] = now + (AGAIN_S if name in nodes else LOOK_S)
            if name in nodes:
                content = RecordDict({RUN: ConfigRecord(dict(self._record))})
                self._grid.push_messages([self._grid.create_message(content, "query", nodes[name], "")])
