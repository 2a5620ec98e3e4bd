"""Flower's grid for a live server: replies timed by the run's clock, few requests, invitations to nodes elsewhere."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fednano.coordination.store import NO_LEASE, LiveStore
from fednano.core.clock import Clock
from fednano.core.marks import mark
from fednano.flower import records
from fednano.flower.compat.live_grid import NodeInfo, connected, failed, forget, pulled
from fednano.flower.relay import RUN
from fednano.flower.wire import NODE
from fednano.flower.wrapped_grid import WrappedGrid

ASK_S = 0.25  # between two requests for the reply to a message
PULLS = 4  # simultaneous requests; if a node dies while it replies, one lasts until Flower gives up after 3 minutes
LOOK_S = 3.0  # between two requests for the connected nodes
AGAIN_S = 120.0  # between two invitations; once a trainer has its data, it sends a heartbeat within seconds


class LiveGrid(WrappedGrid):
    """Flower's grid, with the times in replies converted to the run's clock.

    A node measures times from the start of its task, since neither side knows the other's clock. The work counts as
    ended at the node's last heartbeat that named the task, or, without such a heartbeat, when its reply came.

    Each look for a reply costs Flower a request, so none is made while the client's heartbeats name the task. Replies
    are pulled in separate threads: Flower's grid waits for a reply that is still on its way to the SuperLink, even if
    its sender has died.

    If a connection breaks in certain ways, Flower's nodes drop a message silently. If a trainer sends heartbeats but
    stays idle and does not mention its task for `lost_s`, the task counts as lost and comes back as an error.

    Args:
        grid: Flower's grid.
        clock: the run's clock.
        store: tells what the trainers work on.
        lost_s: seconds after which an idle client's task counts as lost; longer than a message takes each way.
    """

    def __init__(self, grid: Grid, clock: Clock, store: LiveStore, lost_s: float) -> None:
        super().__init__(grid)
        self._clock = clock
        self._store = store
        self._lost_s = lost_s
        self._unanswered: dict[str, tuple[str, int]] = {}  # message → client, lease
        self.failed: dict[str, float] = {}  # client → when it last answered its newest task with an error
        self._newest: dict[str, str] = {}  # client → the message with its newest task
        self._worked: dict[str, float] = {}  # message → last heartbeat of its client that named the task
        self._idle: dict[str, float] = {}  # message → since when its client's heartbeats have named no task
        self._asked = -ASK_S
        self._pulls: dict[str, Future[list[Message]]] = {}
        self._puller = ThreadPoolExecutor(PULLS, thread_name_prefix="fednano-pull")
        self._introductions: dict[str, int] = {}  # message → node
        self._names: dict[int, str] = {}  # in the order in which they were learnt
        self._told: set[str] = set()  # messages whose answers are not waited for

    def get_nodes(self) -> Iterable[NodeInfo]:
        return self._grid.get_nodes()

    def node_ids(self) -> dict[str, int]:
        """The connected nodes, by the names under which their keys were registered.

        If a SuperLink knows no keys, nodes are asked for their names; of two nodes with one name, the later counts.
        """
        online = connected(self._grid.get_nodes())
        registered = {node.name: node.node_id for node in online if node.name}
        return {**self._introduced([node.node_id for node in online if not node.name]), **registered}

    def _introduced(self, nodes: Sequence[int]) -> dict[str, int]:
        """The nodes without a key whose names are known, by name; asks each new node for its name."""
        for reply in self._replies(list(self._introductions)):
            node = self._introductions.pop(reply.metadata.reply_to_message_id, None)
            if node is not None and not reply.has_error() and (told := records.config_of(reply.content, NODE)):
                name = told.get("name")
                if isinstance(name, str):
                    self._names[node] = name
        waited_for = {*self._names, *self._introductions.values()}
        if new := [node for node in nodes if node not in waited_for]:
            asked = self._grid.push_messages([self.create_message(RecordDict(), "query", node, "") for node in new])
            self._introductions.update(zip(asked, new, strict=True))
        return {name: node for node, name in self._names.items() if node in nodes}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = list(messages)
        tasks = [records.config_of(message.content, records.TASK) for message in pushed]
        for task in tasks:
            if task:
                mark("pushing", str(task["client"]), round=int(str(task["round"])))
        ids = list(self._grid.push_messages(pushed))
        for message_id, task in zip(ids, tasks, strict=True):
            if task:
                client = str(task["client"])
                self._unanswered[message_id] = client, int(str(task["lease"]))
                self._newest[client] = message_id
                mark("pushed", client)
        return ids

    def arrived(self) -> list[str]:
        """The messages whose replies have arrived. Every `ASK_S`, requests replies to tasks no longer worked on."""
        now = self._clock.now()
        if now >= self._asked + ASK_S:
            self._asked = now
            at_work = {name: heartbeat.lease for name, heartbeat in self._store.present().items()}
            for message_id, (client, lease) in self._unanswered.items():
                if at_work.get(client) == NO_LEASE:
                    self._idle.setdefault(message_id, now)
                else:
                    self._idle.pop(message_id, None)
                if at_work.get(client) == lease:
                    self._worked[message_id] = now
                elif message_id not in self._pulls:
                    lost = now - self._idle.get(message_id, now) > self._lost_s
                    self._pulls[message_id] = self._puller.submit(self._pull, message_id, client, lost)
        found = [message_id for message_id, pull in self._pulls.items() if pull.done()]
        in_vain = [message_id for message_id in found if not self._pulls[message_id].result()]
        for message_id in in_vain:
            del self._pulls[message_id]
        return [message_id for message_id in found if message_id in self._pulls]

    @property
    def pulling(self) -> tuple[str, ...]:
        """The messages whose replies are being requested or have arrived."""
        return tuple(self._pulls)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to those of `message_ids` that have arrived."""
        here = [message_id for message_id in message_ids if message_id in self._pulls]
        for message_id in here:
            client, _ = self._unanswered.pop(message_id)
            self._worked.pop(message_id, None)
            self._idle.pop(message_id, None)
            replies = self._pulls.pop(message_id).result()
            if replies[0].has_error() and self._newest[client] == message_id:
                self.failed[client] = self._clock.now()
            yield from replies

    def close(self) -> None:
        """Stop pulling replies."""
        self._puller.shutdown(wait=False, cancel_futures=True)

    def tell(self, node: int, content: RecordDict) -> None:
        """Send a message that needs no answer. Pulls earlier answers, so that the SuperLink does not keep them."""
        answered = {reply.metadata.reply_to_message_id for reply in self._replies(list(self._told))}
        self._told -= answered
        self._told.update(self._grid.push_messages([self.create_message(content, "query", node, "")]))

    def _replies(self, message_ids: list[str]) -> list[Message]:
        """The replies to those of `message_ids` that have arrived."""
        replies = [reply for message_id in message_ids for reply in pulled(self._grid, message_id)]
        for reply in replies:
            if reply.has_error():
                forget(self._grid, reply.metadata.reply_to_message_id)
        return replies

    def _pull(self, message_id: str, client: str, lost: bool) -> list[Message]:
        """The reply, if it has arrived; otherwise an error if the task is `lost`."""
        mark("asking", client)
        replies = self._replies([message_id])
        if lost and not replies:
            forget(self._grid, message_id)
            return [failed(message_id, "the node dropped the task")]
        for reply in replies:
            mark("pulled", client)
            if not reply.has_error():
                _shift_busy(reply.content, self._worked.get(message_id, self._clock.now()))
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self._grid.send_and_receive(messages, timeout=timeout)


