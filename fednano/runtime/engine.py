"""What a runtime brings to a federation, and the federation made of that and of an experiment's parts."""

from dataclasses import dataclass, field

from fednano.coordination.store import CoordinationStore
from fednano.core.clock import Clock
from fednano.data.ledger import Ledger
from fednano.federation.loop import Federation
from fednano.federation.plan import Plan, Site
from fednano.federation.transport import MessageBytes
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
        size: bytes of the tensors in its messages.
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
        rounds=parts.settings.rounds,
        tokens_per_step=parts.tokens_per_step,
        horizon=horizon,
        lr_scale=parts.optim.schedule.scale,
        rows_for=parts.rows_for,
        length=parts.round,
        planner=parts.planner,
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
