"""Flower's `Grid` on a virtual clock: messages take the network's time, work takes the time that its steps charge.

A message's task is done when the message is pushed, on its client's own clock; or it is begun then and awaited before
the server's clock moves. Its reply waits in a heap, ordered by the time at which it reaches the server. If a client's
machine dies, its replies that have not arrived are lost.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter

from flwr.app import DEFAULT_TTL, Context, Message, Metadata, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fednano.core.clock import VirtualClock
from fednano.flower.compat.messages import LocalMessage, Run, adopt_identity, empty_run, set_message_id
from fednano.flower.records import Unpacked
from fednano.volatility.network import Network
from fednano.volatility.presence import ClientCrashedError, Presence

RUN_ID = 1
SERVER_NODE_ID = 1


@dataclass(frozen=True)
class VirtualNode:
    """One client of the grid. `on_crash` is called if its machine dies during a task."""

    name: str
    clock: VirtualClock
    presence: Presence
    on_crash: Callable[[], None]


class VirtualGrid(Grid):
    """Runs `app` for every message, in this process.

    Args:
        app: the ClientApp that all nodes run.
        nodes: the clients; the node id of the first is 2.
        clock: the server's clock.
        network: the times of transfers.
        size: bytes of a message's content.
        seed: seed of the draws of late transfers.
        begin: given a client's name and a message's content, begins the task elsewhere; `app` then waits for it.
    """

    def __init__(
        self,
        *,
        app: ClientApp,
        nodes: Sequence[VirtualNode],
        clock: VirtualClock,
        network: Network,
        size: Callable[[RecordDict], int],
        seed: int = 0,
        begin: Callable[[str, RecordDict], None] | None = None,
    ) -> None:
        adopt_identity(RUN_ID, SERVER_NODE_ID)
        if begin:
            clock.before_wait(self._join)
        self._begin = begin
        self._begun: list[Callable[[], None]] = []
        self._app = app
        self._clock = clock
        self._network = network
        self._size = size
        self._seed = seed
        self._run = empty_run(RUN_ID)
        first = SERVER_NODE_ID + 1
        self._nodes = {first + i: node for i, node in enumerate(nodes)}
        self._contexts = {
            node_id: Context(RUN_ID, node_id, {"name": node.name}, RecordDict(), {})
            for node_id, node in self._nodes.items()
        }
        self._pushed = 0
        self._on_the_way: list[tuple[float, int, Message]] = []  # a heap
        # Replies not yet pulled, by the id of the message they answer. Mostly one each, but a reply may come twice.
        self._arrived: dict[str, list[tuple[float, int, Message]]] = {}

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        if not isinstance(content, Unpacked):
            return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)
        sent, ttl = self._clock.now(), ttl or DEFAULT_TTL
        return LocalMessage(
            content, Metadata(RUN_ID, "", SERVER_NODE_ID, dst_node_id, "", group_id, sent, ttl, message_type)
        )

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            self._pushed += 1
            set_message_id(message, str(self._pushed))
            ids.append(str(self._pushed))
            self._deliver(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to `message_ids` that have arrived by now, in the order of their arrival."""
        self._land()
        wanted = [entry for i in dict.fromkeys(message_ids) for entry in self._arrived.pop(i, [])]
        wanted.sort(key=itemgetter(0, 1))
        return [message for _, _, message in wanted]

    def arrived(self) -> Iterable[str]:
        """The ids of messages whose replies have arrived by now and were not pulled."""
        self._land()
        return list(self._arrived)

    def _join(self) -> None:
        """Wait for all tasks that were begun, and send off their replies in the order of the messages."""
        while self._begun:
            self._begun.pop(0)()

    def _land(self) -> None:
        self._join()
        now = self._clock.now()
        while self._on_the_way and self._on_the_way[0][0] <= now:
            entry = heapq.heappop(self._on_the_way)
            self._arrived.setdefault(entry[2].metadata.reply_to_message_id, []).append(entry)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then wait in virtual time until all replies have arrived or `timeout` seconds have passed."""
        deadline = float("inf") if timeout is None else self._clock.now() + timeout
        ids = list(self.push_messages(messages))
        self._join()
        replies: list[Message] = []
        while self._clock.now() < deadline:
            waiting = (*self._on_the_way, *chain.from_iterable(self._arrived.values()))
            due = [at for at, _, reply in waiting if reply.metadata.reply_to_message_id in ids]
            if not due:
                break
            self._clock.wait(min(*due, deadline))
            replies.extend(self.pull_messages(ids))
        return replies

    def _deliver(self, message: Message) -> None:
        node_id = message.metadata.dst_node_id
        node = self._nodes[node_id]
        index = node_id - SERVER_NODE_ID - 1
        sent = self._clock.now()
        down_s = self._network.down_s(self._size(message.content), index) + self._late_s(index, sent, "down")
        # A client that is still busy with an older task begins this one afterwards.
        node.clock.wait(sent + down_s)
        try:
            node.presence.arrive(sent)
        except ClientCrashedError:
            node.on_crash()
            return
        answer = partial(self._answer, message, self._pushed, sent)
        if self._begin:
            self._begin(node.name, message.content)
            self._begun.append(answer)
        else:
            answer()

    def _answer(self, message: Message, number: int, sent: float) -> None:
        node_id = message.metadata.dst_node_id
        node = self._nodes[node_id]
        index = node_id - SERVER_NODE_ID - 1
        try:
            reply = self._app(message, self._contexts[node_id])
        except ClientCrashedError:
            node.on_crash()
            return
        up_s = self._network.up_s(self._size(reply.content), index) + self._late_s(index, sent, "up")
        arrives = node.clock.now() + up_s
        if not node.presence.survives(arrives):
            node.on_crash()
            return
        node.clock.wait(arrives)
        heapq.heappush(self._on_the_way, (arrives, number, reply))
        self._clock.alarm(arrives)

    def _late_s(self, index: int, sent: float, direction: str) -> float:
        # The draw is named by the time, which is the same in a resumed run; a count of messages would not be.
        return self._network.late_s(index, self._seed, sent, direction)
