"""Nodes of the virtual runtime: clients in this process behind a grid that advances a virtual clock."""

from functools import partial

from fednano.coordination.store import CoordinationStore
from fednano.core.clock import VirtualClock
from fednano.core.inner_step import OnStep
from fednano.federation.transport import MessageBytes
from fednano.flower.client_app import make_client_app
from fednano.flower.virtual_grid import VirtualGrid, VirtualNode
from fednano.runtime.engine import as_predicted
from fednano.runtime.parts import Parts
from fednano.strategy.streaming import Streaming
from fednano.training.local import Trainer
from fednano.training.worker import ClientWorker
from fednano.volatility.membership import Membership
from fednano.volatility.presence import Presence


def virtual_grid(
    parts: Parts,
    trainer: Trainer,
    membership: Membership,
    clock: VirtualClock,
    store: CoordinationStore,
    size: MessageBytes,
    on_step: OnStep,
) -> VirtualGrid:
    """The grid whose nodes share `trainer`; messages have `size` bytes on the network."""
    nodes = []
    workers = {}
    for i, client in enumerate(parts.settings.names):
        own = VirtualClock()
        presence = Presence(membership, client, own, parts.network.submit_s(size.up, i))
        worker = ClientWorker(
            client=client,
            trainer=trainer,
            source=parts.source,
            pools=parts.pools.rows,
            shape=parts.shape,
            packing=parts.packing,
            tokens_per_s=parts.hardware.speed(i),
            clock=own,
            may_step=presence.may_step,
            on_step=on_step,
            speed=partial(membership.speed, client),
            asked=store.drain_requested,
            might_step=presence.might_step,
            part=parts.strategy.client,
            streaming=Streaming.of(parts.strategy),
        )
        workers[client] = worker
        nodes.append(VirtualNode(client, own, presence, worker.crashed))
    app = make_client_app(lambda context: workers[str(context.node_config["name"])], parts.codecs)
    return VirtualGrid(
        app=app, nodes=nodes, clock=clock, network=parts.network, size=as_predicted(size), seed=parts.settings.seed
    )
