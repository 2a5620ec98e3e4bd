"""The engine: what a runtime contributes to a federation, and the federation built from it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flwr.app import RecordDict
from flwr.serverapp import Grid

from fednano.coordination.store import CoordinationStore
from fednano.core.clock import Clock
from fednano.data.ledger import Ledger
from fednano.data.tally import Tally
from fednano.federation.loop import Federation
from fednano.federation.plan import Plan, Site
from fednano.federation.transport import MessageBytes
from fednano.flower import records
from fednano.flower.transport import FlowerTransport
from fednano.runtime.parts import Parts
from fednano.runtime.recording import Resumable
from fednano.strategy.base import ServerState
from fednano.strategy.streaming import Streaming
from fednano.training.recorder import Recorder
from fednano.training.replicas import Replicas
from fednano.volatility.membership import Members


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What differs between the runtimes of a federation.

    Args:
        name: the runtime's name.
        clock: the run's clock.
        members: tells which clients are up.
        sites: the server's view of each client, by name; may be filled in once the engine knows the clients.
        size: bytes of the tensors in a message, each way.
        trainer: the source of the optimizer states and seconds in checkpoints.
        replicas: the ranks that train together.
        live: whether clients run elsewhere, so that the server cannot be certain of their state.
        analytic: whether the protocol runs without tensors.
    """

    name: str
    clock: Clock
    members: Members
    sites: dict[str, Site]
    size: MessageBytes
    trainer: Resumable
    replicas: Replicas = field(default_factory=Replicas)
    live: bool = False
    analytic: bool = False


def federate(
    parts: Parts,
    engine: Engine,
    *,
    state: ServerState,
    ledger: Ledger,
    recorder: Recorder,
    store: CoordinationStore,
    horizon: int,
) -> Federation:
    """The federation of `parts` on `engine`; its learning-rate schedules end at `horizon` tokens."""
    streaming = Streaming.of(parts.strategy)
    overlap = streaming.overlap(parts.strategy.local_steps) if streaming else parts.round.overlap
    plan = Plan(
        rounds=parts.settings.most_rounds,
        tokens_per_step=parts.tokens_per_step,
        horizon=horizon,
        lr_scale=parts.optim.schedule.scale,
        rows_for=parts.rows_for,
        length=replace(parts.round, overlap=overlap),
        planner=parts.planner,
        guard=parts.guard,
        budget=parts.settings.budget,
    )
    return Federation(
        strategy=parts.strategy,
        state=state,
        plan=plan,
        sites=engine.sites,
        ledger=ledger,
        store=store,
        membership=engine.members,
        clock=engine.clock,
        recorder=recorder,
        live=engine.live,
        # Clients in this process read their rows as the server would.
        tally=Tally(parts.source, parts.pools.rows, parts.packing, parts.shape) if engine.live else None,
    )


def as_predicted(size: MessageBytes) -> Callable[[RecordDict], int]:
    """A function that returns the predicted bytes of a message's tensors on the network."""

    def of(content: RecordDict) -> int:
        direction = records.direction_of(content)
        if direction is None:
            return 0
        if not size.fragments:
            return size.down if direction == "down" else size.up
        if direction == "down":
            return sum(size.fragments[index][0] for index in records.sent_in(content))
        return size.fragments[records.fragment_in(content)][1]

    return of


def transport(parts: Parts, grid: Grid, analytic_size: MessageBytes | None = None) -> FlowerTransport:
    """The transport of the federation's messages.

    With `analytic_size`, messages carry no tensors and are counted as having that size.
    """
    streaming = Streaming.of(parts.strategy)
    count = streaming.fragments if streaming else 1
    if analytic_size is None:
        return FlowerTransport(grid, parts.codecs, fragments=count)
    # Nothing is encoded without tensors, so the predicted size stands in for the measured one.
    return FlowerTransport(grid, parts.codecs, as_predicted(analytic_size), trains=False, fragments=count)