def _shift_busy(content: RecordDict, at: float) -> None:
    """Shift the busy times in a result so that the work ended at `at`."""
    if (result := records.config_of(content, records.RESULT)) is None:
        return
    begun, ended, ahead = (result.get(key) for key in ("busy_from", "busy_until", "ahead"))
    if not (isinstance(begun, float) and isinstance(ended, float) and begun <= ended):
        return  # the server refuses it
    result["busy_from"], result["busy_until"] = at - (ended - begun), at
    if isinstance(ahead, list) and all(isinstance(t, float) for t in ahead[:3]):
        result["ahead"] = [at - (ended - float(t)) for t in ahead[:3]]  # more than two are refused


class Invitation:
    """Tells nodes elsewhere what to run, repeatedly while they are connected and their trainers send no heartbeats.

    Args:
        grid: reaches the nodes.
        store: tells which trainers send heartbeats.
        clients: the names of the nodes' clients.
        run: the run's name in the coordination store.
        config: the resolved configuration.
    """

    def __init__(
        self, grid: LiveGrid, store: LiveStore, clients: Sequence[str], run: str, config: Mapping[str, Any]
    ) -> None:
        self._grid = grid
        self._store = store
        self._record = {"run": run, "config": json.dumps(config)}
        self._due = dict.fromkeys(clients, 0.0)

    def send(self, now: float) -> None:
        """Send the invitations due at `now`. Does not wait for answers: a trainer's heartbeats are the answer."""
        present = self._store.present() if self._due else {}
        waited_for = [name for name, due in self._due.items() if name not in present and due <= now]
        if not waited_for:
            return
        nodes = self._grid.node_ids()
        for name in waited_for:
            self._due[name] = now + (AGAIN_S if name in nodes else LOOK_S)
            if name in nodes:
                self._grid.tell(nodes[name], RecordDict({RUN: ConfigRecord(dict(self._record))}))
