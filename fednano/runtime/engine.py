"""What a runtime brings to a federation, and the federation made of that and of an experiment's parts."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import RecordDict
from flwr.serverapp import Grid

from fednano.coordination.store import CoordinationStore
from fednano.core.clock import Clock
from fednano.data.ledger import Ledger
from fednano.federation.loop import Federation
from fednano.federation.plan import Plan, Site
from fednano.federation.transport import MessageBytes
from fednano.flower import records
from fednano.flower.transport import FlowerTransport
from fednano.runtime.parts import Parts
from fednano.runtime.recording import Resumable
from fednano.strategy.base import ServerState
from fednano.training.recorder import Recorder
from fednano.training.replicas import Replicas
from fednano.volatility.membership import Members


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What differs between the runtimes that run a federation.

    Args:
        name: of the runtime.
        clock: the run's.
        members: who is up.
        sites: the clients as the server sees them, by name; may be filled in once the engine knows them.
        size: bytes of the tensors in a message, each way.
        trainer: whose optimizer states and seconds checkpoints hold.
        replicas: the ranks that train together.
        live: whether clients are elsewhere, so that the server cannot know for certain what became of them.
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
    """The federation whose learning-rate schedules end at `horizon` tokens."""
    plan = Plan(
        rounds=parts.settings.most_rounds,
        tokens_per_step=parts.tokens_per_step,
        horizon=horizon,
        lr_scale=parts.optim.schedule.scale,
        rows_for=parts.rows_for,
        length=parts.round,
        planner=parts.planner,
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
    )


def as_predicted(size: MessageBytes) -> Callable[[RecordDict], int]:
    """The bytes of a message's tensors on the network, as they were predicted."""

    def of(content: RecordDict) -> int:
        direction = records.direction_of(content)
        return 0 if direction is None else size.down if direction == "down" else size.up

    return of


def transport(parts: Parts, grid: Grid, analytic_size: MessageBytes | None = None) -> FlowerTransport:
    """What carries the federation's messages; with `analytic_size` no tensors travel, and messages count as that."""
    if analytic_size is None:
        return FlowerTransport(grid, parts.codec)
    # Without tensors nothing is encoded, and messages are as long as they would be.
    return FlowerTransport(grid, parts.codec, as_predicted(analytic_size), trains=False)
