"""Nodes of the virtual runtime whose tasks are done by a pool of processes."""

from dataclasses import dataclass

from flwr.app import RecordDict

from fednano.core.clock import VirtualClock
from fednano.core.tensors import State
from fednano.federation.transport import MessageBytes
from fednano.flower import records
from fednano.flower.client_app import make_client_app
from fednano.flower.virtual_grid import VirtualGrid, VirtualNode
from fednano.runtime.engine import as_predicted
from fednano.runtime.parts import Parts
from fednano.runtime.workers.pool import WorkerPool
from fednano.training.client_memory import ClientMemory
from fednano.training.worker import Result, Task
from fednano.volatility.membership import Membership
from fednano.volatility.presence import Presence


@dataclass(frozen=True)
class PooledClient:
    """A client whose tasks are done by a pool: `begin` starts one, `work` waits for it."""

    client: str
    clock: VirtualClock
    pool: WorkerPool

    @property
    def memory(self) -> ClientMemory:
        """The state of all clients of the pool."""
        return self.pool.memory

    def begin(self, task: Task, weights: State) -> None:
        """Begin a task at the present time of the client's clock."""
        self.pool.begin(task, weights, self.clock.now())

    def work(self, task: Task, weights: State) -> tuple[Result, State]:
        """Like `ClientWorker.work`, for a task that was begun."""
        result, delta = self.pool.result(self.client)
        self.clock.wait(result.busy_until)
        return result, delta

    def crashed(self) -> None:
        """The machine died, and its state is lost."""
        self.pool.forget(self.client)


def pooled_grid(
    parts: Parts, pool: WorkerPool, membership: Membership, clock: VirtualClock, size: MessageBytes
) -> VirtualGrid:
    """The grid whose nodes' tasks are done by `pool`; messages have `size` bytes on the network."""
    nodes = []
    clients = {}
    for i, client in enumerate(parts.settings.names):
        own = VirtualClock()
        clients[client] = PooledClient(client, own, pool)
        presence = Presence(membership, client, own, parts.network.submit_s(size.up, i))
        nodes.append(VirtualNode(client, own, presence, clients[client].crashed))

    def begin(client: str, content: RecordDict) -> None:
        clients[client].begin(*records.unpack_task(content, parts.codecs.download))

    app = make_client_app(lambda context: clients[str(context.node_config["name"])], parts.codecs)
    return VirtualGrid(
        app=app,
        nodes=nodes,
        clock=clock,
        network=parts.network,
        size=as_predicted(size),
        seed=parts.settings.seed,
        begin=begin,
    )
