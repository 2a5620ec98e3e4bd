"""Flower's grid as a live server uses it: replies on the run's clock, few questions, invitations to nodes elsewhere."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid

from fednano.coordination.store import NO_LEASE, LiveStore
from fednano.core.clock import Clock
from fednano.core.marks import mark
from fednano.flower import records
from fednano.flower.compat.live_grid import NodeInfo, connected, forget
from fednano.flower.compat.messages import REPLY_UNAVAILABLE, set_message_id
from fednano.flower.relay import RUN
from fednano.flower.wire import NODE
from fednano.flower.wrapped_grid import WrappedGrid

ASK_S = 0.25  # between two questions for the reply to a message
PULLS = 4  # at the same time; one from a node that died over it lasts until Flower gives it up, three minutes
LOOK_S = 3.0  # between two questions who is connected
AGAIN_S = 120.0  # a trainer that was told what is run heartbeats within seconds, once its data is there


class LiveGrid(WrappedGrid):
    """Flower's grid, whose replies tell times on the run's clock.

    A node counts them from when it took up the task, since neither side knows the other's clock: its work ended when it
    last said that it works on it, or, if nobody heard that, when its reply came.

    A reply costs Flower a question each time that somebody looks for it. None is asked while the client's trainer says
    that it works on the task. Replies are pulled in threads of their own: Flower's grid waits for a reply that is still
    on its way to the SuperLink, even if its sender has died.

    Where a connection breaks in certain ways, Flower's nodes drop a message silently. If a trainer sends heartbeats
    but stays idle and silent about its task for long, the task counts as lost: it comes back as an error.

    Args:
        grid: Flower's.
        clock: the run's.
        store: tells what the trainers work on.
        lost_s: so long is long; more than a message takes each way.
    """

    def __init__(self, grid: Grid, clock: Clock, store: LiveStore, lost_s: float) -> None:
        super().__init__(grid)
        self._clock = clock
        self._store = store
        self._lost_s = lost_s
        self._unanswered: dict[str, tuple[str, int]] = {}  # message → client, lease
        self.failed: dict[str, float] = {}  # client → when it last answered its newest task with an error
        self._newest: dict[str, str] = {}  # client → the message with that task
        self._worked: dict[str, float] = {}  # message → when its client was last heard to work on it
        self._idle: dict[str, float] = {}  # message → since when its client has been heard to work on nothing
        self._asked = -ASK_S
        self._pulls: dict[str, Future[list[Message]]] = {}
        self._puller = ThreadPoolExecutor(PULLS, thread_name_prefix="fednano-pull")
        self._introductions: dict[str, int] = {}  # message → node
        self._names: dict[int, str] = {}  # in the order in which they were told
        self._told: set[str] = set()  # messages whose answers nobody waits for

    def get_nodes(self) -> Iterable[NodeInfo]:
        return self._grid.get_nodes()

    def node_ids(self) -> dict[str, int]:
        """The nodes that are connected, by the names under which their keys were registered.

        Where a SuperLink knows no keys, nodes are asked for their names; of two with one name the later one counts.
        """
        online = connected(self._grid.get_nodes())
        registered = {node.name: node.node_id for node in online if node.name}
        return {**self._introduced([node.node_id for node in online if not node.name]), **registered}

    def _introduced(self, nodes: Sequence[int]) -> dict[str, int]:
        """Nodes without a key by the names that they told; who has not, and is not asked now, is."""
        for reply in self._replies(list(self._introductions)):
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
        tasks = [message.content.config_records.get(records.TASK) for message in pushed]
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
        """The messages whose replies are here. Now and then it is asked for those that nobody works on any more."""
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
        """The messages whose replies are asked for now, or are here."""
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
        """Pull nothing any more."""
        self._puller.shutdown(wait=False, cancel_futures=True)

    def tell(self, node: int, content: RecordDict) -> None:
        """Send what needs no answer. Answers to what was sent before are taken, for the SuperLink not to keep them."""
        answered = {reply.metadata.reply_to_message_id for reply in self._replies(list(self._told))}
        self._told -= answered
        self._told.update(self._grid.push_messages([self.create_message(content, "query", node, "")]))

    def _replies(self, message_ids: list[str]) -> list[Message]:
        """The replies to those of `message_ids` that have arrived."""
        replies = list(self._grid.pull_messages(message_ids)) if message_ids else []
        for reply in replies:
            if reply.has_error():
                forget(self._grid, reply.metadata.reply_to_message_id)
        return replies

    def _pull(self, message_id: str, client: str, lost: bool) -> list[Message]:
        """The reply, if it is there; where the task is `lost` otherwise, an error."""
        mark("asking", client)
        replies = self._replies([message_id])
        if lost and not replies:
            forget(self._grid, message_id)
            task = self.create_message(RecordDict(), "train", 0, "")
            set_message_id(task, message_id)
            return [Message(Error(REPLY_UNAVAILABLE, "the node has dropped it"), reply_to=task)]
        for reply in replies:
            mark("pulled", client)
            if not reply.has_error():
                _shift_busy(reply.content, self._worked.get(message_id, self._clock.now()))
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self._grid.send_and_receive(messages, timeout=timeout)


def _shift_busy(content: RecordDict, at: float) -> None:
    """Let the work whose busy times are there have ended at `at`."""
    if (result := content.config_records.get(records.RESULT)) is None:
        return
    begun, ended = result.get("busy_from"), result.get("busy_until")
    if isinstance(begun, float) and isinstance(ended, float):
        result["busy_from"], result["busy_until"] = at - max(0.0, ended - begun), at
        if isinstance(ahead := result.get("ahead"), list):
            result["ahead"] = [at - (ended - t) for t in ahead if isinstance(t, float)]


class Invitation:
    """Tells nodes elsewhere what is run: those that are connected and whose trainers do not heartbeat, once in a while.

    Args:
        grid: reaches them.
        store: tells who heartbeats.
        clients: their names.
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
        """What is due at `now`. Answers are not waited for: the heartbeats of a trainer are one."""
        present = self._store.present() if self._due else {}
        waited_for = [name for name, due in self._due.items() if name not in present and due <= now]
        if not waited_for:
            return
        nodes = self._grid.node_ids()
        for name in waited_for:
            self._due[name] = now + (AGAIN_S if name in nodes else LOOK_S)
            if name in nodes:
                self._grid.tell(nodes[name], RecordDict({RUN: ConfigRecord(dict(self._record))}))
