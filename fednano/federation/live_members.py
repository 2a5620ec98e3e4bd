"""Membership of a live run, from the heartbeats of trainers and the nodes connected to Flower."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fednano.coordination.store import Heartbeat, LiveStore
from fednano.federation.plan import Site
from fednano.volatility.availability import Window

SUBMIT_S = 20.0  # longest wait for the reply of a drained trainer after its last heartbeat
LOOK_S = 1.0
ASK_S = 5.0  # between two queries of the nodes connected to Flower
DOUBT_S = 4.0  # a failed node counts as down for this long, since a dead trainer's last heartbeat is visible until then
ALWAYS = Window(0.0, math.inf, "drain", 0.0)


@dataclass(frozen=True)
class _Seen:
    heartbeat: Heartbeat
    at: float


class LiveMembership:
    """Implements `Members` on heartbeats.

    A client is up while its trainer is warm and sends heartbeats and Flower knows its node, except just after a
    failure. A leaving client stays up while it holds the lease of a dispatched task: its update is still on its way,
    even after its last heartbeat. A trainer that restarted between two checks counts as down in between.

    Args:
        clients: their names; nodes with other names get no tasks.
        store: holds the heartbeats and the leases.
        node_ids: returns Flower's node ids of the connected clients. It is called when a client with an unknown id
            arrives, and periodically, since a trainer may keep sending heartbeats after its SuperNode is gone.
        sites: what the server knows of each client; its node id and its seconds per step are kept up to date here.
        failed: when each client failed, if it failed at its last task; kept up to date by the caller.
    """

    def __init__(
        self,
        clients: Sequence[str],
        store: LiveStore,
        node_ids: Callable[[], Mapping[str, int]],
        sites: dict[str, Site],
        failed: Mapping[str, float],
    ) -> None:
        self._failed = failed
        self._rank = {client: rank for rank, client in enumerate(clients)}
        self._store = store
        self._node_ids = node_ids
        self._sites = sites
        self._known: dict[str, int] = {}
        self._asked = -math.inf
        self._seen: dict[str, _Seen] = {}
        self._up: set[str] = set()
        self._moved = set(clients)
        self._at: float | None = None
        self._possible_steps = 0.0

    def rank(self, client: str) -> int:
        """The client's place among all."""
        return self._rank[client]

    def moved(self, t: float) -> list[str]:
        """The clients that may have come or gone since the last call, up to `t`, in order; at first all."""
        self._look(t)
        moved, self._moved = self._moved, set()
        return sorted(moved, key=self.rank)

    def is_up(self, client: str, t: float) -> bool:
        """Whether the client was up at the last check."""
        return client in self._up

    def up(self, t: float) -> tuple[str, ...]:
        """The clients that are up at `t`, in order."""
        self._look(t)
        return tuple(sorted(self._up, key=self.rank))

    def window(self, client: str, t: float) -> Window | None:
        """An endless window while the client is up: the end of a live node is not known in advance."""
        return ALWAYS if client in self._up else None

    def next_change(self, t: float) -> float:
        """`LOOK_S` from now, when membership is next checked; a live clock may wake sooner."""
        return t + LOOK_S

    def next_arrival(self, t: float, besides: str) -> float:
        """Unknown."""
        return math.inf

    def possible_steps(self) -> float:
        """Inner steps that the clients could have taken while they were up."""
        return self._possible_steps

    def _look(self, t: float) -> None:
        heartbeats = {name: heartbeat for name, heartbeat in self._store.present().items() if name in self._rank}
        self._learn(heartbeats, t)
        held = {lease.client for lease in self._store.held() if not lease.ahead}
        since = 0.0 if self._at is None else max(0.0, t - self._at)
        self._possible_steps += sum(since / self._sites[client].step_s for client in self._up)
        up = {client for client in self._rank if self._is_there(client, heartbeats.get(client), client in held, t)}
        for name, heartbeat in heartbeats.items():
            self._seen[name] = _Seen(heartbeat, t)
            if heartbeat.step_s > 0.0:
                self._sites[name] = replace(self._sites[name], step_s=heartbeat.step_s)
        self._moved |= up ^ self._up
        self._up, self._at = up, t

    def _is_there(self, client: str, heartbeat: Heartbeat | None, holds: bool, t: float) -> bool:
        if t < self._failed.get(client, -math.inf) + DOUBT_S:
            return False
        seen = self._seen.get(client)
        if heartbeat is None:
            # Only a drained client announces that it leaves.
            drained = client in self._up and seen is not None and seen.heartbeat.leaving
            return drained and holds and seen is not None and t - seen.at < SUBMIT_S
        if client not in self._known or (
            client in self._up and seen and seen.heartbeat.incarnation != heartbeat.incarnation
        ):
            return False
        return holds and client in self._up if heartbeat.leaving else heartbeat.ready

    def _learn(self, heartbeats: Mapping[str, Heartbeat], t: float) -> None:
        """Query the node ids of new and restarted clients; a key that is registered again gets another node id."""
        new = [
            n
            for n, b in heartbeats.items()
            if n not in self._seen or self._seen[n].heartbeat.incarnation != b.incarnation
        ]
        due = self._up and t >= self._asked + ASK_S
        if not new and not due and all(name in self._known for name in heartbeats):
            return
        self._asked = t
        self._known = {name: node for name, node in self._node_ids().items() if name in self._rank}
        for name, node_id in self._known.items():
            self._sites[name] = replace(self._sites[name], node_id=node_id)
